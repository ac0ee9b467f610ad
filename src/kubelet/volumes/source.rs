//! What a volume is made of. Pure.

use crate::kubelet::api::elsewhere;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource,
    ImageVolumeSource, Pod, ProjectedVolumeSource, SecretVolumeSource, Volume,
};

/// The source of a volume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source<'a> {
    /// `None`: no source is given, which is an emptyDir.
    EmptyDir(Option<&'a EmptyDirVolumeSource>),
    HostPath(&'a HostPathVolumeSource),
    Payload(Payload<'a>),
    Image(&'a ImageVolumeSource),
    /// The field's name.
    Unsupported(&'static str),
}

/// A volume whose files berth writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    ConfigMap(&'a ConfigMapVolumeSource),
    Secret(&'a SecretVolumeSource),
    DownwardApi(&'a DownwardAPIVolumeSource),
    Projected(&'a ProjectedVolumeSource),
}

impl<'a> Source<'a> {
    pub(super) fn of(volume: &'a Volume) -> Self {
        if let Some(source) = &volume.empty_dir {
            return Self::EmptyDir(Some(source));
        }
        if let Some(source) = &volume.host_path {
            return Self::HostPath(source);
        }
        if let Some(source) = &volume.config_map {
            return Self::Payload(Payload::ConfigMap(source));
        }
        if let Some(source) = &volume.secret {
            return Self::Payload(Payload::Secret(source));
        }
        if let Some(source) = &volume.downward_api {
            return Self::Payload(Payload::DownwardApi(source));
        }
        if let Some(source) = &volume.projected {
            return Self::Payload(Payload::Projected(source));
        }
        if let Some(source) = &volume.image {
            return Self::Image(source);
        }
        elsewhere(volume).first().map_or(Self::EmptyDir(None), |field| Self::Unsupported(field))
    }
}

/// An image that must be there before the containers that mount it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVolume {
    /// The volume.
    pub volume: String,
    /// The image's name; empty when the pod gives none.
    pub reference: String,
    /// `Always`, `IfNotPresent` or `Never`; `None`: as the tag says, as for a container's image.
    pub pull_policy: Option<String>,
}

/// The image volumes of a pod, in its order.
pub fn image_volumes(pod: &Pod) -> Vec<ImageVolume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let image = |volume: &Volume| match Source::of(volume) {
        Source::Image(source) => Some(ImageVolume {
            volume: volume.name.clone(),
            reference: source.reference.clone().unwrap_or_default(),
            pull_policy: source.pull_policy.clone().filter(|policy| !policy.is_empty()),
        }),
        _ => None,
    };
    volumes.filter_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_volume_without_a_source_is_an_empty_dir() {
        let volume: Volume = from_value(json!({"name": "v"})).unwrap();
        assert_eq!(Source::of(&volume), Source::EmptyDir(None));
    }

    #[test]
    fn what_needs_a_driver_is_named() {
        let rows = [
            ("nfs", json!({"server": "s", "path": "/"})),
            ("csi", json!({"driver": "d"})),
            ("persistentVolumeClaim", json!({"claimName": "c"})),
            ("ephemeral", json!({})),
        ];
        for (field, source) in rows {
            let volume: Volume = from_value(json!({"name": "v", field: source})).unwrap();
            assert_eq!(Source::of(&volume), Source::Unsupported(field));
        }
    }

    #[test]
    fn image_volumes_are_listed_with_their_policy() {
        let pod = json!({"spec": {"containers": [], "volumes": [
            {"name": "e", "emptyDir": {}},
            {"name": "a", "image": {"reference": "r/a:1", "pullPolicy": "Never"}},
            {"name": "b", "image": {"reference": "r/b", "pullPolicy": ""}},
        ]}});
        let expected = [("a", "r/a:1", Some("Never")), ("b", "r/b", None)];
        let expected = expected.map(|(volume, reference, policy)| ImageVolume {
            volume: volume.into(),
            reference: reference.into(),
            pull_policy: policy.map(Into::into),
        });
        assert_eq!(image_volumes(&from_value(pod).unwrap()), expected);
    }
}
