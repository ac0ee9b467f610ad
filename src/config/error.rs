//! What can be wrong with the configuration.

use crate::error::ErrorKind;
use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or the folder of drop-ins cannot be read.
    #[error("read configuration {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML, has a key that does not exist, or a value of the wrong type.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Files that are right one by one do not make a configuration together.
    #[error("merge the configuration files: {message}")]
    Merge {
        /// What does not fit.
        message: String,
    },
    /// A KubeletConfiguration that is none, or asks for what is not done.
    #[error("{path}: {message}")]
    KubeletFile {
        /// The file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        message: String,
    },
    /// A value that cannot be meant.
    #[error("{key} = {value} ({origin}): {reason}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// The value.
        value: String,
        /// Where it was set.
        origin: String,
        /// Why it cannot be.
        reason: &'static str,
    },
}

impl ConfigError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Internal,
            Self::Syntax { .. }
            | Self::Merge { .. }
            | Self::KubeletFile { .. }
            | Self::Value { .. } => ErrorKind::InvalidArgument,
        }
    }
}
