//! The one gate from async code to blocking work: mounts, cgroupfs, tar, passwd files.

use std::time::Duration;

/// Why blocking work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// The work did not end in time. Its thread goes on, and its result is dropped.
    #[error("{what} did not end within {limit:?}")]
    Deadline {
        /// What was attempted.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The work panicked, or the runtime is shutting down.
    #[error("{what} was cut off")]
    Gone {
        /// What was attempted.
        what: &'static str,
    },
}

impl BlockingError {
    /// What the caller can do about it.
    pub fn kind(&self) -> crate::error::ErrorKind {
        match self {
            Self::Deadline { .. } => crate::error::ErrorKind::DeadlineExceeded,
            Self::Gone { .. } => crate::error::ErrorKind::Internal,
        }
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

/// Runs `work` on a blocking thread and waits for it no longer than `limit`: for anything that may
/// touch a hung host path (NFS, FUSE).
///
/// # Errors
/// [`BlockingError::Deadline`], or [`BlockingError::Gone`] when it panicked.
pub async fn run_within<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    match tokio::time::timeout(limit, run(what, work)).await {
        Ok(result) => result,
        Err(_) => Err(BlockingError::Deadline { what, limit }),
    }
}
