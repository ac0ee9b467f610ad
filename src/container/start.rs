//! StartContainer: cgroup, mounts, process.

use super::config::ContainerConfig;
use super::object::Container;
use super::state::{Event, Exit, State};
use super::{create, hooks, log};
use crate::blocking::{self, Wanted};
use crate::cgroups::{DeviceRule, Leaf};
use crate::checkpoint::{self, Criu};
use crate::clock;
use crate::error::{AtStep, ErrorKind, StepFailed, chain};
use crate::failpoint;
use crate::idmap::IdMaps;
use crate::image::View;
use crate::node::{Node, kill_and_wait};
use crate::oci::{self, HandlerPlace, Outside, PodContext, Prepared};
use crate::sandbox::config::SandboxConfig;
use crate::sandbox::userns;
use crate::shim::client::{Begun, ContainerIo, ShimError};
use crate::store::StoreError;
use crate::sys::process::InitPid;
use oci_spec::runtime::Spec;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the steps between clone and exec may take.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long criu may take to read the memory of a container.
const RESTORE_WITHIN: Duration = Duration::from_secs(600);

/// Starts a container. The caller holds its lane.
///
/// # Errors
/// FailedPrecondition from any state but `Created`, or when the pod is not ready. Any other error
/// leaves the container `Exited` with 128, `StartError` and the error as its message.
pub async fn start(
    node: &Arc<Node>,
    container: &Arc<Container>,
    target: Option<InitPid>,
) -> Result<(), StepFailed> {
    if !container.sandbox.is_ready() {
        return Err(refused("the pod is not ready"));
    }
    if container
        .step(node, Event::Start { at_nanos: clock::now_nanos() })
        .at("record the start")?
        .is_err()
    {
        return Err(refused(match container.state() {
            State::Running { .. } => "it is running already",
            State::Exited(_) => "it has ended, and a container starts only once",
            _ => "it is being removed",
        }));
    }
    match begin(node, container, target).await {
        Ok(begun) => {
            let recorded = record_begun(node, container, begun).at("record that it runs");
            if let Err(failed) = recorded {
                // What is not in the books must not run.
                give_up(node, container, &failed).await;
                return Err(failed);
            }
            Ok(())
        }
        Err(failed) => {
            tracing::info!(container_id = %container.id, error = chain(&failed), "container did not start");
            give_up(node, container, &failed).await;
            Err(failed)
        }
    }
}

/// Records that the container runs, with what was left out of what was asked for.
///
/// # Errors
/// When the record cannot be written.
pub fn record_begun(node: &Node, container: &Container, begun: Begun) -> Result<(), StoreError> {
    let Begun { process: init, left_out } = begun;
    if !left_out.is_empty() {
        tracing::warn!(container_id = %container.id, ?left_out, "left out, as configured");
        container.change(node, |record| record.left_out = left_out)?;
    }
    if container.record().restored {
        // Its process images are used up. What stays is removed with the container.
        std::fs::remove_dir_all(node.layout.restore(&container.id)).ok();
    }
    let since_nanos = clock::now_nanos();
    container.step(node, Event::Began { init, since_nanos }).map(drop)
}

fn refused(why: &'static str) -> StepFailed {
    StepFailed { step: "start", kind: ErrorKind::FailedPrecondition, source: why.into() }
}

async fn begin(
    node: &Arc<Node>,
    container: &Arc<Container>,
    target: Option<InitPid>,
) -> Result<Begun, StepFailed> {
    let shim = container.sandbox.shim().ok_or_else(|| refused("the pod's shim is gone"))?;
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let (mut prepared, cgroup, io) = container
        .sandbox
        .overdue
        .run_within("prepare the start", create::HOST_PATH_WITHIN, move |wanted| {
            prepare(&work_node, &work, target, wanted)
        })
        .await
        .at("prepare the start")??;
    let outside = prepared.outside.take();
    let within = if container.record().restored { RESTORE_WITHIN } else { START_WITHIN };
    let starting = shim.start_container(&container.id, prepared, io, cgroup, within);
    let Some(outside) = outside else { return starting.await.map_err(not_started) };
    start_with_hooks(node, container, outside, starting).await
}

/// The process waits for the hooks before its pivot, and is told of the program that runs by those
/// after it.
async fn start_with_hooks(
    node: &Arc<Node>,
    container: &Arc<Container>,
    mut outside: Outside,
    starting: impl Future<Output = Result<Begun, ShimError>>,
) -> Result<Begun, StepFailed> {
    const HOOKS: &str = "run the container's hooks";
    if !outside.hooks.poststop.is_empty() {
        container.change(node, |record| record.poststop = true).at("record the hooks")?;
    }
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let before = blocking::run(HOOKS, move || {
        hooks::run_before(&work_node, &work, &mut outside).map(|()| outside)
    });
    let (begun, before) = tokio::join!(starting, before);
    // What failed outside is why the process did not start.
    let outside = before.at(HOOKS)??;
    let begun = begun.map_err(not_started)?;
    let (work_node, work, pid) = (Arc::clone(node), Arc::clone(container), begun.process.pid);
    blocking::run(HOOKS, move || hooks::run_poststart(&work_node, &work, &outside, pid))
        .await
        .at(HOOKS)??;
    Ok(begun)
}

fn not_started(error: ShimError) -> StepFailed {
    // A step inside the container fails for what the request or the image says.
    let kind = match &error {
        ShimError::Step { .. } => ErrorKind::FailedPrecondition,
        other => other.kind(),
    };
    StepFailed { step: "start the container's process", kind, source: Box::new(error) }
}

fn prepare(
    node: &Node,
    container: &Container,
    target: Option<InitPid>,
    wanted: &Wanted,
) -> Result<(Prepared, OwnedFd, ContainerIo), StepFailed> {
    const PREPARE: &str = "prepare the start";
    let record = container.record();
    let spec = load_spec(node, container)?;
    let sandbox = container.sandbox.record();
    let handled = sandbox.runtime.is_some();
    failpoint::hold("start");
    let leaf = container.leaf(node);
    wanted
        .effect(|| {
            leaf.create().at("create the container's cgroup")?;
            leaf.apply(&record.resources).at("set the container's limits")?;
            // Another runtime sets its own, by the same specification, and would replace them.
            if handled {
                return Ok(());
            }
            leaf.set_devices(&device_rules(&spec)?).at("set the container's device rules")?;
            give_cgroup(&sandbox.config, &record.config, &leaf)
        })
        .at(PREPARE)??;
    let space = userns::of_pod(&sandbox)?;
    let mount_label = spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
    let view =
        View { space: space.as_ref().map(|space| space.as_fd()), label: mount_label.as_deref() };
    let rootfs = node
        .images
        .mount_snapshot(&container.id, view)
        .at("mount the container's root file system")?;
    let pod = PodContext {
        pause: sandbox.pause,
        privileges: node.config.process.privileges,
        target,
        volumes: create::mount_volumes(node, container, view)?,
        hooks: Some(hooks::home(node, container)),
        new_userns: userns::maker(&node.shims),
    };
    wanted.still().at(PREPARE)?;
    let prepared = match handler_place(node, container) {
        None if record.restored => wanted
            .effect(|| prepare_restored(node, container, &spec, rootfs, &pod))
            .at(PREPARE)??,
        None => {
            if spec.hooks().is_some() {
                // Where hooks find the root file system: its mount is in the container's namespace
                // alone.
                let place = hooks::home(node, container).rootfs;
                std::fs::create_dir_all(place).at("make a place for the root file system")?;
            }
            oci::prepare(&spec, rootfs, &pod).at("prepare the container's mounts")?
        }
        Some(place) => {
            wanted.effect(|| prepare_handled(spec, rootfs, &pod, &place)).at(PREPARE)??
        }
    };
    wanted.still().at(PREPARE)?;
    let log = log::open(container).at("open the container's log")?.map(Into::into);
    let io = ContainerIo { tty: record.config.tty, stdin: record.config.stdin, log };
    Ok((prepared, leaf.open_fd().at("open the container's cgroup")?, io))
}

/// A container that goes on where a checkpoint was made: criu attaches what it needs in a bundle.
fn prepare_restored(
    node: &Node,
    container: &Container,
    spec: &Spec,
    rootfs: OwnedFd,
    pod: &PodContext,
) -> Result<Prepared, StepFailed> {
    const STEP: &str = "prepare the restore";
    make_bundle(&node.layout.handler(&container.id), "mounts")?;
    let criu = Criu::working(node.config.checkpoint.criu.as_deref(), &node.cgroups).at(STEP)?;
    let place = place_of(node, container, criu.program().to_owned());
    let folder = node.layout.restore(&container.id);
    checkpoint::prepare(&folder, spec, rootfs, (pod, &place)).at(STEP)
}

/// Where another runtime makes the container; `None`: the native executor does.
pub fn handler_place(node: &Node, container: &Container) -> Option<HandlerPlace> {
    Some(place_of(node, container, container.sandbox.record().runtime?))
}

fn place_of(node: &Node, container: &Container, program: PathBuf) -> HandlerPlace {
    HandlerPlace {
        program,
        bundle: node.layout.handler(&container.id),
        cgroup_root: node.config.cgroups.root.clone(),
    }
}

/// Makes the bundle and what the shim needs. A bundle that an earlier attempt left is replaced.
fn prepare_handled(
    spec: Spec,
    rootfs: OwnedFd,
    pod: &PodContext,
    place: &HandlerPlace,
) -> Result<Prepared, StepFailed> {
    // Runtimes change to the root even where they do not use it: outside of `create` it is empty.
    make_bundle(&place.bundle, "mounts/0")?;
    let handled =
        oci::prepare_handled(spec, rootfs, pod, place).at("prepare the container's mounts")?;
    let json = serde_json::to_vec(&handled.spec)
        .map_err(std::io::Error::other)
        .at("encode config.json")?;
    std::fs::write(place.bundle.join("config.json"), json).at("write config.json")?;
    Ok(handled.prepared)
}

/// A cgroup that its container may write to belongs to the root of the pod's user namespace (OCI
/// runtime spec, "Cgroup ownership").
fn give_cgroup(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    leaf: &Leaf,
) -> Result<(), StepFailed> {
    match sandbox.userns.as_ref().and_then(IdMaps::host_root) {
        Some(owner) if config.security.privileged => {
            leaf.give_to(owner).at("give the cgroup to the pod's user namespace")
        }
        _ => Ok(()),
    }
}

fn make_bundle(bundle: &std::path::Path, mounts: &str) -> Result<(), StepFailed> {
    match std::fs::remove_dir_all(bundle) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
    .at("remove an earlier bundle")?;
    for folder in [mounts, "state"] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(bundle.join(folder))
            .at("make the bundle")?;
    }
    Ok(())
}

fn device_rules(spec: &Spec) -> Result<Vec<DeviceRule>, StepFailed> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|r| r.devices().clone()).unwrap_or_default();
    DeviceRule::from_oci(&rules).at("read the container's device rules")
}

/// The OCI configuration that CreateContainer wrote.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn load_spec(node: &Node, container: &Container) -> Result<Spec, StepFailed> {
    let path = node.layout.bundle_config(&container.id);
    let text = std::fs::read(&path).at("read config.json")?;
    serde_json::from_slice(&text).map_err(std::io::Error::other).at("parse config.json")
}

/// Undoes what a failed start made and records the failure.
async fn give_up(node: &Arc<Node>, container: &Arc<Container>, failed: &StepFailed) {
    let leaf = container.leaf(node);
    let removed = blocking::run("remove the container's cgroup", move || {
        kill_and_wait(&leaf, Duration::from_secs(10))?;
        leaf.remove().at("remove the container's cgroup")
    })
    .await;
    if let Ok(Err(error)) = removed {
        tracing::error!(container_id = %container.id, error = chain(&error), "cgroup left behind");
    }
    let exit = Exit::not_begun(clock::now_nanos(), chain(failed));
    if let Err(error) = container.step(node, Event::Ended(exit)) {
        tracing::error!(container_id = %container.id, error = chain(&error), "failed start not recorded");
    }
    hooks::run_poststop(node, container).await;
}
