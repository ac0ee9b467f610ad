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
pub(super) use crate::oci::{Hook, Hooks};
use std::path::Path;

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
        hook.run(&state, directory, None)
            .doing(|| format!("run {name} hook {n}, {}", hook.path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::state::Status;
    use super::*;
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

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
}
