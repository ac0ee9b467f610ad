//! The daemon's own log: to the journal, or to stderr as text or JSON.
//!
//! Field names are the same everywhere: `pod_uid pod namespace sandbox_id container_id container
//! image handler pid step elapsed_ms`. The message of an event is a constant text.

use crate::config::Logging;
use crate::error::ErrorKind;
use std::ffi::OsStr;
use std::io;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A log that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is neither a level nor a filter.
    #[error("log level {level:?}")]
    Level {
        /// What was given.
        level: String,
        /// Why it is none.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The journal does not take connections.
    #[error("connect to the journal")]
    Journal(#[source] io::Error),
    /// There is a subscriber already.
    #[error("set up the log")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

impl TelemetryError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Level { .. } => ErrorKind::InvalidArgument,
            Self::Journal(_) => ErrorKind::Unavailable,
            Self::Twice(_) => ErrorKind::Internal,
        }
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Journal,
    Json,
    Text,
}

/// Sets up the log of this process. `journal_stream` is the variable `JOURNAL_STREAM`, by which
/// systemd tells which file stderr was when it was connected to the journal.
///
/// # Errors
/// A filter that does not parse, a journal that does not answer, a second call.
pub fn init(config: &Logging, journal_stream: Option<&OsStr>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(directives(&config.level))
        .map_err(|source| TelemetryError::Level { level: config.level.clone(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    match target(config, journal_stream, stderr_identity()) {
        Target::Journal => {
            let journal = tracing_journald::layer().map_err(TelemetryError::Journal)?;
            registry.with(journal.with_field_prefix(Some("BERTH".to_owned()))).try_init()
        }
        Target::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(io::stderr))
            .try_init(),
        Target::Text => {
            let colours = io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_writer(io::stderr)).try_init()
        }
    }
    .map_err(TelemetryError::Twice)
}

/// A bare level is berth's own: at `debug` the HTTP/2 library alone would drown everything.
pub(crate) fn directives(level: &str) -> String {
    if level.bytes().all(|b| b.is_ascii_alphabetic()) && level != "off" {
        format!("warn,berth={level}")
    } else {
        level.to_owned()
    }
}

/// The variable alone does not say that stderr still is the journal: a child may have redirected
/// it. So device and inode are compared, as systemd.exec(5) asks.
fn target(config: &Logging, journal_stream: Option<&OsStr>, stderr: Option<(u64, u64)>) -> Target {
    let named = journal_stream.and_then(OsStr::to_str).and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    if config.json {
        Target::Json
    } else if named.is_some() && named == stderr {
        Target::Journal
    } else {
        Target::Text
    }
}

fn stderr_identity() -> Option<(u64, u64)> {
    let stat = nix::sys::stat::fstat(io::stderr()).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_berth_s_own_and_a_filter_is_taken_as_it_is() {
        assert_eq!(directives("debug"), "warn,berth=debug");
        assert_eq!(directives("info,h2=debug"), "info,h2=debug");
        assert!(EnvFilter::try_new(directives("trace")).is_ok());
        assert!(EnvFilter::try_new(directives("lots")).is_err());
    }

    // systemd.exec(5), JOURNAL_STREAM.
    #[test]
    fn the_journal_is_used_only_while_stderr_is_connected_to_it() {
        let text = Logging::default();
        let json = Logging { json: true, ..Logging::default() };
        for (config, stream, stderr, expected) in [
            (&text, Some("8:42"), Some((8, 42)), Target::Journal),
            (&text, Some("8:42"), Some((8, 43)), Target::Text),
            (&text, Some("8:42"), None, Target::Text),
            (&text, Some("nonsense"), Some((8, 42)), Target::Text),
            (&text, None, Some((8, 42)), Target::Text),
            (&json, Some("8:42"), Some((8, 42)), Target::Json),
        ] {
            assert_eq!(target(config, stream.map(OsStr::new), stderr), expected, "{stream:?}");
        }
    }
}
