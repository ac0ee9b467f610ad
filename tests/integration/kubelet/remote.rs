//! Pods that another runtime runs: the kubelet half speaks to nothing but its CRI socket.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{config_map, patient, pod, sh, with};
use crate::harness::machine::Machine;
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, bail, ensure};
use berth::cri::proto;
use serde_json::json;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("another_runtime_runs_pods_by_its_socket", NETWORK, plain, another),
        own("a_runtime_that_is_not_there_ends_the_daemon", NETWORK, plain, nobody),
    ]
}

fn plain(_: &Machine) -> Options {
    Options::default()
}

/// Runs `check` on a second node that keeps its pods on the runtime of the first.
fn with_second(first: &Node, check: impl FnOnce(&mut Node) -> Result<()>) -> Result<()> {
    let endpoint = format!("runtime_endpoint = {:?}\n", first.socket());
    let options = Options { kubelet: Some(endpoint), ..Options::default() };
    let mut second = Node::start(&first.machine, &options)?;
    let checked = check(&mut second);
    let ended = second.end_pods();
    checked.map_err(|error| error.context(second.last_words())).and(ended)
}

fn another(first: &mut Node) -> Result<()> {
    with_second(first, |second| {
        second.manifest("words.yaml", &config_map("words", json!({"word": "one"})))?;
        let probe = json!({"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1});
        let script =
            "trap 'exit 0' TERM; echo $(cat /words/word); touch /tmp/ready; sleep 100000 & wait";
        let volume = json!([{"name": "words", "mountPath": "/words"}]);
        let main =
            with(sh("main", script), json!({"readinessProbe": probe, "volumeMounts": volume}));
        let crash = sh("crash", "exit 3");
        let spec = json!({"containers": [main, crash],
            "volumes": [{"name": "words", "configMap": {"name": "words"}}]});
        second.manifest("pod.yaml", &pod("remote", spec))?;
        let shown = second.wait_for("remote", "main is ready, crash in its loop", |shown| {
            shown.ready("main") && shown.waiting("crash") == "CrashLoopBackOff"
        })?;
        // It is the first one's, not the second's.
        let all = first.cri.list_containers(proto::ListContainersRequest::default())?.containers;
        ensure!(all.iter().any(|container| container.id == shown.id("main")), "{all:?}");
        let own = second.cri.list_containers(proto::ListContainersRequest::default())?.containers;
        ensure!(own.is_empty(), "{own:?}");
        ensure!(second.log_text(&shown, "main", 0).trim() == "one", "the log says otherwise");
        let pid = second.first_pid(&shown, "main");
        second.manifest("other.yaml", &pod("other", json!({"containers": [patient("main")]})))?;
        second.wait_ready("other")?;
        second.remove_manifest("pod.yaml")?;
        second.wait_gone("remote")?;
        if let Ok(pid) = pid {
            ensure!(!kernel::alive(pid), "its process runs still");
        }
        eventually("nothing of it is left with the runtime", || {
            let left = first.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
            let names = left.iter().filter_map(|pod| pod.metadata.as_ref());
            Ok((names.map(|m| m.name.as_str()).eq(["other-node"])).then_some(()))
        })
        .context("the other pod stays")
    })
}

fn nobody(first: &mut Node) -> Result<()> {
    let missing = first.path("nobody.sock");
    let endpoint = format!("runtime_endpoint = {missing:?}\n");
    let options = Options { kubelet: Some(endpoint), ..Options::default() };
    let told = match Node::start(&first.machine, &options) {
        Ok(_) => bail!("the daemon serves without a runtime for its pods"),
        Err(error) => format!("{error:#}"),
    };
    let cause = format!("connect to the runtime at {}", missing.display());
    ensure!(told.contains("the daemon ended with") && told.contains(&cause), "{told}");
    Ok(())
}
