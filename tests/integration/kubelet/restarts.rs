//! The daemon ends and comes back; the pods do not notice.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{Shown, host_folder, kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_killed_daemon_finds_its_pods_as_they_were", NETWORK, kubelet, killed),
        own("a_daemon_that_stops_leaves_its_pods", NETWORK, kubelet, stopped),
        own("a_pod_that_lost_its_manifest_meanwhile_ends_gracefully", NETWORK, kubelet, orphan),
        own("a_pod_that_is_done_is_not_run_again", NETWORK, kubelet, done),
        own("without_its_folder_at_the_start_a_pod_is_kept", NETWORK, kubelet, without_folder),
        own("a_container_that_ended_meanwhile_is_restarted", NETWORK, kubelet, ended),
        own("what_a_shutdown_ended_begins_anew_after_it", NETWORK, kubelet, after_shutdown),
        own("restarts_are_counted_over_restarts_of_the_daemon", NETWORK, kubelet, counted),
        own("a_restart_of_the_daemon_does_not_shorten_a_back_off", NETWORK, kubelet, held),
    ]
}

/// Two containers, one of them with a readiness probe that is not tried at once after a start of the daemon.
fn two(name: &str) -> serde_json::Value {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 5});
    let probed = with(patient("probed"), json!({"readinessProbe": probe}));
    pod(name, json!({"containers": [patient("main"), probed]}))
}

fn unchanged(node: &mut Node, end: fn(&mut Node) -> Result<()>) -> Result<()> {
    node.manifest("kept.yaml", &two("kept"))?;
    let before = node.wait_ready("kept")?;
    let first = node.first_pid(&before, "main")?;
    let changed = &before.0["pod"]["status"]["conditions"];
    end(node)?;
    ensure!(kernel::alive(first), "the pod went with its daemon");
    node.launch()?;
    // Another pod tells when the daemon has come to its pods.
    node.manifest("new.yaml", &pod("new", json!({"containers": [patient("main")]})))?;
    node.wait_ready("new")?;
    let after = node.wait_ready("kept")?;
    ensure!(kernel::alive(first), "the pod ended");
    for container in ["main", "probed"] {
        ensure!(after.id(container) == before.id(container), "{container} is another");
        ensure!(after.restarts(container) == 0, "{container} was restarted");
    }
    // Not even for a moment: a transition would have its time.
    let now = &after.0["pod"]["status"]["conditions"];
    ensure!(now == changed, "conditions were {changed}, are {now}");
    Ok(())
}

fn killed(node: &mut Node) -> Result<()> {
    unchanged(node, Node::kill)
}

fn stopped(node: &mut Node) -> Result<()> {
    unchanged(node, |node| node.stop().map(drop))
}

fn orphan(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let script = "trap 'echo term >>/notes/all; exit 0' TERM; sleep 100000 & wait";
    let hook = json!({"exec": {"command": ["sh", "-c", "echo hook >>/notes/all"]}});
    let main = with(
        sh("main", script),
        json!({
            "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
            "lifecycle": {"preStop": hook},
        }),
    );
    let spec = json!({
        "containers": [main], "volumes": [host_folder("notes", &notes)],
        "terminationGracePeriodSeconds": 20,
    });
    node.manifest("orphan.yaml", &pod("orphan", spec))?;
    let shown = node.wait_ready("orphan")?;
    let first = node.first_pid(&shown, "main")?;
    node.kill()?;
    node.remove_manifest("orphan.yaml")?;
    node.launch()?;
    node.wait_gone("orphan")?;
    ensure!(!kernel::alive(first), "its process is left");
    let all = kernel::read(notes.join("all"))?;
    ensure!(all == "hook\nterm", "what it was told: {all:?}");
    Ok(())
}

fn done(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let main = with(
        sh("main", "echo ran >>/notes/all"),
        json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}),
    );
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [main], "volumes": [host_folder("notes", &notes)],
    });
    node.manifest("job.yaml", &pod("job", spec))?;
    node.wait_phase("job", "Succeeded")?;
    node.kill()?;
    node.launch()?;
    node.manifest("new.yaml", &pod("new", json!({"containers": [patient("main")]})))?;
    node.wait_ready("new")?;
    let shown = node.find("job")?.context("its status is gone")?;
    ensure!(shown.phase() == "Succeeded", "{}", shown.phase());
    ensure!(kernel::read(notes.join("all"))? == "ran", "it ran again");
    Ok(())
}

/// As where a mount is not there yet: the pod goes on, and is looked after.
fn without_folder(node: &mut Node) -> Result<()> {
    node.manifest("kept.yaml", &pod("kept", json!({"containers": [patient("main")]})))?;
    let before = node.wait_ready("kept")?;
    let first = node.first_pid(&before, "main")?;
    kernel::wait_heeds_term(first)?;
    node.kill()?;
    let (folder, aside) = (node.path("manifests"), node.path("aside"));
    std::fs::rename(&folder, &aside)?;
    node.launch()?;
    let told = eventually("the folder is missed", || {
        let told = node.berth_ok(&["get", "manifests"])?;
        Ok(told.contains("is gone: its pods stay as they are").then_some(told))
    })?;
    ensure!(kernel::alive(first), "it was ended: {told}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGTERM)?;
    let after = node.wait_for("kept", "it is restarted", |shown| {
        shown.restarts("main") == 1 && shown.running("main")
    })?;
    ensure!(after.uid() == before.uid(), "{after:?}");
    std::fs::rename(&aside, &folder)?;
    eventually("the folder is back", || {
        let told = node.berth_ok(&["get", "manifests"])?;
        Ok((!told.contains("is gone")).then_some(()))
    })?;
    let back = node.find("kept")?.context("its status is gone")?;
    ensure!(back.id("main") == after.id("main") && back.running("main"), "{back:?}");
    Ok(())
}

fn ended(node: &mut Node) -> Result<()> {
    node.manifest("kept.yaml", &pod("kept", json!({"containers": [patient("main")]})))?;
    let before = node.wait_ready("kept")?;
    let first = node.first_pid(&before, "main")?;
    kernel::wait_heeds_term(first)?;
    node.kill()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGTERM)?;
    eventually("its process ends", || Ok((!kernel::alive(first)).then_some(())))?;
    node.launch()?;
    let after = node.wait_for("kept", "it runs again", |shown| {
        shown.restarts("main") == 1 && shown.running("main")
    })?;
    ensure!(after.uid() == before.uid() && after.id("main") != before.id("main"), "{after:?}");
    Ok(())
}

fn counted(node: &mut Node) -> Result<()> {
    let main = sh("main", "exit 1");
    node.manifest("crash.yaml", &pod("crash", json!({"containers": [main]})))?;
    node.wait_for("crash", "it was restarted once", |shown| {
        shown.restarts("main") == 1 && shown.waiting("main") == "CrashLoopBackOff"
    })?;
    node.kill()?;
    node.launch()?;
    let shown =
        node.wait_for("crash", "it is restarted again", |shown| shown.restarts("main") >= 2)?;
    ensure!(shown.restarts("main") == 2, "{shown:?}");
    let log = node.pod_logs(&shown).join("main/2.log");
    eventually("the third log", || Ok(log.exists().then_some(())))
}

fn held(node: &mut Node) -> Result<()> {
    let main = sh("main", "exit 1");
    node.manifest("crash.yaml", &pod("crash", json!({"containers": [main]})))?;
    let waits = |shown: &Shown, seconds: u32| {
        let message = shown.container("main")["state"]["waiting"]["message"].clone();
        let told =
            message.as_str().is_some_and(|m| m.starts_with(&format!("back-off {seconds}s ")));
        told && shown.waiting("main") == "CrashLoopBackOff"
    };
    // At once, after 10 s, after 20 s; the next one would come after 40 s.
    let minute = Duration::from_secs(60);
    let before = poll::within(minute, "a back-off of 40 s", || {
        let shown = node.find("crash")?.context("no status")?;
        ensure!(waits(&shown, 40) && shown.restarts("main") == 3, "{shown:?}");
        Ok(Some(shown))
    })?;
    for end in [Node::kill as fn(&mut Node) -> Result<()>, |node| node.stop().map(drop)] {
        end(node)?;
        node.launch()?;
        // Another pod tells when the daemon has come to its pods.
        let name = format!("new-{}", node.pid()?);
        node.manifest(
            &format!("{name}.yaml"),
            &pod(&name, json!({"containers": [patient("main")]})),
        )?;
        node.wait_ready(&name)?;
        let after = node.find("crash")?.context("its status is gone")?;
        ensure!(waits(&after, 40), "{after:?}");
        ensure!(after.id("main") == before.id("main") && after.restarts("main") == 3, "{after:?}");
    }
    let log = node.pod_logs(&before).join("main");
    ensure!(log.join("3.log").exists() && !log.join("4.log").exists(), "it was started again");
    Ok(())
}

/// The start after a graceful shutdown is played: containers have ended as they were asked to, and their pods' files say
/// why. What records of another boot are like is asked in `reboot`.
fn after_shutdown(node: &mut Node) -> Result<()> {
    let rows = [
        ("always", "Always", patient("main")),
        ("never", "Never", patient("main")),
        ("failing", "OnFailure", patient("main")),
        ("done", "Never", sh("main", "exit 0")),
        ("broken", "Never", sh("main", "exit 3")),
    ];
    for (name, policy, container) in rows {
        let spec = json!({"restartPolicy": policy, "containers": [container]});
        node.manifest(&format!("{name}.yaml"), &pod(name, spec))?;
    }
    let done = node.wait_phase("done", "Succeeded")?;
    let broken = node.wait_phase("broken", "Failed")?;
    let mut before = Vec::new();
    for name in ["always", "never", "failing"] {
        let shown = node.wait_ready(name)?;
        let first = node.first_pid(&shown, "main")?;
        kernel::wait_heeds_term(first)?;
        before.push((name, shown, first));
    }
    node.stop()?;
    for (_, shown, first) in &before {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*first),
            nix::sys::signal::Signal::SIGTERM,
        )?;
        eventually("its process ends", || Ok((!kernel::alive(*first)).then_some(())))?;
        let file = node.state_dir().join(format!("kubelet/status/{}.json", shown.uid()));
        let mut record: serde_json::Value = serde_json::from_str(&kernel::read(&file)?)?;
        let status = record.pointer_mut("/pod/status").and_then(|of| of.as_object_mut());
        let status = status.context("no status")?;
        status.insert("phase".to_owned(), json!("Failed"));
        status.insert("reason".to_owned(), json!("Terminated"));
        std::fs::write(&file, record.to_string())?;
    }
    node.launch()?;
    for (name, before, _) in &before {
        let after = node.wait_ready(name)?;
        ensure!(after.uid() == before.uid(), "{name} is another pod");
        ensure!(after.id("main") != before.id("main"), "{name} did not begin anew");
        ensure!(after.text("/pod/status/reason").is_empty(), "{after:?}");
        ensure!(after.restarts("main") == 0, "{name} counts it as a restart");
    }
    // Those that had ended before it have ended.
    for (name, before) in [("done", &done), ("broken", &broken)] {
        let after = node.find(name)?.context("its status is gone")?;
        ensure!(after.phase() == before.phase() && after.id("main") == before.id("main"));
    }
    Ok(())
}
