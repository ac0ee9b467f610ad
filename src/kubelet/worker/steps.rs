//! Blocking steps of a pod, on files that may hang (NFS, FUSE); one that hangs is told, with the system call that it
//! waits in.

use super::host::Host;
use crate::blocking::{BlockingError, Overdue};
use crate::kubelet::board::{Board, EventKind};
use crate::waits::waits_in;
use k8s_openapi::api::core::v1::Pod;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval_at};

/// How long the files and volumes of a pod may take.
const WITHIN: Duration = Duration::from_secs(123);
/// After how long a step is said to hang, and how often that is said again.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// The reason of an event that tells of a step that hangs; its message begins with the step.
pub const HANGS: &str = "StepHangs";

/// The steps of one pod. Cheap to clone.
#[derive(Clone)]
pub(super) struct Steps {
    overdue: Overdue,
    board: Board,
    pod: Arc<Pod>,
}

impl Steps {
    pub(super) fn new(board: &Board, pod: &Arc<Pod>) -> Self {
        Self { overdue: Overdue::default(), board: board.clone(), pod: Arc::clone(pod) }
    }

    /// Another pod of the same uid.
    pub(super) fn replace(&mut self, pod: &Arc<Pod>) {
        self.pod = Arc::clone(pod);
    }

    /// Blocking work for the pod.
    ///
    /// # Errors
    /// It takes too long, or too much of what was begun before hangs.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        host: &Arc<Host>,
        what: &'static str,
        work: impl FnOnce(&Host) -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let host = Arc::clone(host);
        let thread = Arc::new(AtomicI32::new(0));
        let own = Arc::clone(&thread);
        let work = self.overdue.run_within(what, WITHIN, move |_| {
            own.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
            work(&host)
        });
        tokio::pin!(work);
        let mut pulse = interval_at(Instant::now() + TOLD_EVERY, TOLD_EVERY);
        loop {
            tokio::select! {
                done = &mut work => return done,
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
