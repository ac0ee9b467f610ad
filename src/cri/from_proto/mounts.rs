//! A container's mounts and devices.

use super::RequestError;
use super::image::image_name;
use super::text::{absolute, below};
use super::userns::mount_maps;
use crate::container::config::{Device, ImageVolume, Mount, MountPropagation};
use crate::cri::proto;
use std::path::PathBuf;

/// Validated mounts, in the request's order.
pub(super) fn mounts(field: &str, mounts: Vec<proto::Mount>) -> Result<Vec<Mount>, RequestError> {
    let each = |(index, m)| mount(&format!("{field}[{index}]"), m);
    mounts.into_iter().enumerate().map(each).collect()
}

fn mount(field: &str, m: proto::Mount) -> Result<Mount, RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let image = image_volume(field, &m)?;
    let maps =
        mount_maps((at("uidMappings"), &m.uid_mappings), (at("gidMappings"), &m.gid_mappings))?;
    if !m.mount_options.is_empty() {
        return Err(RequestError::unimplemented(at("mount_options"), "mount options are"));
    }
    let propagation = match proto::MountPropagation::try_from(m.propagation) {
        Ok(proto::MountPropagation::PropagationPrivate) => MountPropagation::Private,
        Ok(proto::MountPropagation::PropagationHostToContainer) => {
            MountPropagation::HostToContainer
        }
        Ok(proto::MountPropagation::PropagationBidirectional) => MountPropagation::Bidirectional,
        Err(_) => return Err(RequestError::unknown(at("propagation"), m.propagation)),
    };
    if m.recursive_read_only {
        let field = at("recursive_read_only");
        if !m.readonly {
            return Err(RequestError::invalid(field, "needs readonly"));
        }
        if propagation != MountPropagation::Private {
            return Err(RequestError::invalid(field, "needs PROPAGATION_PRIVATE"));
        }
    }
    if image.is_some() && propagation != MountPropagation::Private {
        let reason = "an image volume needs PROPAGATION_PRIVATE";
        return Err(RequestError::invalid(at("propagation"), reason));
    }
    Ok(Mount {
        container_path: absolute(&at("container_path"), &m.container_path)?,
        host_path: match &image {
            None => absolute(&at("host_path"), &m.host_path)?,
            Some(_) => PathBuf::new(),
        },
        image,
        readonly: m.readonly,
        recursive_read_only: m.recursive_read_only,
        propagation,
        selinux_relabel: m.selinux_relabel,
        maps,
    })
}

/// The image of a mount that has one. It is read-only by its nature, and a request must say so.
fn image_volume(field: &str, m: &proto::Mount) -> Result<Option<ImageVolume>, RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let Some(image) = m.image.as_ref().filter(|i| **i != proto::ImageSpec::default()) else {
        return match m.image_sub_path.is_empty() {
            true => Ok(None),
            false => Err(RequestError::invalid(at("image_sub_path"), "needs an image")),
        };
    };
    let name = image_name(&at("image"), image)?;
    if !m.host_path.is_empty() {
        return Err(RequestError::invalid(at("host_path"), "excludes image"));
    }
    if !m.readonly {
        return Err(RequestError::invalid(at("readonly"), "an image volume needs it"));
    }
    Ok(Some(ImageVolume {
        image: name,
        user_specified_image: image.user_specified_image.clone(),
        sub_path: below(&at("image_sub_path"), m.image_sub_path.trim_end_matches('/'))?,
    }))
}

/// Validated devices, in the request's order.
pub(super) fn devices(field: &str, devices: &[proto::Device]) -> Result<Vec<Device>, RequestError> {
    let mut made = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let at = |name: &str| format!("{field}[{index}].{name}");
        let host_path = absolute(&at("host_path"), &device.host_path)?;
        let container_path = match device.container_path.as_str() {
            "" => host_path.clone(),
            path => absolute(&at("container_path"), path)?,
        };
        let permissions = device.permissions.as_str();
        if permissions.is_empty() || !permissions.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
            let reason = format!("{permissions:?} is not of r, w and m");
            return Err(RequestError::invalid(at("permissions"), reason));
        }
        let permissions = permissions.to_owned();
        made.push(Device { container_path, host_path, permissions });
    }
    Ok(made)
}
