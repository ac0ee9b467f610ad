//! The downward API: a pod's fields and a container's resources as text. Pure.

use super::container::EnvInput;
use crate::error::ErrorKind;
use crate::kubelet::quantity::{HUGE_PAGES, ResourceList, milli, whole};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// A reference of the downward API that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// Not a field that a pod can be told.
    #[error("fieldRef {path:?} is not a field of the downward API")]
    Field {
        /// The path.
        path: String,
    },
    /// Not a resource that a pod can be told.
    #[error("resourceFieldRef {resource:?} is not a resource of the downward API")]
    Resource {
        /// The resource.
        resource: String,
    },
    /// The divisor is no quantity.
    #[error("the divisor {divisor:?} of resourceFieldRef {resource:?} is not a positive quantity")]
    Divisor {
        /// The resource.
        resource: String,
        /// The divisor.
        divisor: String,
    },
    /// No such container in the pod.
    #[error("resourceFieldRef names container {container:?}, which the pod does not have")]
    Container {
        /// Its name; empty when none is named where one must be.
        container: String,
    },
}

impl DownwardError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The text of a field. Whole maps are lines of `key="value"`, sorted; a label or annotation that is not
/// there is empty.
///
/// # Errors
/// [`DownwardError::Field`].
pub fn field_value(path: &str, input: &EnvInput<'_>) -> Result<String, DownwardError> {
    let metadata = &input.pod.metadata;
    let spec = input.pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => input.namespace().to_owned(),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => {
            let named = spec.and_then(|s| s.node_name.as_ref()).filter(|name| !name.is_empty());
            named.unwrap_or(&input.node.name).clone()
        }
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(input.host_ips),
        "status.hostIPs" => all(input.host_ips),
        "status.podIP" => first(input.pod_ips),
        "status.podIPs" => all(input.pod_ips),
        _ => {
            let entry = subscript(path, "metadata.labels").map(|key| (&metadata.labels, key));
            let entry = entry.or_else(|| {
                subscript(path, "metadata.annotations").map(|key| (&metadata.annotations, key))
            });
            let Some((map, key)) = entry else {
                return Err(DownwardError::Field { path: path.to_owned() });
            };
            text(map.as_ref().and_then(|map| map.get(key)))
        }
    })
}

/// The key of `map['key']`.
fn subscript<'a>(path: &'a str, map: &str) -> Option<&'a str> {
    let key = path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']")?;
    (!key.is_empty()).then_some(key)
}

fn first(ips: &[IpAddr]) -> String {
    ips.first().map(IpAddr::to_string).unwrap_or_default()
}

fn all(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// As Go quotes a string, which is what readers of these files expect.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push('\''),
            // Writing to a String cannot fail.
            c if c < ' ' || c == '\x7f' => write!(out, "\\x{:02x}", u32::from(c)).unwrap_or(()),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) > 0xffff => write!(out, "\\U{:08x}", u32::from(c)).unwrap_or(()),
            c => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or(()),
        }
    }
    out.push('"');
    out
}

/// Asks the standard library, which tells a combining mark only after another character from what is not
/// printable.
fn is_printable(c: char) -> bool {
    ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

/// The amount that a container requests or may have, in units of the divisor, rounded up. `own` is the
/// container that asks: a variable's may be left out, a file's not.
///
/// # Errors
/// [`DownwardError`].
pub fn resource_value(
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    input: &EnvInput<'_>,
) -> Result<String, DownwardError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => own.filter(|own| own.name == name).or_else(|| find(input.pod, name)),
        None => own,
    };
    let container = container
        .ok_or_else(|| DownwardError::Container { container: named.unwrap_or("").to_owned() })?;
    let unknown = || DownwardError::Resource { resource: selector.resource.clone() };
    let (list, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage");
    if !known && name.strip_prefix(HUGE_PAGES).is_none_or(str::is_empty) {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let amount = match list {
        "requests" => amount(resources.and_then(|r| r.requests.as_ref()), name),
        "limits" => amount(resources.and_then(|r| r.limits.as_ref()), name)
            .filter(|limit| *limit > 0)
            .or_else(|| default_limit(name, input)),
        _ => return Err(unknown()),
    };
    Ok(amount.unwrap_or(0).div_ceil(divisor(selector, name)?).to_string())
}

/// A container of the pod, of whatever kind that has resources.
fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut named = all.filter(|container| container.name == name);
    named.next()
}

/// Thousandths of a CPU, or whole units.
fn amount(list: Option<&ResourceList>, name: &str) -> Option<u64> {
    let quantity = list?.get(name)?;
    if name == "cpu" { milli(quantity) } else { whole(quantity) }
}

/// What a container without a limit is bounded by: the pod's own limit, else what pods may use of the node.
fn default_limit(name: &str, input: &EnvInput<'_>) -> Option<u64> {
    let resources = input.pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let of_pod = amount(resources.and_then(|r| r.limits.as_ref()), name).filter(|limit| *limit > 0);
    let node = &input.node.allocatable;
    of_pod.or(match name {
        "cpu" => Some(node.cpu_milli),
        "memory" => Some(node.memory_bytes),
        "ephemeral-storage" => Some(node.ephemeral_storage_bytes),
        // Pages that nobody asked for cannot be had.
        _ => None,
    })
}

/// The divisor in the unit of [`amount`]; 1 when there is none, or it is 0.
fn divisor(selector: &ResourceFieldSelector, name: &str) -> Result<u64, DownwardError> {
    let one = if name == "cpu" { 1000 } else { 1 };
    let Some(divisor) = selector.divisor.as_ref().filter(|divisor| !divisor.0.is_empty()) else {
        return Ok(one);
    };
    let value = if name == "cpu" { milli(divisor) } else { whole(divisor) };
    match value {
        Some(0) => Ok(one),
        Some(value) => Ok(value),
        None => Err(DownwardError::Divisor {
            resource: selector.resource.clone(),
            divisor: divisor.0.clone(),
        }),
    }
}

#[cfg(test)]
#[path = "downward_tests.rs"]
mod tests;
