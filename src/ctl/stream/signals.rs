//! The signals that end a command, waited for instead of died from, so that the terminal gets its mode
//! back and the daemon a word.

use crate::sys::signals::is_ignored;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell says a command ended with that signal n ended: 128 + n.
const KILLED: u8 = 128;

/// The signals that end a command.
pub(in crate::ctl) struct Ends(Vec<(u8, Signal)>);

impl Ends {
    /// Waits for them from now on; for those alone that are not ignored.
    ///
    /// # Errors
    /// They cannot be waited for.
    pub(in crate::ctl) fn watch() -> io::Result<Self> {
        let mut all = Vec::new();
        for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            if !is_ignored(number)? {
                let code = KILLED.saturating_add(u8::try_from(number).unwrap_or(u8::MAX));
                all.push((code, signal(SignalKind::from_raw(number))?));
            }
        }
        Ok(Self(all))
    }

    /// The exit code by the next one.
    pub(in crate::ctl) async fn next(&mut self) -> u8 {
        poll_fn(|context| {
            for (code, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*code);
                }
            }
            Poll::Pending
        })
        .await
    }
}
