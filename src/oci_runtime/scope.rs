//! Containers whose cgroup systemd makes (`--systemd-cgroup`).
//!
//! A scope does not exist without a process, and the container's first one is cloned into its cgroup. So a
//! seed holds the scope until then: a child that waits for the end of a pipe, and so ends with this process.
//! A `create` that is killed leaves no scope.
//!
//! Requests go over D-Bus, which needs a second thread; processes are cloned by one that has no other. The
//! thread is there for the requests of one step, and gone after it.

use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::Container;
use crate::cgroups::{Resources, Scope};
use crate::sys::clone::{self, Forked, Kinship};
use crate::sys::process::{self, SingleThreaded};
use crate::sys::{fds, pipe};
use nix::poll::poll;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// A thread that was joined is gone from the kernel's count a moment later.
const ALONE_WITHIN: Duration = Duration::from_secs(10);

/// A process that holds a scope as long as this value lives.
#[derive(Debug)]
pub(super) struct Seed {
    pid: i32,
    pidfd: OwnedFd,
    _hold: OwnedFd,
}

impl Seed {
    fn plant() -> Result<Self, RuntimeError> {
        let doing = || "start a process to hold the scope";
        let threads = SingleThreaded::prove().doing(doing)?;
        let (wait, hold) = pipe::turn().doing(doing)?;
        match clone::fork(&threads, Kinship::Child, 0, None).doing(doing)? {
            Forked::Child => {
                // The other end of the pipe, and everything of the caller's, is closed.
                let closed = fds::close_all_but(0, &mut [fds::number(wait.as_fd())]);
                let end = closed.and_then(|()| Ok(nix::unistd::read(&wait, &mut [0u8; 1])?));
                clone::exit(i32::from(end.is_err()))
            }
            Forked::Parent { pid, pidfd } => Ok(Self { pid, pidfd, _hold: hold }),
        }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        // It has no other way to go than to end.
        process::kill(self.pidfd.as_fd()).ok();
        process::wait_pidfd(self.pidfd.as_fd()).ok();
    }
}

/// Has systemd make the container's scope. It stays while the seed is held, then as long as the container
/// has a process.
pub(super) fn start(
    ctx: &Context<'_>,
    container: &Container,
    limits: &Resources,
) -> Result<Seed, RuntimeError> {
    let seed = Seed::plant()?;
    let description = format!("berth-oci container {}", container.id);
    with(ctx, container, "create", |scope| {
        scope.start(seed.pid, description, limits).doing(|| doing(container, "create"))
    })?;
    Ok(seed)
}

/// Changes the limits of the container's scope.
pub(super) fn apply(
    ctx: &Context<'_>,
    container: &Container,
    limits: &Resources,
) -> Result<(), RuntimeError> {
    with(ctx, container, "update", |scope| scope.apply(limits).doing(|| doing(container, "update")))
}

/// Removes the container's scope, in which nothing runs any more.
pub(super) fn remove(ctx: &Context<'_>, container: &Container) -> Result<(), RuntimeError> {
    with(ctx, container, "remove", |scope| scope.remove().doing(|| doing(container, "remove")))
}

fn doing(container: &Container, what: &str) -> String {
    format!("{what} {} by systemd (--systemd-cgroup)", container.record.cgroup.name())
}

/// Runs requests; afterwards this process has one thread again.
fn with(
    ctx: &Context<'_>,
    container: &Container,
    what: &str,
    work: impl FnOnce(&Scope) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let doing = || doing(container, what);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().doing(doing)?;
    let done = {
        let _inside = runtime.enter();
        ctx.cgroups.scope(&container.record.cgroup).doing(doing).and_then(|scope| work(&scope))
    };
    drop(runtime);
    let end = Instant::now() + ALONE_WITHIN;
    while let Err(error) = SingleThreaded::prove() {
        if Instant::now() >= end {
            return done.and(Err(error).doing(doing));
        }
        // Nothing is polled: this is a pause, and one that ends early does no harm.
        poll(&mut [], 1u8).ok();
    }
    done
}
