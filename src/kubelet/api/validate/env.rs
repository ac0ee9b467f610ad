//! Variables of containers.

use super::names::{config_key, dns_subdomain, env_name};
use super::problem::{At, Problems};
use super::refs::{Place, field_ref, resource_ref};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};

/// `env` and `envFrom` of a container.
pub(super) fn env(problems: &mut Problems, at: &At, container: &Container) {
    for (at, variable) in at.field("env").each_of(&container.env) {
        match variable.name.as_str() {
            "" => problems.required(&at.field("name"), "a variable has a name"),
            name => problems.check(&at.field("name"), name, env_name(name)),
        }
        let Some(source) = &variable.value_from else { continue };
        if variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
            let why = "a variable has a value or a place where its value is, not both";
            problems.forbidden(&at.field("valueFrom"), why);
        }
        value_from(problems, &at.field("valueFrom"), source);
    }
    for (at, source) in at.field("envFrom").each_of(&container.env_from) {
        env_from(problems, &at, source);
    }
}

fn value_from(problems: &mut Problems, at: &At, source: &EnvVarSource) {
    let mut named = 0;
    if let Some(field) = &source.field_ref {
        named += 1;
        field_ref(problems, &at.field("fieldRef"), field, Place::Variable);
    }
    if let Some(resource) = &source.resource_field_ref {
        named += 1;
        resource_ref(problems, &at.field("resourceFieldRef"), resource, None);
    }
    if let Some(map) = &source.config_map_key_ref {
        named += 1;
        key(problems, &at.field("configMapKeyRef"), &map.name, &map.key);
    }
    if let Some(secret) = &source.secret_key_ref {
        named += 1;
        key(problems, &at.field("secretKeyRef"), &secret.name, &secret.key);
    }
    if source.file_key_ref.is_some() {
        named += 1;
        let why = "variables from files of a volume are not supported by this version";
        problems.forbidden(&at.field("fileKeyRef"), why);
    }
    match named {
        0 => problems.required(at, "it names one place where the value is"),
        1 => {}
        _ => problems.forbidden(at, "it names one place where the value is, not several"),
    }
}

fn key(problems: &mut Problems, at: &At, name: &str, key: &str) {
    object_name(problems, &at.field("name"), name);
    match key {
        "" => problems.required(&at.field("key"), "it names a key"),
        key => problems.check(&at.field("key"), key, config_key(key)),
    }
}

/// The name of a ConfigMap or Secret.
pub(super) fn object_name(problems: &mut Problems, at: &At, name: &str) {
    match name {
        "" => problems.required(at, "it names an object"),
        name => problems.check(at, name, dns_subdomain(name)),
    }
}

fn env_from(problems: &mut Problems, at: &At, source: &EnvFromSource) {
    if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        problems.check(&at.field("prefix"), prefix, env_name(prefix));
    }
    if let Some(map) = &source.config_map_ref {
        object_name(problems, &at.field("configMapRef.name"), &map.name);
    }
    if let Some(secret) = &source.secret_ref {
        object_name(problems, &at.field("secretRef.name"), &secret.name);
    }
    match (&source.config_map_ref, &source.secret_ref) {
        (None, None) => problems.required(at, "it names a ConfigMap or a Secret"),
        (Some(_), Some(_)) => problems.forbidden(at, "it names a ConfigMap or a Secret, not both"),
        _ => {}
    }
}
