//! Why a command of the command line failed, in one line, with a hint and an exit code.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line, or a file it names, is wrong |
//! | 3 | what was named does not exist |
//! | 4 | the daemon does not answer, or not yet |
//! | 125 | `exec` and `attach` alone: berth failed |
//! | other | `exec` and `attach` alone: the command's own, 128 + n when signal n ended it, or berth |

use super::stream::StreamError;
use crate::error::chain;
use crate::kubelet::api::DecodeError;
use std::io;
use std::path::PathBuf;
use tonic::{Code, Status};

/// The exit code of an `exec` or an `attach` that has no exit code to pass on.
pub const NOT_RUN: u8 = 125;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody answers on the socket.
    #[error("connect to the daemon at {socket}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon refused.
    #[error("{verb} {subject}: {message}", message = .status.message())]
    Rpc {
        /// What was asked for.
        verb: &'static str,
        /// On what.
        subject: String,
        /// The answer.
        status: Box<Status>,
    },
    /// The connection to a command, a container or a port.
    #[error("{verb} {subject}")]
    Stream {
        /// What was asked for.
        verb: &'static str,
        /// On what.
        subject: String,
        /// What is the matter.
        source: StreamError,
    },
    /// There is no such thing.
    #[error("{what} {name:?} does not exist")]
    NotFound {
        /// `pod`, `container`, `image`, or `kept pod`: one of the kubelet half.
        what: &'static str,
        /// As it was given.
        name: String,
    },
    /// Several things have that name.
    #[error("{name:?} is ambiguous: it may be {candidates}")]
    Ambiguous {
        /// As it was given.
        name: String,
        /// What it may be.
        candidates: String,
    },
    /// The state of things forbids it.
    #[error("{problem}")]
    Refused {
        /// What forbids it.
        problem: String,
        /// What helps.
        hint: &'static str,
    },
    /// A file of the host.
    #[error("{operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A manifest that cannot be read.
    #[error("{path}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        source: DecodeError,
    },
    /// A manifest without a pod.
    #[error("{path}: no Pod in it")]
    NoPod {
        /// The file.
        path: PathBuf,
    },
    /// A pod that cannot be run.
    #[error("pod {pod} does not run: {fault}")]
    Fault {
        /// Namespace and name.
        pod: String,
        /// Why.
        fault: String,
    },
    /// The output cannot be written.
    #[error("write the output")]
    Output(#[from] io::Error),
    /// The answer cannot be written as JSON or YAML.
    #[error("write the answer as {0}")]
    Format(&'static str),
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// Several of the things named could not be treated.
    #[error("{0}")]
    Several(String),
}

impl CtlError {
    /// A refusal of the daemon.
    pub(super) fn rpc(
        verb: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(Status) -> Self {
        let subject = subject.into();
        move |status| Self::Rpc { verb, subject, status: Box::new(status) }
    }

    /// A connection that failed.
    pub(super) fn stream(
        verb: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(StreamError) -> Self {
        let subject = subject.into();
        move |source| match source {
            StreamError::Output(error) => Self::Output(error),
            source => Self::Stream { verb, subject, source },
        }
    }

    /// A file of the host.
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Whether the reader of the output has gone, which is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code; see the table of this module.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Connect { .. } => 4,
            Self::NotFound { .. } => 3,
            Self::Ambiguous { .. } | Self::Manifest { .. } | Self::NoPod { .. } => 2,
            Self::Rpc { verb, status, .. } => match status.code() {
                Code::NotFound => 3,
                // Of a pull it is the registry that does not answer.
                Code::Unavailable if *verb != "pull" => 4,
                Code::InvalidArgument => 2,
                _ => 1,
            },
            Self::Stream { source, .. } if source.is_of_the_connection() => 4,
            Self::Interrupted => 130,
            Self::Stream { .. }
            | Self::Refused { .. }
            | Self::File { .. }
            | Self::Fault { .. }
            | Self::Output(_)
            | Self::Format(_)
            | Self::Several(_) => 1,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("run it as root, or as server.group allows")
                }
                _ => Some("start the daemon with `berth serve`; --config names its configuration"),
            },
            Self::NotFound { what, .. } => match *what {
                "pod" => Some("`berth pods` lists them"),
                "image" => Some("`berth images` lists them"),
                "kept pod" => Some("`berth get pods -A` lists them"),
                _ => Some("`berth ps -a` lists containers, `berth pods` lists pods"),
            },
            Self::Ambiguous { .. } => Some("give the id"),
            Self::Fault { .. } => Some("it was taken back; `berth apply` would keep on trying"),
            Self::Refused { hint, .. } => Some(hint),
            Self::Rpc { verb, status, .. } => match status.code() {
                Code::Unavailable if *verb == "pull" => {
                    Some("check the image's name, and the daemon's way to the registry")
                }
                Code::AlreadyExists if *verb == "run" => {
                    Some("`berth delete` takes it back, `berth apply` changes it")
                }
                Code::Unavailable => Some("the daemon is starting or stopping: try again"),
                _ => None,
            },
            _ => None,
        }
    }

    /// The whole error in one line.
    pub fn line(&self) -> String {
        let text = chain(self).replace(['\n', '\r'], " ");
        match self.hint() {
            Some(hint) => format!("{text} (hint: {hint})"),
            None => text,
        }
    }
}

/// The outcome of work on several things: nothing failed, one error as it is, or all in one line.
pub(super) fn several(mut failed: Vec<CtlError>) -> Result<(), CtlError> {
    match failed.len() {
        0 => Ok(()),
        1 => failed.pop().map_or(Ok(()), Err),
        _ => {
            let lines: Vec<String> = failed.iter().map(CtlError::line).collect();
            Err(CtlError::Several(lines.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_a_hint_and_a_code() {
        let connect = CtlError::Connect {
            socket: "/run/x.sock".into(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        let rpc = |code| CtlError::rpc("start", "container web")(Status::new(code, "two\nlines"));
        let missing = CtlError::NotFound { what: "pod", name: "x".into() };
        let rows = [
            (
                connect,
                4,
                "connect to the daemon at /run/x.sock: No such file or directory (os error 2) \
                 (hint: start the daemon with `berth serve`; --config names its configuration)",
            ),
            (rpc(Code::Internal), 1, "start container web: two lines"),
            (
                rpc(Code::Unavailable),
                4,
                "start container web: two lines (hint: the daemon is starting or stopping: try \
                 again)",
            ),
            (missing, 3, "pod \"x\" does not exist (hint: `berth pods` lists them)"),
        ];
        for (error, code, line) in rows {
            assert_eq!(error.line(), line);
            assert_eq!(error.exit_code(), code, "{line}");
        }
    }
}
