//! Volumes made of objects and of the pod itself: ConfigMaps, Secrets, the downward API, and several at once.

use super::env::object_name;
use super::names::{config_key, volume_file};
use super::problem::{At, Problems};
use super::refs::{Place, field_ref, resource_ref};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource,
    SecretVolumeSource, VolumeProjection,
};
use std::collections::BTreeSet;

const MODES: std::ops::RangeInclusive<i32> = 0..=0o777;

/// Permissions of a file.
pub(super) fn mode(problems: &mut Problems, at: &At, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !MODES.contains(mode)) {
        problems.invalid(at, mode, "must be between 0 and 0777 (511)");
    }
}

/// A user or group.
pub(super) fn user(problems: &mut Problems, at: &At, id: Option<i64>) {
    let ids = 0..=i64::from(i32::MAX);
    if let Some(id) = id.filter(|id| !ids.contains(id)) {
        problems.invalid(at, id, "must be between 0 and 2147483647");
    }
}

/// A volume of a ConfigMap.
pub(super) fn config_map(problems: &mut Problems, at: &At, source: &ConfigMapVolumeSource) {
    object_name(problems, &at.field("name"), &source.name);
    mode(problems, &at.field("defaultMode"), source.default_mode);
    user(problems, &at.field("defaultUser"), source.default_user);
    items(problems, at, &source.items);
}

/// A volume of a Secret.
pub(super) fn secret(problems: &mut Problems, at: &At, source: &SecretVolumeSource) {
    let name = source.secret_name.as_deref().unwrap_or_default();
    object_name(problems, &at.field("secretName"), name);
    mode(problems, &at.field("defaultMode"), source.default_mode);
    user(problems, &at.field("defaultUser"), source.default_user);
    items(problems, at, &source.items);
}

fn items(problems: &mut Problems, at: &At, items: &Option<Vec<KeyToPath>>) {
    for (at, item) in at.field("items").each_of(items) {
        match item.key.as_str() {
            "" => problems.required(&at.field("key"), "it names a key"),
            key => problems.check(&at.field("key"), key, config_key(key)),
        }
        file(problems, &at.field("path"), &item.path);
        mode(problems, &at.field("mode"), item.mode);
        user(problems, &at.field("user"), item.user);
    }
}

fn file(problems: &mut Problems, at: &At, path: &str) {
    match path {
        "" => problems.required(at, "it names a file in the volume"),
        path => problems.check(at, path, volume_file(path)),
    }
}

/// Files of the downward API, at the source that has them.
pub(super) fn downward_api(
    problems: &mut Problems,
    at: &At,
    items: &Option<Vec<DownwardAPIVolumeFile>>,
    spec: &PodSpec,
) {
    for (at, item) in at.field("items").each_of(items) {
        file(problems, &at.field("path"), &item.path);
        mode(problems, &at.field("mode"), item.mode);
        user(problems, &at.field("user"), item.user);
        if let Some(field) = &item.field_ref {
            field_ref(problems, &at.field("fieldRef"), field, Place::File);
        }
        if let Some(resource) = &item.resource_field_ref {
            resource_ref(problems, &at.field("resourceFieldRef"), resource, Some(spec));
        }
        match (&item.field_ref, &item.resource_field_ref) {
            (None, None) => problems.required(&at, "it shows a field or a resource"),
            (Some(_), Some(_)) => {
                problems.forbidden(&at, "it shows a field or a resource, not both");
            }
            _ => {}
        }
    }
}

/// A volume of several sources.
pub(super) fn projected(
    problems: &mut Problems,
    at: &At,
    volume: &ProjectedVolumeSource,
    spec: &PodSpec,
) {
    mode(problems, &at.field("defaultMode"), volume.default_mode);
    user(problems, &at.field("defaultUser"), volume.default_user);
    let mut paths = BTreeSet::new();
    for (at, source) in at.field("sources").each_of(&volume.sources) {
        let mut named = without_api(problems, &at, source);
        if let Some(map) = &source.config_map {
            named += 1;
            let at = at.field("configMap");
            object_name(problems, &at.field("name"), &map.name);
            items(problems, &at, &map.items);
        }
        if let Some(secret) = &source.secret {
            named += 1;
            let at = at.field("secret");
            object_name(problems, &at.field("name"), &secret.name);
            items(problems, &at, &secret.items);
        }
        if let Some(downward) = &source.downward_api {
            named += 1;
            downward_api(problems, &at.field("downwardAPI"), &downward.items, spec);
        }
        match named {
            0 => problems.required(&at, "it names a source"),
            1 => {}
            _ => problems.forbidden(&at, "it names one source, not several"),
        }
        for path in paths_of(source).filter(|path| !path.is_empty()) {
            if !paths.insert(path) {
                problems.duplicate(&at, path);
            }
        }
    }
}

/// The files that a source names.
fn paths_of(source: &VolumeProjection) -> impl Iterator<Item = &str> {
    let of_map = source.config_map.iter().flat_map(|map| map.items.iter().flatten());
    let of_secret = source.secret.iter().flat_map(|secret| secret.items.iter().flatten());
    let of_pod = source.downward_api.iter().flat_map(|downward| downward.items.iter().flatten());
    let of_objects = of_map.chain(of_secret).map(|item| item.path.as_str());
    of_objects.chain(of_pod.map(|item| item.path.as_str()))
}

/// Refuses the sources that need an API server; how many there are.
fn without_api(problems: &mut Problems, at: &At, source: &VolumeProjection) -> usize {
    let sources = [
        ("serviceAccountToken", source.service_account_token.is_some()),
        ("clusterTrustBundle", source.cluster_trust_bundle.is_some()),
        ("podCertificate", source.pod_certificate.is_some()),
    ];
    let named = sources.into_iter().filter(|(_, is)| *is);
    named
        .map(|(name, _)| {
            let why = "needs an API server, which a static pod does not have";
            problems.forbidden(&at.field(name), why);
        })
        .count()
}
