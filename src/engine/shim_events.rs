//! What shims tell: ends of containers and commands, lost log lines, their own end.

use super::open::Engine;
use crate::blocking;
use crate::container::object::Container;
use crate::container::{exit, stop};
use crate::error::{AtStep, chain};
use crate::ids::SandboxId;
use crate::node::kill_and_wait;
use crate::sandbox::object::Sandbox;
use crate::sandbox::state::{Event, Phase};
use crate::shim::ExitRecord;
use crate::shim::client::{Adopted, Shim, ShimEvent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a shim may take to tell the ends of killed containers.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The longest pause between two tries to record an end.
const RETRY_AT_MOST: Duration = Duration::from_secs(10);
/// How long a living shim may leave a connection unanswered: longer than a start takes.
const ADOPT_WITHIN: Duration = Duration::from_secs(120);

/// Where the events of all shims arrive.
pub(crate) type Inbox = mpsc::UnboundedReceiver<(SandboxId, ShimEvent)>;

/// Handles events for ever. Each is acknowledged after its effect is on disk; a shim keeps what was
/// not and tells it to the next daemon.
pub(crate) async fn handle(engine: &Engine, mut inbox: Inbox) {
    while let Some((id, event)) = inbox.recv().await {
        let Some(sandbox) = engine.registry.sandbox(&id) else { continue };
        if let Some(seq) = event.seq() {
            sandbox.event_begun(seq);
        }
        let engine = engine.clone();
        // In a task each: an end waits for its container's lane, and must hold up no other's.
        engine.node.clone().tasks.spawn(async move { one(&engine, &sandbox, event).await });
    }
}

async fn one(engine: &Engine, sandbox: &Arc<Sandbox>, event: ShimEvent) {
    let seq = match event {
        ShimEvent::ContainerExited { seq, id, exit } => {
            if let Some(container) = engine.registry.container(&id) {
                record_exit(engine, &container, &exit).await;
            }
            seq
        }
        ShimEvent::ExecExited { seq, exec_id, code, .. } => {
            sandbox.exec_ended(&exec_id, code);
            seq
        }
        ShimEvent::LogLost { seq, id, bytes, errno } => {
            let cause = std::io::Error::from_raw_os_error(errno);
            tracing::warn!(container_id = %id, bytes, %cause, "log bytes lost");
            seq
        }
        ShimEvent::NotDeleted { seq, id, program, cause } => {
            let config = sandbox.config();
            let name = engine.registry.container(&id).map(|c| c.record().config.name.clone());
            tracing::error!(
                sandbox_id = %sandbox.id,
                pod = %format_args!("{}/{}", config.metadata.namespace, config.metadata.name),
                container_id = %id,
                container = name.unwrap_or_default(),
                program,
                cause,
                "the runtime did not delete its container"
            );
            seq
        }
        ShimEvent::PauseExited { seq } => {
            let _order = sandbox.lane.lock().await;
            lose(engine, sandbox, "pause ended without being asked to").await;
            seq
        }
        ShimEvent::Disconnected => {
            disconnected(engine, sandbox).await;
            return;
        }
    };
    if let Some(shim) = sandbox.shim()
        && let Err(error) = shim.ack(sandbox.event_done(seq)).await
    {
        tracing::debug!(sandbox_id = %sandbox.id, error = chain(&error), "event not acknowledged");
    }
}

/// Records an end, however long the disk refuses it: a full /run must not cost an exit code.
async fn record_exit(engine: &Engine, container: &Arc<Container>, ended: &ExitRecord) {
    let mut pause = Duration::from_millis(100);
    while let Err(error) = exit::record(&engine.node, container, ended).await {
        tracing::error!(container_id = %container.id, error = chain(&error), "exit not recorded yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_AT_MOST);
    }
}

/// The connection broke. While the shim lives it is taken up again, and a stop goes on; else the pod is
/// lost with it.
async fn disconnected(engine: &Engine, sandbox: &Arc<Sandbox>) {
    // Not in the lane: a StopPodSandbox that has it waits for what is found here.
    if sandbox.phase() == Phase::Ready && adopt(engine, sandbox).await.is_some() {
        if matches!(sandbox.phase(), Phase::NotReady(_) | Phase::Stopped) {
            sandbox.set_shim(None);
        }
        return;
    }
    // Whoever waits for the shim, a stop among them, learns of it before the lane is free.
    sandbox.set_shim(None);
    let _order = sandbox.lane.lock().await;
    if sandbox.phase() == Phase::Ready && sandbox.shim().is_none() {
        lose(engine, sandbox, "its shim ended without being asked to").await;
    }
}

/// Connects to the sandbox's shim for as long as that lives, within reason.
pub(crate) async fn adopt(engine: &Engine, sandbox: &Sandbox) -> Option<Adopted> {
    let give_up = tokio::time::Instant::now() + ADOPT_WITHIN;
    let mut pause = Duration::from_millis(50);
    loop {
        let node = &engine.node;
        match Shim::adopt(&sandbox.id, &node.layout, node.shim_events.clone()).await {
            Ok((shim, adopted)) => {
                sandbox.set_shim(Some(shim));
                return Some(adopted);
            }
            Err(error) => {
                let lives = sandbox.record().shim.is_some_and(|shim| shim.alive());
                tracing::debug!(sandbox_id = %sandbox.id, lives, error = chain(&error), "shim not adopted");
                if !lives || tokio::time::Instant::now() > give_up {
                    return None;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// The truth about a pod without a supervisor: its processes are killed, and their ends unknown.
/// The caller holds its lane.
pub(super) async fn lose(engine: &Engine, sandbox: &Arc<Sandbox>, why: &str) {
    if sandbox.phase() != Phase::Ready {
        return;
    }
    tracing::error!(sandbox_id = %sandbox.id, why, "pod lost");
    let pod = engine.node.cgroups.pod(&sandbox.record().cgroup);
    let killed = blocking::run("kill the pod's cgroup", move || {
        kill_and_wait(&pod, Duration::from_secs(10))
    })
    .await
    .at("kill the pod's cgroup")
    .and_then(|killed| killed);
    if let Err(error) = killed {
        tracing::error!(sandbox_id = %sandbox.id, error = chain(&error), "lost pod not killed");
    }
    let containers = engine.registry.containers_of(&sandbox.id);
    if let Some(shim) = sandbox.shim() {
        // While the shim lives it tells how its containers ended.
        let told = futures::future::join_all(containers.iter().map(|c| c.ended()));
        tokio::time::timeout(TOLD_WITHIN, told).await.ok();
        shim.shutdown().await.ok();
    }
    sandbox.set_shim(None);
    sandbox.forget_execs();
    for container in containers {
        if let Err(error) = stop::settle(&engine.node, &container, why).await {
            tracing::error!(container_id = %container.id, error = chain(&error), "exit not recorded");
        }
    }
    if let Err(error) = sandbox.step(&engine.node, Event::Lost(why.to_owned())) {
        tracing::error!(sandbox_id = %sandbox.id, error = chain(&error), "loss not recorded");
    }
}
