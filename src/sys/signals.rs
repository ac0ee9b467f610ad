//! signal(2), sigaction(2), sigprocmask(2): what comes over from whoever started a process.

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

/// Whether a signal is ignored: nohup(1) wants SIGHUP to be, and a shell without job control SIGINT
/// and SIGQUIT of what it runs in the background.
///
/// # Errors
/// EINVAL for what is no signal.
pub fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: sigaction is plain data for which all-zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed; the old one is written to a live sigaction.
    let done = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    super::check(done.into())?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_told() {
        // Rust's start-up ignores SIGPIPE.
        assert!(is_ignored(libc::SIGPIPE).unwrap());
        assert!(!is_ignored(libc::SIGUSR2).unwrap());
        assert!(is_ignored(-1).is_err());
    }
}
