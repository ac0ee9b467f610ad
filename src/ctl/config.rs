//! `berth config`.

use crate::config::{ConfigError, Loaded};
use std::io::{self, Write};

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The configuration cannot be written as TOML.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The output cannot be written.
    #[error("write the configuration")]
    Write(#[source] io::Error),
}

/// Prints the effective configuration with the origin of each value.
///
/// # Errors
/// The output is closed or full.
pub fn print(loaded: &Loaded, out: &mut dyn Write) -> Result<(), PrintError> {
    out.write_all(loaded.to_text()?.as_bytes()).map_err(PrintError::Write)
}
