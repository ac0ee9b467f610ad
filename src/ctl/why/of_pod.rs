//! What holds up the pod as a whole; pure.

use super::cause::{Cause, Stage};
use crate::ctl::kubelet::duration;
use crate::kubelet::board::Event;
use crate::kubelet::worker::HANGS;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The newest event for a reason.
pub(super) fn newest<'a>(events: &'a [Event], reason: &str) -> Option<&'a Event> {
    events.iter().rev().find(|event| event.reason == reason)
}

/// How long ago a moment was.
pub(super) fn ago(time: &Time, now: i64) -> String {
    duration(now - time.0.as_second())
}

/// An event in a line.
pub(super) fn told(event: &Event, now: i64) -> String {
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    let at = duration(now - event.last_nanos / 1_000_000_000);
    format!("{} {at} ago{times}: {}", event.reason, event.message)
}

pub(super) fn ending(pod: &Pod, now: i64) -> Option<Cause> {
    let since = pod.metadata.deletion_timestamp.as_ref()?;
    Some(Cause::new(Stage::Ending, format!("the pod is being ended, for {}", ago(since, now))))
}

/// What was decided about the pod: it was not admitted, or was ended.
pub(super) fn verdict(status: &PodStatus, events: &[Event]) -> Option<Cause> {
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty())?;
    if status.phase.as_deref() != Some("Failed") {
        return None;
    }
    let what = match reason {
        "Evicted" => "the pod was evicted",
        "DeadlineExceeded" => "the pod was ended at its deadline",
        _ if reason.starts_with("OutOf") => "the node has no room for the pod",
        "NodePorts" => "a host port of the pod is taken",
        _ => "the node refused the pod",
    };
    let message = status.message.as_deref().unwrap_or(reason);
    let others = events.iter().rev().find(|event| event.reason == reason);
    let detail = others.filter(|event| event.message != message).map(|e| e.message.clone());
    let again = "it is not tried again: change its manifest, or remove it and put it back";
    let cause = Cause::new(Stage::Verdict, format!("{what} ({reason}): {message}"));
    Some(cause.with(detail).with(Some(again.to_owned())))
}

fn has_sandbox(status: &PodStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().any(|c| c.type_ == "PodReadyToStartContainers" && c.status == "True")
}

/// Why there is no sandbox, if a try has failed.
pub(super) fn sandbox(status: &PodStatus, events: &[Event], now: i64) -> Option<Cause> {
    if has_sandbox(status) {
        return None;
    }
    let failed = newest(events, "FailedCreatePodSandBox")?;
    let message = failed.message.strip_prefix("Failed to create pod sandbox: ");
    let message = message.unwrap_or(&failed.message);
    let cause = Cause::new(Stage::Sandbox, format!("the pod's sandbox cannot be made: {message}"));
    let tries = format!(
        "tried {} times, last {} ago; tried again every 10 to 15 s",
        failed.count,
        duration(now - failed.last_nanos / 1_000_000_000)
    );
    Some(cause.with(Some(tries)))
}

/// For how long after it was told last a step is taken to hang still, seconds: it is told every five.
const HANGS_FOR: i64 = 12;

/// A step that hangs now.
pub(super) fn hangs(events: &[Event], now: i64) -> Option<Cause> {
    let event = newest(events, HANGS)?;
    let last = now - event.last_nanos / 1_000_000_000;
    let step = |begin: &str| event.message.starts_with(begin);
    let stage = if step("prepare the pod's sandbox") {
        Stage::Sandbox
    } else if step("set up the pod's volumes") {
        Stage::Volumes
    } else if step("make a container's files") {
        Stage::Config
    } else {
        Stage::Progress
    };
    let told = format!("told {} times, last {} ago", event.count, duration(last));
    let cause = || Cause::new(stage, event.message.clone()).under_way();
    (last <= HANGS_FOR).then(|| cause().with(Some(told)))
}

/// What the step waited in that was told last to hang.
pub(super) fn hung(events: &[Event]) -> Option<String> {
    newest(events, HANGS).map(|event| event.message.clone())
}

/// Readiness gates that nobody has opened.
pub(super) fn gates(status: &PodStatus) -> Option<Cause> {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready")?;
    let gates = ready.reason.as_deref() == Some("ReadinessGatesNotReady");
    let message = ready.message.clone().unwrap_or_default();
    (gates && ready.status != "True").then(|| Cause::new(Stage::Readiness, message))
}

/// A pod of which nothing says why it is not ready: how long it has been in its stage, and what came last.
pub(super) fn stuck(
    status: &PodStatus,
    events: &[Event],
    now: i64,
    plugin: Option<&str>,
) -> Option<Cause> {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    if ready.is_some_and(|c| c.status == "True") {
        return None;
    }
    let since = status.start_time.as_ref().map(|start| format!(" for {}", ago(start, now)));
    let step = if has_sandbox(status) { "its containers" } else { "its sandbox and network" };
    let headline = match status.phase.as_deref() {
        Some("Failed") => "the pod has failed, and nothing of it is left to tell why".to_owned(),
        Some("Running") => "the pod is not ready".to_owned(),
        _ => {
            let plugin = plugin.filter(|_| !has_sandbox(status));
            let plugin = plugin.map_or_else(String::new, |plugin| format!(": {plugin}"));
            format!("{step} have been in the making{}{plugin}", since.unwrap_or_default())
        }
    };
    let last = events.last().map(|event| format!("newest event: {}", told(event, now)));
    Some(Cause::new(Stage::Progress, headline).with(last))
}
