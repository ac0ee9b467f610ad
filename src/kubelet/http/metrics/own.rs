//! `/metrics`: the kubelet half's own figures.

use super::exposition::{Kind, Sample, Value};
use super::process::ProcessUsage;
use super::{Exposition, operations};
use crate::cri::client::Calls;
use crate::cri::proto;
use crate::histogram::Histogram;
use crate::kubelet::board::PodView;
use std::collections::BTreeMap;

/// What they are made of.
pub(in crate::kubelet::http) struct Own<'a> {
    /// The node's name.
    pub(in crate::kubelet::http) node: &'a str,
    /// All pods that are kept, by uid.
    pub(in crate::kubelet::http) pods: &'a BTreeMap<String, PodView>,
    /// How many were evicted, by signal.
    pub(in crate::kubelet::http) evictions: &'a BTreeMap<&'static str, u64>,
    /// The calls to the runtime, by verb.
    pub(in crate::kubelet::http) calls: BTreeMap<&'static str, Calls>,
    /// How long pods took until they ran.
    pub(in crate::kubelet::http) starts: Histogram,
    /// What the daemon uses.
    pub(in crate::kubelet::http) usage: Option<ProcessUsage>,
    /// What the runtime has; none: it does not answer.
    pub(in crate::kubelet::http) runtime: Option<(&'a [proto::PodSandbox], &'a [proto::Container])>,
}

/// The kubelet half's own figures.
pub(in crate::kubelet::http) fn own(of: &Own<'_>) -> String {
    use Kind::Gauge;
    let mut all = Exposition::default();
    let version = env!("CARGO_PKG_VERSION");
    let build = ("kubelet_build_info", Gauge, "1, with the version as a label.");
    all.one(build, &[("version", version)], Value::Whole(1));
    let name = ("kubelet_node_name", Gauge, "1, with the node's name as a label.");
    all.one(name, &[("node", of.node)], Value::Whole(1));
    let wanted = ("kubelet_desired_pods", Gauge, "Pods that are kept.");
    all.one(wanted, &[("static", "true")], whole(of.pods.len()));
    phases(&mut all, of.pods);
    evictions(&mut all, of.evictions);
    let up = ("kubelet_runtime_up", Gauge, "Whether the runtime answers.");
    all.one(up, &[], Value::Whole(u64::from(of.runtime.is_some())));
    operations::operations(&mut all, &of.calls);
    operations::starts(&mut all, &of.starts);
    if let Some(usage) = &of.usage {
        usage.tell(&mut all);
    }
    let Some((sandboxes, containers)) = of.runtime else { return all.text() };
    let ready = |s: &&proto::PodSandbox| s.state() == proto::PodSandboxState::SandboxReady;
    let running = sandboxes.iter().filter(ready).count();
    all.one(
        ("kubelet_running_pods", Gauge, "Pods of the runtime that have a sandbox that is ready."),
        &[],
        whole(running),
    );
    states(&mut all, containers);
    all.text()
}

fn whole(count: usize) -> Value {
    Value::Whole(u64::try_from(count).unwrap_or(u64::MAX))
}

fn phases(all: &mut Exposition, pods: &BTreeMap<String, PodView>) {
    const NAME: &str = "kubelet_pods";
    all.family(NAME, Kind::Gauge, "Pods that are kept, by their phase.");
    for phase in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
        let is = |view: &&PodView| {
            view.pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase)
        };
        let value = whole(pods.values().filter(is).count());
        all.add(NAME, Sample { labels: &[("phase", phase)], value, nanos: 0 });
    }
}

fn evictions(all: &mut Exposition, counts: &BTreeMap<&'static str, u64>) {
    const NAME: &str = "kubelet_evictions";
    let help = "Pods that were evicted since the start, by the signal for which they went.";
    all.family(NAME, Kind::Counter, help);
    for (signal, count) in counts {
        let labels = &[("eviction_signal", *signal)];
        all.add(NAME, Sample { labels, value: Value::Whole(*count), nanos: 0 });
    }
}

fn states(all: &mut Exposition, containers: &[proto::Container]) {
    use proto::ContainerState::*;
    const NAME: &str = "kubelet_running_containers";
    all.family(NAME, Kind::Gauge, "Containers of the runtime, by their state.");
    for (state, label) in [
        (ContainerCreated, "created"),
        (ContainerRunning, "running"),
        (ContainerExited, "exited"),
        (ContainerUnknown, "unknown"),
    ] {
        let value = whole(containers.iter().filter(|c| c.state() == state).count());
        all.add(NAME, Sample { labels: &[("container_state", label)], value, nanos: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;

    fn told(node: &str, runtime: Option<(&[proto::PodSandbox], &[proto::Container])>) -> String {
        own(&Own {
            node,
            pods: &BTreeMap::new(),
            evictions: &BTreeMap::from([("memory.available", 3)]),
            calls: BTreeMap::new(),
            starts: Histogram::new(&[]),
            usage: ProcessUsage::read().ok(),
            runtime,
        })
    }

    #[test]
    fn pods_and_containers_are_counted_by_their_state() {
        let sandbox = |state: proto::PodSandboxState| proto::PodSandbox {
            state: state.into(),
            ..proto::PodSandbox::default()
        };
        let container = |state: proto::ContainerState| proto::Container {
            state: state.into(),
            ..proto::Container::default()
        };
        use proto::{ContainerState as C, PodSandboxState as P};
        let sandboxes = [sandbox(P::SandboxReady), sandbox(P::SandboxNotready)];
        let containers = [
            container(C::ContainerRunning),
            container(C::ContainerRunning),
            container(C::ContainerExited),
        ];
        let runtime = Some((&sandboxes[..], &containers[..]));
        let told = told("node-1", runtime);
        let all = check(&told).unwrap();
        let value = |name: &str, label: (&str, &str)| {
            let is = |s: &&super::super::checker::Scraped| {
                s.name == name && (label.0.is_empty() || s.labels[label.0] == label.1)
            };
            all.iter().find(is).unwrap().value
        };
        assert_eq!(value("kubelet_running_pods", ("", "")), 1.0);
        assert_eq!(value("kubelet_running_containers", ("container_state", "running")), 2.0);
        assert_eq!(value("kubelet_running_containers", ("container_state", "exited")), 1.0);
        assert_eq!(value("kubelet_running_containers", ("container_state", "created")), 0.0);
        assert_eq!(value("kubelet_evictions", ("eviction_signal", "memory.available")), 3.0);
        assert_eq!(value("kubelet_node_name", ("node", "node-1")), 1.0);
        assert_eq!(value("kubelet_runtime_up", ("", "")), 1.0);
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_told() {
        let told = told("n", None);
        let all = check(&told).unwrap();
        assert!(all.iter().any(|s| s.name == "kubelet_runtime_up" && s.value == 0.0));
        assert!(!all.iter().any(|s| s.name == "kubelet_running_pods"));
    }
}
