//! create: everything of a container but its program.
//!
//! The record is written before anything is made, with all that a removal must know. What fails is
//! undone at once; what a killed `create` left is removed by `delete --force`.

use super::args::CreateArgs;
use super::bundle::Bundle;
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::gate::{GO, Gate};
use super::state::{Container, Lock, Record, START, Status, reserve};
use super::{cgroup, console, delete, hooks, resources, scope};
use crate::clock;
use crate::error::chain;
use crate::oci::{
    Held, NewUserns, PodContext, PodHandles, Prepared, Report, Spawned, Stage, Stdio, Volumes,
    parse_report, parse_stage, prepare, spawn, take_terminal,
};
use crate::sys::mount::{self, Reach};
use crate::sys::path::c_path;
use crate::sys::process::{InitPid, SingleThreaded};
use crate::sys::{pipe, prctl, process, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A container that was created, and its process, a child of ours that waits for its start.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) container: Container,
    pub(super) process: Spawned,
    /// Until this is dropped no other verb changes it.
    pub(super) lock: Lock,
}

/// The verb `create`.
pub(super) fn create(ctx: &Context<'_>, args: &CreateArgs) -> Result<(), RuntimeError> {
    let bundle = Bundle::load(args.bundle.as_deref())?;
    let console = console::connect(bundle.terminal(), args.console_socket.as_deref())?;
    let terminal = console.as_ref().map_or(Terminal::None, Terminal::Sent);
    make(ctx, args, &bundle, terminal).map(drop)
}

/// What becomes of the process's terminal.
#[derive(Debug)]
pub(super) enum Terminal<'a> {
    /// It has none: its standard descriptors are ours.
    None,
    /// Its master is sent to somebody.
    Sent(&'a UnixStream),
    /// Its master is ours.
    Kept(&'a mut Option<OwnedFd>),
}

/// Makes the container; undoes what was made when a step fails.
pub(super) fn make(
    ctx: &Context<'_>,
    args: &CreateArgs,
    bundle: &Bundle,
    terminal: Terminal<'_>,
) -> Result<Created, RuntimeError> {
    if args.no_pivot {
        return Err(RuntimeError::refused("--no-pivot is not supported"));
    }
    let record = Record {
        oci_version: bundle.spec.version().clone(),
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created_at_nanos: clock::now_nanos(),
        cgroup: cgroup::path(&bundle.spec, &args.id, ctx.systemd_cgroup)?,
        scope: ctx.systemd_cgroup,
        init: None,
        complete: false,
        annotations: bundle.spec.annotations().clone().unwrap_or_default().into_iter().collect(),
    };
    let (dir, lock) = reserve(ctx, &args.id)?;
    let mut container = Container { id: args.id.clone(), dir, record };
    let mut made = Made::default();
    match build(ctx, &mut container, (args, bundle), terminal, &mut made) {
        Ok(process) => Ok(Created { container, process, lock }),
        Err(error) => {
            undo(ctx, &container, bundle, &made);
            Err(error)
        }
    }
}

/// What has to be undone beside the folder.
#[derive(Debug, Default)]
struct Made {
    /// The cgroup is ours: nobody else was in it.
    cgroup: bool,
    process: Option<OwnedFd>,
}

fn undo(ctx: &Context<'_>, container: &Container, bundle: &Bundle, made: &Made) {
    if let Some(pidfd) = &made.process {
        // Gone already is as good.
        process::kill(pidfd.as_fd()).ok();
        process::wait_pidfd(pidfd.as_fd()).ok();
    }
    let removed = match made.cgroup {
        true => delete::remove_cgroup(ctx, container),
        false => Ok(()),
    };
    if let Err(error) = removed.and_then(|()| delete::remove_dir(container)) {
        ctx.log.warn(&format!("undo the creation of {:?}: {}", container.id, chain(&error)));
    }
    if made.process.is_some() {
        delete::run_poststop(ctx, container, &bundle.hooks);
    }
}

fn build(
    ctx: &Context<'_>,
    container: &mut Container,
    (args, bundle): (&CreateArgs, &Bundle),
    mut terminal: Terminal<'_>,
    made: &mut Made,
) -> Result<Spawned, RuntimeError> {
    container.save()?;
    let config = container.dir.join("config.json");
    std::fs::write(&config, &bundle.text).doing(|| format!("write {}", config.display()))?;
    let prepared = plan(ctx, args, bundle)?;
    let leaf = container.leaf(ctx);
    let asked = resources::of_spec(&bundle.spec)?;
    let seed = if container.record.scope {
        Some(scope::start(ctx, container, &asked.limits)?)
    } else {
        leaf.create_empty().doing(|| "create the cgroup")?;
        None
    };
    made.cgroup = true;
    if seed.is_none() {
        leaf.apply(&asked.limits).doing(|| "set the limits")?;
    }
    leaf.set_devices(&asked.devices).doing(|| "set the device rules")?;

    let (mut process, turn, terminal_socket) = begin(ctx, container, bundle, prepared, &terminal)?;
    drop(seed);
    made.process = Some(process.pidfd.try_clone().doing(|| "copy a descriptor")?);
    container.record.init =
        Some(InitPid::of(process.pid).doing(|| format!("look at process {}", process.pid))?);
    container.save()?;

    let mut told = Vec::new();
    follow(&mut process, &mut told, Stage::Built)?;
    let state = container.state(Status::Creating, process.pid);
    hooks::run_all("prestart", &bundle.hooks.prestart, &state, &bundle.dir)?;
    hooks::run_all("createRuntime", &bundle.hooks.create_runtime, &state, &bundle.dir)?;
    if let Some(socket) = terminal_socket {
        let master = take_terminal(socket.as_fd()).doing(|| "take the terminal")?;
        match &mut terminal {
            Terminal::None => {}
            Terminal::Sent(to) => console::send(to, master.as_fd())?,
            Terminal::Kept(place) => **place = Some(master),
        }
    }
    nix::unistd::write(&turn, GO).doing(|| "let the process go on")?;
    follow(&mut process, &mut told, Stage::Waiting)?;
    container.record.complete = true;
    container.save()?;
    if let Some(path) = &args.pid_file {
        write_pid(path, process.pid)?;
    }
    Ok(process)
}

/// The executor's plan.
fn plan(ctx: &Context<'_>, args: &CreateArgs, bundle: &Bundle) -> Result<Prepared, RuntimeError> {
    let doing = || format!("open the root file system {}", bundle.rootfs.display());
    let path = c_path(&bundle.rootfs).doing(doing)?;
    let rootfs = mount::clone_tree(nix::fcntl::AT_FDCWD, &path, Reach::Tree).doing(doing)?;
    let (privileges, volumes) = (ctx.config.process.privileges, Volumes::default());
    let new_userns = NewUserns::Fork;
    let pod =
        PodContext { pause: None, privileges, target: None, new_userns, volumes, hooks: None };
    let mut prepared = prepare(&bundle.spec, rootfs, &pod).doing(|| "read the configuration")?;
    prepared.plan.process.preserved_fds = Some(args.preserve_fds);
    prepared.plan.process.keep_keyring = Some(args.no_new_keyring);
    Ok(prepared)
}

/// Clones the process. Its turn pipe, and our end of what its terminal comes by.
fn begin(
    ctx: &Context<'_>,
    container: &Container,
    bundle: &Bundle,
    prepared: Prepared,
    terminal: &Terminal<'_>,
) -> Result<(Spawned, OwnedFd, Option<OwnedFd>), RuntimeError> {
    let threads = SingleThreaded::prove().doing(|| "count threads")?;
    // Who calls may have a niceness, which nobody can take off in a user namespace that is not its own.
    prctl::set_scheduling(prctl::Scheduling::default()).doing(|| "set scheduling")?;
    let dir = container.open_dir().doing(|| "open the container's folder")?;
    let listener =
        socket::listen(dir.as_fd(), Path::new(START)).doing(|| "listen for the start")?;
    let (turn_read, turn) = pipe::turn().doing(|| "make a pipe")?;
    let (stdio, terminal_socket) = match terminal {
        Terminal::None => (inherited_stdio()?, None),
        Terminal::Sent(_) | Terminal::Kept(_) => {
            let (ours, childs) = console::pair()?;
            (Stdio::Terminal(childs), Some(ours))
        }
    };
    let root_at = bundle.rootfs.to_str().ok_or("is not UTF-8").doing(|| "root.path")?;
    let gate = Gate {
        container,
        root_at,
        turn: turn_read,
        listener,
        create_container: &bundle.hooks.create_container,
        start_container: &bundle.hooks.start_container,
        pid: Cell::new(0),
    };
    let cgroup = container.leaf(ctx).open_fd().doing(|| "open the cgroup")?;
    let fallback = cgroup::own(ctx)?;
    let handles = PodHandles {
        pause_pidfd: None,
        shm: None,
        cgroup: cgroup.as_fd(),
        fallback_cgroup: fallback.as_fd(),
    };
    let held = Held { plan: &prepared.plan, hold: Some(&gate) };
    let process = spawn(&threads, held, prepared.fds, stdio, &handles)
        .doing(|| "start the container's process")?;
    Ok((process, turn, terminal_socket))
}

/// Our own standard descriptors.
pub(super) fn inherited_stdio() -> Result<Stdio, RuntimeError> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| {
        crate::sys::fds::above_standard(fd).doing(|| "copy a standard descriptor")
    };
    Ok(Stdio::Streams {
        stdin: Some(copy(std::io::stdin().as_fd())?),
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// Reads reports until the process is at a stop. Without time limit: hooks of its own have theirs.
fn follow(process: &mut Spawned, told: &mut Vec<u8>, until: Stage) -> Result<(), RuntimeError> {
    loop {
        if let Report::Failed(error) = parse_report(told) {
            return Err(error).doing(|| "create the container");
        }
        if parse_stage(told) == until {
            return Ok(());
        }
        if !read_report(process, told)? {
            return Err(RuntimeError::refused(
                "the container's process was killed before it was set up: out of memory?",
            ));
        }
    }
}

/// Waits for more of a report; false at its end.
pub(super) fn read_report(process: &mut Spawned, told: &mut Vec<u8>) -> Result<bool, RuntimeError> {
    let doing = || "follow the container's process";
    loop {
        let mut fds = [PollFd::new(process.report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.doing(doing)?,
        };
        let mut bytes = [0u8; 1024];
        match nix::unistd::read(&process.report, &mut bytes) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                told.extend_from_slice(bytes.get(..n).unwrap_or_default());
                return Ok(true);
            }
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(e) => return Err(e).doing(doing),
        }
    }
}

/// Writes a pid for a caller, who may read at any moment: whole or not at all.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<(), RuntimeError> {
    let doing = || format!("write the pid to {}", path.display());
    let name = path.file_name().ok_or("it has no file name").doing(doing)?;
    let beside = path.with_file_name(format!(".{}", name.to_string_lossy()));
    std::fs::write(&beside, pid.to_string()).doing(doing)?;
    std::fs::rename(&beside, path).doing(doing)
}
