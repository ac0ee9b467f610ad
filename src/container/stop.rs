//! StopContainer: the stop signal, the grace period, SIGKILL, then `cgroup.kill`.
//!
//! One stopper a container owns the kill, whatever becomes of the RPC that asked for it. A later
//! stop with less time left moves its deadline forward, never back. The deadline is in the record,
//! so that a restarted daemon goes on. The shim sends the stop signal, and only once: it outlives a
//! daemon that was killed before it could note that it had asked.

use super::object::Container;
use super::state::{Event, Exit, State};
use super::stop_signal;
use crate::blocking;
use crate::clock;
use crate::error::{AtStep, StepFailed, chain};
use crate::lock::lock;
use crate::node::{Node, kill_and_wait};
use crate::shim::client::ShimError;
use crate::sys::process;
use crate::sys::process::InitPid;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after SIGKILL before the rest of the cgroup is killed, too, and how often that repeats.
const KILL_EVERY: Duration = Duration::from_millis(500);
/// What a container gets at least when a stop is gone on with after a restart: it may not have been asked
/// yet. A kubelet's least grace is as long (minimumGracePeriodInSeconds).
const RESUMED_GRACE: Duration = Duration::from_secs(2);
/// How long a StopContainer waits for a killed process before it says that it is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(110);

/// Stops a container: returns when its exit is recorded. Not running: success. The caller has waited
/// for a start in flight, so one found `Starting` was not recorded to its end; it is killed.
///
/// # Errors
/// DeadlineExceeded when the kernel cannot end the process; the stopper goes on.
pub async fn stop(
    node: &Arc<Node>,
    container: &Arc<Container>,
    grace: Duration,
) -> Result<(), StepFailed> {
    let init = match container.state() {
        State::Running { init, .. } => init,
        State::Starting { .. } => return kill_and_settle(node, container).await,
        _ => return Ok(()),
    };
    ask(node, container, init, grace).at("record the stop")?;
    tokio::select! {
        () = container.ended() => Ok(()),
        // Nobody is left to tell the end.
        () = container.sandbox.shim_gone() => kill_and_settle(node, container).await,
        () = tokio::time::sleep(grace + STUCK_AFTER) => Err(StepFailed {
            step: "wait for the container's processes",
            kind: crate::error::ErrorKind::DeadlineExceeded,
            source: "they were killed but the kernel does not end them".into(),
        }),
    }
}

/// Ends a container whose end no shim will tell.
async fn kill_and_settle(node: &Arc<Node>, container: &Arc<Container>) -> Result<(), StepFailed> {
    let leaf = container.leaf(node);
    blocking::run("kill the container", move || {
        kill_and_wait(&leaf, Duration::from_secs(10))?;
        leaf.remove().at("remove the container's cgroup")
    })
    .await
    .at("kill the container")??;
    settle(node, container, "its end was not seen").await
}

/// Begins a stop, or gives the one at work less time.
///
/// # Errors
/// When the intent cannot be recorded.
fn ask(
    node: &Arc<Node>,
    container: &Arc<Container>,
    init: InitPid,
    grace: Duration,
) -> Result<(), crate::store::StoreError> {
    let deadline = Instant::now() + grace;
    let mut stopper = lock(&container.stopper);
    if let Some(at_work) = stopper.as_ref() {
        let sooner = at_work.send_if_modified(|at| {
            let sooner = deadline < *at;
            if sooner {
                *at = deadline;
            }
            sooner
        });
        return if sooner { record_deadline(node, container, grace) } else { Ok(()) };
    }
    record_deadline(node, container, grace)?;
    let (tell, told) = watch::channel(deadline);
    *stopper = Some(tell);
    drop(stopper);
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    node.tasks.spawn(async move {
        run_stopper(&work_node, &work, &init, told).await;
        *lock(&work.stopper) = None;
    });
    Ok(())
}

fn record_deadline(
    node: &Node,
    container: &Container,
    grace: Duration,
) -> Result<(), crate::store::StoreError> {
    let grace = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    let at = clock::now_nanos().saturating_add(grace);
    container.change(node, |record| record.kill_at_nanos = Some(at))
}

/// Goes on with a stop that an earlier daemon began.
pub fn resume(node: &Arc<Node>, container: &Arc<Container>) {
    let record = container.record();
    let (State::Running { init, .. }, Some(at)) = (record.state, record.kill_at_nanos) else {
        return;
    };
    let left = u64::try_from(at.saturating_sub(clock::now_nanos())).unwrap_or(0);
    let grace = Duration::from_nanos(left).max(RESUMED_GRACE);
    if let Err(error) = ask(node, container, init, grace) {
        tracing::error!(container_id = %container.id, error = chain(&error), "stop not resumed");
    }
}

async fn run_stopper(
    node: &Arc<Node>,
    container: &Arc<Container>,
    init: &InitPid,
    mut deadline: watch::Receiver<Instant>,
) {
    let mut asked = *deadline.borrow() <= Instant::now();
    let asking = ask_to_end(container, init);
    tokio::pin!(asking);
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = &mut asking, if !asked => asked = true,
            () = container.ended() => return,
            () = container.sandbox.shim_gone() => return,
            () = tokio::time::sleep_until(at) => break,
            // Moved forward: look at it again.
            changed = deadline.changed() => if changed.is_err() { break },
        }
    }
    loop {
        if let Err(error) = send(init, libc::SIGKILL) {
            tracing::warn!(container_id = %container.id, %error, "SIGKILL not sent");
        }
        if tokio::time::timeout(KILL_EVERY, container.ended()).await.is_ok() {
            return;
        }
        let leaf = container.leaf(node);
        if let Ok(Err(error)) =
            blocking::run("kill the container's cgroup", move || leaf.kill()).await
        {
            tracing::warn!(container_id = %container.id, error = chain(&error), "cgroup.kill failed");
        }
    }
}

/// Has the shim send the stop signal.
async fn ask_to_end(container: &Container, init: &InitPid) {
    let number = stop_signal::number(&container.record().stop_signal).unwrap_or(libc::SIGTERM);
    loop {
        let Some(shim) = container.sandbox.shim() else { return };
        let failed = match shim.stop_signal(&container.id, number).await {
            Ok(()) => return,
            // A shim of an earlier version.
            Err(ShimError::Step { errno: libc::EINVAL, .. }) => {
                let Err(error) = send(init, number) else { return };
                ShimError::Connect(error)
            }
            Err(error) => error,
        };
        tracing::warn!(container_id = %container.id, error = chain(&failed), "stop signal not sent");
        if matches!(failed, ShimError::Step { .. } | ShimError::Connect(_)) {
            return;
        }
        // Whether it was sent is not known here, but there.
        tokio::time::sleep(KILL_EVERY).await;
    }
}

/// Sends a signal to exactly this process; one that is gone has got what was asked for.
fn send(init: &InitPid, number: i32) -> std::io::Result<()> {
    match init.pidfd()? {
        Some(pidfd) => match process::signal(pidfd.as_fd(), number) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        },
        None => Ok(()),
    }
}

/// Ends a container in the books whose processes are known to be gone: its pod's cgroup was killed.
/// One that was not started stays as it is.
///
/// # Errors
/// When the record cannot be written.
pub async fn settle(
    node: &Arc<Node>,
    container: &Arc<Container>,
    why: &str,
) -> Result<(), StepFailed> {
    let _order = container.lane.lock().await;
    let state = container.state();
    if matches!(state, State::Running { .. } | State::Starting { .. }) {
        // The shim may have written how it ended before it went.
        let exit = super::exit::written(node, container)
            .unwrap_or_else(|| Exit::unknown(state.started_at_nanos(), clock::now_nanos(), why));
        container.step(node, Event::Ended(exit)).at("record the container's end")?.ok();
    }
    Ok(())
}
