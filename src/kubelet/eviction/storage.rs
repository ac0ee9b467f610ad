//! Who uses more local storage than it may; pure but for the figures.
//!
//! An emptyDir on disk beyond its sizeLimit; a container whose writable layer and logs are beyond its limit of
//! ephemeral-storage; a pod whose layers, logs and emptyDirs are beyond the sum of those limits.

use super::usage::LocalUse;
use crate::config::Amount;
use crate::kubelet::quantity::whole;
use crate::kubelet::spec::{members, spec};
use crate::kubelet::volumes::on_disk;
use crate::kubelet::wants::{Wants, peak};
use k8s_openapi::api::core::v1::Pod;

/// A limit that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// The signal as metrics name it.
    pub(super) signal: &'static str,
    pub(super) used: u64,
    pub(super) limit: u64,
    pub(super) message: String,
}

/// Whether a pod has a limit that has to be looked after.
pub(super) fn has_limits(pod: &Pod) -> bool {
    pod_limit(pod).is_some() || volume_limits(pod).next().is_some()
}

/// The first limit that a pod has passed.
pub(super) fn over(pod: &Pod, local: &LocalUse) -> Option<Over> {
    let of_volume = volume_limits(pod).find_map(|(volume, limit)| {
        let used = local.volumes.get(volume)?.bytes;
        let limit_text = Amount::Quantity(limit);
        let message =
            format!("Usage of EmptyDir volume {volume:?} exceeds the limit \"{limit_text}\".");
        (used > limit).then_some(Over { signal: "emptydirfs.limit", used, limit, message })
    });
    of_volume.or_else(|| container_over(pod, local)).or_else(|| pod_over(pod, local))
}

fn container_over(pod: &Pod, local: &LocalUse) -> Option<Over> {
    members(pod).into_iter().find_map(|member| {
        let limit = Wants::of(member.container).storage_limit()?;
        let bytes = |of: Option<&super::usage::Space>| of.map_or(0, |space| space.bytes);
        let (layer, logs) = (local.layers.get(member.name()), local.logs.get(member.name()));
        let used = bytes(layer).saturating_add(bytes(logs));
        let limit_text = Amount::Quantity(limit);
        let message = format!(
            "Container {} exceeded its local ephemeral storage limit \"{limit_text}\".",
            member.name()
        );
        let signal = "ephemeralcontainerfs.limit";
        (used > limit).then_some(Over { signal, used, limit, message })
    })
}

fn pod_over(pod: &Pod, local: &LocalUse) -> Option<Over> {
    let limit = pod_limit(pod)?;
    let spaces = local.layers.values().chain(local.logs.values()).chain(local.volumes.values());
    let used = spaces.map(|space| space.bytes).fold(0, u64::saturating_add);
    let limit_text = Amount::Quantity(limit);
    let message = format!(
        "Pod ephemeral local storage usage exceeds the total limit of containers {limit_text}."
    );
    (used > limit).then_some(Over { signal: "ephemeralpodfs.limit", used, limit, message })
}

/// The limits of all that runs at once, one without counting for nothing; none if nobody has any.
fn pod_limit(pod: &Pod) -> Option<u64> {
    // A limit of zero is none, so that a sum of zero is that of nobody's.
    peak(pod, |wants| Some(wants.storage_limit().unwrap_or(0))).filter(|limit| *limit > 0)
}

/// The emptyDirs on disk that have a limit.
fn volume_limits(pod: &Pod) -> impl Iterator<Item = (&str, u64)> {
    spec(pod).volumes.iter().flatten().filter_map(|volume| {
        let source = volume.empty_dir.as_ref().filter(|source| on_disk(source))?;
        Some((volume.name.as_str(), whole(source.size_limit.as_ref()?).filter(|limit| *limit > 0)?))
    })
}

#[cfg(test)]
mod tests {
    use super::super::usage::Space;
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    fn limited(name: &str, limit: &str) -> Value {
        json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}})
    }

    fn uses(rows: &[(&str, u64)]) -> BTreeMap<String, Space> {
        let space = |bytes| Space { bytes, inodes: 1 };
        rows.iter().map(|(name, bytes)| ((*name).to_owned(), space(*bytes))).collect()
    }

    fn told(
        spec: Value,
        layers: &[(&str, u64)],
        logs: &[(&str, u64)],
        volumes: &[(&str, u64)],
    ) -> String {
        let local = LocalUse {
            layers: uses(layers),
            logs: uses(logs),
            volumes: uses(volumes),
            unknown: Vec::new(),
        };
        over(&pod(spec), &local).map(|over| over.message).unwrap_or_default()
    }

    #[test]
    fn an_empty_dir_beyond_its_limit_is_named() {
        let volume = |source: Value| json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": source}]});
        let of = |source, used| told(volume(source), &[], &[], &[("v", used)]);
        let limit = json!({"sizeLimit": "1Mi"});
        assert_eq!(of(limit.clone(), 1 << 20), "");
        assert_eq!(
            of(limit, (1 << 20) + 1),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\"."
        );
        assert_eq!(of(json!({}), u64::MAX), "");
        assert_eq!(of(json!({"sizeLimit": "0"}), 1), "", "0 is no limit");
        let memory = json!({"sizeLimit": "1Mi", "medium": "Memory"});
        assert_eq!(of(memory.clone(), u64::MAX), "", "the tmpfs has its own");
        assert!(
            !has_limits(&pod(volume(memory)))
                && has_limits(&pod(volume(json!({"sizeLimit": "1"}))))
        );
    }

    #[test]
    fn a_containers_layer_and_logs_count_together() {
        let spec = json!({"containers": [limited("a", "1k"), {"name": "b"}]});
        let of = |layer, log| told(spec.clone(), &[("a", layer)], &[("a", log)], &[]);
        assert_eq!(of(600, 400), "");
        assert_eq!(
            of(600, 401),
            "Container a exceeded its local ephemeral storage limit \"1000\"."
        );
    }

    #[test]
    fn a_pod_has_the_sum_of_its_containers_limits() {
        let spec = json!({
            "containers": [limited("a", "1k"), limited("b", "1k"), {"name": "c"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        });
        let of = |volume| told(spec.clone(), &[("a", 900)], &[("c", 100)], &[("v", volume)]);
        assert_eq!(of(1000), "");
        let message =
            "Pod ephemeral local storage usage exceeds the total limit of containers 2000.";
        assert_eq!(of(1001), message);
        let init =
            json!({"initContainers": [limited("i", "5k")], "containers": [limited("a", "1k")]});
        assert_eq!(pod_limit(&pod(init)), Some(5000));
        assert_eq!(told(json!({"containers": [{"name": "a"}]}), &[("a", u64::MAX)], &[], &[]), "");
    }
}
