//! Calls of `berth-oci` with a defence taken away, and calls that are held between a check and a use
//! (`berth::undefended`).

use super::eventually;
use super::oci::{Outcome, Runtime};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Every defence in place.
pub(crate) const NOTHING: &str = "";

/// The variables of a daemon's environment that take defences away.
pub(crate) fn without(defences: &str) -> Vec<(String, String)> {
    vec![("BERTH_UNDEFENDED".to_owned(), defences.to_owned())]
}

/// A call that waits between a check and a use.
pub(crate) struct Held {
    child: Child,
    gap: PathBuf,
    out_file: PathBuf,
    err_file: PathBuf,
}

/// Where a call is held.
pub(crate) struct Gap<'a> {
    /// The site, as `berth::undefended` has it.
    pub(crate) site: &'a str,
    /// The file that holds it up.
    pub(crate) file: &'a Path,
    /// The same file, as the process sees it.
    pub(crate) seen: &'a str,
}

impl Runtime<'_> {
    /// A call without these defences.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn call_without(&self, defences: &str, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.command(arguments);
        command.envs(without(defences));
        self.finish(command)
    }

    /// Begins a call without these defences that is held at a gap, and waits until it is there.
    ///
    /// # Errors
    /// It cannot be run, or does not get there.
    pub(crate) fn hold(&self, defences: &str, gap: &Gap<'_>, arguments: &[&str]) -> Result<Held> {
        fs::write(gap.file, "")?;
        let reached = with_suffix(gap.file, ".reached");
        fs::remove_file(&reached).ok();
        let (out_file, err_file) = (with_suffix(gap.file, ".out"), with_suffix(gap.file, ".err"));
        let mut command: Command = self.command(arguments);
        let child = command
            .envs(without(defences))
            .env("BERTH_UNDEFENDED_GAP", format!("{}={}", gap.site, gap.seen))
            .stdout(File::create(&out_file)?)
            .stderr(File::create(&err_file)?)
            .spawn()?;
        let mut held = Held { child, gap: gap.file.to_owned(), out_file, err_file };
        eventually("the call is held", || {
            if let Some(status) = held.child.try_wait()? {
                let err = fs::read_to_string(&held.err_file)?;
                return Ok(Some(Err(anyhow::anyhow!("it has ended: {status}, {err}"))));
            }
            Ok(reached.exists().then_some(Ok(())))
        })
        .and_then(|outcome| outcome)?;
        Ok(held)
    }
}

impl Held {
    /// Lets it go on, and waits for its end.
    ///
    /// # Errors
    /// Its end cannot be told.
    pub(crate) fn release(mut self) -> Result<Outcome> {
        fs::remove_file(&self.gap)?;
        let code = self.child.wait()?.code();
        let read = |path: &Path| fs::read_to_string(path).context("read the output");
        let (out, err) = (read(&self.out_file)?, read(&self.err_file)?);
        Ok(Outcome { code, out, err, out_file: self.out_file.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        fs::remove_file(&self.gap).ok();
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
