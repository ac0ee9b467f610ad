//! Volumes: each with one source that this node can make.

use super::names::{no_way_up, path_below};
use super::problem::{At, Problems};
use super::projection::{config_map, downward_api, mode, projected, secret, user};
use super::resources::quantity;
use super::spec::name;
use crate::kubelet::api::elsewhere;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, PodSpec, Volume};
use std::collections::BTreeSet;

/// What may be found at the path of a `hostPath`.
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
];

/// The volumes of a pod.
pub(super) fn volumes(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let mut names = BTreeSet::new();
    for (at, volume) in at.each_of(&spec.volumes) {
        name(problems, &at.field("name"), &volume.name);
        if !names.insert(&volume.name) {
            problems.duplicate(&at.field("name"), &volume.name);
        }
        let made = made_here(problems, &at, volume, spec);
        let foreign = elsewhere(volume);
        for name in &foreign {
            let why = format!(
                "volumes of {name} come by an API server or a plugin, which this node does not have"
            );
            problems.forbidden(&at.field(name), why);
        }
        match made + foreign.len() {
            0 => problems.required(&at, "a volume has a source"),
            1 => {}
            _ => problems.forbidden(&at, "a volume has one source, not several"),
        }
    }
}

/// Checks the sources that are made here; how many there are.
fn made_here(problems: &mut Problems, at: &At, volume: &Volume, spec: &PodSpec) -> usize {
    let mut made = 0;
    if let Some(source) = &volume.empty_dir {
        made += 1;
        empty_dir(problems, &at.field("emptyDir"), source);
    }
    if let Some(source) = &volume.host_path {
        made += 1;
        host_path(problems, &at.field("hostPath"), source);
    }
    if let Some(source) = &volume.config_map {
        made += 1;
        config_map(problems, &at.field("configMap"), source);
    }
    if let Some(source) = &volume.secret {
        made += 1;
        secret(problems, &at.field("secret"), source);
    }
    if let Some(source) = &volume.downward_api {
        made += 1;
        let at = at.field("downwardAPI");
        mode(problems, &at.field("defaultMode"), source.default_mode);
        user(problems, &at.field("defaultUser"), source.default_user);
        downward_api(problems, &at, &source.items, spec);
    }
    if let Some(source) = &volume.projected {
        made += 1;
        projected(problems, &at.field("projected"), source, spec);
    }
    if let Some(source) = &volume.image {
        made += 1;
        let at = at.field("image");
        if source.reference.as_deref().unwrap_or_default().is_empty() {
            problems.required(&at.field("reference"), "it names an image");
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        problems.one_of(&at.field("pullPolicy"), source.pull_policy.as_deref(), &policies);
    }
    made
}

fn empty_dir(problems: &mut Problems, at: &At, source: &EmptyDirVolumeSource) {
    let medium = source.medium.as_deref().unwrap_or_default();
    let page = medium.strip_prefix("HugePages-");
    if !["", "Memory", "HugePages"].contains(&medium)
        && !page.is_some_and(|size| crate::quantity::parse_whole(size).is_ok_and(|size| size > 0))
    {
        let known = ["\"\"", "Memory", "HugePages", "HugePages-SIZE"];
        problems.unsupported(&at.field("medium"), medium, &known);
    }
    if let Some(limit) = &source.size_limit {
        quantity(problems, &at.field("sizeLimit"), limit);
    }
    if source.mode.is_some() {
        problems.forbidden(&at.field("mode"), "is not supported by this version");
    }
}

fn host_path(problems: &mut Problems, at: &At, source: &HostPathVolumeSource) {
    let path = source.path.as_str();
    match path {
        "" => problems.required(&at.field("path"), "it names a path of the node"),
        path if path_below(path).is_ok() => {
            problems.invalid(&at.field("path"), path, "must be an absolute path");
        }
        path => problems.check(&at.field("path"), path, no_way_up(path)),
    }
    problems.one_of(&at.field("type"), source.type_.as_deref(), &HOST_PATH_TYPES);
}
