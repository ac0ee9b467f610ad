//! Starting a program with everything that is inherited set, safe in a process with threads.
//!
//! Before exec the child has: an empty signal mask and default dispositions, a session and a
//! session keyring of its own, umask 0022, working directory `/` unless given, no ambient capabilities, no
//! parent-death signal, SCHED_OTHER at nice 0 on every CPU that its cpuset allows, the resource
//! limits given, and exactly the descriptors given (0, 1 and 2 are /dev/null unless given).
//! It starts in its cgroup and in new namespaces where asked (clone3(2)), and under the seccomp
//! programs given.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::prctl::Filter;
use super::process::{self, Ended};
use super::spawn_child::{Work, child_main};
use super::vfork;

/// A resource limit: `RLIMIT_*`, soft, hard.
pub type Limit = (u32, u64, u64);

/// Namespaces that are made with a process, not by it.
const CLONED: u64 = libc::CLONE_NEWPID.cast_unsigned() as u64;

/// Namespaces a child can start in: CLONE_NEW* bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewNamespaces(u64);

impl NewNamespaces {
    /// Adds one kind, a `CLONE_NEW*` constant, if `wanted`.
    #[must_use]
    pub fn with(self, kind: i32, wanted: Wanted) -> Self {
        match wanted {
            Wanted::Yes => Self(self.0 | u64::from(kind.cast_unsigned())),
            Wanted::No => self,
        }
    }
}

/// Whether something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl From<bool> for Wanted {
    fn from(wanted: bool) -> Self {
        if wanted { Self::Yes } else { Self::No }
    }
}

/// What a privilege that this process lacks does to a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// It fails.
    Required,
    /// Lowering oom_score_adj and raising hard limits are left out and told in [`Child::skipped`].
    BestEffort,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnStep {
    /// Preparing in the parent: strings, /dev/null.
    Prepare,
    /// clone3(2).
    Clone,
    /// setsid(2).
    Session,
    /// keyctl(2), a session keyring.
    Keyring,
    /// Becoming the root of the caller's user namespace.
    Root,
    /// sethostname(2).
    Hostname,
    /// Writing the setting with this number.
    Setting(usize),
    /// prlimit(2), the limit with this number.
    Limit(usize),
    /// Scheduling policy and niceness.
    Scheduling,
    /// chdir(2).
    Directory,
    /// Placing the descriptor with this number.
    Descriptor(usize),
    /// close_range(2).
    CloseRest,
    /// Becoming the user.
    User,
    /// seccomp(2), the filter with this number.
    Seccomp(usize),
    /// execveat(2).
    Exec,
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Clone => "clone",
            Self::Session => "start a session",
            Self::Keyring => "join a session keyring",
            Self::Root => "become the user namespace's root",
            Self::Hostname => "set the host name",
            Self::Setting(_) => "write a setting",
            Self::Limit(_) => "set a resource limit",
            Self::Scheduling => "set scheduling",
            Self::Directory => "change the directory",
            Self::Descriptor(_) => "place a descriptor",
            Self::CloseRest => "close descriptors",
            Self::User => "become the user",
            Self::Seccomp(_) => "load a seccomp program",
            Self::Exec => "exec",
        })
    }
}

/// A program that was not started.
#[derive(Debug, thiserror::Error)]
#[error("spawn {program}: {step}{subject}")]
pub struct SpawnError {
    /// The program.
    pub program: String,
    /// The step that failed.
    pub step: SpawnStep,
    /// What the step worked on: empty, or a space and the file.
    pub subject: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl SpawnError {
    /// The errno, 0 when no system call failed.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// A started program. Dropping it does not end it, and nobody else reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: i32,
    /// Its pidfd: readable when it has ended.
    pub pidfd: OwnedFd,
    /// What was left out under [`Privileges::BestEffort`].
    pub skipped: Vec<String>,
}

impl Child {
    /// Waits until it has ended and reaps it. Blocks.
    ///
    /// # Errors
    /// ECHILD when somebody reaped it already.
    pub fn wait(&self) -> io::Result<Ended> {
        process::wait_pidfd(self.pidfd.as_fd())
    }

    /// Reaps it if it has ended.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        process::try_wait_pidfd(self.pidfd.as_fd())
    }

    /// SIGKILL; success when it is already gone.
    ///
    /// # Errors
    /// As [`process::kill`].
    pub fn kill(&self) -> io::Result<()> {
        process::kill(self.pidfd.as_fd())
    }
}

/// Whom a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// All three user ids.
    pub uid: u32,
    /// All three group ids.
    pub gid: u32,
    /// The supplementary groups, no others.
    pub groups: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnRefusal {
    Fail,
    Skip,
}

pub(super) struct Setting {
    pub(super) path: CString,
    pub(super) value: Vec<u8>,
    pub(super) on_refusal: OnRefusal,
}

pub(super) enum Program<'a> {
    Path(CString),
    File(BorrowedFd<'a>),
}

/// A program to be started, built up and then [`Spawn::spawn`]ed. The environment is empty unless
/// given.
pub struct Spawn<'a> {
    name: String,
    pub(super) program: Program<'a>,
    args: Vec<CString>,
    env: Vec<CString>,
    pub(super) directory: CString,
    pub(super) fds: Vec<(i32, OwnedFd)>,
    cgroup: Option<BorrowedFd<'a>>,
    namespaces: NewNamespaces,
    pub(super) root: Wanted,
    pub(super) user: Option<User>,
    /// Whom the child shall not outlive.
    pub(super) parent: Option<i32>,
    pub(super) hostname: Option<Vec<u8>>,
    pub(super) settings: Vec<Setting>,
    pub(super) limits: Vec<Limit>,
    pub(super) filters: Vec<Filter>,
    pub(super) privileges: Privileges,
    invalid: bool,
}

impl<'a> Spawn<'a> {
    /// The program at `path`; argument 0 is the path.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let program = CString::new(path.as_os_str().as_bytes());
        let mut spawn = Self::with(
            path.display().to_string(),
            Program::Path(program.clone().unwrap_or_default()),
        );
        spawn.invalid = program.is_err();
        spawn.arg(path.as_os_str().as_bytes())
    }

    /// The program in the open file `file` (a memfd); argument 0 is `name`.
    pub fn file(file: BorrowedFd<'a>, name: &str) -> Self {
        Self::with(name.to_owned(), Program::File(file)).arg(name)
    }

    fn with(name: String, program: Program<'a>) -> Self {
        Self {
            name,
            program,
            args: Vec::new(),
            env: Vec::new(),
            directory: c"/".to_owned(),
            fds: Vec::new(),
            cgroup: None,
            namespaces: NewNamespaces::default(),
            root: Wanted::No,
            user: None,
            parent: None,
            hostname: None,
            settings: Vec::new(),
            limits: Vec::new(),
            filters: Vec::new(),
            privileges: Privileges::Required,
            invalid: false,
        }
    }

    fn c_string(&mut self, bytes: impl Into<Vec<u8>>) -> CString {
        CString::new(bytes).unwrap_or_else(|_| {
            self.invalid = true;
            CString::default()
        })
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        let arg = self.c_string(arg.as_ref());
        self.args.push(arg);
        self
    }

    /// Replaces all arguments, the first, which is the program's name to itself, included.
    #[must_use]
    pub fn argv<I: IntoIterator<Item = A>, A: AsRef<[u8]>>(mut self, args: I) -> Self {
        self.args.clear();
        self.args(args)
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = A>, A: AsRef<[u8]>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let mut text = format!("{key}=").into_bytes();
        text.extend_from_slice(value.as_ref());
        let text = self.c_string(text);
        self.env.push(text);
        self
    }

    /// Adds an environment variable in the form `NAME=value`.
    #[must_use]
    pub fn env_text(mut self, text: &str) -> Self {
        let text = self.c_string(text);
        self.env.push(text);
        self
    }

    /// Starts the child in this directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = self.c_string(path.as_os_str().as_bytes());
        self
    }

    /// Gives the child `fd` under the number `target`.
    #[must_use]
    pub fn fd(mut self, target: i32, fd: OwnedFd) -> Self {
        self.invalid |= target < 0 || self.fds.iter().any(|(t, _)| *t == target);
        self.fds.push((target, fd));
        self
    }

    /// Starts the child in this cgroup (a directory descriptor).
    #[must_use]
    pub fn cgroup(mut self, dir: BorrowedFd<'a>) -> Self {
        self.cgroup = Some(dir);
        self
    }

    /// Starts the child in new namespaces.
    #[must_use]
    pub fn namespaces(mut self, namespaces: NewNamespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Kills the child when the calling thread ends.
    #[must_use]
    pub fn ends_with_parent(mut self) -> Self {
        self.parent = Some(std::process::id().cast_signed());
        self
    }

    /// Has the child become the user and the group 0 of its user namespace, which the caller has
    /// joined as the host's root. It makes its namespaces as that user, but for a pid namespace.
    #[must_use]
    pub fn become_root(mut self) -> Self {
        self.root = Wanted::Yes;
        self
    }

    /// Has the child become `user`, by ids of its user namespace, when all is made that needs root.
    /// Another user than root has no capability then. The change marks the memory that the child shares
    /// with the caller until exec (ptrace(2), `dumpable`): for a caller that ends soon.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Sets the host name of the child's UTS namespace, which must be new.
    #[must_use]
    pub fn hostname(mut self, name: &str) -> Self {
        self.hostname = Some(name.as_bytes().to_vec());
        self
    }

    /// Has the child write `value` to the file at `path`, in the order of the calls: sysctls.
    #[must_use]
    pub fn setting(self, path: &str, value: &str) -> Self {
        self.push_setting(path, value, OnRefusal::Fail)
    }

    /// Sets oom_score_adj, -1000 to 1000.
    #[must_use]
    pub fn oom_score_adj(self, score: i32) -> Self {
        self.push_setting("/proc/self/oom_score_adj", &score.to_string(), OnRefusal::Skip)
    }

    fn push_setting(mut self, path: &str, value: &str, on_refusal: OnRefusal) -> Self {
        let path = self.c_string(path);
        self.settings.push(Setting { path, value: value.as_bytes().to_vec(), on_refusal });
        self
    }

    /// Sets a resource limit: `RLIMIT_*`, soft, hard.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Loads a seccomp program right before exec, which it must permit. no_new_privs stays off.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// What a missing privilege does.
    #[must_use]
    pub fn privileges(mut self, privileges: Privileges) -> Self {
        self.privileges = privileges;
        self
    }

    /// The namespaces that the child makes itself, as the user it has become.
    pub(super) fn late_namespaces(&self) -> i32 {
        match self.root {
            Wanted::Yes => i32::try_from(self.namespaces.0 & !CLONED).unwrap_or(0),
            Wanted::No => 0,
        }
    }

    fn error(&self, step: SpawnStep, source: io::Error) -> SpawnError {
        let subject = match step {
            SpawnStep::Setting(n) => {
                self.settings.get(n).map(|s| format!(" {}", s.path.to_string_lossy()))
            }
            SpawnStep::Descriptor(n) => self.fds.get(n).map(|(target, _)| format!(" {target}")),
            SpawnStep::Limit(n) => self.limits.get(n).map(|limit| format!(" {limit:?}")),
            _ => None,
        };
        let program = self.name.clone();
        SpawnError { program, step, subject: subject.unwrap_or_default(), source }
    }

    /// Starts the program. Returns when it has exec'd, or with what went wrong before.
    ///
    /// # Errors
    /// [`SpawnError`] with the step; the child is gone and reaped then.
    pub fn spawn(mut self) -> Result<Child, SpawnError> {
        if self.invalid {
            return Err(self.error(SpawnStep::Prepare, errno(libc::EINVAL)));
        }
        self.add_null().map_err(|e| self.error(SpawnStep::Prepare, e))?;
        self.fds.sort_by_key(|(target, _)| *target);
        let argv = pointers(&self.args);
        let envp = pointers(&self.env);
        let mut placed: Vec<i32> = vec![-1; self.fds.len()];
        let mut work = Work {
            spawn: &self,
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            placed: &mut placed,
            step: SpawnStep::Clone,
            errno: 0,
            skipped: 0,
            written: 0,
        };
        let cloned = match self.root {
            Wanted::Yes => self.namespaces.0 & CLONED,
            Wanted::No => self.namespaces.0,
        };
        // SAFETY: `child_main` keeps the rules (it only makes system calls on prepared memory and
        // ends in exec or _exit), and `work`, with all it borrows, outlives the call.
        let started =
            unsafe { vfork::vfork(cloned, self.cgroup, child_main, (&raw mut work).cast()) };
        let (step, code, skipped) = (work.step, work.errno, work.skipped);
        let (pid, pidfd) = started.map_err(|e| self.error(SpawnStep::Clone, e))?;
        if code != 0 {
            // It is past its last instruction but one; this wait is short.
            process::wait_pidfd(pidfd.as_fd()).ok();
            return Err(self.error(step, errno(code)));
        }
        Ok(Child { pid, pidfd, skipped: self.skipped(skipped) })
    }

    /// /dev/null for each of 0, 1 and 2 that was not given.
    fn add_null(&mut self) -> io::Result<()> {
        for target in 0..3 {
            if !self.fds.iter().any(|(t, _)| *t == target) {
                let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
                self.fds.push((target, null.into()));
            }
        }
        Ok(())
    }

    fn skipped(&self, bits: u64) -> Vec<String> {
        let settings = self.settings.iter().map(|s| s.path.to_string_lossy().into_owned());
        let limit = |(which, _, hard): &(u32, u64, u64)| {
            format!("{}: a hard limit of {hard}", super::prctl::limit_name(*which))
        };
        let limits = self.limits.iter().map(limit);
        settings
            .chain(limits)
            .enumerate()
            .filter(|(n, _)| bits & bit(*n) != 0)
            .map(|(_, what)| what)
            .collect()
    }
}

pub(super) fn bit(n: usize) -> u64 {
    1u64.checked_shl(u32::try_from(n).unwrap_or(u32::MAX)).unwrap_or(0)
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}
