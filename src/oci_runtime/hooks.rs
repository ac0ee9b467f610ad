//! OCI hooks: programs that others put into a container's life. Each gets the container's state as
//! its standard input.
//!
//! | hook              | when, and in which namespaces                                        |
//! |-------------------|----------------------------------------------------------------------|
//! | `prestart`, `createRuntime` | create: the root is built but not entered; in the runtime's |
//! | `createContainer` | right after, in the container's, before the pivot: host's path       |
//! | `startContainer`  | start: before the program begins, in the container's: its own path   |
//! | `poststart`       | start: the program runs; in the runtime's                            |
//! | `poststop`        | delete: nothing of the container is left; in the runtime's           |

use super::error::{Doing as _, RuntimeError};
use super::state::State;
use crate::sys::process::Ended;
use crate::sys::spawn::Spawn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Spec;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So much of what a failed hook wrote goes into the error.
const OUTPUT_MAX: usize = 1024;

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hook {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<u64>,
}

/// The hooks of a container, by their moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hooks {
    pub(super) prestart: Vec<Hook>,
    pub(super) create_runtime: Vec<Hook>,
    pub(super) create_container: Vec<Hook>,
    pub(super) start_container: Vec<Hook>,
    pub(super) poststart: Vec<Hook>,
    pub(super) poststop: Vec<Hook>,
}

impl Hooks {
    /// Those of a configuration.
    ///
    /// # Errors
    /// For a path that is not absolute, and a timeout that is none.
    pub(super) fn of(spec: &Spec) -> Result<Self, RuntimeError> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let prestart = hooks.prestart();
        Ok(Self {
            prestart: list("prestart", prestart.as_deref())?,
            create_runtime: list("createRuntime", hooks.create_runtime().as_deref())?,
            create_container: list("createContainer", hooks.create_container().as_deref())?,
            start_container: list("startContainer", hooks.start_container().as_deref())?,
            poststart: list("poststart", hooks.poststart().as_deref())?,
            poststop: list("poststop", hooks.poststop().as_deref())?,
        })
    }
}

fn list(name: &str, hooks: Option<&[oci_spec::runtime::Hook]>) -> Result<Vec<Hook>, RuntimeError> {
    hooks.unwrap_or_default().iter().map(|hook| one(name, hook)).collect()
}

fn one(name: &str, hook: &oci_spec::runtime::Hook) -> Result<Hook, RuntimeError> {
    let refuse = |why: &str| {
        Err(RuntimeError::refused(format!("hooks.{name} {}: {why}", hook.path().display())))
    };
    if !hook.path().is_absolute() {
        return refuse("the path is not absolute");
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(seconds),
            _ => return refuse("the timeout is not greater than zero"),
        },
    };
    let args = hook.args().clone().unwrap_or_default();
    let args = match args.is_empty() {
        true => vec![hook.path().display().to_string()],
        false => args,
    };
    let env = hook.env().clone().unwrap_or_default();
    Ok(Hook { path: hook.path().clone(), args, env, timeout })
}

/// Runs hooks one after the other, in the namespaces of the caller. The first that fails ends it.
///
/// # Errors
/// Which one, how it ended, and the end of what it wrote.
pub(super) fn run_all(
    name: &'static str,
    hooks: &[Hook],
    state: &State<'_>,
    directory: &Path,
) -> Result<(), RuntimeError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).doing(|| "write the state for hooks")?;
    for (n, hook) in hooks.iter().enumerate() {
        run(hook, &state, directory)
            .doing(|| format!("run {name} hook {n}, {}", hook.path.display()))?;
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8], directory: &Path) -> io::Result<()> {
    // Memory and no pipes: whether a hook reads or writes, nobody waits for it.
    let mut input = memory("state")?;
    input.write_all(state)?;
    input.rewind()?;
    let mut output = memory("output")?;
    let copy = |file: &File| file.try_clone().map(OwnedFd::from);
    let spawn = Spawn::new(&hook.path)
        .argv(&hook.args)
        .directory(directory)
        .fd(0, input.into())
        .fd(1, copy(&output)?)
        .fd(2, copy(&output)?);
    let spawn = hook.env.iter().fold(spawn, |spawn, text| spawn.env_text(text));
    let child = spawn.spawn().map_err(|error| {
        io::Error::new(error.source.kind(), format!("{}: {}", error.step, error.source))
    })?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let ended = loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            child.kill()?;
            child.wait()?;
            let seconds = hook.timeout.unwrap_or_default();
            return Err(io::Error::other(format!("it did not end within {seconds} s")));
        }
        let left = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            other => {
                other?;
                break child.wait()?;
            }
        }
    };
    let how = match ended {
        Ended::Code(0) => return Ok(()),
        Ended::Code(code) => format!("it ended with {code}"),
        Ended::Signal(signal) => format!("signal {signal} ended it"),
    };
    Err(io::Error::other(format!("{how}{}", tail(&mut output))))
}

fn memory(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from)?)
}

/// The end of what it wrote, behind a colon.
fn tail(output: &mut File) -> String {
    let size = output.metadata().map_or(0, |m| m.len());
    let from = size.saturating_sub(u64::try_from(OUTPUT_MAX).unwrap_or(0));
    let mut bytes = Vec::new();
    let read = output.seek(io::SeekFrom::Start(from)).and_then(|_| output.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.trim()) {
        (Err(_), _) | (_, "") => String::new(),
        (Ok(_), text) => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Status;
    use super::*;
    use std::collections::BTreeMap;

    fn shell(script: &str, timeout: Option<u64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["hook".into(), "-c".into(), script.into()],
            env: vec!["A=b".into()],
            timeout,
        }
    }

    fn run_one(hook: Hook, directory: &Path) -> Result<(), String> {
        let none = BTreeMap::new();
        let state = State {
            oci_version: "1.0.2",
            id: "c1",
            status: Status::Creating,
            pid: 4,
            bundle: Path::new("/b"),
            rootfs: Path::new("/b/rootfs"),
            created: String::new(),
            owner: "",
            annotations: &none,
        };
        run_all("test", &[hook], &state, directory).map_err(|e| crate::error::chain(&e))
    }

    #[test]
    fn a_hook_gets_the_state_its_environment_and_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        run_one(shell("cat >state; echo $0 $A $HOME >rest; pwd >>rest", None), dir.path()).unwrap();
        let state = std::fs::read_to_string(dir.path().join("state")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        assert_eq!((&state["id"], &state["pid"]), (&"c1".into(), &4.into()));
        let rest = std::fs::read_to_string(dir.path().join("rest")).unwrap();
        assert_eq!(rest, format!("hook b\n{}\n", dir.path().display()));
    }

    #[test]
    fn a_hook_that_fails_is_told_with_what_it_wrote() {
        let error = run_one(shell("echo oh; echo dear >&2; exit 3", None), Path::new("/"));
        assert_eq!(error.unwrap_err(), "run test hook 0, /bin/sh: it ended with 3: oh\ndear");
        let missing = Hook { path: "/nonexistent".into(), ..Hook::default() };
        assert!(run_one(missing, Path::new("/")).unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let begin = Instant::now();
        let error = run_one(shell("exec sleep 100", Some(1)), Path::new("/")).unwrap_err();
        assert!(error.ends_with("it did not end within 1 s"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn hooks_of_a_configuration_are_checked() {
        let spec = |hook: serde_json::Value| -> Result<Hooks, RuntimeError> {
            let text =
                serde_json::json!({ "ociVersion": "1.0.2", "hooks": { "poststop": [hook] } });
            Hooks::of(&serde_json::from_value(text).unwrap())
        };
        let good = spec(serde_json::json!({ "path": "/x", "timeout": 5 })).unwrap();
        assert_eq!(good.poststop[0].args, ["/x"]);
        for bad in [
            serde_json::json!({ "path": "x" }),
            serde_json::json!({ "path": "/x", "timeout": 0 }),
            serde_json::json!({ "path": "/x", "timeout": -1 }),
        ] {
            let error = spec(bad).unwrap_err().to_string();
            assert!(error.starts_with("hooks.poststop"), "{error}");
        }
    }
}
