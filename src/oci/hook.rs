//! One OCI hook: a program of somebody else's that gets the container's state as its standard
//! input. Run by the daemon, by the OCI command, and by a container's process on its way to exec.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::sys::process::Ended;
use crate::sys::spawn::Spawn;

/// So much of what a failed hook wrote goes into the error.
const OUTPUT_MAX: usize = 1024;

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// The program; absolute.
    pub path: PathBuf,
    /// Its arguments, the name first.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// How many seconds it may take.
    pub timeout: Option<u64>,
}

/// The state of a container as hooks get it, JSON around its status and its pid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateText {
    /// Up to the status.
    pub head: String,
    /// From behind the pid on.
    pub tail: String,
}

impl StateText {
    /// The whole state.
    pub fn with(&self, status: &str, pid: i32) -> Vec<u8> {
        format!("{}{status}\",\"pid\":{pid}{}", self.head, self.tail).into_bytes()
    }
}

impl Hook {
    /// Runs it to its end, in the namespaces of the caller and, where one is given, in a cgroup.
    ///
    /// # Errors
    /// How it ended, and the end of what it wrote.
    pub fn run(
        &self,
        state: &[u8],
        directory: &Path,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        // Memory and no pipes: whether a hook reads or writes, nobody waits for it.
        let mut input = memory("state")?;
        input.write_all(state)?;
        input.rewind()?;
        let mut output = memory("output")?;
        let copy = |file: &File| file.try_clone().map(OwnedFd::from);
        let mut spawn = Spawn::new(&self.path)
            .argv(&self.args)
            .directory(directory)
            .fd(0, input.into())
            .fd(1, copy(&output)?)
            .fd(2, copy(&output)?);
        if let Some(cgroup) = cgroup {
            spawn = spawn.cgroup(cgroup);
        }
        let spawn = self.env.iter().fold(spawn, |spawn, text| spawn.env_text(text));
        let child = spawn.spawn().map_err(|error| {
            io::Error::new(error.source.kind(), format!("{}: {}", error.step, error.source))
        })?;
        let deadline = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let ended = loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                child.kill()?;
                child.wait()?;
                let seconds = self.timeout.unwrap_or_default();
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
