//! Kill points for the recovery tests: before and after every record write and every shim message.
//!
//! Without the `failpoints` feature every call is empty. With it, `BERTH_FAIL_PLAN` names a file
//! that the test writes when it wants points to count, and removes when not. While it is there,
//! points are numbered from 1, each is appended to `<file>.log`, and at the point whose number the
//! file holds the process sends itself SIGKILL; 0 only counts.

/// Passes a kill point. `site` and `edge` (`before`, `after`) name it in the log.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn point(_site: &str, _edge: &str) {}

#[cfg(feature = "failpoints")]
pub use planned::point;

#[cfg(feature = "failpoints")]
mod planned {
    use crate::lock::lock;
    use std::io::Write as _;
    use std::sync::Mutex;

    static PASSED: Mutex<u64> = Mutex::new(0);

    /// Passes a kill point.
    pub fn point(site: &str, edge: &str) {
        let Some(plan) = std::env::var_os("BERTH_FAIL_PLAN") else { return };
        let mut passed = lock(&PASSED);
        let Ok(wanted) = std::fs::read_to_string(&plan) else {
            *passed = 0;
            return;
        };
        *passed += 1;
        let mut log = plan;
        log.push(".log");
        if let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(log) {
            writeln!(log, "{passed} {edge} {site}").ok();
        }
        if wanted.trim().parse() == Ok(*passed) {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}
