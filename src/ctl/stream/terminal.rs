//! This side's terminal: its mode, its size, and what becomes of both while the process is stopped.

use super::error::StreamError;
use crate::sys::signals::is_ignored;
use crate::sys::tty::{self, Raw, Size};
use nix::sys::signal::{Signal as Number, raise};
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Raw mode, so that every key goes to the other side; `None` when no keys come from a terminal.
pub(super) fn raw() -> Result<Option<Raw>, StreamError> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let raw = Raw::enter(io::stdin().as_fd());
    raw.map(Some).map_err(StreamError::local("set the mode of the terminal"))
}

/// The size, if there is a terminal.
pub(super) fn size() -> Option<Size> {
    tty::size(io::stdout().as_fd()).or_else(|_| tty::size(io::stdin().as_fd())).ok()
}

/// The sizes that the terminal gets.
pub(super) struct Sizes {
    changed: Signal,
    continued: Signal,
}

impl Sizes {
    /// Those from now on.
    pub(super) fn watch() -> Result<Self, StreamError> {
        let watch = |kind| signal(kind).map_err(StreamError::local("wait for signals"));
        Ok(Self {
            changed: watch(SignalKind::window_change())?,
            // Who is stopped hears of no change: SIGWINCH goes to the foreground alone.
            continued: watch(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// The next one, which may be the same.
    pub(super) async fn next(&mut self) -> Size {
        loop {
            tokio::select! {
                _ = self.changed.recv() => {}
                _ = self.continued.recv() => {}
            }
            if let Some(size) = size() {
                return size;
            }
        }
    }
}

/// Gives the terminal its former mode while this process is stopped by SIGTSTP, and has it raw again
/// after any stop.
pub(super) async fn follow_stops(raw: Option<&Raw>) -> Result<Infallible, StreamError> {
    let Some(raw) = raw else { return pending().await };
    let failed = |source| StreamError::Local { operation: "wait for signals", source };
    let ignored = is_ignored(libc::SIGTSTP).map_err(failed)?;
    let mut stops = match ignored {
        true => None,
        false => Some(signal(SignalKind::from_raw(libc::SIGTSTP)).map_err(failed)?),
    };
    let mut continued = signal(SignalKind::from_raw(libc::SIGCONT)).map_err(failed)?;
    loop {
        tokio::select! {
            () = next(&mut stops) => {
                raw.leave();
                // Comes back when the process is continued.
                raise(Number::SIGSTOP)
                    .map_err(io::Error::from)
                    .map_err(StreamError::local("stop"))?;
            }
            _ = continued.recv() => {}
        }
        raw.again().map_err(StreamError::local("set the mode of the terminal"))?;
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}
