//! The daemon's own life: start, stop, what it says of itself, what it refuses.

use crate::harness::cri::Cri;
use crate::harness::machine::Machine;
use crate::harness::pod::pod;
use crate::harness::{Node, Options, Test, eventually, kernel, own, poll, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, CgroupDriver, ContainerState, PodSandboxState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_stop_leaves_pods_running_and_the_next_start_adopts_them", &[], options, stop),
        own("a_stop_waits_for_the_rpcs_in_flight", &[], options, drain),
        own("nothing_is_told_before_all_is_known", &[], options, recovering),
        own("a_shim_that_does_not_answer_holds_up_its_own_pod_alone", &[], options, stuck),
        own("the_service_manager_is_told", &[], options, notify),
        shared("a_second_daemon_on_the_same_roots_is_refused", &[], second),
        shared("an_unknown_key_is_refused_with_file_and_line", &[], unknown_key),
        shared("the_configuration_is_told_with_its_origins", &[], origins),
        shared("the_socket_is_for_root_and_its_group_alone", &[], socket_mode),
        shared("the_node_tells_what_it_is", &[], version),
        shared("the_node_tells_how_it_is", &[], status),
    ]
}

fn options(_: &Machine) -> Options {
    Options::default()
}

fn stop(node: &mut Node) -> Result<()> {
    let (pod, id) = node.patient_pod("stays")?;
    let (init, pause, shim) =
        (node.init_pid(&pod, &id)?, node.pause_pid(&pod)?, node.shim_pid(&pod)?);
    let ended = node.stop()?;
    ensure!(ended.success(), "SIGTERM is a clean stop: {ended}");
    ensure!(!node.socket().exists(), "the socket is left");
    for (what, pid) in [("container", init), ("pause", pause), ("shim", shim)] {
        ensure!(kernel::alive(pid), "the {what} went with the daemon");
    }
    node.launch()?;
    ensure!(node.pod(&pod)?.state() == PodSandboxState::SandboxReady);
    ensure!(node.container(&id)?.state() == ContainerState::ContainerRunning);
    ensure!(node.init_pid(&pod, &id)? == init && node.shim_pid(&pod)? == shim, "made anew");
    ensure!(node.exec_ok(&id, &["echo", "here"])? == "here");
    node.stop_container(&id, Duration::from_secs(50))?;
    ensure!(node.container(&id)?.exit_code == 0, "the adopted container's exit is told");
    Ok(())
}

fn drain(node: &mut Node) -> Result<()> {
    let (_, id) = node.patient_pod("drained")?;
    let mut client = node.cri.runtime();
    let request = proto::ExecSyncRequest {
        container_id: id,
        cmd: ["sh", "-c", "touch /begun; sleep 2; echo done"].map(String::from).to_vec(),
        timeout: 0,
    };
    let id = request.container_id.clone();
    let call = node.cri.begin(async move { client.exec_sync(request).await });
    eventually("the command runs", || {
        Ok((node.exec(&id, &["test", "-e", "/begun"], 0)?.2 == 0).then_some(()))
    })?;
    let ended = node.stop()?;
    ensure!(ended.success(), "{ended}");
    let answer = node.cri.finish(call).context("the call in flight")?;
    ensure!(answer.stdout == b"done\n" && answer.exit_code == 0, "{answer:?}");
    node.launch()
}

/// A shim that does not answer holds recovery up: until it does, for ten seconds at most, there must be
/// no list at all.
fn recovering(node: &mut Node) -> Result<()> {
    let (pod, id) = node.patient_pod("slow")?;
    let shim = Pid::from_raw(node.shim_pid(&pod)?);
    node.kill()?;
    kill(shim, Signal::SIGSTOP)?;
    let socket = node.socket();
    let watcher = std::thread::spawn(move || watch(&socket, shim));
    let launched = node.launch();
    kill(shim, Signal::SIGCONT)?;
    let (refused, first) =
        watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
    launched?;
    ensure!(refused > 0, "the list was never refused");
    ensure!(first == [pod], "the first list: {first:?}");
    ensure!(node.container(&id)?.state() == ContainerState::ContainerRunning);
    Ok(())
}

/// One whose shim does not answer at all does not keep the others from being served for long.
fn stuck(node: &mut Node) -> Result<()> {
    let (pod, id) = node.patient_pod("stuck")?;
    let (other, beside) = node.patient_pod("other")?;
    let init = node.init_pid(&pod, &id)?;
    let shim = Pid::from_raw(node.shim_pid(&pod)?);
    node.kill()?;
    kill(shim, Signal::SIGSTOP)?;
    std::fs::write(node.path("fail-plan.within"), "500")?;
    let launched = node.launch().and_then(|()| {
        std::fs::remove_file(node.path("fail-plan.within"))?;
        ensure!(node.exec_ok(&beside, &["echo", "served"])? == "served");
        // What is recorded of it is told; what would have to ask it is refused, and changes nothing.
        ensure!(node.container(&id)?.state() == ContainerState::ContainerRunning);
        let refused = node.exec(&id, &["true"], 0).err().context("a command in it")?;
        ensure!(refused.to_string().contains("still being recovered"), "{refused}");
        let request = proto::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
        let refused = node.cri.stop_pod_sandbox(request).err().context("it was stopped")?;
        ensure!(refused.code() == Code::Unavailable && kernel::alive(init), "{refused}");
        node.remove_pod(&other)
    });
    kill(shim, Signal::SIGCONT)?;
    launched?;
    eventually("it is served again", || Ok(node.exec(&id, &["true"], 0).ok().map(drop)))?;
    ensure!(node.init_pid(&pod, &id)? == init, "another process");
    Ok(())
}

/// Asks for the list until there is one; lets the shim go on after some refusals. How often it was
/// refused, and the first list.
fn watch(socket: &Path, shim: Pid) -> Result<(usize, Vec<String>)> {
    let cri = Cri::new(socket)?;
    let mut refused = 0;
    let list = eventually("the list is answered", || {
        match cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()) {
            Ok(list) => Ok(Some(list)),
            // Other messages come from the transport, before the daemon listens.
            Err(status) if status.message().contains("recovering") => {
                ensure!(status.code() == Code::Unavailable, "{status:?}");
                let containers = cri.list_containers(proto::ListContainersRequest::default());
                let code = containers.err().map(|status| status.code());
                ensure!(code == Some(Code::Unavailable) || refused >= 10, "containers: {code:?}");
                cri.version(proto::VersionRequest::default()).context("Version needs no state")?;
                refused += 1;
                if refused == 10 {
                    kill(shim, Signal::SIGCONT)?;
                }
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    })?;
    Ok((refused, list.items.into_iter().map(|item| item.id).collect()))
}

/// sd_notify(3).
fn notify(node: &mut Node) -> Result<()> {
    node.stop()?;
    let path = node.path("notify.sock");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(poll::DEADLINE))?;
    node.set_env("NOTIFY_SOCKET", &path.to_string_lossy());
    node.set_env("WATCHDOG_USEC", "1000000");
    node.launch()?;
    let until = |wanted: &str| -> Result<Vec<String>> {
        let mut told = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let size = manager.recv(&mut bytes).with_context(|| format!("{wanted}: {told:?}"))?;
            let text = String::from_utf8_lossy(bytes.get(..size).unwrap_or_default()).into_owned();
            told.extend(text.lines().map(str::to_owned));
            if told.iter().any(|line| line == wanted) {
                return Ok(told);
            }
        }
    };
    let told = until("READY=1")?;
    ensure!(!told.iter().any(|line| line == "STOPPING=1"), "{told:?}");
    until("WATCHDOG=1")?;
    until("WATCHDOG=1")?;
    ensure!(node.stop()?.success());
    let told = until("STOPPING=1")?;
    ensure!(!told.iter().any(|line| line == "READY=1"), "{told:?}");
    node.launch()
}

fn second(node: &Node) -> Result<()> {
    let same = serve(&node.config_file())?;
    ensure!(!same.status.success(), "a second daemon on the same socket has run");
    let errors = text(&same);
    ensure!(errors.contains("in use") && errors.contains("berth.sock"), "{errors}");

    // Another socket does not make it another node.
    let other = node.path("other.toml");
    let config = std::fs::read_to_string(node.config_file())?;
    std::fs::write(&other, config.replacen("run/berth.sock", "other.sock", 1))?;
    let locked = serve(&other)?;
    ensure!(!locked.status.success(), "a second daemon on the same roots has run");
    ensure!(text(&locked).contains("another berth uses it"), "{}", text(&locked));
    ensure!(!node.path("other.sock").exists(), "the refused daemon's socket is left");

    // The first one has not noticed.
    node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?;
    Ok(())
}

fn unknown_key(node: &Node) -> Result<()> {
    let file = node.path("unknown.toml");
    std::fs::write(&file, "[server]\n\n[network]\nmode = \"builtin\"\nbrigde = \"b\"\n")?;
    for command in ["serve", "config"] {
        let output = Command::new(crate::harness::node::binary()?)
            .arg("--config")
            .arg(&file)
            .arg(command)
            .output()?;
        let errors = text(&output);
        ensure!(!output.status.success(), "{command} has taken it");
        let place = format!("{}:5: ", file.display());
        ensure!(errors.contains(&place) && errors.contains("brigde"), "{command}: {errors}");
        ensure!(errors.trim_end().lines().count() == 1, "{command}: {errors}");
    }
    Ok(())
}

fn origins(node: &Node) -> Result<()> {
    let folder = node.path("configured");
    std::fs::create_dir_all(folder.join("config.d"))?;
    let (file, drop_in) = (folder.join("config.toml"), folder.join("config.d/10-more.toml"));
    std::fs::write(&file, "[server]\ndrain_seconds = 3\n[network]\nmtu = 1400\n")?;
    std::fs::write(&drop_in, "[network]\nmtu = 1300\n")?;
    let output = Command::new(crate::harness::node::binary()?)
        .arg("--config")
        .arg(&file)
        .arg("config")
        .output()?;
    let told = String::from_utf8(output.stdout)?;
    for line in [
        format!("drain_seconds = 3  # {}:2", file.display()),
        format!("mtu = 1300  # {}:2", drop_in.display()),
        "socket = \"/run/berth/berth.sock\"  # default".to_owned(),
    ] {
        ensure!(told.lines().any(|told| told == line), "{line:?} is not in\n{told}");
    }
    Ok(())
}

fn socket_mode(node: &Node) -> Result<()> {
    let mode = std::fs::metadata(node.socket())?.permissions().mode() & 0o7777;
    ensure!(mode == 0o660, "mode {mode:o}");
    Ok(())
}

fn version(node: &Node) -> Result<()> {
    let told = node.cri.version(proto::VersionRequest::default())?;
    ensure!(told.runtime_name == "berth" && told.runtime_api_version == "v1", "{told:?}");
    ensure!(told.version == "0.1.0", "the kubelet's own protocol version: {told:?}");
    ensure!(told.runtime_version == env!("CARGO_PKG_VERSION"), "{told:?}");
    let config = node.cri.runtime_config(proto::RuntimeConfigRequest::default())?;
    let driver = config.linux.context("no Linux settings")?.cgroup_driver();
    ensure!(driver == CgroupDriver::Cgroupfs, "{driver:?}");
    Ok(())
}

fn status(node: &Node) -> Result<()> {
    let request = proto::StatusRequest { verbose: false };
    let brief = node.cri.status(request)?;
    ensure!(brief.info.is_empty(), "details that nobody asked for");
    let conditions = brief.status.context("no status")?.conditions;
    for wanted in ["RuntimeReady", "NetworkReady"] {
        let found = conditions.iter().find(|condition| condition.r#type == wanted);
        ensure!(found.is_some_and(|condition| condition.status), "{wanted}: {conditions:?}");
    }
    // What this machine cannot do is never silent.
    let not: BTreeSet<&str> =
        conditions.iter().filter(|c| !c.status).map(|c| c.r#type.as_str()).collect();
    let mut wanted = BTreeSet::new();
    if !node.machine.has(crate::harness::machine::Need::Controllers) {
        wanted.insert("CgroupsEnforced");
    }
    if !node.machine.has(crate::harness::machine::Need::Resources) {
        wanted.insert("PrivilegesEnforced");
    }
    ensure!(not == wanted, "{conditions:?}");
    let config = pod(node, "counted");
    node.run_pod(&config)?;
    let verbose = node.cri.status(proto::StatusRequest { verbose: true })?;
    ensure!(verbose.info.values().any(|text| text.contains("\"sandboxes\":1")), "{verbose:?}");
    Ok(())
}

/// `berth serve` that must end by itself.
fn serve(config: &Path) -> Result<Output> {
    let mut daemon = Command::new(crate::harness::node::binary()?)
        .arg("--config")
        .arg(config)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ended = eventually("the second daemon ends", || Ok(daemon.try_wait()?));
    if ended.is_err() {
        daemon.kill()?;
    }
    Ok(daemon.wait_with_output()?)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
