//! What happens to pods and images when the node runs out of something, and to pods that use more than they may.
//!
//! 99.9 % of the memory and 999 TiB of disk are more than any node has left. Such a threshold is set when the pods run,
//! by a restart of the daemon, so that they are there before anything is short.

use super::lifecycle::NETWORK;
use crate::harness::http::Http;
use crate::harness::image::{self, BUSYBOX};
use crate::harness::kubelet::{Shown, host_folder, patient, pod, sh, with};
use crate::harness::machine::{Machine, Need};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("an_empty_dir_beyond_its_limit_evicts_its_pod", NETWORK, quick, empty_dir),
        own("a_container_beyond_its_storage_evicts_its_pod", NETWORK, quick, containers),
        own("a_full_disk_evicts_one_pod_at_a_time_in_order", NETWORK, quick, full_disk),
        own("a_lack_of_memory_has_to_last_and_leaves_a_grace", NETWORK, quick, soft),
        own("who_asks_for_memory_is_let_in_while_it_is_short", NETWORK, quick, admission),
        own("an_image_that_nobody_uses_is_collected", NETWORK, quick, images),
    ]
}

/// What needs figures of memory.
pub(crate) fn of_memory() -> Vec<Test> {
    vec![own("who_takes_the_most_memory_is_evicted_first", WITH_CONTROLLERS, quick, greedy)]
}

const WITH_CONTROLLERS: &[Need] = &[Need::PodNetwork, Need::Controllers];

/// Looks every second, and nothing is short.
pub(super) fn quick(_: &Machine) -> Options {
    let lines = "[kubelet.eviction]\nhard = []\nsoft = []\ncheck_seconds = 1\n\
        [kubelet.image_gc]\nhigh_percent = 100\nlow_percent = 0\nmin_age_seconds = 0\ncheck_seconds = 1\n";
    Options { kubelet: Some(lines.to_owned()), ..Options::default() }
}

/// Restarts the daemon with another line in its configuration.
pub(super) fn restart_with(node: &mut Node, line: &str, instead: &str) -> Result<()> {
    let text = kernel::read(node.config_file())?;
    ensure!(text.contains(line), "{line:?} is not in the configuration");
    node.kill()?;
    std::fs::write(node.config_file(), text.replace(line, instead) + "\n")?;
    node.launch()
}

/// The decisions that were noted.
pub(super) fn decisions(node: &Node) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(node.state_dir().join("kubelet/evictions.log"));
    text.unwrap_or_default().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The names of the victims, in order, without the node's.
pub(super) fn victims(node: &Node) -> Result<Vec<String>> {
    let short =
        |name: &str| name.trim_start_matches("default/").trim_end_matches("-node").to_owned();
    let all = decisions(node)?;
    Ok(all.iter().filter_map(|one| one["victim"].as_str()).map(short).collect())
}

pub(super) fn wait_evicted(node: &Node, name: &str) -> Result<Shown> {
    node.wait_for(name, "it is evicted", |shown| {
        shown.phase() == "Failed" && shown.text("/pod/status/reason") == "Evicted"
    })
}

pub(super) fn wait_dead(pid: i32) -> Result<()> {
    eventually("its process is gone", || Ok((!kernel::alive(pid)).then_some(())))
}

pub(super) fn message(shown: &Shown) -> &str {
    shown.text("/pod/status/message")
}

fn empty_dir(node: &mut Node) -> Result<()> {
    let at = json!([{"name": "shared", "mountPath": "/shared"}]);
    let spec = |limit: &str| {
        json!({
            "containers": [with(patient("main"), json!({"volumeMounts": at}))],
            "volumes": [{"name": "shared", "emptyDir": {"sizeLimit": limit}}],
        })
    };
    for (name, limit) in [("small", "1Mi"), ("large", "1Gi")] {
        node.manifest(&format!("{name}.yaml"), &pod(name, spec(limit)))?;
    }
    let (small, large) = (node.wait_ready("small")?, node.wait_ready("large")?);
    let pid = node.first_pid(&small, "main")?;
    let fill = ["dd", "if=/dev/zero", "of=/shared/file", "bs=1M", "count=3"];
    node.exec_ok(&large.id("main"), &fill)?;
    // The pod may end before the answer.
    node.exec(&small.id("main"), &fill, 0).ok();
    let shown = wait_evicted(node, "small")?;
    ensure!(
        message(&shown) == "Usage of EmptyDir volume \"shared\" exceeds the limit \"1Mi\".",
        "{shown:?}"
    );
    ensure!(shown.condition("DisruptionTarget") && shown.event("Evicted").is_some(), "{shown:?}");
    wait_dead(pid)?;
    let volumes = node.state_dir().join("kubelet/pods").join(shown.uid()).join("volumes");
    eventually("its volume is gone", || Ok((!volumes.exists()).then_some(())))?;
    let noted = decisions(node)?;
    let one = noted.first().context("nothing was noted")?;
    ensure!(noted.len() == 1 && one["signal"] == "localStorage", "{noted:?}");
    ensure!(one["threshold"] == 1 << 20 && one["observed"].as_u64() >= Some(3 << 20), "{one}");
    ensure!(victims(node)? == ["small"], "{noted:?}");
    let figures = Http::of(node).get("/metrics")?.ok()?;
    let counted = "kubelet_evictions{eviction_signal=\"emptydirfs.limit\"} 1";
    ensure!(figures.lines().any(|line| line == counted), "{figures}");
    let why = node.berth_ok(&["why", shown.name()])?;
    ensure!(why.contains("the pod was evicted (Evicted): Usage of EmptyDir volume"), "{why}");
    // It does not come back, and the other one was never touched.
    node.kill()?;
    node.launch()?;
    node.manifest("new.yaml", &pod("new", json!({"containers": [patient("main")]})))?;
    node.wait_ready("new")?;
    let again = node.find("small")?.context("its status is gone")?;
    ensure!(again.phase() == "Failed" && message(&again) == message(&shown), "{again:?}");
    let other = node.wait_ready("large")?;
    ensure!(other.id("main") == large.id("main"), "{other:?}");
    // Another manifest is another pod.
    node.manifest("small.yaml", &pod("small", spec("2Gi")))?;
    node.wait_ready("small").map(drop)
}

fn containers(node: &mut Node) -> Result<()> {
    let limit = json!({"resources": {"limits": {"ephemeral-storage": "1Mi"}}});
    let wait = "trap 'exit 0' TERM; while test ! -e /tmp/go; do sleep 0.1; done";
    let rows = [
        ("layer", "dd if=/dev/zero of=/tmp/file bs=1M count=3"),
        // Lines of a log have their time before them.
        ("log", "yes 0123456789 | head -n 100000"),
        ("within", "dd if=/dev/zero of=/tmp/file bs=1k count=100"),
    ];
    for (name, act) in rows {
        let script = format!("{wait}; {act}; sleep 100000 & wait");
        let main = with(sh("main", &script), limit.clone());
        node.manifest(&format!("{name}.yaml"), &pod(name, json!({"containers": [main]})))?;
    }
    for (name, _) in rows {
        let shown = node.wait_ready(name)?;
        node.exec_ok(&shown.id("main"), &["touch", "/tmp/go"])?;
    }
    for (name, _) in rows.iter().take(2) {
        let shown = wait_evicted(node, name)?;
        let expected = "Container main exceeded its local ephemeral storage limit \"1Mi\".";
        ensure!(message(&shown) == expected, "{name}: {}", message(&shown));
        eventually("nothing of it runs", || {
            let groups = kernel::cgroups_below(&node.kubelet_pod_cgroup(&shown));
            let pids = groups.iter().filter_map(|group| kernel::pids_in(group).ok()).flatten();
            Ok((pids.count() == 0).then_some(()))
        })?;
    }
    let within = node.wait_ready("within")?;
    ensure!(within.restarts("main") == 0 && victims(node)?.len() == 2, "{within:?}");
    Ok(())
}

/// A pod that may be ended without a grace, of a priority.
fn of_priority(node: &Node, name: &str, further: Value) -> Result<()> {
    let spec = with(json!({"containers": [patient("main")]}), further);
    node.manifest(&format!("{name}.yaml"), &pod(name, spec))
}

fn full_disk(node: &mut Node) -> Result<()> {
    // Who does not end when asked ends after two seconds: longer than a round.
    let slow = json!({"containers": [sh("main", "trap '' TERM; while true; do sleep 0.1; done")]});
    of_priority(node, "low", with(slow.clone(), json!({"priority": -10})))?;
    of_priority(node, "large", slow.clone())?;
    of_priority(node, "small", slow)?;
    of_priority(node, "critical", json!({"priorityClassName": "system-node-critical"}))?;
    let order = ["low", "large", "small"];
    let mut pids = Vec::new();
    for name in order {
        pids.push(node.first_pid(&node.wait_ready(name)?, "main")?);
    }
    // All use more than they asked for, which is nothing.
    for (name, count) in [("low", "count=1"), ("large", "count=3"), ("small", "count=1")] {
        let id = node.wait_ready(name)?.id("main");
        node.exec_ok(&id, &["dd", "if=/dev/zero", "of=/tmp/file", "bs=1M", count])?;
    }
    // containerd looks at its layers every ten seconds.
    let large = node.wait_ready("large")?.id("main");
    eventually("the runtime tells what was written", || {
        let request = proto::ContainerStatsRequest { container_id: large.clone() };
        let stats = node.cri.container_stats(request)?.stats.context("no figures")?;
        let used = stats.writable_layer.and_then(|layer| layer.used_bytes);
        Ok((used.map(|used| used.value) >= Some(3 << 20)).then_some(()))
    })?;
    let critical = node.wait_ready("critical")?;
    restart_with(node, "hard = []", "hard = [\"nodefs.available<999Ti\"]")?;
    let mut seen = 0;
    eventually("all that may go have gone", || {
        let now = victims(node)?;
        if now.len() > seen {
            // Whoever went before is gone when the next one has to go.
            ensure!(now.len() == seen + 1, "{now:?} at once");
            let left = pids.iter().take(seen).filter(|pid| kernel::alive(**pid)).count();
            ensure!(left == 0, "{left} of {now:?} run still");
            seen = now.len();
        }
        Ok((seen == order.len()).then_some(()))
    })?;
    ensure!(victims(node)? == order, "{:?}", victims(node)?);
    for (name, pid) in order.iter().zip(pids) {
        let shown = wait_evicted(node, name)?;
        let told = message(&shown);
        let named = told.contains("low on resource: ephemeral-storage") && told.contains("999Ti");
        ensure!(named && shown.condition("DisruptionTarget"), "{name}: {told}");
        wait_dead(pid)?;
    }
    let noted = decisions(node)?;
    let first = noted.first().context("nothing was noted")?;
    let names = first["candidates"].as_array().context("no candidates")?;
    ensure!(names.len() == 3 && first["signal"] == "nodefs.available", "{first}");
    ensure!(names[1]["used"].as_u64() >= Some(3 << 20), "{first}");
    // Dead containers of who went before were removed before the next one went.
    let reclaimed = noted.iter().filter_map(|one| one["reclaimed"]["containers"].as_array());
    ensure!(reclaimed.flatten().count() >= 2, "{noted:?}");
    // Nobody comes in but who is critical, and who runs there runs on.
    of_priority(node, "late", json!({}))?;
    let late = wait_evicted(node, "late")?;
    ensure!(message(&late) == "The node had condition: [DiskPressure].", "{late:?}");
    ensure!(late.id("main").is_empty() && !late.condition("DisruptionTarget"), "{late:?}");
    of_priority(node, "urgent", json!({"priorityClassName": "system-cluster-critical"}))?;
    node.wait_ready("urgent")?;
    let now = node.wait_ready("critical")?;
    ensure!(now.id("main") == critical.id("main"), "{now:?}");
    ensure!(image::find(node, BUSYBOX)?.is_some(), "an image in use was collected");
    Ok(())
}

fn soft(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let script = "trap 'echo ended >/notes/last; exit 0' TERM; sleep 100000 & wait";
    let at = json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]});
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "containers": [with(sh("main", script), at)], "volumes": [host_folder("notes", &notes)],
    });
    node.manifest("pod.yaml", &pod("pod", spec))?;
    let shown = node.wait_ready("pod")?;
    let pid = node.first_pid(&shown, "main")?;
    let began = Instant::now();
    restart_with(node, "soft = []", "soft = [\"memory.available<99.9% for 4s\"]")?;
    let shown = wait_evicted(node, "pod")?;
    let lasted = began.elapsed();
    ensure!(lasted >= Duration::from_secs(4), "after {lasted:?}");
    ensure!(message(&shown).contains("low on resource: memory"), "{shown:?}");
    wait_dead(pid)?;
    ensure!(kernel::read(notes.join("last"))? == "ended", "it had no time to end");
    let noted = decisions(node)?;
    ensure!(noted[0]["kernelAvailable"].as_u64() > Some(0), "{noted:?}");
    ensure!(noted[0]["hard"] == false && noted[0].get("graceSeconds").is_none(), "{noted:?}");
    Ok(())
}

fn admission(node: &mut Node) -> Result<()> {
    restart_with(node, "soft = []", "soft = [\"memory.available<99.9% for 1h\"]")?;
    of_priority(node, "none", json!({}))?;
    let shown = wait_evicted(node, "none")?;
    ensure!(message(&shown) == "The node had condition: [MemoryPressure].", "{shown:?}");
    let asking = with(patient("main"), json!({"resources": {"requests": {"memory": "1Mi"}}}));
    node.manifest("some.yaml", &pod("some", json!({"containers": [asking]})))?;
    node.wait_ready("some")?;
    ensure!(victims(node)?.is_empty(), "{:?}", decisions(node)?);
    Ok(())
}

fn images(node: &mut Node) -> Result<()> {
    node.manifest("user.yaml", &pod("user", json!({"containers": [patient("main")]})))?;
    let shown = node.wait_ready("user")?;
    let archive = node.path("idle.tar");
    let name = "idle.test/x:1";
    image::write_busybox_as(&archive, name, &json!({"Labels": {"made": "idle"}}))?;
    node.has_image(&archive, name)?;
    ensure!(image::find(node, name)?.is_some(), "it was not imported");
    let ballast = fill_two_percent(node)?;
    restart_with(node, "high_percent = 100", "high_percent = 1")?;
    eventually("the idle image is gone", || Ok(image::find(node, name)?.is_none().then_some(())))?;
    ensure!(image::find(node, BUSYBOX)?.is_some(), "an image in use is gone");
    let events = eventually("what was too little is told", || {
        let events = node.berth_ok(&["get", "events", "-A"])?;
        Ok(events.contains("FreeDiskSpaceFailed").then_some(events))
    })?;
    ensure!(events.contains("node/node"), "{events}");
    std::fs::remove_file(ballast)?;
    node.exec_ok(&shown.id("main"), &["true"]).map(drop)
}

/// A file that takes two percent of the file system of images.
fn fill_two_percent(node: &Node) -> Result<std::path::PathBuf> {
    let path = node.path("ballast");
    let space = nix::sys::statvfs::statvfs(&node.state_dir())?;
    let bytes = space.blocks().saturating_mul(space.fragment_size()) / 50;
    let file = std::fs::File::create(&path)?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, i64::try_from(bytes)?)?;
    Ok(path)
}

fn greedy(node: &mut Node) -> Result<()> {
    let take = |mebibytes: u32| {
        // A tmpfs counts as memory of who fills it.
        let script = format!(
            "trap 'exit 0' TERM; dd if=/dev/zero of=/dev/shm/file bs=1M count={mebibytes}; sleep 100000 & wait"
        );
        let request = json!({"resources": {"requests": {"memory": "48Mi"}}});
        json!({"containers": [with(sh("main", &script), request)]})
    };
    for (name, mebibytes) in [("modest", 8), ("beyond", 60), ("within", 40)] {
        node.manifest(&format!("{name}.yaml"), &pod(name, take(mebibytes)))?;
        let shown = node.wait_ready(name)?;
        eventually("it has taken its memory", || {
            let used = kernel::read(node.kubelet_pod_cgroup(&shown).join("memory.current"))?;
            Ok((used.parse::<u64>()? >= u64::from(mebibytes) << 20).then_some(()))
        })?;
    }
    restart_with(node, "hard = []", "hard = [\"memory.available<99.9%\"]")?;
    eventually("all have gone", || Ok((victims(node)?.len() == 3).then_some(())))?;
    ensure!(victims(node)? == ["beyond", "within", "modest"], "{:?}", decisions(node)?);
    let first = &decisions(node)?[0];
    let used = first["candidates"][0]["used"].as_u64();
    ensure!(used >= Some(60 << 20) && first["candidates"][0]["request"] == 48 << 20, "{first}");
    Ok(())
}
