//! Failures on request, for the tests: a daemon that dies, a record that is refused, work that hangs.
//!
//! Without the `failpoints` feature every call is empty. With it, `BERTH_FAIL_PLAN` names a file
//! that the test writes when it wants points to count, and removes when not.
//!
//! | file            | holds                | does                                              |
//! |-----------------|----------------------|---------------------------------------------------|
//! | `<plan>`        | a number             | the process sends itself SIGKILL at that point; 0 only counts |
//! | `<plan>.log`    |                      | every point that was passed, from 1, while the plan is there |
//! | `<plan>.refuse` | lines `site number`  | the site fails from its n-th time on              |
//! | `<plan>.hold`   | lines `site`         | the site waits while it is listed                 |
//! | `<plan>.within` | milliseconds         | instead of every deadline of blocking work        |
//! | `<plan>.backlog` | a number            | instead of how many events a reader may lag, from the daemon's start on |
//!
//! Kill points are before and after every record write and every shim message.

use std::io;
use std::time::Duration;

/// Passes a kill point. `site` and `edge` (`before`, `after`) name it in the log.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn point(_site: &str, _edge: &str) {}

/// Fails where a test wants it.
///
/// # Errors
/// ENOSPC, at a site that is listed.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn refused(_site: &str) -> io::Result<()> {
    Ok(())
}

/// Waits where a test wants it.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hold(_site: &str) {}

/// The deadline of blocking work.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn within(limit: Duration) -> Duration {
    limit
}

/// How many events a reader may lag.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn backlog(events: usize) -> usize {
    events
}

#[cfg(feature = "failpoints")]
pub use planned::{backlog, hold, point, refused, within};

#[cfg(feature = "failpoints")]
mod planned {
    use super::{Duration, io};
    use crate::lock::lock;
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::io::Write as _;
    use std::sync::Mutex;

    static PASSED: Mutex<u64> = Mutex::new(0);
    static REFUSALS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

    fn file(suffix: &str) -> Option<OsString> {
        let mut path = std::env::var_os("BERTH_FAIL_PLAN")?;
        path.push(suffix);
        Some(path)
    }

    fn read(suffix: &str) -> Option<String> {
        std::fs::read_to_string(file(suffix)?).ok()
    }

    /// Passes a kill point.
    pub fn point(site: &str, edge: &str) {
        let Some(log) = file(".log") else { return };
        let mut passed = lock(&PASSED);
        let Some(wanted) = read("") else {
            *passed = 0;
            return;
        };
        *passed += 1;
        if let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(log) {
            writeln!(log, "{passed} {edge} {site}").ok();
        }
        if wanted.trim().parse() == Ok(*passed) {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
        }
    }

    /// Fails where a test wants it.
    ///
    /// # Errors
    /// ENOSPC, at a site that is listed.
    pub fn refused(site: &str) -> io::Result<()> {
        let mut times = lock(&REFUSALS);
        let Some(wanted) = read(".refuse") else {
            times.clear();
            return Ok(());
        };
        let time = times.entry(site.to_owned()).or_default();
        *time += 1;
        let from = wanted.lines().find_map(|line| {
            let (name, from) = line.rsplit_once(' ')?;
            if name == site { from.parse::<u64>().ok() } else { None }
        });
        match from {
            Some(from) if *time >= from => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            _ => Ok(()),
        }
    }

    /// Waits where a test wants it.
    #[expect(
        clippy::disallowed_methods,
        reason = "only in the builds of tests, in a blocking thread"
    )]
    pub fn hold(site: &str) {
        while read(".hold").is_some_and(|held| held.lines().any(|line| line == site)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The deadline of blocking work.
    pub fn within(limit: Duration) -> Duration {
        let millis = read(".within").and_then(|text| text.trim().parse().ok());
        millis.map_or(limit, Duration::from_millis)
    }

    /// How many events a reader may lag.
    pub fn backlog(events: usize) -> usize {
        read(".backlog").and_then(|text| text.trim().parse().ok()).unwrap_or(events)
    }
}
