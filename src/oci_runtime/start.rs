//! start: the process of a created container goes on to its program.

use super::context::Context;
use super::delete;
use super::error::{Doing as _, RuntimeError};
use super::gate::GO;
use super::hooks::{self, Hooks};
use super::state::{Container, START, Status};
use crate::oci::{Report, parse_report};
use crate::sys::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// The verb `start`.
pub(super) fn start(ctx: &Context<'_>, id: &str) -> Result<(), RuntimeError> {
    let (container, _lock) = Container::load_locked(ctx, id)?;
    let (_, hooks) = container.config()?;
    begin(ctx, &container, &hooks)
}

/// Starts a created container. The caller holds its lock.
pub(super) fn begin(
    ctx: &Context<'_>,
    container: &Container,
    hooks: &Hooks,
) -> Result<(), RuntimeError> {
    let refused =
        |status| Err(RuntimeError::State { verb: "start", id: container.id.clone(), status });
    match container.status(ctx)? {
        Status::Created => {}
        other => return refused(other),
    }
    if container.leaf(ctx).frozen().doing(|| "read the cgroup")? {
        return refused(Status::Paused);
    }
    let dir = container.open_dir().doing(|| "open the container's folder")?;
    let doing = || format!("reach the process of {:?}", container.id);
    let connection = socket::connect(dir.as_fd(), Path::new(START)).doing(doing)?;
    socket::send(connection.as_fd(), GO, &[]).doing(doing)?;
    let answer = read_to_end(&connection).doing(doing)?;
    let doing = || format!("start container {:?}", container.id);
    match parse_report(&answer) {
        Report::Ready => {}
        Report::Failed(error) => return Err(error).doing(doing),
        Report::Pending => {
            return Err("its process was killed before its program began").doing(doing);
        }
    }
    // Nobody listens on it any more.
    nix::unistd::unlinkat(&dir, START, nix::unistd::UnlinkatFlags::NoRemoveDir).ok();
    let pid = container.record.init.as_ref().map_or(0, |init| init.pid);
    let state = container.state(Status::Running, pid);
    let bundle = &container.record.bundle;
    hooks::run_all("poststart", &hooks.poststart, &state, bundle).inspect_err(|_| {
        // A container whose hooks failed must not be left to run.
        if let Err(error) = delete::kill_all(ctx, container) {
            ctx.log.warn(&crate::error::chain(&error));
        }
    })
}

/// All that comes until the other end is closed, which its execve does.
fn read_to_end(connection: &OwnedFd) -> nix::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut bytes = [0u8; 1024];
    loop {
        let mut fds = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        match nix::unistd::read(connection, &mut bytes) {
            // A process that was killed while there was something for it to read.
            Ok(0) | Err(nix::errno::Errno::ECONNRESET) => return Ok(all),
            Ok(n) => all.extend_from_slice(bytes.get(..n).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(e) => return Err(e),
        }
    }
}
