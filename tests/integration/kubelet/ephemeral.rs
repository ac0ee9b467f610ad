//! Containers that are added to a pod that runs.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("an_ephemeral_container_joins_a_pod_that_runs", NETWORK, kubelet, joins),
        own("an_ephemeral_container_runs_once", NETWORK, kubelet, once),
    ]
}

/// A pod of one container, with others added.
fn with_added(added: Value) -> Value {
    pod("web", json!({"containers": [patient("main")], "ephemeralContainers": added}))
}

/// It is in the pod's namespaces and in its target's for processes; the pod is the same pod before, meanwhile and after.
fn joins(node: &mut Node) -> Result<()> {
    node.manifest("web.yaml", &with_added(json!([])))?;
    let before = node.wait_ready("web")?;
    let main = node.first_pid(&before, "main")?;

    let target = json!({"targetContainerName": "main"});
    let debug = with(sh("debug", "ls -l /proc/1/exe; sleep 100000"), target);
    node.manifest("web.yaml", &with_added(json!([debug])))?;
    let shown = node.wait_for("web", "what was added runs", |shown| shown.running("debug"))?;
    ensure!(shown.uid() == before.uid() && shown.id("main") == before.id("main"), "{shown:?}");
    let groups = kernel::cgroups_below(&node.kubelet_pod_cgroup(&shown));
    let group = groups.iter().find(|group| group.ends_with(shown.id("debug")));
    let pids = kernel::pids_in(group.context("no cgroup of its own")?)?;
    let added = *pids.first().context("no process")?;
    for kind in ["net", "ipc", "uts", "pid"] {
        let both = [kernel::namespace(main, kind)?, kernel::namespace(added, kind)?];
        ensure!(both[0] == both[1], "{kind}: {both:?}");
    }
    ensure!(
        kernel::namespace(main, "mnt")? != kernel::namespace(added, "mnt")?,
        "it has the files of its target"
    );
    ensure!(shown.ready("main") && shown.condition("Ready"), "{shown:?}");
    let asked = node.berth_ok(&["describe", "pod", "web-node"])?;
    ensure!(asked.contains("Ephemeral Containers"), "{asked}");

    node.manifest("web.yaml", &with_added(json!([])))?;
    node.wait_for("web", "what was taken away is gone", |shown| {
        shown.container("debug").is_null()
    })?;
    crate::harness::eventually("its process ends", || Ok((!kernel::alive(added)).then_some(())))?;
    let after = node.find("web")?.context("the pod is gone")?;
    ensure!(after.id("main") == before.id("main") && kernel::alive(main), "{after:?}");
    Ok(())
}

/// How it ended stays told; neither time nor a restart of the daemon begins it again. One without its target waits.
fn once(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let volume = crate::harness::kubelet::host_folder("notes", &notes);
    let mount = json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]});
    let probe = with(sh("probe", "echo ran >>/notes/all; exit 3"), mount);
    let object = |added: Value| {
        let spec = json!({
            "containers": [patient("main")], "volumes": [volume], "ephemeralContainers": added,
        });
        pod("web", spec)
    };
    node.manifest("web.yaml", &object(json!([])))?;
    let before = node.wait_ready("web")?;
    node.manifest("web.yaml", &object(json!([probe])))?;
    let ended = |shown: &crate::harness::kubelet::Shown| {
        shown.container("probe")["state"]["terminated"]["exitCode"] == 3
    };
    node.wait_for("web", "what was added has ended", ended)?;
    node.kill()?;
    node.launch()?;
    let twice = with(
        sh("twice", "echo twice >>/notes/all"),
        json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}),
    );
    node.manifest("web.yaml", &object(json!([probe, twice])))?;
    let shown = node.wait_for("web", "the next has ended, too", |shown| {
        ended(shown) && shown.container("twice")["state"]["terminated"]["exitCode"] == 0
    })?;
    ensure!(shown.id("main") == before.id("main"), "the pod is another: {shown:?}");
    let all = kernel::read(notes.join("all"))?;
    ensure!(all == "ran\ntwice", "what ran: {all:?}");
    Ok(())
}
