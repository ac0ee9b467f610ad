//! All causes, in their order.

use super::cause::{Cause, Stage};
use super::of_container::{Subject, of_container};
use super::of_pod;
use crate::ctl::kubelet::KeptPod;
use crate::kubelet::board::Event;
use crate::kubelet::spec::{Role, members};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

/// Why the pod's containers cannot be started, at a second since 1970; `None` while nothing has failed.
pub(in crate::ctl) fn first_fault(kept: &KeptPod, now: i64) -> Option<String> {
    let all = causes(&kept.pod, &kept.events, now, None);
    let fault = all.into_iter().find(|cause| !cause.under_way && cause.stage < Stage::Startup);
    fault.map(|cause| cause.headline)
}

/// Why the pod does not run or is not ready, at a second since 1970; nothing for one that does and is, or that has
/// done its work. Events come with the oldest first. `plugin`: what is at work on its network, in a sentence.
pub(super) fn causes(pod: &Pod, events: &[Event], now: i64, plugin: Option<&str>) -> Vec<Cause> {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let ending = of_pod::ending(pod, now);
    if status.phase.as_deref() == Some("Succeeded") {
        return Vec::new();
    }
    if let Some(verdict) = of_pod::verdict(status, events) {
        return ending.into_iter().chain([verdict]).collect();
    }
    let mut all: Vec<(bool, Cause)> = Vec::new();
    all.extend(of_pod::sandbox(status, events, now).map(|cause| (false, cause)));
    all.extend(of_pod::hangs(events, now).map(|cause| (false, cause)));
    for member in members(pod) {
        let statuses = match member.role {
            Role::App => &status.container_statuses,
            Role::Init | Role::Sidecar => &status.init_container_statuses,
            // They keep no pod from running.
            Role::Ephemeral => continue,
        };
        let Some(own) = statuses.iter().flatten().find(|own| own.name == member.name()) else {
            continue;
        };
        let subject = Subject { pod, member, status: own, events, now };
        for cause in of_container(&subject) {
            // What precedes the apps holds them up, until it has started.
            let later = member.role == Role::App || cause.stage >= Stage::Liveness;
            let known = all.iter().any(|(_, known)| known.headline == cause.headline);
            if !known {
                all.push((later, cause));
            }
        }
    }
    all.extend(of_pod::gates(status).map(|cause| (true, cause)));
    let mut all: Vec<(bool, Cause)> =
        ending.map(|cause| (false, cause)).into_iter().chain(all).collect();
    if all.is_empty() {
        all.extend(of_pod::stuck(status, events, now, plugin).map(|cause| (false, cause)));
    }
    // Stable: of the same stage, in the order in which containers start.
    all.sort_by_key(|(later, cause)| (*later, cause.stage));
    all.into_iter().map(|(_, cause)| cause).collect()
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
