//! Plugins that fail, hang, or outlive the daemon: what is undone, in which order, and who waits.
//!
//! The plugins are scripts of the tests' own, since real ones do not fail on request.

use crate::harness::cni;
use crate::harness::machine::{Machine, Need};
use crate::harness::pod::pod;
use crate::harness::{Node, Options, Test, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::json;
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::PodNetwork];
    vec![
        own("add_runs_in_order_and_del_in_reverse", NEEDS, cni::options, order),
        own("a_failed_add_undoes_what_was_begun", NEEDS, cni::options, failed_add),
        own("a_plugin_that_outlives_the_daemon_has_no_late_effect", NEEDS, cni::options, orphan),
        own("a_hung_plugin_blocks_its_own_pod_alone", NEEDS, cni::options, hung),
        own("a_plugin_past_its_deadline_is_killed", NEEDS, impatient, deadline),
        own("a_del_that_fails_is_tried_again", NEEDS, cni::options, failed_del),
    ]
}

const THREE: [&str; 3] = ["first", "second", "third"];

fn install_three(node: &Node) -> Result<()> {
    let plugins: Vec<_> = THREE.iter().map(|name| json!({ "type": name })).collect();
    cni::install(node, &json!(plugins))
}

fn order(node: &mut Node) -> Result<()> {
    for name in THREE {
        let env = "env | grep ^CNI_ | sort >\"$traces/env-$CNI_COMMAND\"";
        cni::script(node, name, env)?;
    }
    install_three(node)?;
    let id = node.run_pod(&pod(node, "ordered"))?;
    ensure!(cni::calls(node) == ["ADD first", "ADD second", "ADD third"], "{:?}", cni::calls(node));
    ensure!(node.pod(&id)?.network.unwrap_or_default().ip == "10.99.0.2");
    ensure!(cni::given(node, "first", "ADD")?.get("prevResult").is_none(), "the first has none");
    let result = cni::given(node, "second", "ADD")?["prevResult"].clone();
    ensure!(result["ips"][0]["address"] == "10.99.0.2/24", "handed on: {result}");
    let env = kernel::read(node.path("traces/env-ADD"))?;
    let netns = format!("CNI_NETNS={}", node.run_dir().join("netns").join(&id).display());
    let container = format!("CNI_CONTAINERID={id}");
    for line in ["CNI_IFNAME=eth0", container.as_str(), netns.as_str()] {
        ensure!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    for part in ["K8S_POD_NAME=ordered", "K8S_POD_NAMESPACE=tests", "K8S_POD_UID=uid-ordered"] {
        ensure!(env.contains(part), "{part} is not in {env}");
    }
    node.stop_pod(&id)?;
    let calls = cni::calls(node);
    ensure!(calls[3..] == ["DEL third", "DEL second", "DEL first"], "{calls:?}");
    // CNI 0.4.0 and later: DEL gets the result of ADD.
    for name in THREE {
        ensure!(cni::given(node, name, "DEL")?["prevResult"] == result, "DEL {name}");
    }
    node.remove_pod(&id)?;
    ensure!(cni::calls(node).len() == 6, "DEL again: {:?}", cni::calls(node));
    Ok(())
}

fn failed_add(node: &mut Node) -> Result<()> {
    let refuse =
        "[ $CNI_COMMAND = DEL ] || { echo '{\"code\":7,\"msg\":\"no range is free\"}'; exit 1; }";
    cni::script(node, "first", "")?;
    cni::script(node, "second", refuse)?;
    cni::script(node, "third", "")?;
    install_three(node)?;
    let status = node.run_pod(&pod(node, "refused")).err().context("it ran")?;
    for words in ["plugin second ADD", "no range is free"] {
        ensure!(status.message().contains(words), "{words:?} is not in {status}");
    }
    let calls = cni::calls(node);
    ensure!(calls == ["ADD first", "ADD second", "DEL second", "DEL first"], "{calls:?}");
    let left = kernel::names_in(&node.run_dir().join("sandboxes"));
    ensure!(left.is_empty(), "left: {left:?}");
    // Control: the name is free, and the pod runs once the plugin does.
    cni::script(node, "second", "")?;
    node.run_pod(&pod(node, "refused"))?;
    Ok(())
}

/// The cgroup of the programs that run for a pod.
fn helpers(node: &Node) -> Vec<std::path::PathBuf> {
    kernel::cgroups_below(&node.machine.cgroup_root.join("berth-helpers"))
}

fn orphan(node: &mut Node) -> Result<()> {
    let body = "case $CNI_COMMAND in
        ADD) touch \"$traces/effect\"; sleep 2; touch \"$traces/late\" ;;
        DEL) rm -f \"$traces/effect\" ;;
        esac";
    cni::script(node, "slow", body)?;
    cni::install(node, &json!([{ "type": "slow" }]))?;
    // Control: a plugin that is left alone comes to its late effect.
    let id = node.run_pod(&pod(node, "patient"))?;
    let (effect, late) = (node.path("traces/effect"), node.path("traces/late"));
    ensure!(effect.exists() && late.exists(), "the plugin had no effect");
    node.remove_pod(&id)?;
    ensure!(!effect.exists(), "DEL undid nothing");
    std::fs::remove_file(&late)?;
    std::fs::remove_file(node.path("traces/calls"))?;

    let begun = begin(node, "cut-off");
    cni::wait_for(node, "effect")?;
    node.kill()?;
    ensure!(node.cri.finish(begun).is_err(), "an answer from the dead");
    ensure!(!late.exists(), "the kill came too late to prove anything");
    node.launch()?;
    ensure!(!effect.exists(), "the half-made ADD was not undone");
    ensure!(cni::calls(node) == ["ADD slow", "DEL slow"], "{:?}", cni::calls(node));
    // What would be late has had its time.
    poll::pause(Duration::from_millis(2500));
    ensure!(!late.exists() && !effect.exists(), "the orphan went on after the restart");
    ensure!(helpers(node).is_empty(), "left: {:?}", helpers(node));
    let left = kernel::names_in(&node.run_dir().join("sandboxes"));
    ensure!(left.is_empty(), "left: {left:?}");
    // The name is free again.
    node.run_pod(&pod(node, "cut-off"))?;
    Ok(())
}

type Call =
    tokio::task::JoinHandle<Result<tonic::Response<proto::RunPodSandboxResponse>, tonic::Status>>;

fn begin(node: &Node, name: &str) -> Call {
    let config = Some(pod(node, name));
    let request = proto::RunPodSandboxRequest { config, ..Default::default() };
    let mut client = node.cri.runtime();
    node.cri.begin(async move { client.run_pod_sandbox(request).await })
}

fn hung(node: &mut Node) -> Result<()> {
    let body = "case $CNI_COMMAND$CNI_ARGS in
        ADD*K8S_POD_NAME=hung*)
            touch \"$traces/hangs\"
            while [ ! -e \"$traces/release\" ]; do sleep 0.1; done ;;
        esac";
    cni::script(node, "moody", body)?;
    cni::install(node, &json!([{ "type": "moody" }]))?;
    let stays = node.run_pod(&pod(node, "stays"))?;
    let waiting = begin(node, "hung");
    cni::wait_for(node, "hangs")?;
    // Every verb on other pods, and the lists.
    let fine = node.run_pod(&pod(node, "fine")).context("run another pod")?;
    ensure!(node.cri.list_pod_sandbox(Default::default())?.items.len() == 2, "the list");
    ensure!(cni::ready(node)?.0, "one pod's plugin is not the node's network");
    node.remove_pod(&fine)?;
    node.remove_pod(&stays)?;
    ensure!(!waiting.is_finished(), "the plugin did not hang");
    std::fs::write(node.path("traces/release"), "")?;
    let id = node.cri.finish(waiting)?.pod_sandbox_id;
    ensure!(node.pod(&id)?.network.unwrap_or_default().ip == "10.99.0.2");
    Ok(())
}

fn impatient(machine: &Machine) -> Options {
    Options { config: "\ncni_timeout_seconds = 3\n".into(), ..cni::options(machine) }
}

fn deadline(node: &mut Node) -> Result<()> {
    let body = "[ $CNI_COMMAND = DEL ] || { echo $$ >\"$traces/pid\"; sleep 1000; }";
    cni::script(node, "stuck", body)?;
    cni::install(node, &json!([{ "type": "stuck" }]))?;
    let status = node.run_pod(&pod(node, "stuck")).err().context("it ran")?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status}");
    ensure!(status.message().contains("plugin stuck ADD"), "{status}");
    let pid = kernel::read(node.path("traces/pid"))?.parse()?;
    ensure!(!kernel::alive(pid), "the plugin is alive");
    ensure!(cni::calls(node) == ["ADD stuck", "DEL stuck"], "{:?}", cni::calls(node));
    ensure!(helpers(node).is_empty(), "left: {:?}", helpers(node));
    Ok(())
}

/// StopPodSandbox fails while something is left, and a repeat goes on from there.
fn failed_del(node: &mut Node) -> Result<()> {
    cni::script(node, "first", "")?;
    let body =
        "[ $CNI_COMMAND = ADD ] || [ -e \"$traces/mended\" ] || { echo broken >&2; exit 1; }";
    cni::script(node, "second", body)?;
    cni::script(node, "third", "")?;
    install_three(node)?;
    let id = node.run_pod(&pod(node, "held"))?;
    let pause = node.pause_pid(&id)?;
    let status = node.stop_pod(&id).err().context("a failed DEL was passed over")?;
    ensure!(status.message().contains("plugin second DEL"), "{status}");
    let calls = cni::calls(node);
    ensure!(calls[3..] == ["DEL third", "DEL second", "DEL first"], "undo stopped: {calls:?}");
    ensure!(!kernel::alive(pause), "the rest of the pod was not stopped");
    std::fs::write(node.path("traces/mended"), "")?;
    node.remove_pod(&id)
}
