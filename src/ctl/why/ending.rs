//! Why a container ended; pure.

use super::cause::{Cause, Stage};
use super::of_container::{Subject, probe};
use super::of_pod::ago;
use crate::ctl::kubelet::duration;
use k8s_openapi::api::core::v1::ContainerStateTerminated;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The cause of an end. `back_off`: the message by which the container waits for its next start.
pub(super) fn ended(
    of: &Subject<'_>,
    end: &ContainerStateTerminated,
    back_off: Option<&str>,
) -> Cause {
    let cause = killed(of, end).unwrap_or_else(|| by_itself(of, end));
    cause.with(when(of, end)).with(back_off.map(|message| next_start(of, end, message)))
}

/// One that was ended for what a probe or a hook said.
fn killed(of: &Subject<'_>, end: &ContainerStateTerminated) -> Option<Cause> {
    let id = end.container_id.as_deref()?.rsplit('/').next()?;
    let short: String = id.chars().take(13).collect();
    let own = format!("({short})");
    let event = of.events().find(|e| e.reason == "Killing" && e.message.contains(&own))?;
    let cause = if event.message.contains("liveness probe") {
        probe(of, ("liveness", Stage::Liveness), "")
    } else if event.message.contains("startup probe") {
        probe(of, ("startup", Stage::Startup), "")
    } else if event.message.contains("postStart hook") {
        let said = of.events().find(|event| event.reason == "FailedPostStartHook");
        let said = said.map_or("it failed", |event| {
            event.message.strip_prefix("Error: ").unwrap_or(&event.message)
        });
        let headline = format!("{}: its postStart hook failed: {said}", of.name());
        Cause::new(Stage::Hook, headline)
    } else {
        return None;
    };
    // It does not run: that is more than a probe that fails.
    let stage = cause.stage.min(Stage::Exit);
    Some(Cause { stage, ..cause }.with(Some("it was ended for that".to_owned())))
}

fn by_itself(of: &Subject<'_>, end: &ContainerStateTerminated) -> Cause {
    let name = of.name();
    let message = end.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    let reason = end.reason.as_deref().unwrap_or_default();
    let stage = match reason {
        "StartError" | "ContainerCannotRun" => Stage::Start,
        _ => Stage::Exit,
    };
    let said = message.map_or_else(String::new, |message| format!(": {message}"));
    let code = end.exit_code;
    match (reason, stage) {
        ("OOMKilled", _) => {
            let limit = of.member.container.resources.as_ref().and_then(|r| r.limits.as_ref());
            let whose = match (limit.and_then(memory), pod_limit(of)) {
                (Some(limit), _) => format!("its limit is {limit}"),
                (None, Some(limit)) => {
                    format!(
                        "it has no limit of its own, so the pod's of {limit} was reached, or the node's"
                    )
                }
                (None, None) => {
                    "it has no limit of its own, so the pod's or the node's was reached".to_owned()
                }
            };
            let headline = format!("{name} was killed for want of memory: {whose}");
            // The runtime's own words belong to the cause, and those of the container below it.
            match message {
                Some(message) if message.starts_with(PEAK) => {
                    Cause::new(Stage::Exit, format!("{headline}; {message}"))
                }
                _ => Cause::new(Stage::Exit, headline).with(message.map(str::to_owned)),
            }
        }
        (_, Stage::Start) => {
            let cause = Cause::new(stage, format!("{name} cannot be started{said}"));
            cause.with(start_hint(message.unwrap_or_default()))
        }
        _ => match signal(code) {
            Some((31, signal)) => Cause::new(
                stage,
                format!(
                    "{name} was killed by {signal}: a system call that its seccomp profile forbids{said}"
                ),
            ),
            Some((_, signal)) => {
                Cause::new(stage, format!("{name} was ended by {signal} (exit code {code}){said}"))
            }
            None => Cause::new(stage, format!("{name} ended with exit code {code}{said}")),
        },
    }
}

/// How berth's engine begins to tell of a container's memory.
const PEAK: &str = "its memory peaked at ";

/// The limit of memory in a list.
fn memory(limits: &BTreeMap<String, Quantity>) -> Option<&str> {
    limits.get("memory").map(|limit| limit.0.as_str())
}

/// The limit of memory of the pod as a whole.
fn pod_limit<'a>(of: &Subject<'a>) -> Option<&'a str> {
    let resources = of.pod.spec.as_ref()?.resources.as_ref()?;
    resources.limits.as_ref().and_then(memory)
}

/// What helps when the kernel does not run a command.
fn start_hint(message: &str) -> Option<String> {
    let message = message.to_lowercase();
    let hint = if message.contains("exec format error") {
        "the program is of another architecture than the node, or a script without #!"
    } else if message.contains("no such file") {
        "the image has no such command, or the command's interpreter is missing"
    } else if message.contains("permission denied") {
        "the file is not executable for the container's user"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// The signal that an exit code of 128 and more tells of.
fn signal(code: i32) -> Option<(i32, String)> {
    let number = code.checked_sub(128).filter(|number| *number > 0)?;
    let signal = nix::sys::signal::Signal::try_from(number).ok()?;
    Some((number, signal.as_str().to_owned()))
}

/// When it ended, after how long.
fn when(of: &Subject<'_>, end: &ContainerStateTerminated) -> Option<String> {
    let finished = end.finished_at.as_ref()?;
    let ran = end.started_at.as_ref().map(|started| {
        let seconds = finished.0.as_second() - started.0.as_second();
        format!(" after {}", duration(seconds))
    });
    Some(format!("ended {} ago{}", ago(finished, of.now), ran.unwrap_or_default()))
}

/// How often it was started again, and when it will be.
fn next_start(of: &Subject<'_>, end: &ContainerStateTerminated, message: &str) -> String {
    let restarts = of.status.restart_count;
    let delay = message.strip_prefix("back-off ").and_then(|rest| rest.split_once("s "));
    let delay: Option<i64> = delay.and_then(|(seconds, _)| seconds.parse().ok());
    let finished = end.finished_at.as_ref().map(|finished| finished.0.as_second());
    match (delay, finished) {
        (Some(delay), Some(finished)) => format!(
            "restarted {restarts} times; back-off {delay}s, {} left",
            duration(finished + delay - of.now)
        ),
        _ => format!("restarted {restarts} times; {message}"),
    }
}
