//! The hooks of a configuration, and who runs which: the daemon those that act in the host's
//! namespaces, the container's process those inside.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::AT_FDCWD;
use oci_spec::runtime::Spec;

use super::error::OciError;
use super::hook::{Hook, StateText};
use crate::shim::wire::{HookPlan, HooksPlan};
use crate::sys::mount::{self, Change, Propagation, Reach};
use crate::sys::socket;

/// The hooks of a container, by their moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// At create, outside, as `create_runtime`; from before that.
    pub prestart: Vec<Hook>,
    /// At create, outside: the root is built but not entered.
    pub create_runtime: Vec<Hook>,
    /// Right after, in the container's namespaces, with the host's root.
    pub create_container: Vec<Hook>,
    /// Before the program begins, inside.
    pub start_container: Vec<Hook>,
    /// The program runs; outside.
    pub poststart: Vec<Hook>,
    /// Nothing of the container is left; outside.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Those of a configuration.
    ///
    /// # Errors
    /// For a path that is not absolute, and a timeout that is none.
    pub fn of(spec: &Spec) -> Result<Self, OciError> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let prestart = hooks.prestart();
        Ok(Self {
            prestart: list("hooks.prestart", prestart.as_deref())?,
            create_runtime: list("hooks.createRuntime", hooks.create_runtime().as_deref())?,
            create_container: list("hooks.createContainer", hooks.create_container().as_deref())?,
            start_container: list("hooks.startContainer", hooks.start_container().as_deref())?,
            poststart: list("hooks.poststart", hooks.poststart().as_deref())?,
            poststop: list("hooks.poststop", hooks.poststop().as_deref())?,
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn list(
    name: &'static str,
    hooks: Option<&[oci_spec::runtime::Hook]>,
) -> Result<Vec<Hook>, OciError> {
    hooks.unwrap_or_default().iter().map(|hook| one(name, hook)).collect()
}

fn one(name: &'static str, hook: &oci_spec::runtime::Hook) -> Result<Hook, OciError> {
    let refuse = |why| Err(OciError::invalid(name, hook.path().display(), why));
    let Some(path) = hook.path().to_str() else { return refuse("is not UTF-8") };
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
    let args = if args.is_empty() { vec![path.to_owned()] } else { args };
    let env = hook.env().clone().unwrap_or_default();
    Ok(Hook { path: path.into(), args, env, timeout })
}

/// Where a container is for its hooks.
#[derive(Clone, Debug)]
pub struct HookHome {
    /// Its id.
    pub id: String,
    /// The folder with its config.json.
    pub bundle: PathBuf,
    /// The folder, on the host, at which hooks find its root file system.
    pub rootfs: PathBuf,
}

impl HookHome {
    /// The state that hooks are told.
    pub fn state(&self, spec: &Spec) -> StateText {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let annotations: HashMap<_, _> = spec.annotations().clone().unwrap_or_default();
        let annotations: serde_json::Map<_, _> =
            annotations.into_iter().map(|(name, value)| (name, value.into())).collect();
        let head = format!(
            "{{\"ociVersion\":{},\"id\":{},\"status\":\"",
            text(spec.version()),
            text(&self.id)
        );
        let tail = format!(
            ",\"bundle\":{},\"rootfs\":{},\"owner\":\"berth\",\"annotations\":{}}}",
            text(&self.bundle.to_string_lossy()),
            text(&self.rootfs.to_string_lossy()),
            serde_json::Value::Object(annotations)
        );
        StateText { head, tail }
    }
}

/// The daemon's part in the hooks of one start.
#[derive(Debug)]
pub struct Outside {
    /// Where the process tells its pid, and waits; `None`: it waits for nobody.
    pub turn: Option<OwnedFd>,
    /// All hooks.
    pub hooks: Hooks,
    /// What they are told.
    pub state: StateText,
    /// Their working directory.
    pub bundle: PathBuf,
}

impl Outside {
    /// Runs hooks in the host's namespaces, in order. The first that fails ends it.
    ///
    /// # Errors
    /// Which one, how it ended, and the end of what it wrote.
    pub fn run(
        &self,
        (name, hooks): (&str, &[Hook]),
        (status, pid): (&str, i32),
        (cgroup, limit): (BorrowedFd<'_>, u64),
    ) -> std::io::Result<()> {
        let state = self.state.with(status, pid);
        for (n, hook) in hooks.iter().enumerate() {
            let hook = Hook { timeout: Some(hook.timeout.unwrap_or(limit)), ..hook.clone() };
            hook.run(&state, &self.bundle, Some(cgroup)).map_err(|error| {
                std::io::Error::other(format!("{name} hook {n}, {}: {error}", hook.path.display()))
            })?;
        }
        Ok(())
    }
}

/// Both parts: the process's, whose descriptors are added to the plan's, and the daemon's.
///
/// # Errors
/// A hook that is none; a copy of the host's mounts that cannot be made.
pub(super) fn plan(
    spec: &Spec,
    home: &HookHome,
    fds: &mut Vec<OwnedFd>,
) -> Result<Option<(HooksPlan, Outside)>, OciError> {
    let hooks = Hooks::of(spec)?;
    if hooks.is_empty() {
        return Ok(None);
    }
    let failed = |path| move |source| OciError::Host { path, source };
    let mut add = |fd| {
        fds.push(fd);
        u32::try_from(fds.len() - 1).ok()
    };
    let (mut turn, mut turn_fd, mut host_fd) = (None, None, None);
    if !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()) {
        let (ours, theirs) = socket::pair().map_err(failed("a socket for hooks"))?;
        (turn, turn_fd) = (Some(ours), add(theirs));
    }
    if !hooks.create_container.is_empty() {
        host_fd = add(host_tree().map_err(failed("/"))?);
    }
    let state = home.state(spec);
    let plan = HooksPlan {
        turn_fd,
        host_fd,
        root_at: home.rootfs.to_string_lossy().into_owned(),
        bundle: home.bundle.to_string_lossy().into_owned(),
        create_container: hooks.create_container.iter().map(to_plan).collect(),
        start_container: hooks.start_container.iter().map(to_plan).collect(),
        state_head: state.head.clone(),
        state_tail: state.tail.clone(),
    };
    Ok(Some((plan, Outside { turn, hooks, state, bundle: home.bundle.clone() })))
}

/// All of the host's mounts, detached; what happens to one side does not reach the other.
fn host_tree() -> std::io::Result<OwnedFd> {
    let tree = mount::clone_tree(AT_FDCWD, c"/", Reach::Tree)?;
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::set_attributes(tree.as_fd(), private, Reach::Tree)?;
    Ok(tree)
}

fn to_plan(hook: &Hook) -> HookPlan {
    HookPlan {
        path: hook.path.to_string_lossy().into_owned(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout_seconds: hook.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hooks_of_a_configuration_are_checked() {
        let spec = |hook: serde_json::Value| -> Result<Hooks, OciError> {
            let text = json!({ "ociVersion": "1.0.2", "hooks": { "poststop": [hook] } });
            Hooks::of(&serde_json::from_value(text).unwrap())
        };
        let good = spec(json!({ "path": "/x", "timeout": 5 })).unwrap();
        assert_eq!(good.poststop[0].args, ["/x"]);
        for bad in [
            json!({ "path": "x" }),
            json!({ "path": "/x", "timeout": 0 }),
            json!({ "path": "/x", "timeout": -1 }),
        ] {
            let error = spec(bad).unwrap_err().to_string();
            assert!(error.starts_with("hooks.poststop"), "{error}");
        }
    }

    #[test]
    fn the_state_is_json_with_the_status_and_the_pid() {
        let spec = json!({ "ociVersion": "1.2.0", "annotations": { "a\"b": "c" } });
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let home = HookHome { id: "i".into(), bundle: "/b".into(), rootfs: "/b/rootfs".into() };
        let text = home.state(&spec).with("creating", 7);
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&state["status"], &state["pid"]), (&"creating".into(), &7.into()));
        assert_eq!((&state["bundle"], &state["annotations"]["a\"b"]), (&"/b".into(), &"c".into()));
    }
}
