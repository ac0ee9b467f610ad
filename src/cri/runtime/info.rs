//! What answers of several groups have in common.

use crate::engine::EngineError;
use crate::error::ErrorKind;
use std::collections::BTreeMap;
use tonic::Status;

/// Stopping and removing what does not exist succeeds.
pub(super) fn gone_is_fine(result: Result<(), EngineError>) -> Result<(), Status> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Status::from),
    }
}

/// The `info` of a status, for those who ask.
pub(super) fn verbose(
    wanted: bool,
    info: impl FnOnce() -> BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if wanted { info() } else { BTreeMap::new() }
}
