//! A container's variables, in the order of the rules: `envFrom`, the Services', `env`.

use super::downward::{field_value, resource_value};
use super::error::EnvError;
use super::expand::expand;
use super::services::{ServiceLinks, service_variables};
use super::values::{Kind, Named, Need, ValueError};
use crate::kubelet::node::NodeFacts;
use crate::kubelet::objects::Objects;
use crate::kubelet::spec;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, Pod};
use std::net::IpAddr;

/// What an environment is made of.
#[derive(Clone, Copy, Debug)]
pub struct EnvInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What its namespace has.
    pub objects: &'a Objects,
    /// Where it runs.
    pub node: &'a NodeFacts,
    /// Its addresses, the primary one first; the host's when it has the host's network.
    pub pod_ips: &'a [IpAddr],
    /// The host's addresses, the primary one first.
    pub host_ips: &'a [IpAddr],
}

impl<'a> EnvInput<'a> {
    /// The pod's namespace.
    pub fn namespace(&self) -> &'a str {
        spec::namespace(self.pod)
    }
}

/// The variables of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Name and value, each name once.
    pub vars: Vec<(String, String)>,
    /// By source of `envFrom` (`ConfigMap shop/settings`): the names that no variable can have, which were left out.
    /// A user sees them as the event InvalidEnvironmentVariableNames.
    pub invalid: Vec<(String, Vec<String>)>,
}

/// What a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Replaces the image's entry point; empty when the image's counts.
    pub command: Vec<String>,
    /// Replaces the image's arguments; empty when the image's count.
    pub args: Vec<String>,
}

/// Makes a container's environment. A variable of `envFrom` or `env` wins over a Service's of the same name, one of
/// `env` over one of `envFrom`, a later over an earlier; a reference in `env` sees what is above it, and the Services'.
///
/// # Errors
/// [`EnvError`], by the first variable that cannot be made.
pub fn environment(container: &Container, input: &EnvInput<'_>) -> Result<Environment, EnvError> {
    let mut made = Environment::default();
    for source in container.env_from.iter().flatten() {
        add_source(&mut made, container, source, input)?;
    }
    let spec = input.pod.spec.as_ref();
    let links = match spec.and_then(|spec| spec.enable_service_links) {
        Some(false) => ServiceLinks::None,
        _ => ServiceLinks::Namespace,
    };
    for (name, value) in service_variables(input.objects, input.namespace(), links) {
        if !made.vars.iter().any(|(known, _)| *known == name) {
            made.vars.push((name, value));
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(container, variable, &made.vars, input)? {
            set(&mut made.vars, variable.name.clone(), value);
        }
    }
    Ok(made)
}

/// The command and its arguments with the variables in them.
pub fn expand_command(container: &Container, vars: &[(String, String)]) -> Command {
    let words = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, vars)).collect()
    };
    Command { command: words(&container.command), args: words(&container.args) }
}

/// Whether a variable can have this name: printable ASCII without `=` (the relaxed rule of Kubernetes 1.34).
pub fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

fn set(vars: &mut Vec<(String, String)>, name: String, value: String) {
    match vars.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => vars.push((name, value)),
    }
}

fn add_source(
    made: &mut Environment,
    container: &Container,
    source: &EnvFromSource,
    input: &EnvInput<'_>,
) -> Result<(), EnvError> {
    let map = source.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, &r.name, r.optional));
    let secret = source.secret_ref.as_ref().map(|r| (Kind::Secret, &r.name, r.optional));
    let Some((kind, name, optional)) = map.or(secret) else { return Ok(()) };
    let named = Named { kind, namespace: input.namespace(), name };
    let failed = |source| {
        let source = Box::new(source);
        EnvError::From { container: container.name.clone(), source }
    };
    let Some(values) = named.values(input.objects, Need::of(optional)).map_err(failed)? else {
        return Ok(());
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut invalid = Vec::new();
    for (key, value) in values {
        let variable = format!("{prefix}{key}");
        if !is_variable_name(&variable) {
            invalid.push(variable);
            continue;
        }
        let value = named.text(key, value).map_err(failed)?;
        set(&mut made.vars, variable, value);
    }
    if !invalid.is_empty() {
        let source = format!("{} {}/{name}", kind.name(), input.namespace());
        made.invalid.push((source, invalid));
    }
    Ok(())
}

/// A variable's value; `None` when its source is optional and not there.
fn value(
    container: &Container,
    variable: &EnvVar,
    above: &[(String, String)],
    input: &EnvInput<'_>,
) -> Result<Option<String>, EnvError> {
    let of = || (container.name.clone(), variable.name.clone());
    let text = variable.value.as_deref().unwrap_or_default();
    let Some(from) = variable.value_from.as_ref().filter(|_| text.is_empty()) else {
        return Ok(Some(expand(text, above)));
    };
    let downward = |source| {
        let (container, variable) = of();
        EnvError::Downward { container, variable, source }
    };
    if let Some(field) = &from.field_ref {
        return field_value(&field.field_path, input).map(Some).map_err(downward);
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_value(resource, Some(container), input).map(Some).map_err(downward);
    }
    if let Some((named, key, need)) = key_of(from, input) {
        return key_value(named, key, need, input.objects).map_err(|source| {
            let (container, variable) = of();
            EnvError::Value { container, variable, source: Box::new(source) }
        });
    }
    let (container, variable) = of();
    let reason = match &from.file_key_ref {
        Some(_) => "fileKeyRef is not supported",
        None => "valueFrom names no source",
    };
    Err(EnvError::Source { container, variable, reason })
}

fn key_of<'a>(from: &'a EnvVarSource, input: &EnvInput<'a>) -> Option<(Named<'a>, &'a str, Need)> {
    let map = from.config_map_key_ref.as_ref();
    let map = map.map(|r| (Kind::ConfigMap, &r.name, r.key.as_str(), r.optional));
    let secret = from.secret_key_ref.as_ref();
    let secret = secret.map(|r| (Kind::Secret, &r.name, r.key.as_str(), r.optional));
    let (kind, name, key, optional) = map.or(secret)?;
    Some((Named { kind, namespace: input.namespace(), name }, key, Need::of(optional)))
}

fn key_value(
    named: Named<'_>,
    key: &str,
    need: Need,
    objects: &Objects,
) -> Result<Option<String>, ValueError> {
    let Some(values) = named.values(objects, need)? else { return Ok(None) };
    match (values.get(key), need) {
        (Some(value), _) => named.text(key, value).map(Some),
        (None, Need::Optional) => Ok(None),
        (None, Need::Required) => Err(named.missing_key(key)),
    }
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
