//! The node: what it tells of itself, by whose configuration, and what is not for pods.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{kubelet, patient, pod, with};
use crate::harness::machine::Machine;
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("the_node_is_told_in_its_file_and_to_who_asks", NETWORK, reserving, told),
        own("a_node_is_not_ready_without_its_network", &[], kubelet, unready),
        own("a_kubelet_configuration_is_in_effect", NETWORK, of_file, of_kubelet),
        own("a_kubelet_configuration_with_a_bad_field_is_refused", &[], kubelet, bad_field),
        own("what_is_reserved_is_not_for_pods", NETWORK, reserving, reserved),
    ]
}

const RESERVING: &str = "system_reserved = { cpu = \"250m\", memory = \"1Gi\" }";

fn reserving(_: &Machine) -> Options {
    Options { kubelet: Some(RESERVING.to_owned()), ..Options::default() }
}

/// What the HTTP API answers on its socket.
fn ask(node: &Node, path: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(node.run_dir().join("kubelet.sock"))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
    let begin = body.find('{').context("no object")?;
    let end = body.rfind('}').context("no object")?;
    Ok(serde_json::from_str(&body[begin..=end])?)
}

fn node_file(node: &Node) -> Result<Value> {
    let text = std::fs::read_to_string(node.state_dir().join("kubelet/node.json"))?;
    Ok(serde_json::from_str(&text)?)
}

fn condition<'a>(of: &'a Value, kind: &str) -> &'a Value {
    let all = of["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

/// Waits until the file says so of the condition `Ready`.
fn wait_ready(node: &Node, status: &str) -> Result<Value> {
    eventually(&format!("the node's Ready is {status}"), || {
        let of = node_file(node)?;
        let ready = condition(&of, "Ready");
        ensure!(ready["status"] == status, "{ready}");
        Ok(Some(of))
    })
}

fn told(node: &mut Node) -> Result<()> {
    wait_ready(node, "True")?;
    // The images of the test may have come after the first look.
    let of = eventually("the node tells its images", || {
        let of = node_file(node)?;
        let some = of["status"]["images"].as_array().is_some_and(|images| !images.is_empty());
        Ok(some.then_some(of))
    })?;
    let text = |pointer: &str| of.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    ensure!(text("/kind") == "Node" && text("/metadata/name") == "node", "{of}");
    let release = kernel::read("/proc/sys/kernel/osrelease")?;
    ensure!(text("/status/nodeInfo/kernelVersion") == release, "{of}");
    let boot = kernel::read("/proc/sys/kernel/random/boot_id")?;
    ensure!(text("/status/nodeInfo/bootID") == boot, "{of}");
    let runtime = if node.has_other_runtime() { "containerd://" } else { "berth://" };
    ensure!(text("/status/nodeInfo/containerRuntimeVersion").starts_with(runtime), "{of}");
    for kind in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
        ensure!(condition(&of, kind)["status"] == "False", "{of}");
    }
    let images = of["status"]["images"].as_array().context("no images")?;
    ensure!(!images.is_empty() && images.iter().all(|image| image["sizeBytes"].is_u64()), "{of}");
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(text("/status/capacity/cpu") == cpus.to_string(), "{of}");
    ensure!(text("/status/allocatable/cpu") == format!("{}m", cpus * 1000 - 250), "{of}");
    let asked = ask(node, "/node")?;
    ensure!(asked["status"]["nodeInfo"] == of["status"]["nodeInfo"], "{asked}");
    let shown: Value = serde_json::from_str(&node.berth_ok(&["get", "node", "-o", "json"])?)?;
    ensure!(shown["metadata"] == of["metadata"], "{shown}");
    let events = node.berth_ok(&["get", "events"])?;
    for reason in ["Starting", "NodeReady", "NodeHasNoDiskPressure"] {
        let told = events.lines().any(|line| line.contains(reason) && line.contains("node/node"));
        ensure!(told, "no {reason} in {events}");
    }
    let line = node.berth_ok(&["get", "node", "-o", "wide"])?;
    ensure!(line.contains("Ready") && line.contains(&release), "{line}");
    let page = node.berth_ok(&["describe", "node"])?;
    ensure!(page.contains("KubeletReady") && page.contains(&boot), "{page}");
    // What it was made at outlives the daemon.
    node.kill()?;
    node.launch()?;
    let again = wait_ready(node, "True")?;
    let since = |of: &Value| condition(of, "Ready")["lastTransitionTime"].clone();
    let page = eventually("the second start is counted", || {
        let page = node.berth_ok(&["describe", "node"])?;
        Ok(page.contains("(x2 over").then_some(page))
    })?;
    ensure!(!page.contains("Rebooted"), "{page}");
    ensure!(again["metadata"] == of["metadata"] && since(&again) == since(&of), "{again}");
    Ok(())
}

fn unready(node: &mut Node) -> Result<()> {
    node.stop()?;
    let config = std::fs::read_to_string(node.config_file())?;
    let mode = |text: &str| text.replace("mode = \"builtin\"", "mode = \"cni\"");
    std::fs::write(node.config_file(), mode(&config))?;
    let conflist = node.conflist_file();
    let aside = conflist.with_extension("aside");
    let moved = std::fs::rename(&conflist, &aside).is_ok();
    node.launch()?;
    let told = eventually("the node is not ready for want of its network", || {
        let of = node_file(node)?;
        let ready = condition(&of, "Ready");
        let network = ready["message"].to_string().contains("NetworkReady is false");
        ensure!(ready["status"] == "False" && network, "{ready}");
        Ok(Some(()))
    });
    if moved {
        std::fs::rename(&aside, &conflist)?;
    }
    node.stop()?;
    std::fs::write(node.config_file(), &config)?;
    node.launch()?;
    told
}

const FILE: &str = "/run/berth-test-kubelet.yaml";

fn of_file(_: &Machine) -> Options {
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 1\n\
                syncFrequency: 30s\nclusterDomain: example.test\nsystemReserved: {cpu: 100m}\n\
                rotateCertificates: true\n";
    std::fs::write(FILE, text).ok();
    let further = format!("config_file = {FILE:?}\nsync_seconds = 40");
    Options { kubelet: Some(further), ..Options::default() }
}

fn of_kubelet(node: &mut Node) -> Result<()> {
    let told = ask(node, "/configz")?;
    let config = &told["kubeletconfig"];
    ensure!(config["maxPods"] == 1 && config["clusterDomain"] == "example.test", "{told}");
    ensure!(config["syncFrequency"] == "40s", "berth's own goes before: {told}");
    ensure!(config["systemReserved"]["cpu"] == "100m", "{told}");
    let text = node.berth_ok(&["config"])?;
    ensure!(text.contains("rotateCertificates is ignored"), "{text}");
    ensure!(text.contains("berth-test-kubelet.yaml: maxPods"), "{text}");
    node.manifest("a.yaml", &pod("a", json!({"containers": [patient("main")]})))?;
    node.wait_ready("a")?;
    node.manifest("b.yaml", &pod("b", json!({"containers": [patient("main")]})))?;
    let refused = node.wait_phase("b", "Failed")?;
    ensure!(refused.text("/pod/status/reason") == "OutOfpods", "{refused:?}");
    Ok(())
}

fn bad_field(node: &mut Node) -> Result<()> {
    let file = node.path("bad.yaml");
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let config = node.path("bad.toml");
    std::fs::write(&config, format!("[kubelet]\nconfig_file = {file:?}\n"))?;
    for (text, wanted) in [
        ("maxPod: 7\n", "maxPod: there is no such field"),
        ("cpuManagerPolicy: static\n", "cpuManagerPolicy: \"static\" is refused"),
        ("cgroupDriver: systemd\n", "cgroups.driver = cgroupfs"),
    ] {
        std::fs::write(&file, format!("{head}{text}"))?;
        let path = config.to_string_lossy().into_owned();
        let output = std::process::Command::new(crate::harness::node::binary()?)
            .args(["--config", &path, "config"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(wanted), "{text}: {said}");
    }
    Ok(())
}

fn reserved(node: &mut Node) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let asking = |milli: usize| {
        let resources = json!({"resources": {"requests": {"cpu": format!("{milli}m")}}});
        json!({"containers": [with(patient("main"), resources)]})
    };
    node.manifest("fits.yaml", &pod("fits", asking(cpus * 1000 - 250)))?;
    node.wait_ready("fits")?;
    node.remove_manifest("fits.yaml")?;
    node.wait_gone("fits")?;
    node.manifest("more.yaml", &pod("more", asking(cpus * 1000 - 249)))?;
    let refused = node.wait_phase("more", "Failed")?;
    ensure!(refused.text("/pod/status/reason") == "OutOfcpu", "{refused:?}");
    Ok(())
}
