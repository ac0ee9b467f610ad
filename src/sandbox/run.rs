//! RunPodSandbox: the steps that make a sandbox, in order.
//!
//! The intent (`Creating`) is on disk before the first step. When a step fails, or the daemon dies
//! in the middle, [`super::teardown`] undoes whatever there is: it goes by the id alone and finds
//! out what exists, so that one undo serves a failed step, a crash, a stop and a removal alike.

use super::config::{PidNamespace, PodNamespace, SandboxConfig};
use super::object::Sandbox;
use super::resources::pod_limits;
use super::state::Event;
use super::{netns, pod_files, sysctl, userns};
use crate::blocking;
use crate::cgroups::{Resources, Seat};
use crate::cni::{AttachRequest, Attachment};
use crate::config::{Enforce, NetworkMode};
use crate::container::create::HOST_PATH_WITHIN;
use crate::container::seccomp;
use crate::error::{AtStep, StepFailed};
use crate::idmap::IdMaps;
use crate::node::Node;
use crate::shim::client::{PausePlan, Shim, SpawnShim};
use crate::shim::wire::PauseUser;
use crate::sys::process::InitPid;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// The oom_score_adj of a shim: nothing of a pod outlives it in an emergency.
const SHIM_OOM_SCORE_ADJ: i32 = -999;
/// The oom_score_adj of pause, as kubelets expect it of an infrastructure container.
const PAUSE_OOM_SCORE_ADJ: i32 = -998;
/// The size of a pod's /dev/shm, bytes.
const SHM_BYTES: u64 = 64 << 20;

/// Makes the sandbox and moves it to `Ready`. The caller holds its lane and has written the record.
///
/// # Errors
/// The step that failed. Nothing is undone here.
pub async fn run(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    let places = make_cgroups(node, sandbox).await?;
    let shim = spawn_shim(node, sandbox, places.shim).await?;
    drop(places.seat);
    let pause = start_pause(node, sandbox, &shim, places.pause).await?;
    take_in(node, sandbox, &pause).await?;
    let attachment = attach_network(node, sandbox, &pause).await?;
    let ips = attachment.map(|a| a.ips).unwrap_or_default();
    pod_files::write(&node.layout, &sandbox.id, &sandbox.config(), &ips)
        .at("write hosts, resolv.conf and hostname")?;
    if let Some(labels) = sandbox.record().labels {
        pod_files::label(&node.layout, &sandbox.id, &labels.mount)
            .at("label hosts, resolv.conf and hostname")?;
    }
    sandbox.change(node, |record| record.ips = ips).at("record the addresses")?;
    // A pause that died meanwhile has moved the sandbox on; its exit is told by the shim.
    sandbox.step(node, Event::Up).at("record that the sandbox is ready")?.ok();
    Ok(())
}

/// Where a pod's first processes start.
struct Places {
    /// Pause's cgroup.
    pause: OwnedFd,
    /// The shim's cgroup, outside the pod's.
    shim: OwnedFd,
    /// Keeps the shim's cgroup until the shim is in it.
    seat: Seat,
}

/// The pod's cgroup with pause's leaf, and the shim's, outside it.
async fn make_cgroups(node: &Arc<Node>, sandbox: &Sandbox) -> Result<Places, StepFailed> {
    let record = sandbox.record();
    let node = Arc::clone(node);
    blocking::run("make the pod's cgroups", move || {
        let id = &record.id;
        let parent = node
            .cgroups
            .parent_path(record.config.cgroup_parent.as_deref())
            .at("resolve the cgroup parent")?;
        let limits = limits_of(&record.config);
        let pod = node.cgroups.create_pod(&parent, id, &limits).at("create the pod's cgroup")?;
        let seat =
            node.cgroups.seat(node.shims.pause().as_fd()).at("make the scope of the shims")?;
        let shim = node.cgroups.shim(id);
        shim.create().at("create the shim's cgroup")?;
        Ok(Places {
            pause: pod.pause_start(&shim).at("create pause's cgroup")?,
            shim: shim.open_fd().at("open the shim's cgroup")?,
            seat,
        })
    })
    .await
    .at("make the pod's cgroups")?
}

/// The kubelet sets the limits of the pod level on the parent itself; what arrives here is for runtimes
/// that make the pod level, as this one does.
fn limits_of(config: &SandboxConfig) -> Resources {
    pod_limits(config.resources.as_ref(), config.overhead.as_ref())
}

/// Pause in its leaf of the pod's cgroup, where it did not start there.
async fn take_in(node: &Node, sandbox: &Sandbox, pause: &InitPid) -> Result<(), StepFailed> {
    let (record, pid) = (sandbox.record(), pause.pid);
    let pod = node.cgroups.pod(&record.cgroup);
    blocking::run("make the pod's scope", move || pod.take_in(pid, &limits_of(&record.config)))
        .await
        .at("make the pod's scope")?
        .at("make the pod's scope")
}

async fn spawn_shim(node: &Node, sandbox: &Sandbox, cgroup: OwnedFd) -> Result<Shim, StepFailed> {
    let request = SpawnShim {
        sandbox: &sandbox.id,
        binaries: &node.shims,
        layout: &node.layout,
        cgroup: cgroup.as_fd(),
        oom_score_adj: SHIM_OOM_SCORE_ADJ,
        best_effort_privileges: node.config.process.privileges == Enforce::BestEffort,
    };
    let (shim, begun) =
        Shim::spawn(request, node.shim_events.clone()).await.at("start the shim")?;
    sandbox.set_shim(Some(shim.clone()));
    sandbox
        .change(node, |record| {
            record.left_out.extend(begun.left_out.iter().map(|what| format!("shim: {what}")));
            record.shim = Some(begun.process);
        })
        .at("record the shim")?;
    Ok(shim)
}

async fn start_pause(
    node: &Arc<Node>,
    sandbox: &Sandbox,
    shim: &Shim,
    cgroup: OwnedFd,
) -> Result<InitPid, StepFailed> {
    let config = sandbox.config();
    let profile = config.clone();
    let filters = sandbox
        .overdue
        .run_within("read the pod's seccomp profile", HOST_PATH_WITHIN, move |_| {
            seccomp::of_pause(&profile)
        })
        .await
        .at("read the pod's seccomp profile")?
        .at("plan the pod's seccomp profile")?;
    let user = make_userns(node, &config).await?;
    let labels = sandbox.record().labels;
    let own = |namespace| namespace == PodNamespace::Pod;
    let own_net = own(config.namespaces.network);
    let plan = PausePlan {
        new_net: own_net,
        new_ipc: own(config.namespaces.ipc),
        // Kubernetes shares the host's uts namespace with its network namespace.
        new_uts: own_net,
        new_pid: config.namespaces.pid == PidNamespace::Pod,
        hostname: own_net.then(|| pod_files::hostname(&config)),
        sysctls: sysctl::effective_sysctls(&config).at("plan the pod's kernel parameters")?,
        shm_bytes: own(config.namespaces.ipc).then_some(SHM_BYTES),
        oom_score_adj: PAUSE_OOM_SCORE_ADJ,
        filters,
        user,
        selinux: labels.as_ref().map(|labels| labels.process.to_string()),
        mount_label: labels.as_ref().map(|labels| labels.mount.to_string()),
        runs_as: config.user.as_ref().map(|user| PauseUser {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
        }),
    };
    let begun = shim.start_pause(plan, cgroup).await.at("start pause")?;
    let pause = begun.process;
    sandbox
        .change(node, |record| {
            record.left_out.extend(begun.left_out.iter().map(|what| format!("pause: {what}")));
            record.pause = Some(pause.clone());
        })
        .at("record pause")?;
    Ok(pause)
}

/// The pod's user namespace, until pause holds it.
async fn make_userns(
    node: &Arc<Node>,
    config: &SandboxConfig,
) -> Result<Option<(IdMaps, Arc<OwnedFd>)>, StepFailed> {
    const STEP: &str = "make the pod's user namespace";
    let Some(maps) = config.userns.clone() else { return Ok(None) };
    let node = Arc::clone(node);
    let work = move || {
        let made = userns::make(&node, &maps)?;
        Ok(Some((maps, Arc::new(made))))
    };
    blocking::run(STEP, work).await.at(STEP)?
}

async fn attach_network(
    node: &Node,
    sandbox: &Sandbox,
    pause: &InitPid,
) -> Result<Option<Attachment>, StepFailed> {
    let config = sandbox.config();
    if config.namespaces.network == PodNamespace::Node {
        return Ok(None);
    }
    let netns_fd = Arc::new(netns::open(pause).at("open the pod's network namespace")?);
    // A pin keeps the namespace for the DEL of plugins after pause died. The built-in network
    // needs none: its veth goes with the namespace.
    let path = if node.config.network.mode == NetworkMode::Cni {
        sandbox.change(node, |record| record.pinned = true).at("record the namespace's pin")?;
        let path = node.layout.netns(&sandbox.id);
        netns::pin(netns_fd.as_fd(), &path).at("pin the pod's network namespace")?;
        path
    } else {
        netns::path_of(pause.pid)
    };
    let request = AttachRequest {
        sandbox: sandbox.id.clone(),
        netns: path,
        netns_fd,
        name: config.metadata.name.clone(),
        namespace: config.metadata.namespace.clone(),
        uid: config.metadata.uid.clone(),
        hostname: pod_files::hostname(&config),
        port_mappings: config.port_mappings.clone(),
        annotations: config.annotations.clone(),
        dns: config.dns.clone(),
        cgroup: config.cgroup_parent.clone(),
    };
    node.network.attach(&request).await.at("attach the pod to its network").map(Some)
}
