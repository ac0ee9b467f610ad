//! What containers and pods ask for and are held to; pure.

use super::quantity::{ResourceList, cpu_milli, memory_bytes, page_bytes, storage_bytes, whole};
use super::spec::{Role, members, spec};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;

/// Requests and limits of a container, or of a pod as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Wants<'a> {
    requests: Option<&'a ResourceList>,
    /// The limits as they are written.
    pub limits: Option<&'a ResourceList>,
}

impl<'a> Wants<'a> {
    /// Those of a container.
    pub fn of(container: &'a Container) -> Self {
        let resources = container.resources.as_ref();
        Self {
            requests: resources.and_then(|r| r.requests.as_ref()),
            limits: resources.and_then(|r| r.limits.as_ref()),
        }
    }

    /// Those of a pod as a whole (KEP-2837), if it has any.
    pub fn of_pod(pod: &'a Pod) -> Option<Self> {
        let resources = spec(pod).resources.as_ref()?;
        Some(Self { requests: resources.requests.as_ref(), limits: resources.limits.as_ref() })
    }

    /// Thousandths of a CPU; zero is no limit.
    pub fn cpu_limit(self) -> Option<u64> {
        cpu_milli(self.limits).filter(|limit| *limit > 0)
    }

    /// Bytes; zero is no limit.
    pub fn memory_limit(self) -> Option<u64> {
        memory_bytes(self.limits).filter(|limit| *limit > 0)
    }

    /// Thousandths of a CPU. A limit without a request is a request, too.
    pub fn cpu_request(self) -> u64 {
        cpu_milli(self.requests).or(self.cpu_limit()).unwrap_or(0)
    }

    /// Bytes, as [`Self::cpu_request`].
    pub fn memory_request(self) -> u64 {
        memory_bytes(self.requests).or(self.memory_limit()).unwrap_or(0)
    }

    /// Bytes of node-local storage; zero is no limit.
    pub fn storage_limit(self) -> Option<u64> {
        storage_bytes(self.limits).filter(|limit| *limit > 0)
    }

    /// How many of a resource that only a device plugin could bring.
    fn devices_request(self, name: &str) -> u64 {
        let lists = [self.requests, self.limits].into_iter().flatten();
        lists.filter_map(|list| list.get(name)).find_map(whole).unwrap_or(0)
    }

    fn storage_request(self) -> u64 {
        storage_bytes(self.requests).or(storage_bytes(self.limits)).unwrap_or(0)
    }

    /// Bytes of huge pages of a size, which are asked for as a limit.
    fn pages_request(self, page_bytes: u64) -> u64 {
        pages(self.requests, page_bytes).or(pages(self.limits, page_bytes)).unwrap_or(0)
    }
}

/// The largest sum of an amount over the containers that run at the same time; none if one of them has none. Sidecars
/// run beside all that comes after them.
pub fn peak(pod: &Pod, of: impl Fn(Wants<'_>) -> Option<u64>) -> Option<u64> {
    let (mut beside, mut most, mut apps) = (0_u64, 0_u64, 0_u64);
    for member in members(pod) {
        let amount = of(Wants::of(member.container))?;
        match member.role {
            Role::Sidecar => {
                beside = beside.saturating_add(amount);
                most = most.max(beside);
            }
            Role::Init => most = most.max(beside.saturating_add(amount)),
            Role::App => apps = apps.saturating_add(amount),
            // They live on what the others leave.
            Role::Ephemeral => {}
        }
    }
    Some(most.max(beside.saturating_add(apps)))
}

/// What a pod asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of node-local storage.
    pub ephemeral_storage_bytes: u64,
}

impl Asked {
    /// What two pods ask for together.
    pub fn plus(self, other: Self) -> Self {
        let storage = self.ephemeral_storage_bytes.saturating_add(other.ephemeral_storage_bytes);
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            ephemeral_storage_bytes: storage,
        }
    }
}

/// What a pod asks for: the most that runs at once, or what is asked for the pod as a whole, and its overhead.
pub fn asked(pod: &Pod) -> Asked {
    let overhead = spec(pod).overhead.as_ref();
    let overhead = Asked {
        cpu_milli: cpu_milli(overhead).unwrap_or(0),
        memory_bytes: memory_bytes(overhead).unwrap_or(0),
        ephemeral_storage_bytes: storage_bytes(overhead).unwrap_or(0),
    };
    let asked = Asked {
        cpu_milli: most(pod, |wants| wants.cpu_request()),
        memory_bytes: most(pod, |wants| wants.memory_request()),
        ephemeral_storage_bytes: most(pod, |wants| wants.storage_request()),
    };
    asked.plus(overhead)
}

/// The names of everything that is asked for.
fn names(pod: &Pod) -> impl Iterator<Item = &String> {
    let containers = members(pod).into_iter().map(|member| Wants::of(member.container));
    let lists = containers.chain(Wants::of_pod(pod)).flat_map(|of| [of.requests, of.limits]);
    lists.chain([spec(pod).overhead.as_ref()]).flatten().flat_map(|list| list.keys())
}

/// What a pod asks for that only a device plugin could bring (`example.com/gpu`), and how many: such names have a
/// domain.
pub fn asked_devices(pod: &Pod) -> BTreeMap<&str, u64> {
    let devices = names(pod).filter(|name| name.contains('/'));
    devices.map(|name| (name.as_str(), most(pod, |wants| wants.devices_request(name)))).collect()
}

/// The huge pages that a pod asks for, as [`asked`]: bytes by page size in bytes.
pub fn asked_pages(pod: &Pod) -> BTreeMap<u64, u64> {
    let overhead = spec(pod).overhead.as_ref();
    let sizes = names(pod).filter_map(|name| page_bytes(name));
    let of = |size| {
        let most = most(pod, |wants| wants.pages_request(size));
        (size, most.saturating_add(pages(overhead, size).unwrap_or(0)))
    };
    sizes.map(of).collect()
}

/// The most that is asked for at once, by containers or for the pod as a whole.
fn most(pod: &Pod, of: impl Fn(Wants<'_>) -> u64) -> u64 {
    let members = peak(pod, |wants| Some(of(wants))).unwrap_or(0);
    Wants::of_pod(pod).map_or(members, |own| of(own).max(members))
}

/// Bytes of huge pages of a size in a list.
fn pages(list: Option<&ResourceList>, size: u64) -> Option<u64> {
    list?.iter().find(|(name, _)| page_bytes(name) == Some(size)).and_then(|(_, of)| whole(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_pod_asks_for_the_most_that_runs_at_once() {
        let c =
            |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            json!({"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}});
        let rows = [
            (json!({"containers": [c("a", "1"), c("b", "2")]}), 3000),
            (json!({"containers": [c("a", "1")], "initContainers": [c("i", "4")]}), 4000),
            (json!({"containers": [c("a", "1")], "initContainers": [c("i", "4"), sidecar]}), 4000),
            (json!({"containers": [c("a", "1")], "initContainers": [sidecar, c("i", "4")]}), 5000),
            (json!({"containers": [c("a", "1")], "overhead": {"cpu": "250m"}}), 1250),
            (json!({"containers": [c("a", "1")], "resources": {"requests": {"cpu": "3"}}}), 3000),
        ];
        for (spec, cpu) in rows {
            let pod: Pod = from_value(json!({ "spec": spec })).unwrap();
            assert_eq!(asked(&pod).cpu_milli, cpu, "{spec}");
        }
    }

    #[test]
    fn huge_pages_are_asked_for_by_their_size() {
        const MIB: u64 = 1 << 20;
        let c = |name: &str, list: serde_json::Value| json!({"name": name, "resources": {"limits": list}});
        let two = |name: &str, amount: &str| c(name, json!({"cpu": "1", "hugepages-2Mi": amount}));
        let rows = [
            (json!({"containers": [c("a", json!({"cpu": "1"}))]}), vec![]),
            (json!({"containers": [two("a", "4Mi"), two("b", "2Mi")]}), vec![(2 * MIB, 6 * MIB)]),
            (
                json!({"containers": [two("a", "4Mi")], "initContainers": [two("i", "16Mi")]}),
                vec![(2 * MIB, 16 * MIB)],
            ),
            (
                json!({"containers": [two("a", "4Mi"),
                    c("b", json!({"hugepages-2048Ki": "2Mi", "hugepages-1Gi": "1Gi"}))]}),
                vec![(2 * MIB, 6 * MIB), (1024 * MIB, 1024 * MIB)],
            ),
            (
                json!({"containers": [two("a", "4Mi")], "overhead": {"hugepages-2Mi": "2Mi"},
                    "resources": {"limits": {"hugepages-2Mi": "8Mi"}}}),
                vec![(2 * MIB, 10 * MIB)],
            ),
        ];
        for (spec, expected) in rows {
            let pod: Pod = from_value(json!({ "spec": spec })).unwrap();
            assert_eq!(asked_pages(&pod), expected.into_iter().collect(), "{spec}");
        }
    }
}
