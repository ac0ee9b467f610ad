//! The pid namespaces of a pod: of its pause, of its containers, and who reaps in them.

use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::{Node, Test, eventually, kernel, shared};
use crate::sandbox_namespaces::{HOST, OWN, PAUSE, owner, pid_mode, started};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_shared_pid_namespace_is_pauses", &[], shared_pid),
        shared("orphans_of_a_shared_pid_namespace_are_reaped", &[], orphans),
        shared("a_pause_of_the_same_user_cannot_be_looked_into", &[], closed_pause),
        shared("a_container_joins_the_pid_namespace_of_its_target", &[], target_pid),
        shared("a_container_that_says_nothing_gets_its_pods_pid_namespace", &[], silent_pid),
    ]
}

/// Who could look into pause would have its filter, its cgroup and the shim's mounts.
fn closed_pause(node: &Node) -> Result<()> {
    let user = Some(proto::Int64Value { value: 1000 });
    let mut config = pod(node, "closed-pause");
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().run_as_user = user;
    let id = node.run_pod(&config)?;
    let mut wanted = container("same-user", PATIENT);
    security(&mut wanted).namespace_options = Some(pid_mode(NamespaceMode::Pod));
    security(&mut wanted).run_as_user = user;
    let made = node.launch_container(&id, &config, &wanted)?;
    let pause = node.pause_pid(&id)?;
    let init = node.init_pid(&id, &made)?;
    for pid in [pause, init] {
        let ids = kernel::status_field(pid, "Uid")?;
        ensure!(ids.split_whitespace().all(|id| id == "1000"), "{pid} runs as {ids}");
    }
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        let held = kernel::status_field(pause, set)?;
        ensure!(u64::from_str_radix(&held, 16)? == 0, "pause has {set} {held}");
    }
    let look = |pid: &str| -> Result<bool> {
        let script = format!("ls -d /proc/{pid}/root/. && cat /proc/{pid}/environ >/dev/null");
        Ok(node.exec(&made, &["sh", "-c", &script], 0)?.2 == 0)
    };
    ensure!(!look("1")?, "it looks into pause");
    // Control: into another process of its user it does.
    let inside = kernel::status_field(init, "NSpid")?;
    ensure!(look(inside.split_whitespace().last().context("no pid")?)?, "it looks into none");
    Ok(())
}

fn shared_pid(node: &Node) -> Result<()> {
    let mut config = pod(node, "shared-pid");
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let id = node.run_pod(&config)?;
    let pause = node.pause_pid(&id)?;
    let (one, init) = started(node, &id, &config, "one", pid_mode(NamespaceMode::Pod))?;
    let (two, _) = started(node, &id, &config, "two", pid_mode(NamespaceMode::Pod))?;
    ensure!(owner(init, pause, "pid")? == PAUSE, "the pid namespace is not pause's");
    let ids = kernel::status_field(pause, "NSpid")?;
    ensure!(ids.split_whitespace().last() == Some("1"), "pause is not its process 1: {ids}");
    let own = i32::try_from(std::process::id())?;
    let host = kernel::namespace(own, "pid")?;
    ensure!(kernel::namespace(pause, "pid")? != host, "pause has the host's");
    for seen_from in [&one, &two] {
        eventually("both containers' processes are seen", || {
            let list = "cat /proc/[0-9]*/comm 2>/dev/null; true";
            let names = node.exec_ok(seen_from, &["sh", "-c", list])?;
            Ok((names.lines().filter(|name| *name == "sleep").count() == 2).then_some(()))
        })?;
    }
    // Control: a container with a pid namespace of its own sees itself alone.
    let (alone, init) = started(node, &id, &config, "alone", pid_mode(NamespaceMode::Container))?;
    ensure!(owner(init, pause, "pid")? == OWN);
    let first = node.exec_ok(&alone, &["cat", "/proc/1/comm"])?;
    ensure!(first == "sh", "process 1 is {first:?}");
    Ok(())
}

/// Kills the processes that a container left to the first process of its pid namespace.
fn end_orphans(node: &Node, pod: &str, id: &str) -> Result<Vec<i32>> {
    let command = |pid: &i32| kernel::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let orphans = eventually("the orphans are there", || {
        let mut pids = kernel::pids_in(&node.container_cgroup(pod, id))?;
        let sleeps =
            |pid: &i32, long: &str| command(pid).trim_end_matches('\0') == format!("sleep\0{long}");
        // Until it is a sleep, too, the shell that left them reaps what ends.
        let is_last = pids.iter().any(|pid| sleeps(pid, "100000"));
        pids.retain(|pid| sleeps(pid, "5000"));
        Ok((is_last && pids.len() == 3).then_some(pids))
    })?;
    for pid in &orphans {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    eventually("the orphans end", || {
        Ok((!orphans.iter().any(|&p| kernel::alive(p))).then_some(()))
    })?;
    Ok(orphans)
}

fn orphans(node: &Node) -> Result<()> {
    let script = "for n in 1 2 3; do (sleep 5000 &); done; exec sleep 100000";
    let mut config = pod(node, "orphans");
    pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let id = node.run_pod(&config)?;
    let left_by = |name: &str, mode| {
        let mut wanted = container(name, &["sh", "-c", script]);
        security(&mut wanted).namespace_options = Some(pid_mode(mode));
        let made = node.launch_container(&id, &config, &wanted)?;
        end_orphans(node, &id, &made)
    };
    // The control: sleep is the first process of its own, and reaps nobody.
    let kept = left_by("own", NamespaceMode::Container)?;
    let reaped = left_by("shared", NamespaceMode::Pod)?;
    let state = |pid: i32| kernel::status_field(pid, "State").ok();
    eventually("pause reaps them", || {
        Ok(reaped.iter().all(|&pid| state(pid).is_none()).then_some(()))
    })?;
    let zombie = |pid: i32| state(pid).is_some_and(|state| state.starts_with('Z'));
    ensure!(kept.iter().all(|&pid| zombie(pid)), "somebody else reaps them");
    Ok(())
}

fn target_pid(node: &Node) -> Result<()> {
    let config = pod(node, "target");
    let id = node.run_pod(&config)?;
    let (target, init) = started(node, &id, &config, "app", pid_mode(NamespaceMode::Container))?;
    let mode = proto::NamespaceOption {
        pid: NamespaceMode::Target.into(),
        target_id: target,
        ..Default::default()
    };
    let (_, debugger) = started(node, &id, &config, "debugger", mode)?;
    ensure!(kernel::namespace(debugger, "pid")? == kernel::namespace(init, "pid")?, "another one");
    ensure!(
        kernel::namespace(debugger, "mnt")? != kernel::namespace(init, "mnt")?,
        "and the files"
    );
    Ok(())
}

fn silent_pid(node: &Node) -> Result<()> {
    for (mode, expected) in
        [(NamespaceMode::Container, OWN), (NamespaceMode::Pod, PAUSE), (NamespaceMode::Node, HOST)]
    {
        let mut config = pod(node, &format!("silent-{}", mode.as_str_name().to_lowercase()));
        pod_namespaces(&mut config).pid = mode.into();
        let id = node.run_pod(&config)?;
        let mut silent = container("silent", PATIENT);
        security(&mut silent).namespace_options = None;
        let made = node.launch_container(&id, &config, &silent).context(mode.as_str_name())?;
        let init = kernel::pids_in(&node.container_cgroup(&id, &made))?;
        let init = *init.iter().min().context("no process")?;
        let got = owner(init, node.pause_pid(&id)?, "pid")?;
        ensure!(got == expected, "in a pod with {mode:?} it is in {got}");
    }
    // Control: one that names the pod's in a pod that has none is told so.
    let config = pod(node, "contradicted");
    let id = node.run_pod(&config)?;
    let mut says = container("says", PATIENT);
    security(&mut says).namespace_options = Some(pid_mode(NamespaceMode::Pod));
    let status = node.create(&id, &config, &says).err().context("POD was taken")?;
    let told = status.message();
    ensure!(
        status.code() == Code::InvalidArgument && told.contains("shares no pid namespace"),
        "{status}"
    );
    Ok(())
}
