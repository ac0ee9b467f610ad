//! UpdatePodSandboxResources and pod overhead: the limits of the pod's own cgroup.

use crate::harness::machine::Need;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, LinuxContainerResources};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("overhead_is_a_part_of_the_pods_limits", &[Need::Controllers], overhead),
        shared("an_update_of_a_pod_changes_its_cgroup_in_place", &[Need::Controllers], in_place),
        shared("a_limit_below_what_a_pod_uses_is_refused", &[Need::Controllers], in_use),
        shared("an_update_of_a_pod_that_cannot_be_is_refused", &[], refused),
        own("an_updated_pod_outlives_the_daemon", &[], |_| Options::default(), recorded),
    ]
}

fn some(cpu_quota: i64, memory: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_quota,
        cpu_period: 100_000,
        cpu_shares: 512,
        memory_limit_in_bytes: memory,
        ..Default::default()
    }
}

fn update(
    node: &Node,
    id: &str,
    overhead: Option<LinuxContainerResources>,
    resources: Option<LinuxContainerResources>,
) -> Result<(), tonic::Status> {
    let pod_sandbox_id = id.into();
    let request = proto::UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    node.cri.update_pod_sandbox_resources(request).map(drop)
}

/// What the kernel enforces on the pod.
fn enforced(node: &Node, pod: &str, expected: &[(&str, &str)]) -> Result<()> {
    for (file, expected) in expected {
        let found = kernel::read(node.pod_cgroup(pod).join(file))?;
        ensure!(found == *expected, "{file} is {found}, not {expected}");
    }
    Ok(())
}

const MIB: i64 = 1 << 20;

fn overhead(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "overhead", |c| {
        let linux = c.linux.get_or_insert_default();
        linux.resources = Some(some(50_000, 64 * MIB));
        linux.overhead = Some(some(10_000, 16 * MIB));
    })?;
    enforced(node, &scene.pod, &[("memory.max", "83886080"), ("cpu.max", "60000 100000")])?;
    let control = Scene::with(node, "no-overhead", |c| {
        c.linux.get_or_insert_default().resources = Some(some(50_000, 64 * MIB));
    })?;
    enforced(node, &control.pod, &[("memory.max", "67108864"), ("cpu.max", "50000 100000")])
}

fn in_place(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "updated", |c| {
        c.linux.get_or_insert_default().resources = Some(some(50_000, 64 * MIB));
    })?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let init = made.init()?;
    update(node, &scene.pod, None, Some(some(70_000, 128 * MIB)))?;
    enforced(node, &scene.pod, &[("memory.max", "134217728"), ("cpu.max", "70000 100000")])?;
    // A part that is not given stays; the two add up.
    update(node, &scene.pod, Some(some(10_000, 16 * MIB)), None)?;
    enforced(node, &scene.pod, &[("memory.max", "150994944"), ("cpu.max", "80000 100000")])?;
    // A limit that is not given any more is none.
    let open = LinuxContainerResources { cpu_shares: 2, ..Default::default() };
    update(node, &scene.pod, None, Some(open))?;
    enforced(node, &scene.pod, &[("memory.max", "max"), ("cpu.max", "max 100000")])?;
    // A refused value changes nothing.
    let bad = LinuxContainerResources {
        memory_limit_in_bytes: 64 * MIB,
        unified: [("memory.hihg".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let error = update(node, &scene.pod, None, Some(bad)).err().context("an unknown file")?;
    ensure!(error.code() == Code::InvalidArgument, "{error}");
    enforced(node, &scene.pod, &[("memory.max", "max")])?;
    ensure!(made.init()? == init, "it was restarted");
    Ok(())
}

fn in_use(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "in-use")?;
    let script = "dd if=/dev/zero of=/dev/shm/fill bs=1M count=30 2>/dev/null; echo ready; \
        exec sleep 100000";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let error = update(node, &scene.pod, None, Some(some(0, 8 * MIB))).err().context("too low")?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    enforced(node, &scene.pod, &[("memory.max", "max")])?;
    update(node, &scene.pod, None, Some(some(0, 64 * MIB)))?;
    enforced(node, &scene.pod, &[("memory.max", "67108864")])
}

fn refused(node: &Node) -> Result<()> {
    let nobody = "0".repeat(64);
    let error = update(node, &nobody, None, Some(some(0, 0))).err().context("of nobody")?;
    ensure!(error.code() == Code::NotFound, "{error}");
    let error = update(node, "", None, None).err().context("no id")?;
    ensure!(error.code() == Code::InvalidArgument, "{error}");
    let scene = Scene::new(node, "refused")?;
    for (overhead, resources, field) in [
        (None, Some(some(-7, 0)), "resources.cpu_quota"),
        (Some(some(0, -9)), None, "overhead.memory_limit_in_bytes"),
    ] {
        let error = update(node, &scene.pod, overhead, resources).err().context(field)?;
        ensure!(error.code() == Code::InvalidArgument, "{error}");
        ensure!(error.message().starts_with(field), "{error}");
    }
    // Nothing asked for is nothing done; an id may be a prefix.
    update(node, scene.pod.get(..12).context("a short id")?, None, None)?;
    node.stop_pod(&scene.pod)?;
    let error = update(node, &scene.pod, None, Some(some(0, 0))).err().context("it is stopped")?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    Ok(())
}

/// The request that a verbose status shows.
fn shown(node: &Node, pod: &str) -> Result<serde_json::Value> {
    let request = proto::PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: true };
    let info = node.cri.pod_sandbox_status(request)?.info;
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?)?;
    Ok(info["config"]["resources"]["cpu_shares"].clone())
}

fn recorded(node: &mut Node) -> Result<()> {
    let config = pod::pod(node, "recorded");
    let id = node.run_pod(&config)?;
    ensure!(shown(node, &id)?.is_null(), "resources of nobody");
    let asked = LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    update(node, &id, None, Some(asked))?;
    ensure!(shown(node, &id)? == 512, "{}", shown(node, &id)?);
    node.kill()?;
    node.launch()?;
    ensure!(shown(node, &id)? == 512, "after a restart: {}", shown(node, &id)?);
    // It is still the sandbox of the request that made it.
    ensure!(node.run_pod(&config)? == id, "another sandbox");
    Ok(())
}
