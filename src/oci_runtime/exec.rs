//! exec: a further process in a container.

use super::args::ExecArgs;
use super::context::Context;
use super::create::{inherited_stdio, read_report, write_pid};
use super::error::{Doing as _, RuntimeError};
use super::foreground::Foreground;
use super::state::{Container, Status};
use super::{cgroup, console};
use crate::oci::{
    NewUserns, PodContext, PodHandles, Report, Stdio, Volumes, parse_report, prepare_exec,
    spawn_exec, take_terminal,
};
use crate::sys::prctl;
use crate::sys::process::SingleThreaded;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process};
use std::os::fd::{AsFd as _, OwnedFd};
use std::str::FromStr as _;

/// The verb `exec`: the process's exit code, or 0 when nobody waits for it.
pub(super) fn exec(ctx: &Context<'_>, args: &ExecArgs) -> Result<u8, RuntimeError> {
    let container = Container::load(ctx, &args.id)?;
    match container.status(ctx)? {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        status @ Status::Stopped => {
            return Err(RuntimeError::NotRunning { id: args.id.clone(), status });
        }
        status => {
            return Err(RuntimeError::State { verb: "exec in", id: args.id.clone(), status });
        }
    }
    let (spec, _) = container.config()?;
    let process = process(args, spec.process().as_ref())?;
    let tty = process.terminal().unwrap_or(false);
    // Without a socket a terminal of a foreground process is shown on our own.
    let kept = tty && args.console_socket.is_none() && !args.detach;
    let console = match kept {
        true => None,
        false => console::connect(tty, args.console_socket.as_deref())?,
    };
    let (privileges, volumes) = (ctx.config.process.privileges, Volumes::default());
    let new_userns = NewUserns::Fork;
    let pod =
        PodContext { pause: None, privileges, target: None, new_userns, volumes, hooks: None };
    let mut plan =
        prepare_exec(&spec, &process, &pod).doing(|| "read the process's configuration")?;
    plan.process.preserved_fds = Some(args.preserve_fds);

    let threads = SingleThreaded::prove().doing(|| "count threads")?;
    // Who calls may have a niceness, which nobody can take off in a user namespace that is not its own.
    prctl::set_scheduling(prctl::Scheduling::default()).doing(|| "set scheduling")?;
    let foreground = match args.detach {
        true => None,
        false => Some(Foreground::begin().doing(|| "take over signals")?),
    };
    let (stdio, socket) = match tty {
        false => (inherited_stdio()?, None),
        true => {
            let (ours, childs) = console::pair()?;
            (Stdio::Terminal(childs), Some(ours))
        }
    };
    let not_running = || RuntimeError::NotRunning { id: args.id.clone(), status: Status::Stopped };
    let init = container.init()?.ok_or_else(not_running)?;
    let cgroup = place(ctx, &container)?;
    let fallback = cgroup::own(ctx)?;
    let handles = PodHandles {
        pause_pidfd: None,
        shm: None,
        cgroup: cgroup.as_fd(),
        fallback_cgroup: fallback.as_fd(),
    };
    let doing = || format!("exec in container {:?}", args.id);
    let mut spawned = spawn_exec(&threads, &plan, init.as_fd(), stdio, &handles).doing(doing)?;
    let mut told = Vec::new();
    while read_report(&mut spawned, &mut told)? {}
    match parse_report(&told) {
        Report::Ready => {}
        Report::Failed(error) => return Err(error).doing(doing),
        Report::Pending => {
            return Err("the process was killed before its program began").doing(doing);
        }
    }
    let mut master = None;
    if let Some(socket) = socket {
        let terminal = take_terminal(socket.as_fd()).doing(|| "take the terminal")?;
        match &console {
            Some(to) => console::send(to, terminal.as_fd())?,
            None => master = Some(terminal),
        }
    }
    if let Some(path) = &args.pid_file {
        write_pid(path, spawned.pid)?;
    }
    match foreground {
        None => Ok(0),
        Some(foreground) => foreground
            .attend(spawned.pidfd.as_fd(), master)
            .doing(|| format!("wait for process {}", spawned.pid)),
    }
}

/// The container's own cgroup; where the container has made cgroups of its own and lives in one of
/// them, the one its first process is in.
fn place(ctx: &Context<'_>, container: &Container) -> Result<OwnedFd, RuntimeError> {
    let leaf = container.leaf(ctx);
    let doing = || format!("open the cgroup of {:?}", container.id);
    let divided = leaf.read_back("cgroup.subtree_control").doing(doing)?;
    match (&container.record.init, divided.is_some_and(|text| !text.is_empty())) {
        (Some(init), true) => cgroup::of(ctx, init.pid),
        _ => leaf.open_fd().doing(doing),
    }
}

/// The process to run: a whole one from a file, or the container's own with changes.
fn process(args: &ExecArgs, own: Option<&Process>) -> Result<Process, RuntimeError> {
    let mut process = match &args.process {
        Some(file) => {
            let doing = || format!("read the process from {}", file.display());
            let text = std::fs::read(file).doing(doing)?;
            let mut process: Process = serde_json::from_slice(&text).doing(doing)?;
            if args.tty {
                process.set_terminal(Some(true));
            }
            return Ok(process);
        }
        None => own.cloned().unwrap_or_default(),
    };
    if args.command.is_empty() {
        return Err(RuntimeError::refused("a command, or --process, is missing"));
    }
    process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(dedup(env)));
    let mut user = process.user().clone();
    if let Some(text) = &args.user {
        let (uid, gid) = parse_user(text)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if !args.cap.is_empty() {
        let own = process.capabilities().clone();
        process.set_capabilities(Some(with_capabilities(own, &args.cap)?));
    }
    Ok(process)
}

/// Of a variable that is set twice, the last counts.
fn dedup(env: Vec<String>) -> Vec<String> {
    let name = |text: &str| text.split('=').next().map(str::to_owned);
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for text in env {
        kept.retain(|earlier| name(earlier) != name(&text));
        kept.push(text);
    }
    kept
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), RuntimeError> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid.parse(), Some(gid.parse())),
        None => (text.parse(), None),
    };
    match (uid, gid.transpose()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err(RuntimeError::refused(format!("--user {text:?}: expected UID or UID:GID"))),
    }
}

fn with_capabilities(
    own: Option<LinuxCapabilities>,
    names: &[String],
) -> Result<LinuxCapabilities, RuntimeError> {
    let mut sets = own.unwrap_or_default();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let capability = Capability::from_str(upper.strip_prefix("CAP_").unwrap_or(&upper))
            .doing(|| format!("--cap {name:?}"))?;
        let with = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective) = (with(sets.bounding()), with(sets.effective()));
        let permitted = with(sets.permitted());
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Verb};
    use super::*;
    use clap::Parser as _;

    fn of(line: &str) -> Result<Process, String> {
        let Verb::Exec(args) = Cli::parse_from(line.split(' ')).oci.verb else {
            panic!("not exec")
        };
        let own: Process = serde_json::from_value(serde_json::json!({
            "cwd": "/own", "args": ["own"], "env": ["PATH=/bin", "A=1"],
            "user": { "uid": 5, "gid": 6 }, "noNewPrivileges": false,
            "capabilities": { "bounding": ["CAP_KILL"] },
        }))
        .unwrap();
        process(&args, Some(&own)).map_err(|e| crate::error::chain(&e))
    }

    #[test]
    fn the_containers_process_is_changed_by_options() {
        let process = of("berth-oci exec -e A=2 -e B=3 --cwd /x -u 7 -g 9 --cap cap_chown \
             --no-new-privs c1 ls -l")
        .unwrap();
        assert_eq!(process.args().as_deref().unwrap(), ["ls", "-l"]);
        assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!((process.user().uid(), process.user().gid()), (7, 6));
        assert_eq!(process.user().additional_gids().as_deref().unwrap(), [9]);
        assert_eq!(process.cwd().to_str(), Some("/x"));
        assert_eq!(process.no_new_privileges(), Some(true));
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert!(sets.effective().as_ref().unwrap().contains(&Capability::Chown));
        assert!(of("berth-oci exec -u 1:2 c1 x").is_ok_and(|p| p.user().gid() == 2));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, told) in [
            ("berth-oci exec c1", "a command"),
            ("berth-oci exec -u root c1 x", "--user"),
            ("berth-oci exec -u 1: c1 x", "--user"),
            ("berth-oci exec --cap CAP_NOPE c1 x", "CAP_NOPE"),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
