//! Running a short-lived program (a plugin, nft) in the helpers cgroup of a sandbox: bytes in,
//! bytes out, a deadline.
//!
//! The cgroup is what makes recovery safe: a program that outlives a killed daemon is found and
//! killed there before anything is undone, so that an orphaned ADD never races a DEL.

use crate::cgroups::{CgroupError, Leaf};
use crate::error::ErrorKind;
use crate::sys::process::Ended;
use crate::sys::spawn::{Child, Spawn, SpawnError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A result larger than this is not a result.
const STDOUT_LIMIT: usize = 1 << 20;
/// Of what is said on stderr, the last of it is kept.
const STDERR_LIMIT: usize = 8 << 10;
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// A program to run.
pub(crate) struct Helper<'a> {
    /// Its file.
    pub(crate) program: &'a Path,
    /// Its arguments after the name.
    pub(crate) args: &'a [&'a str],
    /// Its whole environment.
    pub(crate) env: &'a [(&'a str, String)],
    /// What it reads.
    pub(crate) stdin: &'a [u8],
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// What a program that ended left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) ended: Ended,
    pub(crate) stdout: Vec<u8>,
    /// The end of what it said.
    pub(crate) stderr: String,
}

/// A program that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It was not started.
    #[error("start helper")]
    Start(#[from] Box<SpawnError>),
    /// Its cgroup could not be made, killed or removed.
    #[error("helpers cgroup")]
    Cgroup(#[from] Box<CgroupError>),
    /// It did not end in time, and was killed.
    #[error("{program} did not end within {limit:?} and was killed{said}")]
    Deadline {
        /// The program.
        program: String,
        /// How long it was waited for.
        limit: Duration,
        /// What it said on stderr until then.
        said: String,
    },
    /// It printed more than a result can be.
    #[error("{program} printed more than {STDOUT_LIMIT} bytes")]
    TooMuch {
        /// The program.
        program: String,
    },
    /// Killed processes of an earlier run do not end.
    #[error("processes in {path} do not end after SIGKILL")]
    Stuck {
        /// The cgroup.
        path: String,
    },
    /// Its pipes failed.
    #[error("{operation} {program}")]
    Pipe {
        /// What was attempted.
        operation: &'static str,
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<CgroupError> for HelperError {
    fn from(error: CgroupError) -> Self {
        Self::Cgroup(Box::new(error))
    }
}

impl HelperError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start(e) if e.source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::FailedPrecondition
            }
            Self::Cgroup(e) => e.kind(),
            Self::Deadline { .. } | Self::Stuck { .. } => ErrorKind::DeadlineExceeded,
            Self::Start(_) | Self::TooMuch { .. } | Self::Pipe { .. } => ErrorKind::Internal,
        }
    }
}

/// Runs a program in `group`, which is made if it is missing. Blocks the thread.
///
/// # Errors
/// [`HelperError`]; nothing of the program runs any more then.
pub(crate) fn run(helper: &Helper<'_>, group: &Leaf) -> Result<Output, HelperError> {
    let name = helper.program.display().to_string();
    let failed = |operation, source: nix::Error| HelperError::Pipe {
        operation,
        program: name.clone(),
        source: source.into(),
    };
    let dir = open_group(group)?;
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
    let (stdin_read, stdin_write) = pipe().map_err(|e| failed("make pipes for", e))?;
    let (stdout_read, stdout_write) = pipe().map_err(|e| failed("make pipes for", e))?;
    let (stderr_read, stderr_write) = pipe().map_err(|e| failed("make pipes for", e))?;
    for ours in [&stdin_write, &stdout_read, &stderr_read] {
        set_nonblocking(ours).map_err(|e| failed("make pipes for", e))?;
    }
    let mut spawn = Spawn::new(helper.program)
        .args(helper.args)
        .fd(0, stdin_read)
        .fd(1, stdout_write)
        .fd(2, stderr_write)
        .cgroup(dir.as_fd());
    for (key, value) in helper.env {
        spawn = spawn.env(key, value);
    }
    let child = spawn.spawn().map_err(Box::new)?;
    let mut talk = Talk {
        stdin: Some((stdin_write.into(), helper.stdin)),
        stdout: Sink::new(stdout_read),
        stderr: Sink::new(stderr_read),
    };
    let end = talk.until_ended(&child, Instant::now() + helper.limit);
    let said = talk.said();
    match end {
        Ok(End::Ended(ended)) => Ok(Output { ended, stdout: talk.stdout.bytes, stderr: said }),
        not_ended => {
            kill_group(group)?;
            // It is dead; this only reaps it.
            child.wait().ok();
            Err(match not_ended {
                Ok(End::TooMuch) => HelperError::TooMuch { program: name },
                Err(source) => HelperError::Pipe { operation: "talk to", program: name, source },
                Ok(End::Deadline | End::Ended(_)) => HelperError::Deadline {
                    program: name,
                    limit: helper.limit,
                    said: if said.is_empty() { said } else { format!(": {said}") },
                },
            })
        }
    }
}

/// Makes and opens a helpers cgroup. The folder above it goes with its last child, so another
/// sandbox's removal can take it away beside us: tried again.
fn open_group(group: &Leaf) -> Result<OwnedFd, CgroupError> {
    for _ in 0..4 {
        if let Ok(dir) = group.create().and_then(|()| group.open_fd()) {
            return Ok(dir);
        }
    }
    group.create()?;
    group.open_fd()
}

/// Kills everything in a helpers cgroup, waits until it is empty, and removes it. One that is not
/// there is fine.
///
/// Kernels since the fix of the race between fork and cgroup.kill (6.14, and stable ones) take a
/// process that is cloned into a cgroup that was ever killed for one that escaped the kill, and kill
/// it. So a killed cgroup is never used again; a new one of the same name is another one.
///
/// # Errors
/// [`HelperError::Stuck`] when something stays after SIGKILL; [`HelperError::Cgroup`].
pub(super) fn kill_group(group: &Leaf) -> Result<(), HelperError> {
    if !group.exists() {
        return Ok(());
    }
    if group.populated()? {
        group.kill()?;
        if !group.wait_empty(KILL_WAIT)? {
            return Err(HelperError::Stuck { path: group.path().to_string() });
        }
    }
    Ok(group.remove()?)
}

/// Removes a helpers cgroup unless something still runs in it, which is not waited for.
pub(crate) fn tidy_group(group: &Leaf) {
    if group.exists() && group.populated().is_ok_and(|populated| !populated) {
        // What stays is removed at the pod's detach.
        group.remove().ok();
    }
}

fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_| ())
}

enum End {
    Ended(Ended),
    Deadline,
    TooMuch,
}

/// The three pipes of a running program.
struct Talk<'a> {
    /// What is still to be written; `None` when that is done.
    stdin: Option<(File, &'a [u8])>,
    stdout: Sink,
    stderr: Sink,
}

/// A pipe that is read from; `file` is `None` when the other end is closed.
struct Sink {
    file: Option<File>,
    bytes: Vec<u8>,
}

impl Sink {
    fn new(pipe: OwnedFd) -> Self {
        Self { file: Some(pipe.into()), bytes: Vec::new() }
    }

    /// Reads what is there.
    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0_u8; 4096];
        // A program that writes without end does not keep this from looking at the deadline.
        for _ in 0..64 {
            let Some(file) = &mut self.file else { break };
            match file.read(&mut chunk) {
                Ok(0) => self.file = None,
                Ok(count) => self.bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Talk<'_> {
    /// Moves bytes until the program has ended. What its own children still hold open is not waited
    /// for.
    fn until_ended(&mut self, child: &Child, deadline: Instant) -> io::Result<End> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(End::Deadline);
            }
            self.wait(child, left)?;
            // Asked before the pipes are read: what it wrote before its end is there then.
            let ended = child.try_wait()?;
            self.write()?;
            self.stdout.fill()?;
            self.stderr.fill()?;
            let surplus = self.stderr.bytes.len().saturating_sub(STDERR_LIMIT);
            self.stderr.bytes.drain(..surplus);
            if self.stdout.bytes.len() > STDOUT_LIMIT {
                return Ok(End::TooMuch);
            }
            if let Some(ended) = ended {
                return Ok(End::Ended(ended));
            }
        }
    }

    fn wait(&self, child: &Child, left: Duration) -> io::Result<()> {
        let mut wait = vec![PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
        if let Some((file, _)) = &self.stdin {
            wait.push(PollFd::new(file.as_fd(), PollFlags::POLLOUT));
        }
        for file in [&self.stdout.file, &self.stderr.file].into_iter().flatten() {
            wait.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so that the last millisecond is not spun away.
        let millis = u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
        match poll(&mut wait, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some((file, bytes)) = &mut self.stdin else { return Ok(()) };
        match file.write(bytes) {
            Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // A program need not read what it does not need.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => *bytes = &[],
            Err(e) => return Err(e),
        }
        if bytes.is_empty() {
            self.stdin = None;
        }
        Ok(())
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes).trim().to_owned()
    }
}
