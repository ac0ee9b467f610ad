//! Hooks, and the time that a container has to end.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{host_folder, kubelet, pod, sh, with};
use crate::harness::{Node, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("post_start_runs_before_the_container_counts", NETWORK, kubelet, post_start),
        own("a_failed_post_start_kills_its_container", NETWORK, kubelet, post_start_fails),
        own("pre_stop_comes_before_sigterm_within_the_grace", NETWORK, kubelet, pre_stop),
        own("sigkill_comes_at_the_end_of_the_grace", NETWORK, kubelet, killed),
        own("a_pre_stop_that_hangs_is_cut_and_two_seconds_are_left", NETWORK, kubelet, cut),
        own("a_container_that_ends_by_itself_has_no_pre_stop", NETWORK, kubelet, by_itself),
        own("containers_end_side_by_side", NETWORK, kubelet, side_by_side),
    ]
}

/// A pod of one container that writes to /notes.
fn noting(name: &str, notes: &Path, script: &str, further: Value) -> Value {
    let main = with(
        with(sh("main", script), further),
        json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}),
    );
    pod(name, json!({"containers": [main], "volumes": [host_folder("notes", notes)]}))
}

fn grace(mut pod: Value, seconds: u64) -> Value {
    pod["spec"]["terminationGracePeriodSeconds"] = json!(seconds);
    pod
}

fn exec(script: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", script]}})
}

/// The lines of /notes/all.
fn lines(notes: &Path) -> Result<Vec<String>> {
    Ok(kernel::read(notes.join("all"))?.lines().map(str::to_owned).collect())
}

/// Removes the only manifest; how long the pod's end took.
fn end(node: &Node, name: &str) -> Result<Duration> {
    let began = Instant::now();
    node.remove_manifest(&format!("{name}.yaml"))?;
    node.wait_gone(name)?;
    Ok(began.elapsed())
}

fn post_start(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let hook = exec(
        "echo hook-begins >>/notes/all; until test -e /notes/go; do sleep 0.1; done; \
        echo hook-ends >>/notes/all",
    );
    let further = json!({"lifecycle": {"postStart": hook}});
    let script = "trap 'exit 0' TERM; sleep 100000 & wait";
    let mut pod = noting("hooked", &notes, script, further);
    // The next container waits for the hook.
    let second = with(
        sh("second", "echo second >>/notes/all; trap 'exit 0' TERM; sleep 100000 & wait"),
        json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}),
    );
    pod["spec"]["containers"].as_array_mut().context("containers")?.push(second);
    node.manifest("hooked.yaml", &pod)?;
    eventually("the hook begins", || Ok((lines(&notes)? == ["hook-begins"]).then_some(())))?;
    let early = node.find("hooked")?;
    ensure!(!early.is_some_and(|shown| shown.condition("Ready")), "ready before its hook was done");
    std::fs::write(notes.join("go"), "")?;
    node.wait_ready("hooked")?;
    eventually("the second container", || {
        let all = lines(&notes)?;
        ensure!(all == ["hook-begins", "hook-ends", "second"], "{all:?}");
        Ok(Some(()))
    })
}

fn post_start_fails(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let further = json!({"lifecycle": {"postStart": exec("echo not today; exit 5")}});
    let script = "trap 'echo ended >>/notes/all; exit 0' TERM; sleep 100000 & wait";
    let mut pod = noting("hooked", &notes, script, further);
    pod["spec"]["restartPolicy"] = json!("Never");
    node.manifest("hooked.yaml", &pod)?;
    let shown = node.wait_for("hooked", "the failure is told", |shown| {
        shown.event("FailedPostStartHook").is_some()
    })?;
    let (_, told) = shown.event("FailedPostStartHook").unwrap_or_default();
    ensure!(told.contains("not today") && told.contains('5'), "{told:?}");
    let shown = node.wait_for("hooked", "its end is told", |shown| {
        ["Failed", "Succeeded"].contains(&shown.phase())
    })?;
    ensure!(!shown.running("main"), "{shown:?}");
    Ok(())
}

fn pre_stop(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let hook = exec("echo hook-begins >>/notes/all; sleep 1; echo hook-ends >>/notes/all");
    let further = json!({"lifecycle": {"preStop": hook}});
    let script = "trap 'echo term >>/notes/all; exit 0' TERM; sleep 100000 & wait";
    node.manifest("polite.yaml", &grace(noting("polite", &notes, script, further), 30))?;
    node.wait_ready("polite")?;
    let took = end(node, "polite")?;
    let all = lines(&notes)?;
    ensure!(all == ["hook-begins", "hook-ends", "term"], "{all:?}");
    ensure!(took >= Duration::from_secs(1) && took < Duration::from_secs(25), "it took {took:?}");
    Ok(())
}

fn killed(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let script = "trap 'echo term >>/notes/all' TERM; while :; do sleep 0.1; done";
    node.manifest("deaf.yaml", &grace(noting("deaf", &notes, script, json!({})), 3))?;
    let shown = node.wait_ready("deaf")?;
    let first = node.first_pid(&shown, "main")?;
    let took = end(node, "deaf")?;
    ensure!(lines(&notes)? == ["term"], "SIGTERM came {:?}", lines(&notes)?);
    ensure!(!kernel::alive(first), "it is alive");
    ensure!(took >= Duration::from_millis(2900) && took < Duration::from_secs(20), "{took:?}");
    Ok(())
}

fn cut(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let hook = exec("echo hook >>/notes/all; sleep 99999");
    let further = json!({"lifecycle": {"preStop": hook}});
    // It says when SIGTERM came, and for how long it could go on.
    let script = "trap 'echo term >>/notes/all; while :; do date +%s.%N >>/notes/time; sleep 0.1; \
        done' TERM; sleep 100000 & wait";
    node.manifest("hang.yaml", &grace(noting("hang", &notes, script, further), 3))?;
    let shown = node.wait_ready("hang")?;
    let first = node.first_pid(&shown, "main")?;
    let took = end(node, "hang")?;
    ensure!(lines(&notes)? == ["hook", "term"], "{:?}", lines(&notes)?);
    ensure!(!kernel::alive(first), "it is alive");
    // Three seconds of the hook, and two that everybody gets.
    ensure!(took >= Duration::from_millis(4800) && took < Duration::from_secs(25), "{took:?}");
    let times = kernel::read(notes.join("time"))?.lines().count();
    ensure!(times >= 5, "it had no time after SIGTERM: {times}");
    Ok(())
}

fn by_itself(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let further = json!({"lifecycle": {"preStop": exec("echo hook >>/notes/all")}});
    let mut pod = noting("job", &notes, "echo ran >>/notes/all; sleep 1", further);
    pod["spec"]["restartPolicy"] = json!("Never");
    node.manifest("job.yaml", &pod)?;
    node.wait_phase("job", "Succeeded")?;
    end(node, "job")?;
    ensure!(lines(&notes)? == ["ran"], "{:?}", lines(&notes)?);
    Ok(())
}

fn side_by_side(node: &mut Node) -> Result<()> {
    let slow = |name: &str| sh(name, "trap 'sleep 2; exit 0' TERM; sleep 100000 & wait");
    let spec = json!({
        "containers": [slow("a"), slow("b"), slow("c"), slow("d")],
        "terminationGracePeriodSeconds": 60,
    });
    node.manifest("four.yaml", &pod("four", spec))?;
    node.wait_ready("four")?;
    let took = end(node, "four")?;
    ensure!(took >= Duration::from_secs(2), "they had no time: {took:?}");
    if !node.machine.virtual_machine {
        ensure!(took < Duration::from_secs(7), "one after the other: {took:?}");
    }
    Ok(())
}
