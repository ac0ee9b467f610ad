//! What a container's `volumeMounts` ask for, as messages of CRI. Pure.

use super::error::VolumeError;
use super::source::Source;
use super::sub_path;
use crate::cri::proto;
use crate::kubelet::env::expand_known;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, VolumeMount};

/// Whether the runtime can make mounts read-only all the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recursive {
    Supported,
    Unsupported,
}

/// A mount but for its source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    /// Without host path and image.
    pub(super) mount: proto::Mount,
    /// The place in the volume, relative and clean.
    pub(super) sub_path: Option<String>,
}

/// Reads one of a container's mounts.
///
/// # Errors
/// What the container cannot have.
pub(super) fn plan(
    container: &Container,
    asked: &VolumeMount,
    source: Source<'_>,
    vars: &[(String, String)],
    recursive: Recursive,
) -> Result<Planned, VolumeError> {
    let refuse = |reason| VolumeError::Mount {
        container: container.name.clone(),
        path: asked.mount_path.clone(),
        reason,
    };
    if asked.mount_path.is_empty() {
        return Err(refuse("has no path"));
    }
    // As kubelets have it: a relative path is one from the root.
    let container_path = match asked.mount_path.starts_with('/') {
        true => asked.mount_path.clone(),
        false => format!("/{}", asked.mount_path),
    };
    let propagation = propagation(container, asked).map_err(refuse)?;
    // What berth writes is not the containers' to change.
    let written = matches!(source, Source::Payload(_) | Source::Image(_));
    let readonly = asked.read_only == Some(true) || written;
    let recursive_read_only = recursively(asked, propagation, recursive).map_err(refuse)?;
    let mount = proto::Mount {
        container_path,
        readonly,
        recursive_read_only,
        propagation: propagation.into(),
        selinux_relabel: matches!(source, Source::EmptyDir(_) | Source::Payload(_)),
        mount_options: asked.bind_mount_options.clone().unwrap_or_default(),
        ..proto::Mount::default()
    };
    Ok(Planned { mount, sub_path: place(asked, vars).map_err(refuse)? })
}

fn propagation(
    container: &Container,
    asked: &VolumeMount,
) -> Result<proto::MountPropagation, &'static str> {
    let context = container.security_context.as_ref();
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    match asked.mount_propagation.as_deref().unwrap_or_default() {
        "" | "None" => Ok(proto::MountPropagation::PropagationPrivate),
        "HostToContainer" => Ok(proto::MountPropagation::PropagationHostToContainer),
        "Bidirectional" if privileged => Ok(proto::MountPropagation::PropagationBidirectional),
        "Bidirectional" => Err("Bidirectional needs a privileged container"),
        _ => Err("mountPropagation is not None, HostToContainer or Bidirectional"),
    }
}

fn recursively(
    asked: &VolumeMount,
    propagation: proto::MountPropagation,
    recursive: Recursive,
) -> Result<bool, &'static str> {
    let mode = asked.recursive_read_only.as_deref().unwrap_or_default();
    match mode {
        "" | "Disabled" => return Ok(false),
        "IfPossible" | "Enabled" => {}
        _ => return Err("recursiveReadOnly is not Disabled, IfPossible or Enabled"),
    }
    if asked.read_only != Some(true) {
        return Err("recursiveReadOnly needs readOnly");
    }
    if propagation != proto::MountPropagation::PropagationPrivate {
        return Err("recursiveReadOnly needs mountPropagation None");
    }
    match (mode, recursive) {
        (_, Recursive::Supported) => Ok(true),
        ("IfPossible", Recursive::Unsupported) => Ok(false),
        _ => Err("recursiveReadOnly is not supported by the runtime"),
    }
}

fn place(asked: &VolumeMount, vars: &[(String, String)]) -> Result<Option<String>, &'static str> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (given(&asked.sub_path), given(&asked.sub_path_expr)) {
        (Some(_), Some(_)) => Err("has both subPath and subPathExpr"),
        (None, None) => Ok(None),
        (Some(path), None) => sub_path::clean(&path).map_err(|_| "subPath leads out of the volume"),
        (None, Some(text)) => {
            let path = expand_known(&text, vars)
                .map_err(|_| "subPathExpr names a variable that the container does not have")?;
            sub_path::clean(&path).map_err(|_| "subPathExpr leads out of the volume")
        }
    }
}

/// The mount of an image's content.
pub(super) fn of_image(planned: Planned, source: &ImageVolumeSource) -> proto::Mount {
    let image = source.reference.clone().unwrap_or_default();
    let image = proto::ImageSpec {
        user_specified_image: image.clone(),
        image,
        ..proto::ImageSpec::default()
    };
    proto::Mount {
        image: Some(image),
        image_sub_path: planned.sub_path.unwrap_or_default(),
        ..planned.mount
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
