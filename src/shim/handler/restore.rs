//! A restore by criu, of a container of this project's own executor. What comes back is no runtime's.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use super::container::Made;
use super::runtime::Runtime;
use super::verb::{Handled, Verb};
use crate::oci::{Restores, RuntimeCall, Stdio, spawn_runtime};
use crate::shim::container::Phase;
use crate::shim::server::Server;
use crate::shim::starting::{Asker, Starting, failed, refused};
use crate::shim::wire::{self, Failed, reply::Result as Answer};
use crate::sys::fds;

impl Server {
    /// Has criu bring back a container into `cgroup`.
    pub(in crate::shim) fn restore_handled(
        &self,
        (asker, within): (Asker, Duration),
        runtime: &Rc<Runtime>,
        (mounts, cgroup): (&[OwnedFd], BorrowedFd<'_>),
        stdio: Stdio,
    ) -> Result<Phase, Failed> {
        runtime.remove("log");
        runtime.remove("pid");
        let wrong = |errno| refused("read the request", &std::io::Error::from_raw_os_error(errno));
        let invalid = || wrong(libc::EINVAL);
        let plan = runtime.plan.restore.as_ref().ok_or_else(invalid)?;
        // Its other end would have to be in the images.
        if matches!(stdio, Stdio::Terminal(_)) {
            return Err(wrong(libc::ENOTTY));
        }
        let (stdio, console) = self.handler_stdio(runtime, stdio, "console")?;
        let mut arguments = plan.arguments.clone();
        let net = match plan.net_fd {
            None => None,
            Some(n) => {
                let net = usize::try_from(n).ok().and_then(|n| mounts.get(n));
                let net = net.ok_or_else(invalid)?;
                let inherited = format!("fd[{}]:extRootNetNS", fds::number(net.as_fd()));
                arguments.extend(["--inherit-fd".to_owned(), inherited]);
                Some(net.as_fd())
            }
        };
        let call = RuntimeCall {
            plan: &runtime.plan,
            host: runtime.host.as_fd(),
            mounts: Some(mounts),
            shm: self.namespace.shm(),
            cgroup,
            arguments,
            restores: Some(Restores { net }),
        };
        let spawned = spawn_runtime(&self.threads, &call, &stdio).map_err(|e| failed(&e))?;
        let call = Starting::new(asker, spawned, None, within);
        let (runtime, verb) = (Rc::clone(runtime), Verb::Restore);
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb, console, begun: false })))
    }

    /// criu has brought back a container, which is as one made here from now on.
    pub(super) fn container_back(&mut self, n: usize, asker: Asker, runtime: &Runtime) {
        let made = self.made(runtime, "pid");
        let Some(c) = self.containers.get_mut(n) else { return };
        c.runtime = None;
        match made {
            Ok(Made { process, ended }) => {
                let started = wire::Started { process: process.to_wire(), left_out: Vec::new() };
                c.phase = Phase::Running(process);
                self.answer(asker, Answer::Started(started), Vec::new());
                if let Some(ended) = ended {
                    self.container_ended(n, ended);
                }
            }
            Err(failed) => self.answer(asker, Answer::Failed(failed), Vec::new()),
        }
    }
}

/// The errors in a log of criu's, without time and place.
pub(super) fn errors(log: &str) -> Option<String> {
    let text = |line: &str| {
        let (_, rest) = line.split_once("Error (")?;
        rest.split_once("): ").map(|(_, text)| text.trim().to_owned())
    };
    let all: Vec<String> = log.lines().filter_map(text).take(8).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_criu_s_log_are_told() {
        let log = "(00.1) Warn (x.c:1): no\n(00.2)   1: Error (criu/y.c:2): first\n(00.3) Error (z.c:3): FAILED.\n";
        assert_eq!(errors(log).unwrap(), "first; FAILED.");
        assert_eq!(errors("nothing\n"), None);
    }
}
