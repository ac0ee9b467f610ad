//! berth-shim: takes what it was started with (table in `shim::launch`) and serves its pod.
//!
//! What goes wrong before it serves is one line on descriptor 2, which is the daemon's pipe. The
//! pipe's end without a line means that it serves.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use berth::error::chain;
use berth::ids::SandboxId;
use berth::shim::inherited;
use berth::shim::server::{Inherited, Server};
use berth::sys::fd::take_inherited;
use berth::sys::process::SingleThreaded;
use berth::sys::spawn::Privileges;

fn main() -> ExitCode {
    let server = match begin() {
        Ok(server) => server,
        Err(message) => {
            // Nobody is left to tell when this fails.
            writeln!(io::stderr(), "{message}").ok();
            return ExitCode::FAILURE;
        }
    };
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn begin() -> Result<Server, String> {
    let mut args = std::env::args().skip(1);
    let id = args.next().ok_or("usage: started by berth, never by hand")?;
    SandboxId::parse(&id).map_err(|e| chain(&e))?;
    let privileges = match args.next().as_deref() {
        None => Privileges::Required,
        Some(inherited::BEST_EFFORT) => Privileges::BestEffort,
        Some(other) => return Err(format!("unknown argument {other:?}")),
    };
    let threads = SingleThreaded::prove().map_err(|e| format!("count threads: {e}"))?;
    let given = Inherited {
        listener: take(inherited::LISTENER)?,
        exits: take(inherited::EXITS)?,
        pause_program: take(inherited::PAUSE_PROGRAM)?,
        own_cgroup: take(inherited::OWN_CGROUP)?,
        null: null()?,
        privileges,
    };
    let stderr = given.null.try_clone().map_err(|e| format!("copy /dev/null: {e}"))?;
    let server = Server::begin(threads, given).map_err(|e| chain(&e))?;
    // From here on there is nobody to read descriptor 2.
    nix::unistd::dup2_stderr(&stderr).map_err(|e| format!("close the pipe: {e}"))?;
    Ok(server)
}

fn take(number: i32) -> Result<OwnedFd, String> {
    take_inherited(number).map_err(|e| format!("descriptor {number}: {e}"))
}

/// A copy of /dev/null, which is descriptor 0.
fn null() -> Result<OwnedFd, String> {
    use std::os::fd::AsFd as _;
    io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("copy /dev/null: {e}"))
}
