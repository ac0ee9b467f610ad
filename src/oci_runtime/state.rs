//! What is known of a container: a folder below `--root`.
//!
//! | file          | what                                                        |
//! |---------------|-------------------------------------------------------------|
//! | `state.json`  | the record; written before anything of the container is made |
//! | `config.json` | the bundle's, as it was at create                           |
//! | `start.sock`  | on which the process of a created container waits           |
//!
//! The folder itself is locked by the verbs that change the container. What a container *is*
//! follows from its process: a record cannot be wrong about it.

use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::hooks::Hooks;
use crate::cgroups::{CgroupPath, Leaf};
use crate::clock;
use crate::store;
use crate::sys::process::InitPid;
use crate::sys::socket;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The socket that `start` connects to.
pub(super) const START: &str = "start.sock";

/// What a container is (OCI runtime spec, "State"; `paused` as runc has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It has no process yet, or `create` was cut off.
    Creating,
    /// Its process waits for the start.
    Created,
    /// It runs.
    Running,
    /// It runs and is frozen.
    Paused,
    /// It has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What is written down of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `ociVersion` of its configuration.
    pub(super) oci_version: String,
    /// The bundle.
    pub(super) bundle: PathBuf,
    /// The root file system.
    pub(super) rootfs: PathBuf,
    /// When it was created.
    pub(super) created_at_nanos: i64,
    /// Its cgroup.
    pub(super) cgroup: CgroupPath,
    /// Whether it is a scope that systemd made.
    #[serde(default)]
    pub(super) scope: bool,
    /// Its first process, once it is there.
    pub(super) init: Option<InitPid>,
    /// `create` has done all of its work.
    pub(super) complete: bool,
    /// Of its configuration.
    pub(super) annotations: BTreeMap<String, String>,
}

/// The state as the specification has it, for callers and for hooks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'a> {
    pub(super) oci_version: &'a str,
    pub(super) id: &'a str,
    pub(super) status: Status,
    pub(super) pid: i32,
    pub(super) bundle: &'a Path,
    pub(super) rootfs: &'a Path,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) created: String,
    pub(super) owner: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: &'a BTreeMap<String, String>,
}

/// A container by its folder.
#[derive(Debug)]
pub(super) struct Container {
    /// Its id.
    pub(super) id: String,
    /// Its folder.
    pub(super) dir: PathBuf,
    /// Its record.
    pub(super) record: Record,
}

/// Checks an id: it is the name of a folder.
pub(super) fn check_id(id: &str) -> Result<(), RuntimeError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.chars().all(fine) {
        return Err(RuntimeError::refused(format!(
            "{id:?} is not a container id: expected up to 255 letters, digits, `_`, `+`, `-`, `.`"
        )));
    }
    Ok(())
}

/// The only verb on a container's folder, as long as it is held.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

/// Locks a container's folder.
pub(super) fn lock(dir: &Path) -> io::Result<Lock> {
    let mut file = File::open(dir)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(Lock(lock)),
            Err((back, nix::errno::Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

/// Makes the folder of a new container and locks it.
pub(super) fn reserve(ctx: &Context<'_>, id: &str) -> Result<(PathBuf, Lock), RuntimeError> {
    check_id(id)?;
    let doing = || format!("make the folder of {id:?} below {}", ctx.root.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&ctx.root).doing(doing)?;
    let dir = ctx.root.join(id);
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(RuntimeError::Exists { id: id.to_owned() });
        }
        other => other.doing(doing)?,
    }
    let lock = lock(&dir).doing(doing)?;
    Ok((dir, lock))
}

impl Container {
    /// Reads the container `id`.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`].
    pub(super) fn load(ctx: &Context<'_>, id: &str) -> Result<Self, RuntimeError> {
        check_id(id)?;
        let dir = ctx.root.join(id);
        let record = store::load(&dir.join("state.json"))
            .doing(|| format!("read the record of {id:?}"))?
            .ok_or_else(|| RuntimeError::NotFound { id: id.to_owned() })?;
        Ok(Self { id: id.to_owned(), dir, record: record.value })
    }

    /// Reads it when no other verb changes it, and keeps it so.
    pub(super) fn load_locked(ctx: &Context<'_>, id: &str) -> Result<(Self, Lock), RuntimeError> {
        check_id(id)?;
        let lock = match lock(&ctx.root.join(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::NotFound { id: id.to_owned() });
            }
            other => other.doing(|| format!("lock container {id:?}"))?,
        };
        // Only now: who held the lock before may have removed it.
        Ok((Self::load(ctx, id)?, lock))
    }

    /// Writes the record.
    pub(super) fn save(&self) -> Result<(), RuntimeError> {
        store::save(&self.dir.join("state.json"), &self.record)
            .doing(|| format!("write the record of {:?}", self.id))
    }

    /// Its configuration as it was at create, without hooks, and the hooks.
    pub(super) fn config(&self) -> Result<(Spec, Hooks), RuntimeError> {
        let path = self.dir.join("config.json");
        let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let mut spec: Spec =
            serde_json::from_slice(&text).doing(|| format!("parse {}", path.display()))?;
        let hooks = Hooks::of(&spec).doing(|| "read the configuration")?;
        spec.set_hooks(None);
        Ok((spec, hooks))
    }

    /// Its cgroup.
    pub(super) fn leaf(&self, ctx: &Context<'_>) -> Leaf {
        ctx.cgroups.container(&self.record.cgroup)
    }

    /// Its folder, open.
    pub(super) fn open_dir(&self) -> io::Result<OwnedFd> {
        File::open(&self.dir).map(OwnedFd::from)
    }

    /// The pid of its first process, 0 when it has none.
    pub(super) fn pid(&self, status: Status) -> i32 {
        match (&self.record.init, status) {
            (None, _) | (_, Status::Stopped) => 0,
            (Some(init), _) => init.pid,
        }
    }

    /// A pidfd of its first process; `None` when it has ended.
    pub(super) fn init(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        let Some(init) = self.record.init.as_ref().filter(|init| init.alive()) else {
            return Ok(None);
        };
        init.pidfd().doing(|| format!("open process {} of {:?}", init.pid, self.id))
    }

    /// What it is now.
    pub(super) fn status(&self, ctx: &Context<'_>) -> Result<Status, RuntimeError> {
        let Some(init) = &self.record.init else { return Ok(Status::Creating) };
        if !init.alive() {
            return Ok(Status::Stopped);
        }
        if !self.record.complete {
            return Ok(Status::Creating);
        }
        let dir = self.open_dir().doing(|| format!("open {}", self.dir.display()))?;
        if waits(dir.as_fd()) {
            return Ok(Status::Created);
        }
        let frozen =
            self.leaf(ctx).frozen().doing(|| format!("read the cgroup of {:?}", self.id))?;
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    /// Its state for callers and hooks. `pid` is as the reader sees it.
    pub(super) fn state(&self, status: Status, pid: i32) -> State<'_> {
        State {
            oci_version: &self.record.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: &self.record.bundle,
            rootfs: &self.record.rootfs,
            created: clock::rfc3339(self.record.created_at_nanos),
            owner: "",
            annotations: &self.record.annotations,
        }
    }
}

/// Whether somebody listens for the start: the process closes its end when it goes on, at the
/// latest by its execve. It takes no notice of a connection that says nothing.
fn waits(dir: BorrowedFd<'_>) -> bool {
    match socket::connect(dir, Path::new(START)) {
        Ok(_) => true,
        // So many wait already.
        Err(e) => e.raw_os_error() == Some(libc::EAGAIN),
    }
}

/// The verb `state`.
pub(super) fn print(ctx: &Context<'_>, id: &str) -> Result<(), RuntimeError> {
    let container = Container::load(ctx, id)?;
    let status = container.status(ctx)?;
    print_json(&container.state(status, container.pid(status)))
}

/// Prints a value for programs, indented.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), RuntimeError> {
    let text = serde_json::to_string_pretty(value).doing(|| "write JSON")?;
    writeln!(io::stdout(), "{text}").doing(|| "write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_name() {
        for good in ["a", "A-1_b+c.d", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", long.as_str()] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_state_is_written_as_the_specification_has_it() {
        let container = Container {
            id: "c1".to_owned(),
            dir: "/run/x/c1".into(),
            record: Record {
                oci_version: "1.0.2".to_owned(),
                bundle: "/b".into(),
                rootfs: "/b/rootfs".into(),
                created_at_nanos: 1,
                cgroup: CgroupPath::root(),
                scope: false,
                init: None,
                complete: false,
                annotations: [("k".to_owned(), "v".to_owned())].into(),
            },
        };
        let text = serde_json::to_value(container.state(Status::Creating, 7)).unwrap();
        let expected = serde_json::json!({
            "ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": 7, "bundle": "/b",
            "rootfs": "/b/rootfs", "created": "1970-01-01T00:00:00.000000001Z", "owner": "",
            "annotations": { "k": "v" },
        });
        assert_eq!(text, expected);
    }

    #[test]
    fn who_waits_is_known_by_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let dir = File::open(dir.path()).unwrap();
        assert!(!waits(dir.as_fd()), "no socket");
        let listener = socket::listen(dir.as_fd(), Path::new(START)).unwrap();
        assert!(waits(dir.as_fd()));
        for _ in 0..20 {
            socket::connect(dir.as_fd(), Path::new(START)).ok();
        }
        assert!(waits(dir.as_fd()), "with a full queue");
        drop(listener);
        crate::testing::eventually("nobody listens", || !waits(dir.as_fd()));
    }
}
