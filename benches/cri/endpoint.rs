//! What every course is told: the daemon that it measures, and where the figures go.

use anyhow::Result;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// A daemon that is measured.
#[derive(Args, Debug)]
pub(crate) struct Endpoint {
    /// The endpoint's socket.
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// The daemon's process.
    #[arg(long)]
    pub(crate) daemon: u32,
    /// The registry that has the images.
    #[arg(long)]
    pub(crate) registry: String,
    /// Where the samples go.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

/// Lines of progress.
pub(crate) struct Progress(Instant);

impl Progress {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// One line.
    pub(crate) fn tell(&self, what: &str) -> Result<()> {
        let elapsed = self.0.elapsed().as_secs_f64();
        writeln!(std::io::stdout().lock(), "  {elapsed:7.1} s  {what}")?;
        Ok(())
    }
}
