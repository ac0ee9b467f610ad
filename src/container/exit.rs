//! How a container's end becomes its exit record.

use super::hooks;
use super::object::Container;
use super::state::{Event, Exit, Reason, State};
use crate::blocking;
use crate::bus::EventKind;
use crate::cgroups::{Leaf, Limit, MemoryStats};
use crate::error::{AtStep, StepFailed, chain};
use crate::node::{Node, kill_and_wait};
use crate::shim::ExitRecord;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How long the rest of a container may take to end before the exit is told all the same.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);
/// How much of a stuck task's kernel stack is kept, bytes.
const STACK_BYTES: usize = 2048;

/// Records the end that the shim tells: kills what init left behind, waits until the cgroup is
/// empty, removes it, and tells `Exited`.
///
/// # Errors
/// When the record cannot be written; the shim tells again after the next connect.
pub async fn record(
    node: &Arc<Node>,
    container: &Arc<Container>,
    exit: &ExitRecord,
) -> Result<(), StepFailed> {
    let _order = container.lane.lock().await;
    let state = container.state();
    if !matches!(state, State::Starting { .. } | State::Running { .. }) {
        return Ok(());
    }
    let leaf = container.leaf(node);
    // What is known of its memory goes with its cgroup.
    let oom = exit.is_oom();
    let message = blocking::run("end the container's processes", move || {
        let memory = if oom { memory(&leaf) } else { String::new() };
        let stuck = empty(&leaf);
        if stuck.is_empty() { memory } else { stuck }
    })
    .await
    .at("end the container's processes")?;
    let verdict = verdict(exit, state.started_at_nanos(), message);
    if verdict.reason == Reason::OomKilled {
        container.tell(node, EventKind::Oom);
    }
    tracing::info!(
        sandbox_id = %container.sandbox.id, container_id = %container.id, code = verdict.code,
        reason = verdict.reason.as_str(), "container ended"
    );
    container.step(node, Event::Ended(verdict)).at("record the container's end")?.ok();
    hooks::poststop_soon(node, container);
    Ok(())
}

/// What the exit record says, in CRI's terms (design, OOM verdict).
fn verdict(exit: &ExitRecord, started_at_nanos: i64, message: String) -> Exit {
    let oom = exit.is_oom();
    Exit {
        code: exit.exit_code,
        reason: match exit.exit_code {
            _ if oom => Reason::OomKilled,
            0 => Reason::Completed,
            _ => Reason::Error,
        },
        message,
        started_at_nanos,
        // The start is noted when the daemon has heard of it: what ends at once may end before.
        finished_at_nanos: exit.finished_at_nanos.max(started_at_nanos),
    }
}

/// The exit that the shim wrote into its folder, when it did.
pub fn written(node: &Node, container: &Container) -> Option<Exit> {
    let path = node.layout.exits(&container.sandbox.id).join(container.id.as_str());
    let exit = ExitRecord::load(&path).ok().flatten()?;
    Some(verdict(&exit, container.state().started_at_nanos(), String::new()))
}

/// The most memory that a container had, and its limit; empty where the kernel does not tell.
fn memory(leaf: &Leaf) -> String {
    let stats = leaf.stats().ok().and_then(|stats| stats.memory);
    stats.map_or_else(String::new, |stats| peak(&stats))
}

fn peak(stats: &MemoryStats) -> String {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    match (stats.peak, stats.limit) {
        (Some(peak), Some(Limit::Value(limit))) => {
            format!("its memory peaked at {} of {}", mib(peak), mib(limit))
        }
        (Some(peak), _) => {
            format!("its memory peaked at {}, without a limit of its own", mib(peak))
        }
        (None, _) => String::new(),
    }
}

/// Kills the rest and waits; the stacks of tasks that the kernel does not end, else empty text.
fn empty(leaf: &Leaf) -> String {
    if let Err(error) = kill_and_wait(leaf, EMPTY_WITHIN) {
        tracing::warn!(error = chain(&error), "container's processes do not end");
        return stuck_tasks(leaf);
    }
    if let Err(error) = leaf.remove() {
        tracing::warn!(error = chain(&error), "container's cgroup left behind");
    }
    String::new()
}

fn stuck_tasks(leaf: &Leaf) -> String {
    let mut text = String::from("processes that the kernel does not end:");
    for pid in leaf.pids().unwrap_or_default() {
        let stack = std::fs::read_to_string(format!("/proc/{pid}/stack")).unwrap_or_default();
        // Writing to a String cannot fail.
        write!(text, " {pid} [{}]", stack.split_whitespace().collect::<Vec<_>>().join(" ")).ok();
    }
    let end = (0..=STACK_BYTES.min(text.len())).rev().find(|&i| text.is_char_boundary(i));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_follows_the_oom_counters_and_the_code() {
        let exit = |exit_code, oom_killed, oom_group_kill| ExitRecord {
            exit_code,
            signal: None,
            finished_at_nanos: 9,
            oom_killed,
            oom_group_kill,
        };
        for (name, record, reason) in [
            ("zero", exit(0, false, false), Reason::Completed),
            ("other code", exit(3, false, false), Reason::Error),
            ("killed by SIGKILL", exit(137, false, false), Reason::Error),
            ("killed for memory", exit(137, true, false), Reason::OomKilled),
            ("a child was killed, init carried on", exit(0, true, false), Reason::Completed),
            ("the whole group was killed", exit(1, true, true), Reason::OomKilled),
        ] {
            assert_eq!(verdict(&record, 1, String::new()).reason, reason, "{name}");
        }
    }

    #[test]
    fn a_peak_is_told_with_its_limit() {
        let of = |peak, limit| peak_of(peak, limit);
        assert_eq!(
            of(Some(33_554_432), Some(Limit::Value(33_554_432))),
            "its memory peaked at 32.0 MiB of 32.0 MiB"
        );
        assert_eq!(
            of(Some(1_572_864), Some(Limit::Max)),
            "its memory peaked at 1.5 MiB, without a limit of its own"
        );
        assert_eq!(of(None, None), "");
    }

    fn peak_of(most: Option<u64>, limit: Option<Limit>) -> String {
        peak(&MemoryStats { peak: most, limit, ..MemoryStats::default() })
    }

    #[test]
    fn a_container_does_not_end_before_it_started() {
        let record = ExitRecord {
            exit_code: 0,
            signal: None,
            finished_at_nanos: 9,
            oom_killed: false,
            oom_group_kill: false,
        };
        assert_eq!(verdict(&record, 12, String::new()).finished_at_nanos, 12);
        assert_eq!(verdict(&record, 5, String::new()).finished_at_nanos, 9);
    }
}
