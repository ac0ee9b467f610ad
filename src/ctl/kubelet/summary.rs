//! A pod in a line: how many of its containers are ready, what it does, how often it was restarted; pure.
//!
//! The words of the STATUS column are those that users of `kubectl get pods` know. The first init container that has
//! not done its part speaks for the pod; else the first app container that does not run does; else the phase.

use super::duration::duration;
use crate::kubelet::spec::{Role, members, name, namespace, spec};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A pod in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct Summary {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Containers that are ready, of those that are to be.
    pub(in crate::ctl) ready: (usize, usize),
    pub(in crate::ctl) status: String,
    pub(super) restarts: Restarts,
    /// When it began, seconds since 1970.
    pub(super) since: Option<i64>,
    pub(super) ip: Option<String>,
    pub(super) node: Option<String>,
}

/// How often containers were restarted, and when last, seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ctl) struct Restarts {
    pub(super) count: i32,
    pub(super) last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count = self.count.saturating_add(status.restart_count);
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let finished = last.and_then(|last| last.finished_at.as_ref()).map(seconds);
        self.last = self.last.max(finished);
    }

    fn text(self, now: i64) -> String {
        match self.last.filter(|_| self.count > 0) {
            Some(last) => format!("{} ({} ago)", self.count, duration(now - last)),
            None => self.count.to_string(),
        }
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}

impl Summary {
    /// Of a pod with its status.
    pub(in crate::ctl) fn of(pod: &Pod) -> Self {
        let none = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&none);
        let containers = Containers::of(pod, status);
        let created = pod.metadata.creation_timestamp.as_ref().or(status.start_time.as_ref());
        Self {
            namespace: namespace(pod).to_owned(),
            name: name(pod).to_owned(),
            ready: (containers.ready, containers.all),
            status: word(pod, status, containers.word),
            restarts: containers.restarts,
            since: created.map(seconds),
            ip: status.pod_ip.clone(),
            node: spec(pod).node_name.clone(),
        }
    }

    /// NAME, READY, STATUS, RESTARTS, AGE.
    pub(super) fn cells(&self, now: i64) -> Vec<String> {
        let (ready, all) = self.ready;
        vec![
            self.name.clone(),
            format!("{ready}/{all}"),
            self.status.clone(),
            self.restarts.text(now),
            self.since.map_or_else(|| "<unknown>".to_owned(), |since| duration(now - since)),
        ]
    }
}

/// What the pod as a whole says goes after what ends it.
fn word(pod: &Pod, status: &PodStatus, of_containers: Option<String>) -> String {
    let phase = status.phase.as_deref().unwrap_or("Unknown");
    let of_pod = status.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or(phase);
    let ended = matches!(phase, "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() && !ended {
        return "Terminating".to_owned();
    }
    match of_containers {
        // An app that is done while others run: the pod runs.
        Some(word) if word == "Completed" && any_runs_ready(status) => {
            if is_true(status, "Ready") {
                "Running".to_owned()
            } else {
                "NotReady".to_owned()
            }
        }
        // What was decided about the pod as a whole says more than how its containers ended.
        Some(_) if ended && status.reason.as_deref().is_some_and(|reason| !reason.is_empty()) => {
            of_pod.to_owned()
        }
        Some(word) => word,
        None => of_pod.to_owned(),
    }
}

fn any_runs_ready(status: &PodStatus) -> bool {
    let runs = |c: &ContainerStatus| c.state.as_ref().is_some_and(|state| state.running.is_some());
    status.container_statuses.iter().flatten().any(|c| c.ready && runs(c))
}

/// Whether a condition of the pod holds.
pub(super) fn is_true(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

/// What the containers of a pod amount to.
#[derive(Debug, Default)]
struct Containers {
    all: usize,
    ready: usize,
    restarts: Restarts,
    /// What the first of them says that does not run as it should.
    word: Option<String>,
}

impl Containers {
    fn of(pod: &Pod, status: &PodStatus) -> Self {
        let mut all = Self::default();
        let (mut of_init, mut of_sidecars) = (Restarts::default(), Restarts::default());
        let init: Vec<(Role, &str)> = members(pod)
            .iter()
            .filter(|member| member.role != Role::App)
            .map(|member| (member.role, member.name()))
            .collect();
        all.all = members(pod).iter().filter(|member| member.role != Role::Init).count();
        let mut waits_for_init = None;
        for (done, (role, name)) in init.iter().enumerate() {
            let of = status.init_container_statuses.iter().flatten().find(|s| s.name == *name);
            let Some(of) = of else { continue };
            of_init.add(of);
            if *role == Role::Sidecar {
                of_sidecars.add(of);
                all.ready += usize::from(of.ready && waits_for_init.is_none());
            }
            if waits_for_init.is_none() {
                waits_for_init = init_word(*role, of, (done, init.len()));
            }
        }
        if waits_for_init.is_some() && !is_true(status, "Initialized") {
            all.restarts = of_init;
            all.word = waits_for_init;
            return all;
        }
        all.restarts = of_sidecars;
        for of in status.container_statuses.iter().flatten() {
            all.restarts.add(of);
            let state = of.state.as_ref();
            all.ready += usize::from(of.ready && state.is_some_and(|s| s.running.is_some()));
            all.word = all.word.take().or_else(|| state.and_then(app_word));
        }
        all
    }
}

/// What an init container says that has not done its part.
fn init_word(role: Role, status: &ContainerStatus, place: (usize, usize)) -> Option<String> {
    let (done, count) = place;
    let state = status.state.as_ref();
    let ended = state.and_then(|state| state.terminated.as_ref());
    match ended {
        Some(ended) if ended.exit_code == 0 && role == Role::Init => return None,
        Some(ended) => return Some(format!("Init:{}", ended_word(ended, "ExitCode:"))),
        None if role == Role::Sidecar && status.started == Some(true) => return None,
        None => {}
    }
    let waits = state.and_then(|state| state.waiting.as_ref()).and_then(|w| w.reason.as_deref());
    Some(match waits.unwrap_or_default() {
        "" | "PodInitializing" | "ContainerCreating" => format!("Init:{done}/{count}"),
        reason => format!("Init:{reason}"),
    })
}

/// What an app container says that does not run.
fn app_word(state: &ContainerState) -> Option<String> {
    if let Some(ended) = &state.terminated {
        return Some(ended_word(ended, "ExitCode:"));
    }
    state.waiting.as_ref()?.reason.clone().filter(|reason| !reason.is_empty())
}

/// How a container ended, in a word.
fn ended_word(ended: &ContainerStateTerminated, code: &str) -> String {
    match (ended.reason.as_deref().unwrap_or_default(), ended.signal.unwrap_or(0)) {
        ("", 0) => format!("{code}{}", ended.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
