//! What a daemon takes: memory, processor time, and room on disk. Read from /proc, and from du(1).

use crate::memory::field_kib;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The process of a daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Daemon(pub(crate) u32);

impl Daemon {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn read(self, name: &str) -> Result<String> {
        let file = self.file(name);
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// Its resident memory, KiB.
    pub(crate) fn resident(self) -> Result<f64> {
        field_kib(&self.read("status")?, "VmRSS:")
    }

    /// Its largest resident memory since [`Daemon::forget_peak`], KiB.
    pub(crate) fn peak(self) -> Result<f64> {
        field_kib(&self.read("status")?, "VmHWM:")
    }

    /// Begins to measure the largest resident memory anew. proc(5), clear_refs.
    pub(crate) fn forget_peak(self) -> Result<()> {
        std::fs::write(self.file("clear_refs"), "5").context("reset the peak of memory")
    }

    /// The processor time of all its threads, milliseconds. proc(5), stat: utime and stime, in ticks of 10 ms.
    pub(crate) fn worked(self) -> Result<f64> {
        let stat = self.read("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
        let ticks = |n| -> Result<f64> {
            let field: &str = fields.split_whitespace().nth(n).context("stat is short")?;
            field.parse().with_context(|| format!("ticks {field}"))
        };
        // The third field, the state, is the first behind the name.
        Ok(10.0 * (ticks(11)? + ticks(12)?))
    }
}

/// What a folder's files take on disk, bytes; what is mounted in it is not counted.
pub(crate) fn disk(folder: &Path) -> Result<f64> {
    let out = Command::new("du").args(["-s", "-x", "--block-size=1"]).arg(folder).output()?;
    ensure!(
        out.status.success(),
        "du {}: {}",
        folder.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout)?;
    text.split_whitespace().next().context("du printed nothing")?.parse().context("du's number")
}
