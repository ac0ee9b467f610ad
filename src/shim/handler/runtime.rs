//! A container's runtime: how it is called, and the files by which it answers.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::unistd::UnlinkatFlags;

use super::restore::errors;
use crate::oci::{RuntimeCall, Spawned, Stdio, StepError, spawn_runtime};
use crate::shim::server::Server;
use crate::shim::starting::refused;
use crate::shim::wire::{Failed, HandlerPlan};
use crate::sys::path::{Resolve, open_in};
use crate::sys::process::Ended;

/// No log of a verb is longer, and no pid file.
const FILE_BYTES: u64 = 64 * 1024;

/// A container's runtime.
#[derive(Debug)]
pub(in crate::shim) struct Runtime {
    pub(super) plan: HandlerPlan,
    /// The container's id, by which the runtime knows it.
    pub(super) id: String,
    /// The host's mount namespace.
    pub(super) host: OwnedFd,
    /// The bundle's folder.
    pub(super) bundle: OwnedFd,
}

impl Runtime {
    /// From a request and its descriptors; what is left of those is the plan's mounts'.
    pub(in crate::shim) fn new(
        plan: HandlerPlan,
        id: String,
        host: OwnedFd,
        bundle: OwnedFd,
    ) -> Rc<Self> {
        Rc::new(Self { plan, id, host, bundle })
    }

    /// The words of a call: those for every verb, with its log, then its own.
    pub(super) fn arguments(&self, log: &str, verb: &[&str]) -> Vec<String> {
        let bundle = &self.plan.bundle;
        let root = format!("{bundle}/state");
        let log = format!("{bundle}/{log}");
        ["--root", &root, "--log", &log, "--log-format", "json"]
            .iter()
            .chain(verb)
            .map(|word| (*word).to_owned())
            .collect()
    }

    /// Removes a file of the bundle.
    pub(super) fn remove(&self, name: &str) {
        // What stays goes with the folder.
        nix::unistd::unlinkat(&self.bundle, name, UnlinkatFlags::NoRemoveDir).ok();
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let file =
            open_in(self.bundle.as_fd(), Path::new(name), libc::O_RDONLY, 0, Resolve::Beneath)?;
        let mut text = String::new();
        File::from(file).take(FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// The pid in a file of the bundle.
    pub(super) fn read_pid(&self, name: &str) -> Result<i32, Failed> {
        let step = "read the pid that the runtime wrote";
        let text = self.read(name).map_err(|e| refused(step, &e))?;
        let invalid = |_| refused(step, &io::Error::from_raw_os_error(libc::EINVAL));
        text.trim().parse().map_err(invalid)
    }

    /// The last words of a verb that failed.
    pub(super) fn said(&self, log: &str, verb: &str, ended: Ended) -> Failed {
        let how = match ended {
            Ended::Code(code) => format!("it exited with {code} and said nothing"),
            Ended::Signal(signal) => format!("it was killed by signal {signal}"),
        };
        let text = self.read(log).unwrap_or_default();
        let last = match self.plan.restore {
            Some(_) => errors(&text),
            None => last_message(&text),
        };
        self.failed(verb, last.unwrap_or(how))
    }

    /// A failure of a verb, in the words of the caller.
    pub(super) fn failed(&self, verb: &str, message: String) -> Failed {
        let step = format!("{} {verb}", self.plan.program);
        Failed { step, errno: None, message: Some(message) }
    }
}

impl Server {
    /// Calls a runtime with these words.
    pub(super) fn call(
        &self,
        runtime: &Runtime,
        arguments: Vec<String>,
        mounts: Option<&[OwnedFd]>,
        stdio: &Stdio,
    ) -> Result<Spawned, StepError> {
        let call = RuntimeCall {
            plan: &runtime.plan,
            host: runtime.host.as_fd(),
            mounts,
            shm: self.namespace.shm(),
            cgroup: self.given.own_cgroup.as_fd(),
            arguments,
            restores: None,
        };
        spawn_runtime(&self.threads, &call, stdio)
    }

    /// Streams of the shim's null device.
    pub(super) fn no_streams(&self) -> Result<Stdio, Failed> {
        let null = || self.given.null.try_clone().map_err(|e| refused("make standard streams", &e));
        Ok(Stdio::Streams { stdin: Some(null()?), stdout: null()?, stderr: null()? })
    }
}

/// The message of the last line of a log in JSON.
fn last_message(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| line.contains("\"msg\""))?;
    let (_, rest) = line.split_once("\"msg\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let mut text = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text.trim().to_owned()),
            '\\' => match chars.next()? {
                'n' | 't' | 'r' => text.push(' '),
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok()?;
                    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_of_a_log_is_read_with_its_escapes() {
        let log = "{\"level\":\"warning\",\"msg\":\"first\",\"time\":\"x\"}\n\
            {\"level\":\"error\", \"msg\": \"exec: \\\"/nope\\\": \\u003cnone\\u003e\\n\",\"time\":\"x\"}\n";
        assert_eq!(last_message(log).unwrap(), "exec: \"/nope\": <none>");
        assert_eq!(last_message("{\"msg\":\"cut"), None);
        assert_eq!(last_message("no such key\n"), None);
        assert_eq!(last_message(""), None);
    }
}
