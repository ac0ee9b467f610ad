//! stub
use crate::error::ErrorKind;
/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct UnpackError;
impl UnpackError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}
