//! criu and tar, run in the helpers cgroup of a sandbox.

use super::CheckpointError;
use crate::cgroups::{Cgroups, Leaf};
use crate::cni::helper::{self, Helper, HelperError, Output};
use crate::ids::{SandboxId, random_hex};
use crate::sys::process::Ended;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where criu is looked for when the configuration does not say.
const PLACES: [&str; 4] =
    ["/usr/sbin/criu", "/usr/local/sbin/criu", "/usr/bin/criu", "/usr/local/bin/criu"];
/// Where tar is looked for. criu itself needs one for the file systems of a container.
const TARS: [&str; 2] = ["/usr/bin/tar", "/bin/tar"];
/// The oldest criu that is taken, by major and minor.
const OLDEST: (u32, u32) = (4, 1);
const OLDEST_TEXT: &str = "4.1";
/// How long `criu --version` and `criu check` may take each.
const CHECK_WITHIN: Duration = Duration::from_secs(30);
/// criu calls tar and iptables.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No more of a log is told.
const MAX_SAID: usize = 1500;

/// The program that dumps and restores processes.
#[derive(Clone, Debug)]
pub struct Criu {
    program: PathBuf,
    version: String,
}

impl Criu {
    /// Finds it and asks whether it works here. Blocks.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::TooOld`], [`CheckpointError::Unusable`].
    pub fn working(configured: Option<&Path>, cgroups: &Cgroups) -> Result<Self, CheckpointError> {
        let program = find(configured)?;
        // Of no sandbox: a check that hangs is killed with all in its cgroup, where another criu may be at work.
        let file = |source| CheckpointError::file("name a cgroup for", &program, source);
        let hex = random_hex().map_err(file)?;
        let id = SandboxId::parse(&hex).map_err(|e| file(std::io::Error::other(e)))?;
        let group = cgroups.helpers(&id);
        Self::asked(program.clone(), |verb| run(&program, &[verb], CHECK_WITHIN, &group))
    }

    /// The same for a caller that has no cgroups: not in the daemon, since nothing ends a criu that hangs. Blocks.
    ///
    /// # Errors
    /// As [`Criu::working`].
    pub fn at_hand(configured: Option<&Path>) -> Result<Self, CheckpointError> {
        let program = find(configured)?;
        Self::asked(program.clone(), |verb| {
            let mut command = Command::new(&program);
            command.arg(verb).env_clear().env("PATH", PATH).env("LC_ALL", "C");
            let output = command.output();
            let output = output.map_err(|e| CheckpointError::file("run", &program, e))?;
            let ended = match (output.status.code(), output.status.signal()) {
                (Some(code), _) => Ended::Code(code),
                (None, signal) => Ended::Signal(signal.unwrap_or_default()),
            };
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(Output { ended, stdout: output.stdout, stderr })
        })
    }

    /// A program that has told its version, which is not too old, and that says that it works.
    fn asked(
        program: PathBuf,
        ask: impl Fn(&str) -> Result<Output, CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let answer = |verb| {
            let output = ask(verb)?;
            match output.ended {
                Ended::Code(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                ended => {
                    let said = said(&output.stderr, ended);
                    Err(CheckpointError::Unusable { program: program.clone(), said })
                }
            }
        };
        let told = answer("--version")?;
        let Some((version, number)) = version(&told) else {
            let said = format!("asked for its version it says {:?}", cut(told));
            return Err(CheckpointError::Unusable { program, said });
        };
        if number < OLDEST {
            let (found, needed) = (version.to_owned(), OLDEST_TEXT);
            return Err(CheckpointError::TooOld { program, found, needed });
        }
        answer("check")?;
        Ok(Self { version: version.to_owned(), program })
    }

    /// Its file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
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

fn find(configured: Option<&Path>) -> Result<PathBuf, CheckpointError> {
    let usual = PLACES.map(Path::new);
    let places = configured.map_or(usual.to_vec(), |path| vec![path]);
    let names = || {
        let names: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        CheckpointError::Missing(names.join(", "))
    };
    let found = places.iter().find(|path| path.is_file()).ok_or_else(names)?;
    Ok((*found).to_owned())
}

/// The version in the answer to `--version`, `Version: 4.1.1` and perhaps more lines, and its first two numbers.
fn version(told: &str) -> Option<(&str, (u32, u32))> {
    let version = told.lines().find_map(|line| line.strip_prefix("Version:"))?.trim();
    let mut numbers = version.split(['.', '-', ' ']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((version, (major, minor))),
        // 4.0 is "4.0"; a lone number is taken as one with nothing behind it.
        (Some(Ok(major)), None) => Some((version, (major, 0))),
        _ => None,
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
        let error = find(Some(Path::new("/no/such/criu"))).unwrap_err();
        assert_eq!(error.to_string(), "criu is not installed: it is at none of /no/such/criu");
        assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition);
        assert!(find(Some(Path::new("/bin/sh"))).is_ok());
    }

    /// What becomes of a criu that answers so to `--version`, and that its own check succeeds.
    fn asked(version: &str, code: i32) -> Result<Criu, CheckpointError> {
        Criu::asked("/usr/sbin/criu".into(), |verb| {
            let stdout = if verb == "check" { "Looks good.\n" } else { version };
            Ok(Output { ended: Ended::Code(code), stdout: stdout.into(), stderr: "no".into() })
        })
    }

    #[test]
    fn a_criu_that_loses_no_new_privs_is_refused_with_its_version() {
        for old in ["3.17.1", "3.19", "4.0", "4", "4.0.5"] {
            let error = asked(&format!("Version: {old}\nGitID: v{old}\n"), 0).unwrap_err();
            let text = error.to_string();
            let begins = format!("/usr/sbin/criu is criu {old}, and 4.1 or newer is needed: ");
            assert!(text.starts_with(&begins) && text.contains("no_new_privs"), "{text}");
            assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition);
        }
        for new in ["4.1", "4.1.1", "4.1-rc1", "4.10", "5", "10.0.2"] {
            assert_eq!(asked(&format!("Version: {new}\n"), 0).unwrap().version(), new);
        }
    }

    #[test]
    fn a_program_that_is_no_criu_or_does_not_work_is_told_with_its_words() {
        for (told, code, words) in [
            ("false (GNU coreutils) 9.1\n", 0, "asked for its version it says \"false"),
            ("Version: next\n", 0, "asked for its version it says \"Version: next"),
            ("Version: 4.1.1\n", 1, "/usr/sbin/criu does not work on this kernel: no"),
        ] {
            let error = asked(told, code).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition);
        }
    }
}
