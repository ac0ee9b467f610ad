//! kill: a signal for a container's first process, or for all of them.

use super::args::KillArgs;
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::{Container, Status};
use crate::container::stop_signal;
use crate::sys::process;
use oci_spec::runtime::LinuxNamespaceType;
use std::os::fd::AsFd as _;

/// The verb `kill`.
pub(super) fn kill(ctx: &Context<'_>, args: &KillArgs) -> Result<(), RuntimeError> {
    let signal = number(&args.signal)?;
    let container = Container::load(ctx, &args.id)?;
    let status = container.status(ctx)?;
    let not_running = || RuntimeError::NotRunning { id: args.id.clone(), status };
    // What a container without a pid namespace of its own left behind is found by its cgroup.
    let everybody = args.all || (signal == libc::SIGKILL && !has_own_pids(&container)?);
    if everybody {
        return match (signal_all(ctx, &container, signal)?, status) {
            (0, Status::Stopped | Status::Creating) if !args.all => Err(not_running()),
            _ => Ok(()),
        };
    }
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(not_running());
    }
    let init = container.init()?.ok_or_else(not_running)?;
    match process::signal(init.as_fd(), signal) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(not_running()),
        other => other.doing(|| format!("send signal {signal} to {:?}", args.id)),
    }
}

/// A signal by name or number; 0 asks only whether there is somebody.
fn number(text: &str) -> Result<i32, RuntimeError> {
    match text {
        "0" => Ok(0),
        _ => stop_signal::number(text)
            .ok_or_else(|| RuntimeError::refused(format!("{text:?} is not a signal"))),
    }
}

fn has_own_pids(container: &Container) -> Result<bool, RuntimeError> {
    let (spec, _) = container.config()?;
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone());
    Ok(namespaces
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()))
}

/// Signals every process in the cgroup; how many there were.
fn signal_all(
    ctx: &Context<'_>,
    container: &Container,
    signal: i32,
) -> Result<usize, RuntimeError> {
    let doing = || format!("send signal {signal} to all of {:?}", container.id);
    let leaf = container.leaf(ctx);
    if !leaf.exists() {
        return Ok(0);
    }
    let pids = leaf.pids().doing(doing)?;
    if signal == libc::SIGKILL {
        leaf.kill().doing(doing)?;
        return Ok(pids.len());
    }
    for pid in &pids {
        // One that ended meanwhile needs no signal.
        let Ok(pidfd) = process::open_pidfd(*pid) else { continue };
        match process::signal(pidfd.as_fd(), signal) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            other => other.doing(doing)?,
        }
    }
    Ok(pids.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [("KILL", 9), ("SIGTERM", 15), ("9", 9), ("0", 0), ("34", 34)] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "65", "-1", "SIGNOPE"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
