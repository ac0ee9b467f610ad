//! Commands in a running container: ExecSync and open sessions.
//!
//! Each sits in a slot cgroup below the container's, so that a timeout, a lost client or a stop
//! kills the whole tree of it and nothing else. The daemon holds the pipes; the shim only starts
//! the process and tells its end.

use super::object::Container;
use super::start::{self, load_spec};
use super::state::State;
use crate::blocking;
use crate::cgroups::Leaf;
use crate::error::{AtStep, ErrorKind, StepFailed, chain};
use crate::node::Node;
use crate::oci::{self, ExecPlan, HandlerPlace, PodContext, Volumes};
use crate::sandbox::userns;
use crate::shim::client::{ExecIo, ShimError};
use crate::sys::process::InitPid;
use crate::sys::tty::Size;
use oci_spec::runtime::{BoxBuilder, Process, Spec};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A started command.
pub struct Started {
    /// Its name at the shim.
    pub exec_id: String,
    /// Its process.
    pub init: InitPid,
    /// Its exit code, once; dropped when the pod's shim is gone.
    pub exit: oneshot::Receiver<i32>,
    /// Kills its tree when dropped before [`Slot::ended`].
    pub slot: Slot,
    /// The pty's master, when it has a terminal.
    pub terminal: Option<OwnedFd>,
}

/// Kills a command's tree, whoever holds its slot. The slot is nobody else's as long as this lives.
pub struct Killer(Leaf);

impl Killer {
    /// Kills all that is in the slot.
    pub fn kill(&self) {
        if let Err(error) = self.0.kill() {
            tracing::warn!(cgroup = %self.0.path(), error = chain(&error), "exec not killed");
        }
    }
}

/// A slot cgroup in use.
pub struct Slot {
    leaf: Leaf,
    over: bool,
}

impl Slot {
    /// The command has ended; what it left behind in the background may go on.
    pub fn ended(&mut self) {
        self.over = true;
    }

    /// Kills the command's whole tree.
    pub fn kill(&mut self) {
        self.killer().kill();
        self.over = true;
    }

    /// What kills it while its holder waits for its end.
    pub fn killer(&self) -> Killer {
        Killer(self.leaf.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.over {
            self.kill();
        }
    }
}

/// Starts a command in a running container; with a terminal it finds it of this `size`. A caller that
/// goes away while the command starts gets nothing, and neither does the command: it is killed as soon as
/// it is there.
///
/// # Errors
/// FailedPrecondition when the container does not run, or the command cannot be executed.
pub async fn start(
    node: &Arc<Node>,
    container: &Arc<Container>,
    command: Vec<String>,
    io: ExecIo,
    size: Option<Size>,
) -> Result<Started, StepFailed> {
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let (tell, told) = oneshot::channel();
    node.tasks.spawn(async move {
        // Not wanted any more: what was started is dropped here, and its slot kills it.
        drop(tell.send(begin(&work_node, &work, command, io, size).await));
    });
    told.await.unwrap_or_else(|_| {
        Err(StepFailed {
            step: "start the command",
            kind: ErrorKind::Unavailable,
            source: "berth is shutting down".into(),
        })
    })
}

async fn begin(
    node: &Arc<Node>,
    container: &Arc<Container>,
    command: Vec<String>,
    io: ExecIo,
    size: Option<Size>,
) -> Result<Started, StepFailed> {
    let (State::Running { init, .. }, Some(shim)) = (container.state(), container.sandbox.shim())
    else {
        return Err(StepFailed {
            step: "run a command",
            kind: ErrorKind::FailedPrecondition,
            source: "the container is not running".into(),
        });
    };
    let tty = matches!(io, ExecIo::Tty);
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let exec_id = crate::ids::random_hex().at("name the command")?;
    let name = exec_id.clone();
    let (plan, mut slot, cgroup) = blocking::run("prepare the command", move || {
        let mut prepared = prepare(&work_node, &work, init, command, tty)?;
        let size =
            size.map(|size| BoxBuilder::default().width(size.columns).height(size.rows).build());
        prepared
            .process
            .set_console_size(size.transpose().map_err(io::Error::other).at("size the terminal")?);
        let leaf = work.leaf(&work_node).exec_slot().at("find the command a cgroup")?;
        let slot = Slot { leaf, over: false };
        let cgroup = slot.leaf.open_fd().at("open the command's cgroup")?;
        let plan = match start::handler_place(&work_node, &work) {
            None => plan(&prepared)?,
            Some(place) => plan_handled(&prepared, &place, &name, &slot)?,
        };
        Ok::<_, StepFailed>((plan, slot, cgroup))
    })
    .await
    .at("prepare the command")??;
    let exit = container.sandbox.expect_exec(&exec_id);
    match shim.exec(&container.id, &exec_id, plan, io, cgroup).await {
        Ok((init, terminal)) => Ok(Started { exec_id, init, exit, slot, terminal }),
        Err(error) => {
            container.sandbox.exec_ended(&exec_id, -1);
            let kind = match &error {
                ShimError::Step { .. } => {
                    // It never ran, unless a runtime made it. After any other error it may, and the
                    // slot kills it.
                    if container.sandbox.record().runtime.is_none() {
                        slot.ended();
                    }
                    ErrorKind::FailedPrecondition
                }
                other => other.kind(),
            };
            Err(StepFailed { step: "start the command", kind, source: Box::new(error) })
        }
    }
}

/// A command before it is known who runs it.
struct Prepared {
    spec: Spec,
    process: Process,
    pod: PodContext,
}

fn plan(prepared: &Prepared) -> Result<ExecPlan, StepFailed> {
    let Prepared { spec, process, pod } = prepared;
    oci::prepare_exec(spec, process, pod).at("prepare the command")
}

/// For the runtime that made the container: the process as a file in the bundle.
fn plan_handled(
    prepared: &Prepared,
    place: &HandlerPlace,
    exec_id: &str,
    slot: &Slot,
) -> Result<ExecPlan, StepFailed> {
    let process = prepared.process.clone();
    let process = oci::exec_handled(process, &prepared.pod).at("prepare the command")?;
    let json = serde_json::to_vec(&process).map_err(io::Error::other).at("encode the command")?;
    let file = place.bundle.join(format!("process-{exec_id}.json"));
    std::fs::write(file, json).at("write the command")?;
    let path = slot.leaf.path().to_string();
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(oci::exec_plan_handled(name))
}

fn prepare(
    node: &Node,
    container: &Container,
    init: InitPid,
    command: Vec<String>,
    tty: bool,
) -> Result<Prepared, StepFailed> {
    let spec = load_spec(node, container)?;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command));
    process.set_terminal(Some(tty));
    if tty {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        process.set_env(Some(env));
    }
    let pod = PodContext {
        pause: container.sandbox.record().pause,
        privileges: node.config.process.privileges,
        target: Some(init),
        volumes: Volumes::default(),
        hooks: None,
        new_userns: userns::maker(&node.shims),
    };
    Ok(Prepared { spec, process, pod })
}
