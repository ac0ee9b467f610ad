//! The hooks of a container of a pod, as its process meets them.
//!
//! ```text
//!  berth                                     the process
//!    │◂─ pid (i32), by the turn's socket ────────│ root file system built, inside the host's tree
//!    │  prestart, createRuntime hooks             │
//!    │── one byte ──────────────────────────────▸│ createContainer hooks, pivot, …
//!    │                                            │ startContainer hooks, user, filters, execve
//! ```
//!
//! A shim's mount namespace holds nothing of the host's tree: for createContainer hooks, which are
//! programs of the host, a copy of it becomes the process's root until the pivot. A daemon that
//! dies ends the socket, and with it the process.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::hold::{Hold, SPARE};
use super::hook::{Hook, StateText};
use super::step::{Step, StepError};
use crate::shim::wire::{HookPlan, HooksPlan};
use crate::sys::fds;

/// The stops of a process whose plan has hooks.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    plan: &'a HooksPlan,
    socket: Option<OwnedFd>,
    /// The process's pid as the host sees it: known before the pivot only.
    pid: Cell<i32>,
}

impl<'a> Turn<'a> {
    /// `plan_fds` are the descriptors of the whole plan.
    pub(super) fn new(plan: &'a HooksPlan, plan_fds: &[OwnedFd]) -> Result<Self, StepError> {
        let failed = |error: io::Error| StepError::new(Step::Hook, &error, "the turn's socket");
        let socket = match plan.turn_fd {
            None => None,
            Some(index) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let missing = || failed(io::Error::from_raw_os_error(libc::EBADF));
                let fd = plan_fds.get(index).ok_or_else(missing)?;
                Some(fds::above_standard(fd.as_fd()).map_err(failed)?)
            }
        };
        Ok(Self { plan, socket, pid: Cell::new(0) })
    }

    /// Waits until the daemon has run its hooks.
    fn wait(&self, socket: BorrowedFd<'_>) -> Result<(), StepError> {
        let failed = |error: nix::errno::Errno, what: &str| {
            StepError::new(Step::Hook, &io::Error::from(error), what)
        };
        nix::unistd::write(socket, &self.pid.get().to_ne_bytes())
            .map_err(|e| failed(e, "tell the pid"))?;
        let mut byte = [0u8; 1];
        match nix::unistd::read(socket, &mut byte) {
            Ok(1) => Ok(()),
            Ok(_) => {
                let detail = "the hooks outside did not come to their end".to_owned();
                Err(StepError { step: Step::Hook, errno: 0, detail })
            }
            Err(e) => Err(failed(e, "wait for the hooks outside")),
        }
    }

    fn run(
        &self,
        (name, hooks): (&str, &[HookPlan]),
        status: &str,
        directory: &Path,
    ) -> Result<(), StepError> {
        let (head, tail) = (self.plan.state_head.clone(), self.plan.state_tail.clone());
        let state = StateText { head, tail }.with(status, self.pid.get());
        for (n, hook) in hooks.iter().enumerate() {
            from_plan(hook).run(&state, directory, None).map_err(|error| {
                let detail = format!("{name} hook {n}, {}: {error}", hook.path);
                StepError { step: Step::Hook, errno: 0, detail }
            })?;
        }
        Ok(())
    }
}

fn from_plan(plan: &HookPlan) -> Hook {
    Hook {
        path: plan.path.clone().into(),
        args: plan.args.clone(),
        env: plan.env.clone(),
        timeout: plan.timeout_seconds,
    }
}

impl Hold for Turn<'_> {
    fn root_at(&self) -> &str {
        match self.plan.host_fd {
            Some(_) => &self.plan.root_at,
            None => "/",
        }
    }

    fn spare(&self) -> &str {
        SPARE
    }

    fn fds(&self) -> Vec<u32> {
        self.socket.iter().map(|fd| fds::number(fd.as_fd())).collect()
    }

    fn built(&self, _: BorrowedFd<'_>) -> Result<(), StepError> {
        // The shim's /proc or the host's: both tell the pid that the host knows.
        let own = std::fs::read_link("/proc/self")
            .map_err(|e| StepError::new(Step::Hook, &e, "read the own pid"))?;
        self.pid.set(own.to_str().and_then(|pid| pid.parse().ok()).unwrap_or(0));
        if let Some(socket) = &self.socket {
            self.wait(socket.as_fd())?;
        }
        let bundle = Path::new(&self.plan.bundle);
        self.run(("createContainer", &self.plan.create_container), "creating", bundle)
    }

    fn ready(&self, _: BorrowedFd<'_>) -> Result<(), StepError> {
        self.run(("startContainer", &self.plan.start_container), "created", Path::new("/"))
    }
}
