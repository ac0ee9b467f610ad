//! What variables and files of the downward API may show: fields of the pod and resources of its containers.

use super::names::qualified_name;
use super::problem::{At, Problems};
use super::resources::quantity;
use crate::kubelet::quantity::HUGE_PAGES;
use k8s_openapi::api::core::v1::{ObjectFieldSelector, PodSpec, ResourceFieldSelector};

/// Where something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a variable, which is set once.
    Variable,
    /// In a file, which follows the pod.
    File,
}

/// Fields that both may show.
const FIELDS: [&str; 3] = ["metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields that only a variable may show.
const OF_VARIABLES: [&str; 6] = [
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Maps: a file may show them whole, and both one of their values.
const MAPS: [&str; 2] = ["metadata.labels", "metadata.annotations"];
/// Units in which bytes are shown.
const OF_BYTES: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A field of the pod.
pub(super) fn field_ref(
    problems: &mut Problems,
    at: &At,
    field: &ObjectFieldSelector,
    place: Place,
) {
    problems.one_of(&at.field("apiVersion"), field.api_version.as_deref(), &["v1"]);
    let (at, path) = (at.field("fieldPath"), field.field_path.as_str());
    if path.is_empty() {
        return problems.required(&at, "it names a field of the pod");
    }
    let subscript = path.split_once('[').and_then(|(map, rest)| {
        let key = rest.strip_suffix(']')?;
        Some((map, key.trim_matches('\'')))
    });
    match subscript {
        Some((map, key)) if MAPS.contains(&map) => {
            let key = key.to_ascii_lowercase();
            problems.check(&at, path, qualified_name(&key));
        }
        _ if FIELDS.contains(&path) => {}
        _ if place == Place::Variable && OF_VARIABLES.contains(&path) => {}
        _ if place == Place::File && MAPS.contains(&path) => {}
        _ => {
            let mut fields = FIELDS.to_vec();
            match place {
                Place::Variable => fields.extend(OF_VARIABLES),
                Place::File => fields.extend(MAPS),
            }
            fields.extend(["metadata.labels['KEY']", "metadata.annotations['KEY']"]);
            problems.unsupported(&at, path, &fields);
        }
    }
}

/// A resource of a container: of its own in a variable, of a named one in a file (then `spec` has it).
pub(super) fn resource_ref(
    problems: &mut Problems,
    at: &At,
    resource: &ResourceFieldSelector,
    file_of: Option<&PodSpec>,
) {
    let name = resource.resource.as_str();
    let parts = name.split_once('.').filter(|(list, _)| ["limits", "requests"].contains(list));
    let of = parts.map(|(_, of)| of).filter(|of| {
        ["cpu", "memory", "ephemeral-storage"].contains(of) || of.starts_with(HUGE_PAGES)
    });
    match of {
        None if name.is_empty() => problems.required(&at.field("resource"), "it names a resource"),
        None => {
            let known = ["cpu", "memory", "ephemeral-storage", "hugepages-SIZE"];
            let known: Vec<String> = ["limits", "requests"]
                .iter()
                .flat_map(|list| known.iter().map(move |of| format!("{list}.{of}")))
                .collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            problems.unsupported(&at.field("resource"), name, &known);
        }
        Some(of) => divisor(problems, &at.field("divisor"), resource, of),
    }
    let Some(spec) = file_of else { return };
    let at = at.field("containerName");
    let container = resource.container_name.as_deref().unwrap_or_default();
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if container.is_empty() {
        problems.required(&at, "a file shows a resource of a named container");
    } else if !all.any(|one| one.name == container) {
        problems.invalid(&at, container, "is no container of this pod");
    }
}

fn divisor(problems: &mut Problems, at: &At, resource: &ResourceFieldSelector, of: &str) {
    let Some(divisor) = &resource.divisor else { return };
    let allowed: &[&str] = if of == "cpu" { &["1", "1m"] } else { &OF_BYTES };
    // Zero is what an API server writes for none.
    if quantity(problems, at, divisor).is_some_and(|milli| milli > 0) {
        problems.one_of(at, Some(&divisor.0), allowed);
    }
}
