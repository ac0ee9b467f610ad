//! The hooks of a container that act in the host's namespaces: CDI specifications bring them. They
//! run in the cgroup of the pod's helpers, so that a start of the daemon finds what a killed one left.
//!
//! | hook                        | when                                                         |
//! |-----------------------------|--------------------------------------------------------------|
//! | `prestart`, `createRuntime` | start: its process has built the root and waits              |
//! | `poststart`                 | start: the program runs; one that fails ends the container   |
//! | `poststop`                  | its end, or its removal when berth did not see the end       |

use super::object::Container;
use super::start::load_spec;
use crate::blocking;
use crate::error::{AtStep, ErrorKind, StepFailed, chain};
use crate::node::Node;
use crate::oci::{HookHome, Hooks, Outside};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// How long a hook that says nothing about it may take, seconds.
const WITHIN_SECONDS: u64 = 60;

/// Where a container is for its hooks.
pub fn home(node: &Node, container: &Container) -> HookHome {
    let bundle = node.layout.container(&container.id);
    HookHome { id: container.id.to_string(), rootfs: bundle.join("rootfs"), bundle }
}

fn failed(step: &'static str, source: io::Error) -> StepFailed {
    StepFailed { step, kind: ErrorKind::FailedPrecondition, source: source.into() }
}

fn helpers(node: &Node, container: &Container) -> Result<OwnedFd, StepFailed> {
    let group = node.cgroups.helpers(&container.sandbox.id);
    group.create().at("make the helpers' cgroup")?;
    group.open_fd().at("open the helpers' cgroup")
}

/// Waits for the process's pid and runs the hooks before its pivot. Blocks; a process that ends
/// before it tells its pid has its own error.
///
/// # Errors
/// The hook that failed. The process ends with the socket.
pub fn run_before(
    node: &Node,
    container: &Container,
    outside: &mut Outside,
) -> Result<(), StepFailed> {
    const STEP: &str = "run the container's createRuntime hooks";
    let Some(turn) = outside.turn.take() else { return Ok(()) };
    let pid = read_pid(&turn).map_err(|error| failed(STEP, error))?;
    let Some(pid) = pid else { return Ok(()) };
    let group = helpers(node, container)?;
    for (name, hooks) in
        [("prestart", &outside.hooks.prestart), ("createRuntime", &outside.hooks.create_runtime)]
    {
        outside
            .run((name, hooks), ("creating", pid), (group.as_fd(), WITHIN_SECONDS))
            .map_err(|error| failed(STEP, error))?;
    }
    // One that has ended since tells so itself.
    nix::unistd::write(&turn, b"G").ok();
    Ok(())
}

/// The pid that the process tells; `None` when it ends before.
fn read_pid(turn: &OwnedFd) -> io::Result<Option<i32>> {
    loop {
        match poll(&mut [PollFd::new(turn.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let mut bytes = [0u8; 4];
        return match nix::unistd::read(turn, &mut bytes) {
            Ok(4) => Ok(Some(i32::from_ne_bytes(bytes))),
            Ok(_) | Err(nix::errno::Errno::ECONNRESET) => Ok(None),
            Err(e) => Err(e.into()),
        };
    }
}

/// Runs the hooks of a program that runs. Blocks.
///
/// # Errors
/// The hook that failed.
pub fn run_poststart(
    node: &Node,
    container: &Container,
    outside: &Outside,
    pid: i32,
) -> Result<(), StepFailed> {
    if outside.hooks.poststart.is_empty() {
        return Ok(());
    }
    let group = helpers(node, container)?;
    outside
        .run(
            ("poststart", &outside.hooks.poststart),
            ("running", pid),
            (group.as_fd(), WITHIN_SECONDS),
        )
        .map_err(|error| failed("run the container's poststart hooks", error))
}

/// Runs the hooks of a container that has ended, once. One that fails is logged and holds up
/// nothing. The caller holds the container's lane.
pub async fn run_poststop(node: &Arc<Node>, container: &Arc<Container>) {
    if !container.record().poststop {
        return;
    }
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let ran = blocking::run("run poststop hooks", move || poststop(&work_node, &work)).await;
    if let Err(error) = ran.at("run the container's poststop hooks").and_then(|ran| ran) {
        tracing::warn!(container_id = %container.id, error = chain(&error), "poststop hooks");
    }
    if let Err(error) = container.change(node, |record| record.poststop = false) {
        tracing::warn!(container_id = %container.id, error = chain(&error), "not recorded");
    }
}

fn poststop(node: &Node, container: &Container) -> Result<(), StepFailed> {
    let spec = load_spec(node, container)?;
    let hooks = Hooks::of(&spec).at("read the container's hooks")?;
    let home = home(node, container);
    let (state, bundle) = (home.state(&spec), home.bundle);
    let outside = Outside { turn: None, hooks, state, bundle };
    let group = helpers(node, container)?;
    let mut result = Ok(());
    for hook in &outside.hooks.poststop {
        let one = std::slice::from_ref(hook);
        let ran = outside.run(("poststop", one), ("stopped", 0), (group.as_fd(), WITHIN_SECONDS));
        if let Err(error) = ran {
            tracing::warn!(container_id = %container.id, error = chain(&error), "poststop hook");
            result = Err(failed("run the container's poststop hooks", error));
        }
    }
    if !container.sandbox.is_ready() {
        // The pod's stop has removed the cgroup, or will.
        node.cgroups.helpers(&container.sandbox.id).remove().ok();
    }
    result
}

/// Runs the hooks of a container that has ended, beside whatever comes next.
pub fn poststop_soon(node: &Arc<Node>, container: &Arc<Container>) {
    if !container.record().poststop {
        return;
    }
    let (node_of_task, container) = (Arc::clone(node), Arc::clone(container));
    node.tasks.spawn(async move {
        let _order = container.lane.lock().await;
        run_poststop(&node_of_task, &container).await;
    });
}
