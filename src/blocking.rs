//! The one gate from async code to blocking work: mounts, cgroupfs, tar, passwd files.
//!
//! A thread cannot be taken back. Work that is past its deadline goes on in its own, and may come to
//! life when what it waited for (NFS, FUSE) answers, after its verb was undone. So it asks before
//! each effect whether it is still [`Wanted`], and an undo begins only when no effect is under way. The
//! same holds for work that was given up before its deadline, as that of a pod that is to end.

use crate::failpoint;
use crate::lock::lock;
use crate::waits::{Named, thread_of};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an effect that is under way at the deadline may take before the verb goes on without
/// it. Effects are on berth's own files, which do not hang.
const EFFECT_WITHIN: Duration = Duration::from_secs(10);

/// Why blocking work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// The work did not end in time. Its thread goes on without further effects, and its result is
    /// dropped.
    #[error("{what} did not end within {limit:?}")]
    Deadline {
        /// What was attempted.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Too much of what was attempted before hangs still, so that nothing more is.
    #[error("{what} was not attempted: {hang} earlier attempts of {whose} hang still")]
    Overdue {
        /// What was to be attempted.
        what: &'static str,
        /// How many hang.
        hang: usize,
        /// Whose they are.
        whose: &'static str,
    },
    /// The work panicked, or the runtime is shutting down.
    #[error("{what} was cut off")]
    Gone {
        /// What was attempted.
        what: &'static str,
    },
    /// It was given up, or its deadline has passed, which the work itself is told so.
    #[error("nobody waits for it any more")]
    Unwanted,
}

impl BlockingError {
    /// What the caller can do about it.
    pub fn kind(&self) -> crate::error::ErrorKind {
        match self {
            Self::Deadline { .. } | Self::Unwanted => crate::error::ErrorKind::DeadlineExceeded,
            Self::Overdue { .. } => crate::error::ErrorKind::Unavailable,
            Self::Gone { .. } => crate::error::ErrorKind::Internal,
        }
    }
}

/// Whether somebody still waits for a piece of work. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<State>);

#[derive(Debug, Default)]
struct State {
    withdrawn: AtomicBool,
    /// Held during an effect.
    effect: Mutex<()>,
    thread: Mutex<Thread>,
}

impl Wanted {
    /// Carries out an effect that an undo would have to find: on berth's own files and cgroups, and
    /// quick. The deadline waits until it is over.
    ///
    /// # Errors
    /// [`BlockingError::Unwanted`], and then nothing was done.
    pub fn effect<T>(&self, effect: impl FnOnce() -> T) -> Result<T, BlockingError> {
        let _under_way = lock(&self.0.effect);
        self.still()?;
        Ok(effect())
    }

    /// For effects on paths that may hang, and that no undo takes back.
    ///
    /// # Errors
    /// [`BlockingError::Unwanted`].
    pub fn still(&self) -> Result<(), BlockingError> {
        match self.0.withdrawn.load(Ordering::SeqCst) {
            true => Err(BlockingError::Unwanted),
            false => Ok(()),
        }
    }

    /// What nobody waits for.
    #[cfg(test)]
    pub(crate) fn withdrawn() -> Self {
        let wanted = Self::default();
        wanted.withdraw();
        wanted
    }

    /// From now on no effect begins.
    fn withdraw(&self) {
        self.0.withdrawn.store(true, Ordering::SeqCst);
    }

    /// Returns when the effect under way is over. Blocking.
    fn settle(&self) {
        drop(lock(&self.0.effect));
    }
}

/// Runs `work` on a blocking thread and waits for it without a limit.
///
/// # Errors
/// [`BlockingError::Gone`] when it panicked.
pub async fn run<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BlockingError::Gone { what })
}

/// Runs `work` on a blocking thread and waits for it no longer than `limit`: for work that is of no pod; for
/// what a pod asks of host paths (NFS, FUSE), [`Overdue::run_within`]. What it is given says whether it is still
/// wanted.
///
/// # Errors
/// [`BlockingError::Deadline`], and then no effect of it begins any more; [`BlockingError::Gone`]
/// when it panicked.
pub async fn run_within<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    work: impl FnOnce(&Wanted) -> T + Send + 'static,
) -> Result<T, BlockingError> {
    Overdue::default().run_within(what, limit, work).await
}

/// How many threads the daemon may use for blocking work.
pub const THREADS: usize = 1024;
/// How much work of one pod may hang before no more is begun for it.
const OVERDUE_OF_A_POD: usize = 4;
/// How much may hang of all pods: the other half of the threads is for what does not.
const OVERDUE_OF_ALL: usize = THREADS / 2;
/// How much hangs.
static ALL_OVERDUE: AtomicUsize = AtomicUsize::new(0);

/// The work of one pod that is past its deadline and holds a thread each. Without a bound, a client
/// that tries again and again would take all threads from the other pods. A clone counts the same work.
#[derive(Clone, Debug, Default)]
pub struct Overdue {
    hang: Arc<AtomicUsize>,
    /// What its threads are named while they work for it.
    thread: Option<Arc<str>>,
}

/// One such thread, counted until this is dropped.
#[derive(Debug)]
struct Hangs(Arc<AtomicUsize>);

/// What became of the thread of a piece of work.
#[derive(Debug, Default)]
enum Thread {
    #[default]
    AtWork,
    Overdue(#[expect(dead_code, reason = "it counts as long as it is there")] Hangs),
    Over,
}

/// Says at its end, however that comes, that the work is over.
struct Over(Wanted);

impl Drop for Over {
    fn drop(&mut self) {
        *lock(&self.0.0.thread) = Thread::Over;
    }
}

impl Drop for Hangs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        ALL_OVERDUE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Overdue {
    /// That of the pod of a uid, whose threads have its name.
    pub fn of_pod(uid: &str) -> Self {
        Self { thread: Some(thread_of(uid).into()), ..Self::default() }
    }

    /// [`Self::run_unless`] for what is never given up before its deadline.
    ///
    /// # Errors
    /// As there.
    pub async fn run_within<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.run_unless(what, limit, &CancellationToken::new(), work).await
    }

    /// Runs `work` on a blocking thread and waits for it no longer than `limit`, and not after it is `given_up`: for
    /// anything that may touch a host path that hangs. What it is given says whether it is still wanted.
    ///
    /// # Errors
    /// [`BlockingError::Deadline`] or [`BlockingError::Unwanted`], and then no effect of it begins any more;
    /// [`BlockingError::Overdue`] at once, and nothing is begun, while too much of earlier work hangs;
    /// [`BlockingError::Gone`] when it panicked.
    pub async fn run_unless<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        given_up: &CancellationToken,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        if given_up.is_cancelled() {
            return Err(BlockingError::Unwanted);
        }
        self.check(what)?;
        let limit = failpoint::within(limit);
        let wanted = Wanted::default();
        let (given, name) = (wanted.clone(), self.thread.clone());
        let work = run(what, move || {
            let _over = Over(given.clone());
            let _named = Named::new(name.as_deref());
            // It may have waited for a thread.
            given.still()?;
            let result = work(&given);
            if given.still().is_err() {
                tracing::info!(what, "work that nobody waited for any more has ended");
            }
            Ok(result)
        });
        let error = tokio::select! {
            biased;
            result = work => return result?,
            () = given_up.cancelled() => BlockingError::Unwanted,
            () = tokio::time::sleep(limit) => BlockingError::Deadline { what, limit },
        };
        tracing::warn!(what, ?limit, %error, "work that is given up goes on in its thread");
        self.count(&wanted);
        // At once, also where no thread is free.
        wanted.withdraw();
        let settled = run(what, move || wanted.settle());
        if tokio::time::timeout(EFFECT_WITHIN, settled).await.is_err() {
            tracing::error!(what, "an effect of work that was given up is not over");
        }
        Err(error)
    }

    fn check(&self, what: &'static str) -> Result<(), BlockingError> {
        let (own, all) = (self.hang.load(Ordering::SeqCst), ALL_OVERDUE.load(Ordering::SeqCst));
        if own >= OVERDUE_OF_A_POD {
            return Err(BlockingError::Overdue { what, hang: own, whose: "this pod" });
        }
        if all >= OVERDUE_OF_ALL {
            return Err(BlockingError::Overdue { what, hang: all, whose: "all pods" });
        }
        Ok(())
    }

    /// Counts work as hanging until it is over.
    fn count(&self, work: &Wanted) {
        let mut thread = lock(&work.0.thread);
        if matches!(*thread, Thread::AtWork) {
            self.hang.fetch_add(1, Ordering::SeqCst);
            ALL_OVERDUE.fetch_add(1, Ordering::SeqCst);
            *thread = Thread::Overdue(Hangs(Arc::clone(&self.hang)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_effect_after_the_deadline_does_not_happen() {
        let (go, went) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let late = run_within("late", SOON, move |wanted| {
            went.recv().unwrap();
            tell.send((wanted.effect(|| ()).is_ok(), wanted.still().is_ok())).unwrap();
        });
        assert!(matches!(late.await, Err(BlockingError::Deadline { .. })));
        go.send(()).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok((false, false)));
        // The control: in time it does.
        let in_time = run_within("in time", LONG, |wanted| wanted.effect(|| 7).ok());
        assert!(matches!(in_time.await, Ok(Some(7))));
    }

    #[tokio::test]
    async fn an_effect_of_what_was_given_up_does_not_happen() {
        let (go, went) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let (given_up, begun) = (CancellationToken::new(), CancellationToken::new());
        let (pod, begins) = (Overdue::default(), begun.clone());
        let late = pod.run_unless("late", LONG, &given_up, move |wanted| {
            begins.cancel();
            went.recv().unwrap();
            tell.send(wanted.effect(|| ()).is_ok()).unwrap();
        });
        let give_up = async {
            begun.cancelled().await;
            given_up.cancel();
        };
        let (late, ()) = tokio::join!(late, give_up);
        assert!(matches!(late, Err(BlockingError::Unwanted)));
        assert_eq!(pod.hang.load(Ordering::SeqCst), 1, "its thread counts");
        go.send(()).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(false));
        // What comes after that is not begun.
        let after = pod.run_unless("after", LONG, &given_up, |_| ()).await;
        assert!(matches!(after, Err(BlockingError::Unwanted)));
    }

    #[tokio::test]
    async fn a_pod_whose_work_hangs_begins_no_more_until_it_ends() {
        let (pod, other) = (Overdue::default(), Overdue::default());
        let mut holds = Vec::new();
        for _ in 0..OVERDUE_OF_A_POD {
            let (go, went) = mpsc::channel::<()>();
            holds.push(go);
            let late = pod.run_within("late", SOON, move |_| went.recv().is_ok()).await;
            assert!(matches!(late, Err(BlockingError::Deadline { .. })));
        }
        let refused = pod.run_within("more", LONG, |_| ()).await;
        assert!(matches!(refused, Err(BlockingError::Overdue { hang: OVERDUE_OF_A_POD, .. })));
        // The control: another pod goes on.
        assert!(other.run_within("other", LONG, |_| ()).await.is_ok());
        drop(holds.pop());
        while pod.run_within("more", LONG, |_| ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_deadline_waits_for_the_effect_under_way() {
        let done = Arc::new(AtomicBool::new(false));
        let (begun, begins) = mpsc::channel();
        let effect = Arc::clone(&done);
        let slow = run_within("slow", SOON, move |wanted| {
            wanted.effect(|| {
                begun.send(()).unwrap();
                // Longer than the deadline.
                begun.send(()).unwrap();
                std::thread::park_timeout(SOON * 6);
                effect.store(true, Ordering::SeqCst);
            })
        });
        assert!(matches!(slow.await, Err(BlockingError::Deadline { .. })));
        assert!(begins.try_recv().is_ok(), "it began before the deadline");
        assert!(done.load(Ordering::SeqCst), "the caller would undo beside it");
    }
}
