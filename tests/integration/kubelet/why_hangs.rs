//! Planted faults of the network, of memory, and of what does not answer: what `berth why` says of them.

use super::why::{Planted, first_line, plant, why};
use crate::harness::cni;
use crate::harness::hung::Hung;
use crate::harness::kubelet::{kubelet, patient, pod, sh, with};
use crate::harness::machine::{Machine, Need};
use crate::harness::{Node, Options, Test, kernel, own, poll};
use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("why_names_what_is_wrong_with_the_network", WITH_PLUGINS, without_network, network),
        own("why_names_the_call_that_a_mount_waits_in", WITH_FUSE, kubelet, hung_volume),
        own("a_step_that_hangs_does_nothing_after_its_pod", WITH_FUSE, kubelet, late_step),
    ]
}

/// Those that only the virtual machine can show.
pub(crate) fn of_memory() -> Vec<Test> {
    vec![own("why_names_who_wanted_too_much_memory", WITH_CONTROLLERS, kubelet, memory)]
}

const WITH_PLUGINS: &[Need] = &[Need::PodNetwork, Need::Plugins];
const WITH_FUSE: &[Need] = &[Need::PodNetwork, Need::Fuse];
const WITH_CONTROLLERS: &[Need] = &[Need::PodNetwork, Need::Controllers];

fn without_network(machine: &Machine) -> Options {
    Options { conflist: Some(String::new()), ..kubelet(machine) }
}

fn one() -> Value {
    json!({"containers": [patient("main")]})
}

fn network(node: &mut Node) -> Result<()> {
    let _bridge = cni::BridgeGuard;
    let sandbox = "the pod's sandbox cannot be made";
    plant(node, &[Planted::new("none", one(), &[sandbox, "network"])])?;
    node.remove_manifest("none.yaml")?;
    node.wait_gone("none")?;

    // A range with one address for pods, which the first one takes.
    let ipam = json!({
        "type": "host-local", "dataDir": node.path("ipam"),
        "ranges": [[{"subnet": "10.214.78.0/30"}]],
    });
    cni::install(
        node,
        &json!([{"type": "bridge", "bridge": cni::BRIDGE, "isGateway": true, "ipam": ipam}]),
    )?;
    node.manifest("first.yaml", &pod("first", one()))?;
    node.wait_ready("first")?;
    plant(node, &[Planted::new("second", one(), &[sandbox, "no IP addresses available"])])?;
    node.end_pods()?;

    cni::script(node, "sleepy", "case $CNI_COMMAND in ADD) sleep 1000 ;; esac")?;
    cni::install(node, &json!([{"type": "sleepy"}]))?;
    node.manifest("hangs.yaml", &pod("hangs", one()))?;
    let parts = ["its sandbox and network have been in the making for", "sleepy"];
    first_line(node, "hangs", &parts)?;
    // The runtime asks again after that, and finds that nobody wants the pod any more.
    node.remove_manifest("hangs.yaml")?;
    end_plugins("hangs-node");
    Ok(())
}

/// Ends the plugins that make a pod's network.
fn end_plugins(pod: &str) {
    let own = format!("K8S_POD_NAME={pod};");
    for name in kernel::names_in(Path::new("/proc")) {
        let environment = std::fs::read(format!("/proc/{name}/environ")).unwrap_or_default();
        let Ok(pid) = name.parse() else { continue };
        if String::from_utf8_lossy(&environment).contains(&own) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

fn hung_volume(node: &mut Node) -> Result<()> {
    let mut hung = Hung::at(&node.volume("hung")?)?;
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let main = with(patient("main"), mount.clone());
    let volume =
        json!({"name": "v", "hostPath": {"path": hung.at.join("folder"), "type": "Directory"}});
    let spec = json!({"containers": [main], "volumes": [volume]});
    node.manifest("stuck.yaml", &pod("stuck", spec))?;
    node.manifest("beside.yaml", &pod("beside", one()))?;
    node.wait_ready("beside")?;
    let lines = first_line(node, "stuck", &["set up the pod's volumes", "waits in"])?;
    // The call by its name: what looks at a path is one of these.
    let calls = ["stat", "statx", "newfstatat", "openat", "openat2", "lstat", "readlink"];
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let named = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| calls.contains(&word))
    };
    ensure!(named(first), "{lines:#?}");
    // What the kubelet half does not touch, the engine does: at a container's creation, or at its start.
    let folder = json!({"name": "v", "hostPath": {"path": hung.at.join("folder")}});
    let spec = json!({"containers": [with(patient("main"), mount)], "volumes": [folder]});
    node.manifest("later.yaml", &pod("later", spec))?;
    poll::within(Duration::from_secs(60), "the thread that waits is told", || {
        let lines = why(node, "later")?;
        let first = lines.first().map(String::as_str).unwrap_or_default();
        let held = lines.iter().any(|line| line.contains("held by the kernel") && named(line));
        let told = first.starts_with("container main is being made") && held;
        ensure!(told || node.has_other_runtime(), "{lines:#?}");
        Ok(Some(()))
    })?;
    hung.end();
    Ok(())
}

fn late_step(node: &mut Node) -> Result<()> {
    let mut hung = Hung::at(&node.volume("hung")?)?;
    // What comes after the look at the folder: a folder of berth's own, a mount in it, and ids in the pod's.
    let names = ["v", "disk", "memory"];
    let mounts: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
    let volumes = json!([
        {"name": "v", "hostPath": {"path": hung.at.join("folder"), "type": "Directory"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]);
    let main = with(patient("main"), json!({"volumeMounts": mounts}));
    let spec = json!({"containers": [main], "volumes": volumes});
    node.manifest("late.yaml", &pod("late", spec.clone()))?;
    let shown =
        node.wait_for("late", "its step hangs", |shown| shown.event("StepHangs").is_some())?;
    let folder = node.state_dir().join("kubelet/pods").join(shown.uid());
    node.remove_manifest("late.yaml")?;
    // At once: the step has two minutes.
    node.wait_gone("late")?;
    let over = "work that nobody waited for any more has ended";
    let log = node.log_file();
    ensure!(!std::fs::read_to_string(&log)?.contains(over), "it did not hang");
    ensure!(!folder.exists(), "{} is left", folder.display());
    hung.answer();
    poll::within(Duration::from_secs(30), "the step ends", || {
        Ok(std::fs::read_to_string(&log)?.contains(over).then_some(()))
    })?;
    ensure!(!folder.exists(), "{} was made after its pod", folder.display());
    let mounted = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounted.contains(shown.uid()), "{mounted}");
    // The control: with what answers, all of it is made.
    node.manifest("late.yaml", &pod("late", spec))?;
    let made = ["disk", "memory"].map(|name| folder.join("volumes").join(name));
    poll::within(Duration::from_secs(30), "the volumes", || {
        Ok(made.iter().all(|volume| volume.exists()).then_some(()))
    })?;
    node.remove_manifest("late.yaml")?;
    node.wait_gone("late")
}

fn memory(node: &mut Node) -> Result<()> {
    // tail keeps in memory what may be the end.
    let eats = "head -c 200000000 /dev/zero | tail -c 190000000 >/dev/null";
    let limit = json!({"limits": {"memory": "32Mi"}});
    let own = with(sh("main", eats), json!({"resources": limit}));
    let of_pod = json!({"resources": limit, "containers": [sh("main", eats)]});
    let words = "container main was killed for want of memory";
    // Another runtime does not tell how much it was.
    let peak = if node.has_other_runtime() { "" } else { "its memory peaked at " };
    let all = if node.has_other_runtime() { "" } else { "32.0 MiB of 32.0 MiB" };
    let faults = [
        Planted::of("own", own, &[words, "its limit is 32Mi", peak, all]),
        Planted::new("pods", of_pod, &[words, "the pod's of 32Mi", peak]),
    ];
    plant(node, &faults)
}
