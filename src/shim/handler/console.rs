//! A terminal that a runtime makes: it sends the master to a socket of the shim's, `--console-socket`.
//!
//! Nobody waits for it: when the verb is done the master is there, or the verb has failed. The socket is
//! named as a file of the bundle, which is the runtime's working directory, since an address holds 107
//! bytes and a bundle may lie deep.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::runtime::Runtime;
use crate::oci::{Stdio, take_terminal};
use crate::shim::server::Server;
use crate::shim::starting::refused;
use crate::shim::wire::Failed;
use crate::sys::{socket, terminal};

/// The socket of one verb; its file goes with it.
#[derive(Debug)]
pub(super) struct Console {
    runtime: Rc<Runtime>,
    listener: OwnedFd,
    name: String,
}

impl Console {
    fn listen(runtime: &Rc<Runtime>, name: &str) -> Result<Self, Failed> {
        let listener = socket::listen(runtime.bundle.as_fd(), Path::new(name))
            .map_err(|e| refused("listen for a terminal", &e))?;
        Ok(Self { runtime: Rc::clone(runtime), listener, name: name.to_owned() })
    }

    /// What the verb is told of it.
    pub(super) fn words(&self) -> [&str; 2] {
        ["--console-socket", &self.name]
    }

    /// The master that came, twice. `verb` is done.
    pub(super) fn take(self, runtime: &Runtime, verb: &str) -> Result<[OwnedFd; 2], Failed> {
        self.receive().map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof => {
                    "none was sent".to_owned()
                }
                _ => error.to_string(),
            };
            runtime.failed(verb, format!("take the terminal from --console-socket: {why}"))
        })
    }

    fn receive(&self) -> io::Result<[OwnedFd; 2]> {
        let came = socket::accept(self.listener.as_fd())?.ok_or(io::ErrorKind::WouldBlock)?;
        let master = take_terminal(came.as_fd())?;
        terminal::adopt(master.as_fd())?;
        Ok([master.try_clone()?, master])
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.runtime.remove(&self.name);
    }
}

impl Server {
    /// The streams of a runtime itself: it gets the null device where the container gets no input, and
    /// everywhere when it makes a terminal, which then arrives at the file `name` of the bundle.
    pub(super) fn handler_stdio(
        &self,
        runtime: &Rc<Runtime>,
        stdio: Stdio,
        name: &str,
    ) -> Result<(Stdio, Option<Console>), Failed> {
        match stdio {
            Stdio::Streams { stdin: None, stdout, stderr } => {
                let null = self.given.null.try_clone();
                let stdin = Some(null.map_err(|e| refused("make standard streams", &e))?);
                Ok((Stdio::Streams { stdin, stdout, stderr }, None))
            }
            Stdio::Streams { .. } => Ok((stdio, None)),
            Stdio::Terminal(_) => Ok((self.no_streams()?, Some(Console::listen(runtime, name)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::wire::HandlerPlan;
    use std::fs::File;
    use std::os::fd::BorrowedFd;

    fn console(bundle: &Path) -> Console {
        let open = || OwnedFd::from(File::open(bundle).unwrap());
        let plan = HandlerPlan { program: "/usr/bin/runc".to_owned(), ..HandlerPlan::default() };
        let runtime = Runtime::new(plan, "c".to_owned(), open(), open());
        Console::listen(&runtime, "console").unwrap()
    }

    /// What a runtime does, and what comes of it.
    fn sent(fds: &[BorrowedFd<'_>]) -> Result<[OwnedFd; 2], Failed> {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let console = console(&deep);
        let to = socket::connect(console.runtime.bundle.as_fd(), Path::new("console")).unwrap();
        if !fds.is_empty() {
            socket::send(to.as_fd(), b"/dev/pts/0", fds).unwrap();
        }
        drop(to);
        let runtime = Rc::clone(&console.runtime);
        let taken = console.take(&runtime, "create");
        assert!(std::fs::read_dir(&deep).unwrap().next().is_none(), "its file stays");
        taken
    }

    #[test]
    fn a_master_that_was_sent_is_taken_and_never_waits() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let [master, copy] = sent(&[pty.master.as_fd()]).unwrap();
        let mut byte = [0u8; 1];
        for fd in [&master, &copy] {
            assert_eq!(nix::unistd::read(fd, &mut byte).unwrap_err(), nix::errno::Errno::EAGAIN);
        }
        nix::unistd::write(&pty.slave, b"x").unwrap();
        assert_eq!(nix::unistd::read(&master, &mut byte).unwrap(), 1);
    }

    #[test]
    fn what_is_no_master_or_never_came_is_a_failure_of_the_verb() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let null = File::open("/dev/null").unwrap();
        for (fds, why) in [
            (vec![], "none was sent"),
            (vec![null.as_fd()], "ioctl"),
            (vec![pty.slave.as_fd()], "ioctl"),
        ] {
            let failed = sent(&fds).unwrap_err();
            assert_eq!(failed.step, "/usr/bin/runc create");
            assert!(failed.message.clone().unwrap().contains(why), "{failed:?}");
        }
        // Nobody connected at all.
        let folder = tempfile::tempdir().unwrap();
        let console = console(folder.path());
        let runtime = Rc::clone(&console.runtime);
        let failed = console.take(&runtime, "exec").unwrap_err();
        assert!(failed.message.unwrap().ends_with("none was sent"));
    }
}
