//! criu and tar, run in the helpers cgroup of a sandbox.

use super::CheckpointError;
use crate::cgroups::{Cgroups, Leaf};
use crate::cni::helper::{self, Helper, HelperError, Output};
use crate::ids::{SandboxId, random_hex};
use crate::sys::process::Ended;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where criu is looked for when the configuration does not say.
const PLACES: [&str; 4] =
    ["/usr/sbin/criu", "/usr/local/sbin/criu", "/usr/bin/criu", "/usr/local/bin/criu"];
/// Where tar is looked for. criu itself needs one for the file systems of a container.
const TARS: [&str; 2] = ["/usr/bin/tar", "/bin/tar"];
/// How long `criu check` may take.
const CHECK_WITHIN: Duration = Duration::from_secs(30);
/// criu calls tar and iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No more of a log is told.
const MAX_SAID: usize = 1500;

/// The program that dumps and restores processes.
#[derive(Clone, Debug)]
pub struct Criu {
    program: PathBuf,
}

impl Criu {
    /// Finds it and asks whether it works here. Blocks.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::Unusable`].
    pub fn working(configured: Option<&Path>, cgroups: &Cgroups) -> Result<Self, CheckpointError> {
        let found = Self::find(configured)?;
        // Of no sandbox: a check that hangs is killed with all in its cgroup, where another criu may be at work.
        let file = |source| CheckpointError::file("name a cgroup for", &found.program, source);
        let hex = random_hex().map_err(file)?;
        let id = SandboxId::parse(&hex).map_err(|e| file(std::io::Error::other(e)))?;
        let output = found.run(&["check"], CHECK_WITHIN, &cgroups.helpers(&id))?;
        match output.ended {
            Ended::Code(0) => Ok(found),
            _ => {
                let said = said(&output.stderr, output.ended);
                Err(CheckpointError::Unusable { program: found.program, said })
            }
        }
    }

    fn find(configured: Option<&Path>) -> Result<Self, CheckpointError> {
        let usual = PLACES.map(Path::new);
        let places = configured.map_or(usual.to_vec(), |path| vec![path]);
        let names = || {
            let names: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
            CheckpointError::Missing(names.join(", "))
        };
        let found = places.iter().find(|path| path.is_file()).ok_or_else(names)?;
        Ok(Self { program: (*found).to_owned() })
    }

    /// Its file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn run(
        &self,
        args: &[&str],
        limit: Duration,
        group: &Leaf,
    ) -> Result<Output, CheckpointError> {
        run(&self.program, args, limit, group)
    }
}

fn run(
    program: &Path,
    args: &[&str],
    limit: Duration,
    group: &Leaf,
) -> Result<Output, CheckpointError> {
    let env = [("PATH", PATH.to_owned()), ("HOME", "/".to_owned()), ("LC_ALL", "C".to_owned())];
    let helper = Helper { program, args, env: &env, stdin: &[], limit };
    let output = helper::run(&helper, group);
    helper::tidy_group(group);
    output
        .map_err(|source: HelperError| CheckpointError::Run { program: program.to_owned(), source })
}

/// Runs tar.
pub(super) fn tar(
    verb: &'static str,
    args: &[&str],
    limit: Duration,
    group: &Leaf,
) -> Result<(), CheckpointError> {
    let missing = || CheckpointError::Unusable {
        program: PathBuf::from("criu"),
        said: format!("it needs tar, which is at none of {}", TARS.join(", ")),
    };
    let program = TARS.iter().map(Path::new).find(|path| path.is_file()).ok_or_else(missing)?;
    let output = run(program, args, limit, group)?;
    match output.ended {
        Ended::Code(0) => Ok(()),
        ended => Err(CheckpointError::Failed {
            program: program.to_owned(),
            verb,
            said: said(&output.stderr, ended),
        }),
    }
}

/// Why criu failed: the errors of its log, else its words.
pub(super) fn failed(
    criu: &Criu,
    verb: &'static str,
    log: &Path,
    output: &Output,
) -> CheckpointError {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let errors = errors(&log);
    let said = if errors.is_empty() { said(&output.stderr, output.ended) } else { errors };
    CheckpointError::Failed { program: criu.program.clone(), verb, said }
}

/// The errors in a log of criu's, `(00.038590)     1: Error (criu/mount.c:628): text`, without time and place.
pub(super) fn errors(log: &str) -> String {
    let text = |line: &str| {
        let (_, rest) = line.split_once("Error (")?;
        let (_, text) = rest.split_once("): ")?;
        Some(text.trim().to_owned())
    };
    let mut all: Vec<String> = log.lines().filter_map(text).collect();
    all.dedup();
    cut(all.join("; "))
}

fn said(stderr: &str, ended: Ended) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let words = lines.collect::<Vec<_>>().join("; ");
    match (words.is_empty(), ended) {
        (false, _) => cut(words),
        (true, Ended::Code(code)) => format!("it exited with {code} and said nothing"),
        (true, Ended::Signal(signal)) => format!("it was killed by signal {signal}"),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_SAID {
        let mut end = MAX_SAID;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_a_log_are_told_without_time_and_place() {
        let log = "(00.01) Warn  (criu/x.c:1): nothing\n\
            (00.02)      1: Error (criu/mount-v2.c:628): mnt-v2: Can't stat /etc/hosts\n\
            (00.03) Error (criu/cr-restore.c:2320): Restoring FAILED.\n";
        assert_eq!(errors(log), "mnt-v2: Can't stat /etc/hosts; Restoring FAILED.");
        assert_eq!(errors("all is well\n"), "");
    }

    #[test]
    fn a_criu_that_is_not_there_is_named() {
        let error = Criu::find(Some(Path::new("/no/such/criu"))).unwrap_err();
        assert_eq!(error.to_string(), "criu is not installed: it is at none of /no/such/criu");
        assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition);
        assert!(Criu::find(Some(Path::new("/bin/sh"))).is_ok());
    }
}
