//! Kill points for the recovery tests: before and after every record write and every shim message.
//!
//! Without the `failpoints` feature every call is empty. With it, points are numbered in the order
//! in which they are passed: `BERTH_FAIL_LOG=path` appends a line a point, `BERTH_FAIL_AT=n` sends
//! the process SIGKILL at the n-th. Numbering starts with the first call of [`arm`].

/// Passes a kill point. `site` and `edge` (`before`, `after`) name it in the log.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn point(_site: &str, _edge: &str) {}

/// Starts counting. Until then points are neither counted nor fatal: start-up has points, too.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn arm() {}

#[cfg(feature = "failpoints")]
pub use armed::{arm, point};

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static ARMED: AtomicBool = AtomicBool::new(false);
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Starts counting.
    pub fn arm() {
        ARMED.store(true, Ordering::SeqCst);
    }

    /// Passes a kill point.
    pub fn point(site: &str, edge: &str) {
        if !ARMED.load(Ordering::SeqCst) {
            return;
        }
        let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(path) = std::env::var_os("BERTH_FAIL_LOG") {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
            if let Ok(mut log) = log {
                writeln!(log, "{number} {edge} {site}").ok();
            }
        }
        let wanted = std::env::var("BERTH_FAIL_AT").ok().and_then(|n| n.parse::<u64>().ok());
        if wanted == Some(number) {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}
