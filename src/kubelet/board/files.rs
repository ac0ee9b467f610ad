//! The file of a pod: what outlives the daemon, and what a person may read.

use super::event::Events;
use crate::error::ErrorKind;
use crate::store::{StoreError, replace};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// A folder or file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The folder.
    #[error("{operation} {path}")]
    Folder {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] StoreError),
}

impl BoardError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Folder { .. } => ErrorKind::Internal,
            Self::File(error) => error.kind(),
        }
    }
}

/// What is in a pod's file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The pod with its status.
    pub(super) pod: Pod,
    /// Where it comes from.
    pub(super) origin: String,
    /// What happened to it.
    pub(super) events: Events,
}

fn file(folder: &Path, uid: &str) -> PathBuf {
    folder.join(format!("{uid}.json"))
}

pub(super) fn write(folder: &Path, uid: &str, record: &Record) -> Result<(), BoardError> {
    let mut text = serde_json::to_vec_pretty(record).unwrap_or_default();
    text.push(b'\n');
    Ok(replace(&file(folder, uid), &text)?)
}

pub(super) fn remove(folder: &Path, uid: &str) -> Result<(), BoardError> {
    let path = file(folder, uid);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BoardError::Folder { operation: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// The file of the node's events, beside the folder of pods.
fn node_file(folder: &Path) -> PathBuf {
    folder.with_file_name("node-events.json")
}

/// The node's events. None are known when they cannot be read.
pub(super) fn read_node(folder: &Path) -> Events {
    let path = node_file(folder);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Events::default(),
        Err(error) => {
            warn!(path = %path.display(), %error, "the node's events cannot be read");
            return Events::default();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "the node's events cannot be read");
        Events::default()
    })
}

pub(super) fn write_node(folder: &Path, events: &Events) -> Result<(), BoardError> {
    let mut text = serde_json::to_vec_pretty(events).unwrap_or_default();
    text.push(b'\n');
    Ok(replace(&node_file(folder), &text)?)
}

/// The records of the folder, which is made when it is missing. One that cannot be read is left out: what it
/// said is found anew, but for a restart count that nothing else knows.
pub(super) fn read(folder: &Path) -> Result<Vec<(String, Record)>, BoardError> {
    let failed = |operation| {
        let path = folder.to_owned();
        move |source| BoardError::Folder { operation, path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed("create folder"))?;
    let mut records = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed("list"))? {
        let path = entry.map_err(failed("list"))?.path();
        let Some(uid) =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"))
        else {
            continue;
        };
        let record = std::fs::read(&path)
            .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        match record {
            Ok(record) => records.push((uid.to_owned(), record)),
            Err(error) => warn!(path = %path.display(), %error, "a pod's status cannot be read"),
        }
    }
    Ok(records)
}
