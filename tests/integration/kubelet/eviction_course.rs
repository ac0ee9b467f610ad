//! What goes on beside an eviction, and after a restart in the midst of one: looks that hang, other thresholds, mounts.

use super::eviction::{decisions, message, quick, restart_with, victims, wait_dead, wait_evicted};
use super::lifecycle::NETWORK;
use crate::harness::image;
use crate::harness::kubelet::{Shown, patient, pod, sh, with};
use crate::harness::{Node, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_pod_that_cannot_be_measured_delays_no_eviction", NETWORK, quick, unmeasured),
        own("what_is_mounted_below_an_empty_dir_is_not_its_use", NETWORK, quick, mounted_below),
        own("an_eviction_goes_on_after_the_daemon_was_killed", NETWORK, quick, killed),
        own("a_threshold_whose_victim_ends_hides_no_other", NETWORK, quick, side_by_side),
    ]
}

/// A pod with an emptyDir that may take so much.
fn with_empty_dir(limit: &str) -> Value {
    let at = json!([{"name": "shared", "mountPath": "/shared"}]);
    json!({
        "containers": [with(patient("main"), json!({"volumeMounts": at}))],
        "volumes": [{"name": "shared", "emptyDir": {"sizeLimit": limit}}],
    })
}

/// Makes the daemon's looks at the files of pods hang, until this is dropped; those of one that is started anew, too.
struct Hang(PathBuf);

impl Hang {
    fn begin(node: &Node) -> Result<Self> {
        let file = node.path("fail-plan.hold");
        std::fs::write(&file, "measure a pod's files")?;
        Ok(Self(file))
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn unmeasured(node: &mut Node) -> Result<()> {
    let names = ["one", "two", "three"];
    for name in names {
        node.manifest(&format!("{name}.yaml"), &pod(name, with_empty_dir("1Mi")))?;
    }
    for name in names {
        node.wait_ready(name)?;
    }
    let hang = Hang::begin(node)?;
    let within = node.path("fail-plan.within");
    std::fs::write(&within, "300")?;
    node.wait_for("one", "it is told that it is not measured", |shown| {
        shown
            .event("StorageNotMeasured")
            .is_some_and(|(_, text)| text.contains("are not kept in full"))
    })?;
    std::fs::remove_file(&within)?;
    restart_with(node, "hard = []", "hard = [\"memory.available<99.9%\"]")?;
    let began = Instant::now();
    eventually("one has to go for memory", || Ok((!victims(node)?.is_empty()).then_some(())))?;
    let took = began.elapsed();
    drop(hang);
    // Each of the three is measured for ten seconds.
    ensure!(took < Duration::from_secs(9), "after {took:?}");
    let first = &decisions(node)?[0];
    ensure!(first["signal"] == "memory.available", "{first}");
    Ok(())
}

fn write_mebibytes(file: &Path, count: usize) -> Result<()> {
    Ok(std::fs::write(file, vec![1; count << 20])?)
}

fn mounted_below(node: &mut Node) -> Result<()> {
    for name in ["mounts", "fills"] {
        node.manifest(&format!("{name}.yaml"), &pod(name, with_empty_dir("1Mi")))?;
    }
    let (shown, other) = (node.wait_ready("mounts")?, node.wait_ready("fills")?);
    let volume =
        |of: &Shown| node.state_dir().join("kubelet/pods").join(of.uid()).join("volumes/shared");
    let (tmpfs, bound) = (volume(&shown).join("tmpfs"), volume(&shown).join("bound"));
    let (file, elsewhere) = (volume(&shown).join("file"), node.path("elsewhere"));
    for folder in [&tmpfs, &bound, &elsewhere] {
        std::fs::create_dir(folder)?;
    }
    std::fs::write(&file, "")?;
    write_mebibytes(&elsewhere.join("large"), 3)?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &tmpfs, Some("tmpfs"), MsFlags::empty(), none)?;
    write_mebibytes(&tmpfs.join("large"), 3)?;
    mount(Some(&elsewhere), &bound, none, MsFlags::MS_BIND, none)?;
    mount(Some(&elsewhere.join("large")), &file, none, MsFlags::MS_BIND, none)?;
    // When the other one has gone, both were looked at.
    write_mebibytes(&volume(&other).join("large"), 3)?;
    wait_evicted(node, "fills")?;
    ensure!(victims(node)? == ["fills"], "{:?}", decisions(node)?);
    write_mebibytes(&volume(&shown).join("large"), 3)?;
    wait_evicted(node, "mounts")?;
    ensure!(std::fs::metadata(elsewhere.join("large"))?.len() == 3 << 20, "it was emptied");
    Ok(())
}

/// Ends when it is told to by its folder, and by nothing else but force.
const STUBBORN: &str = "trap '' TERM; while test ! -e /tmp/go; do sleep 0.1; done";

fn killed(node: &mut Node) -> Result<()> {
    // The daemon is killed before the runtime is asked for anything: it is for the next one to know the grace.
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["sleep", "20"]}}}});
    let main = with(sh("main", STUBBORN), hook);
    let spec = json!({"terminationGracePeriodSeconds": 600, "containers": [main]});
    node.manifest("pod.yaml", &pod("pod", spec))?;
    let shown = node.wait_ready("pod")?;
    let pid = node.first_pid(&shown, "main")?;
    let rule = "soft = [\"memory.available<99.9% for 0s\"]\nmax_pod_grace_seconds = 30";
    restart_with(node, "soft = []", rule)?;
    eventually("it has to go", || Ok((!victims(node)?.is_empty()).then_some(())))?;
    let decided = Instant::now();
    let half = Duration::from_secs(15);
    eventually("half of its grace is over, and not its hook", || {
        Ok((decided.elapsed() >= half).then_some(()))
    })?;
    let began = Instant::now();
    node.kill()?;
    ensure!(kernel::alive(pid), "it has ended before the daemon was killed");
    node.launch()?;
    let shown = wait_evicted(node, "pod")?;
    wait_dead(pid)?;
    let took = began.elapsed();
    // Its own grace is ten minutes; that of the eviction goes on, and does not begin anew: that would take 30 s.
    ensure!(took < Duration::from_secs(25), "after {took:?}");
    let told = message(&shown);
    ensure!(
        told.contains("low on resource: memory") && shown.condition("DisruptionTarget"),
        "{told}"
    );
    ensure!(shown.event("Evicted").is_some(), "{shown:?}");
    let noted = decisions(node)?;
    let of_pods = noted.iter().filter(|one| one.get("victim").is_some()).count();
    ensure!(of_pods == 1 && noted[0]["graceSeconds"] == 30, "{noted:?}");
    // It stays so when the next one starts, and when the pod has gone it may come again.
    node.kill()?;
    node.launch()?;
    let again = wait_evicted(node, "pod")?;
    ensure!(message(&again) == told && victims(node)?.len() == 1, "{again:?}");
    Ok(())
}

fn side_by_side(node: &mut Node) -> Result<()> {
    let spec = json!({"terminationGracePeriodSeconds": 600, "containers": [sh("main", STUBBORN)]});
    node.manifest("pod.yaml", &pod("pod", spec))?;
    let shown = node.wait_ready("pod")?;
    let pid = node.first_pid(&shown, "main")?;
    let archive = node.path("idle.tar");
    let name = "idle.test/x:1";
    let memory = "memory.available<99.9% for 0s";
    restart_with(
        node,
        "soft = []",
        &format!("soft = [\"{memory}\", \"imagefs.available<999Ti for 3s\"]"),
    )?;
    eventually("it has to go", || Ok((!victims(node)?.is_empty()).then_some(())))?;
    image::write_busybox_as(&archive, name, &json!({"Labels": {"made": "idle"}}))?;
    node.has_image(&archive, name)?;
    eventually("the idle image is gone", || Ok(image::find(node, name)?.is_none().then_some(())))?;
    ensure!(kernel::alive(pid), "the pod has ended: nothing was to be waited for");
    let noted = decisions(node)?;
    let reclaimed = noted
        .iter()
        .find(|one| one["reclaimed"]["images"].as_array().is_some_and(|all| !all.is_empty()));
    let reclaimed = reclaimed.with_context(|| format!("{noted:?}"))?;
    ensure!(
        reclaimed["signal"] == "imagefs.available" && reclaimed.get("victim").is_none(),
        "{reclaimed}"
    );
    ensure!(reclaimed["met"] == json!(["memory.available", "imagefs.available"]), "{reclaimed}");
    ensure!(victims(node)? == ["pod"], "{noted:?}");
    let page = node.berth_ok(&["describe", "node"])?;
    for signal in ["memory.available", "imagefs.available"] {
        let told = format!("{signal} is below its soft threshold");
        ensure!(page.contains("EvictionThresholdMet") && page.contains(&told), "{page}");
    }
    ensure!(
        page.contains("NodeHasInsufficientMemory") && page.contains("NodeHasDiskPressure"),
        "{page}"
    );
    node.exec_ok(&shown.id("main"), &["touch", "/tmp/go"])?;
    wait_dead(pid)
}
