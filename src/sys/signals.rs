//! signal(2), sigprocmask(2): what a daemon must not take over from whoever started it.

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use std::io;

/// SIGCHLD back to its default and nothing blocked, for the calling thread and those it begins.
///
/// A parent that ignores SIGCHLD passes that on over exec; the kernel then reaps our children by
/// itself, and who waits for one never learns how it ended. A blocked SIGTERM would never arrive.
///
/// # Errors
/// None that a correct call can meet.
pub fn of_a_daemon() -> io::Result<()> {
    // SAFETY: no handler is installed, so nothing runs in signal context; nobody relies on an
    // earlier disposition, since this is called before any other thread or child exists.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(SigSet::empty().thread_set_mask()?)
}
