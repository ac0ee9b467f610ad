//! Where a container has the pod's volumes.

use super::names::path_below;
use super::problem::{At, Problems};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};
use std::collections::BTreeSet;

/// The mounts of a container.
pub(super) fn mounts(problems: &mut Problems, at: &At, container: &Container, spec: &PodSpec) {
    let security = container.security_context.as_ref();
    let privileged = security.and_then(|security| security.privileged) == Some(true);
    let mut paths = BTreeSet::new();
    for (at, mount) in at.each_of(&container.volume_mounts) {
        let mut volumes = spec.volumes.iter().flatten();
        match volumes.find(|volume| volume.name == mount.name) {
            None if mount.name.is_empty() => {
                problems.required(&at.field("name"), "it names a volume")
            }
            None => problems.invalid(&at.field("name"), &mount.name, "is no volume of this pod"),
            Some(volume) => of_volume(problems, &at, mount, volume),
        }
        let path = at.field("mountPath");
        match mount.mount_path.as_str() {
            "" => problems.required(&path, "it names a path in the container"),
            text if text.contains(':') => problems.invalid(&path, text, "must not contain ':'"),
            text if !paths.insert(text) => problems.invalid(&path, text, "must be there once only"),
            _ => {}
        }
        sub_path(problems, &at, mount);
        propagation(problems, &at, mount, privileged.then_some(Privileged));
        if mount.bind_mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
            let why = "is not supported by this version";
            problems.forbidden(&at.field("bindMountOptions"), why);
        }
    }
}

/// The container may do anything.
#[derive(Clone, Copy)]
struct Privileged;

fn of_volume(problems: &mut Problems, at: &At, mount: &VolumeMount, volume: &Volume) {
    if volume.image.is_some() && mount.sub_path_expr.as_deref().is_some_and(|path| !path.is_empty())
    {
        let why = "an image has no paths made of variables";
        problems.forbidden(&at.field("subPathExpr"), why);
    }
}

fn sub_path(problems: &mut Problems, at: &At, mount: &VolumeMount) {
    let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty());
    let (plain, expr) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    if let Some(path) = &plain {
        problems.check(&at.field("subPath"), path, path_below(path));
    }
    if let Some(path) = &expr {
        problems.check(&at.field("subPathExpr"), path, path_below(path));
    }
    if plain.is_some() && expr.is_some() {
        problems.forbidden(&at.field("subPathExpr"), "there is a subPath already");
    }
}

fn propagation(problems: &mut Problems, at: &At, mount: &VolumeMount, by: Option<Privileged>) {
    let way = mount.mount_propagation.as_deref();
    let ways = ["None", "HostToContainer", "Bidirectional"];
    problems.one_of(&at.field("mountPropagation"), way, &ways);
    if way == Some("Bidirectional") && by.is_none() {
        let why = "only a privileged container may propagate its mounts to the node";
        problems.forbidden(&at.field("mountPropagation"), why);
    }
    let recursive = mount.recursive_read_only.as_deref();
    let at = at.field("recursiveReadOnly");
    problems.one_of(&at, recursive, &["Disabled", "IfPossible", "Enabled"]);
    if !["IfPossible", "Enabled"].contains(&recursive.unwrap_or_default()) {
        return;
    }
    if mount.read_only != Some(true) {
        problems.forbidden(&at, "only a mount with readOnly can be read-only all the way down");
    }
    if way.is_some_and(|way| way != "None") {
        problems.forbidden(&at, "mounts that are read-only all the way down are not propagated");
    }
}
