//! What holds up one container; pure.

use super::cause::{Cause, Stage};
use super::ending::ended;
use super::of_pod::{ago, hung, told};
use crate::ctl::kubelet::duration;
use crate::kubelet::board::Event;
use crate::kubelet::spec::{Member, Role};
use k8s_openapi::api::core::v1::{
    ContainerStateRunning, ContainerStateWaiting, ContainerStatus, Pod,
};

/// A container and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) pod: &'a Pod,
    pub(super) member: Member<'a>,
    pub(super) status: &'a ContainerStatus,
    /// Those of the whole pod, the oldest first.
    pub(super) events: &'a [Event],
    /// Seconds since 1970.
    pub(super) now: i64,
}

impl<'a> Subject<'a> {
    /// `container web`, `init container setup`, `sidecar proxy`.
    pub(super) fn name(&self) -> String {
        let role = match self.member.role {
            Role::App => "container",
            Role::Init => "init container",
            Role::Sidecar => "sidecar",
            Role::Ephemeral => "ephemeral container",
        };
        format!("{role} {}", self.member.name())
    }

    /// Its events, the newest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &'a Event> + use<'a> {
        let name = self.member.name();
        self.events.iter().rev().filter(move |event| event.container.as_deref() == Some(name))
    }

    /// What a probe said last, of this or an earlier instance, and how often.
    pub(super) fn probe_said(&self, kind: &str) -> Option<&'a Event> {
        let begin = format!("{kind} probe ");
        self.events().find(|e| e.reason == "Unhealthy" && e.message.starts_with(&begin))
    }
}

/// Its causes.
pub(super) fn of_container(of: &Subject<'_>) -> Vec<Cause> {
    let Some(state) = &of.status.state else { return Vec::new() };
    if let Some(waiting) = &state.waiting {
        return waits(of, waiting).into_iter().collect();
    }
    if let Some(end) = &state.terminated {
        let done = end.exit_code == 0 && of.member.role != Role::Sidecar;
        return if done { Vec::new() } else { vec![ended(of, end, None)] };
    }
    state.running.as_ref().map_or_else(Vec::new, |running| runs(of, running))
}

fn waits(of: &Subject<'_>, waiting: &ContainerStateWaiting) -> Option<Cause> {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    let name = of.name();
    let stage = match reason {
        "PodInitializing" => return None,
        "CrashLoopBackOff" => {
            let last = of.status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            return match last {
                Some(end) => Some(ended(of, end, Some(message))),
                None => Some(Cause::new(Stage::Exit, format!("{name} crashes: {message}"))),
            };
        }
        "ContainerCreating" if message.is_empty() => return creating(of),
        // Of the pod, whichever container waits for it.
        "ContainerCreating" => {
            let cause = message.strip_prefix("MountVolume.SetUp failed: ").unwrap_or(message);
            let headline = format!("a volume cannot be set up: {cause}");
            let late = cause.contains("did not end within");
            let hung = late.then(|| hung(of.events)).flatten();
            return Some(Cause::new(Stage::Volumes, headline).with(hung).with(since_start(of)));
        }
        "CreateContainerConfigError" => Stage::Config,
        "CreateContainerError" => Stage::Create,
        "RunContainerError" => Stage::Start,
        "PostStartHookError" => Stage::Hook,
        "KillContainerError" => Stage::Exit,
        _ => Stage::Image,
    };
    let headline = match stage {
        Stage::Image => {
            format!("{name}: its image cannot be had ({reason}): {}", or(message, reason))
        }
        Stage::Hook => format!("{name}: its postStart hook failed: {message}"),
        Stage::Exit => format!("{name} cannot be ended: {message}"),
        _ => format!(
            "{name} cannot be {}: {}",
            if stage == Stage::Start { "started" } else { "made" },
            or(message, reason)
        ),
    };
    Some(Cause::new(stage, headline).with(tries(of)).with(since_start(of)))
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// How often it was tried, by the event that tells of it.
fn tries(of: &Subject<'_>) -> Option<String> {
    let failed = of.events().find(|event| event.reason == "Failed" || event.reason == "BackOff")?;
    let last = duration(of.now - failed.last_nanos / 1_000_000_000);
    Some(format!("tried {} times, last {last} ago", failed.count))
}

/// How long the pod has been there.
fn since_start(of: &Subject<'_>) -> Option<String> {
    let start = of.pod.status.as_ref()?.start_time.as_ref()?;
    Some(format!("the pod began {} ago", ago(start, of.now)))
}

/// A container that is being made, and nothing has failed: a pull that goes on, a hook that does not end.
fn creating(of: &Subject<'_>) -> Option<Cause> {
    let last = of.events().next()?;
    let since = duration(of.now - last.last_nanos / 1_000_000_000);
    let name = of.name();
    let lifecycle = of.member.container.lifecycle.as_ref();
    let has_hook = lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some());
    let (stage, headline) = match last.reason.as_str() {
        "Pulling" => (Stage::Image, format!("{name}: its image is being pulled, for {since}")),
        "Started" if has_hook => {
            (Stage::Hook, format!("{name}: its postStart hook has not ended for {since}"))
        }
        _ => (Stage::Progress, format!("{name} is being made, for {since}")),
    };
    let cause = Cause::new(stage, headline).under_way();
    Some(cause.with(Some(format!("newest event: {}", told(last, of.now)))))
}

/// One that runs: whether it has started, is well, is ready.
fn runs(of: &Subject<'_>, running: &ContainerStateRunning) -> Vec<Cause> {
    let name = of.name();
    let since = running.started_at.as_ref();
    let for_long = since.map_or_else(String::new, |since| format!(" for {}", ago(since, of.now)));
    let container = of.member.container;
    if of.member.role == Role::Init {
        return vec![Cause::new(Stage::Progress, format!("{name} has been at work{for_long}"))];
    }
    if container.startup_probe.is_some() && of.status.started != Some(true) {
        return vec![probe(of, ("startup", Stage::Startup), &for_long)];
    }
    let mut all = Vec::new();
    // Only what was said of this instance: an earlier one has been ended for it.
    let own = |event: &&Event| {
        since.is_none_or(|since| event.last_nanos / 1_000_000_000 >= since.0.as_second())
    };
    if of.status.ready && of.member.role == Role::App {
        return all;
    }
    if container.liveness_probe.is_some() && of.probe_said("liveness").filter(own).is_some() {
        all.push(probe(of, ("liveness", Stage::Liveness), &for_long));
    }
    if !of.status.ready {
        all.push(probe(of, ("readiness", Stage::Readiness), &for_long));
    }
    all
}

/// A probe that does not pass, with what it said last.
pub(super) fn probe(of: &Subject<'_>, (kind, stage): (&str, Stage), for_long: &str) -> Cause {
    let name = of.name();
    match of.probe_said(kind) {
        Some(event) => {
            let cause = Cause::new(stage, format!("{name}: {}", event.message));
            let last = duration(of.now - event.last_nanos / 1_000_000_000);
            cause.with(Some(format!("said {} times, last {last} ago", event.count)))
        }
        None => Cause::new(stage, format!("{name}: its {kind} probe has not passed{for_long}")),
    }
}
