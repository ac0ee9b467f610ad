//! Doing something inside another network namespace: setns(2) on a thread that then ends.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Runs `work` on a thread of its own inside the network namespace `netns`. A socket that `work`
/// opens stays in that namespace wherever it is used afterwards.
///
/// setns(2) with CLONE_NEWNET changes the calling thread alone, so the process stays where it is;
/// the thread ends, so that no other work is ever done in the wrong namespace.
///
/// # Errors
/// EAGAIN or ENOMEM when no thread can be made; the errno of setns(2): EINVAL (`netns` is no network
/// namespace), EPERM. ECANCELED when `work` panicked.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(
            scope,
            move || -> io::Result<T> {
                // SAFETY: setns takes a descriptor, which `netns` keeps open, and a plain number.
                let joined = unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) };
                super::check(libc::c_long::from(joined))?;
                Ok(work())
            },
        )?;
        thread.join().unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::ECANCELED)))
    })
}
