//! Blocking steps of a pod, on files that may hang (NFS, FUSE); one that hangs is told, with the system call that it
//! waits in. They, and the calls by which something is made in the runtime, go on when the round that began them is cut
//! off; the pod's end gives up the steps, and waits for the calls: nothing of the pod comes to be after it.

use super::host::Host;
use crate::blocking::{BlockingError, Overdue, Wanted};
use crate::kubelet::board::{Board, EventKind};
use crate::kubelet::spec::uid;
use crate::waits::waits_in;
use k8s_openapi::api::core::v1::Pod;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long the files and volumes of a pod may take.
const WITHIN: Duration = Duration::from_secs(123);
/// After how long a step is said to hang, and how often that is said again.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// The reason of an event that tells of a step that hangs; its message begins with the step.
pub const HANGS: &str = "StepHangs";

/// The steps of one pod. When this is dropped they are given up.
pub(super) struct Steps {
    overdue: Overdue,
    board: Board,
    pod: Arc<Pod>,
    given_up: CancellationToken,
    under_way: TaskTracker,
    /// None of what belongs to a task of the pod's.
    _owned: Option<DropGuard>,
}

impl Steps {
    pub(super) fn new(board: &Board, pod: &Arc<Pod>) -> Self {
        Self::of_pod(board, pod, TaskTracker::new())
    }

    fn of_pod(board: &Board, pod: &Arc<Pod>, under_way: TaskTracker) -> Self {
        let given_up = CancellationToken::new();
        Self {
            overdue: Overdue::of_pod(uid(pod)),
            board: board.clone(),
            pod: Arc::clone(pod),
            _owned: Some(given_up.clone().drop_guard()),
            given_up,
            under_way,
        }
    }

    /// The same, for a task that is [`finished`](Self::finish) whatever becomes of the round.
    pub(super) fn of_task(&self) -> Self {
        Self {
            overdue: self.overdue.clone(),
            board: self.board.clone(),
            pod: Arc::clone(&self.pod),
            given_up: self.given_up.clone(),
            under_way: self.under_way.clone(),
            _owned: None,
        }
    }

    /// Another pod of the same uid.
    pub(super) fn replace(&mut self, pod: &Arc<Pod>) {
        self.pod = Arc::clone(pod);
    }

    /// Gives up what is under way. What hangs of it does not count among what comes then: the end of a pod is not
    /// held up by its start.
    pub(super) fn give_up(&mut self) {
        self.given_up.cancel();
        *self = Self::of_pod(&self.board, &self.pod, self.under_way.clone());
    }

    /// Whether it was given up.
    ///
    /// # Errors
    /// [`BlockingError::Unwanted`].
    pub(super) fn still(&self) -> Result<(), BlockingError> {
        match self.given_up.is_cancelled() {
            true => Err(BlockingError::Unwanted),
            false => Ok(()),
        }
    }

    /// Whether anything is under way.
    pub(super) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits until nothing is under way: what was given up at once, a call until the runtime answers or its time is
    /// over.
    pub(super) async fn over(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Work that is not cut off with the round that began it.
    ///
    /// # Errors
    /// It panicked.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.under_way.spawn(work).await.map_err(|_| BlockingError::Gone { what })
    }

    /// Blocking work for the pod.
    ///
    /// # Errors
    /// It takes too long, too much of what was begun before hangs, or the pod is to end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        host: &Arc<Host>,
        what: &'static str,
        work: impl FnOnce(&Host, &Wanted) -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let host = Arc::clone(host);
        let thread = Arc::new(AtomicI32::new(0));
        let own = Arc::clone(&thread);
        let (overdue, given_up) = (self.overdue.clone(), self.given_up.clone());
        let work = self.finish(what, async move {
            let work = move |wanted: &Wanted| {
                own.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
                work(&host, wanted)
            };
            overdue.run_unless(what, WITHIN, &given_up, work).await
        });
        tokio::pin!(work);
        let mut pulse = interval_at(Instant::now() + TOLD_EVERY, TOLD_EVERY);
        loop {
            tokio::select! {
                done = &mut work => return done?,
                _ = pulse.tick() => self.tell(what, thread.load(Ordering::Relaxed)),
            }
        }
    }

    fn tell(&self, what: &str, thread: i32) {
        let task = PathBuf::from(format!("/proc/self/task/{thread}"));
        let call = Some(task).filter(|_| thread > 0).and_then(|task| waits_in(&task));
        let call = call.map_or_else(String::new, |call| format!(": its thread waits in {call}"));
        let message = format!("{what} does not end{call}");
        self.board.event(&self.pod, None, (EventKind::Warning, HANGS, message));
    }
}
