//! The namespaces of a pod and its containers, by inode, and the settings that live in them.

use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    use Need::PodNetwork;
    vec![
        shared("containers_share_net_ipc_uts_and_have_their_own_rest", &[PodNetwork], usual),
        shared("a_shared_pid_namespace_is_pauses", &[], shared_pid),
        shared("a_container_joins_the_pid_namespace_of_its_target", &[], target_pid),
        shared("a_container_that_says_nothing_gets_its_pods_pid_namespace", &[], silent_pid),
        shared("host_namespaces_are_the_hosts", &[PodNetwork], host_variants),
        shared("a_container_gets_no_more_of_the_host_than_its_pod", &[], more_than_its_pod),
        shared("the_hostname_is_the_pods_and_not_the_hosts", &[PodNetwork], hostname),
        shared("sysctls_are_set_in_the_pod_alone", &[PodNetwork], sysctls),
        shared("sysctls_of_the_node_are_refused_by_name", &[], refused_sysctls),
    ]
}

const KINDS: [&str; 6] = ["net", "ipc", "uts", "mnt", "pid", "cgroup"];
/// The harness runs in the host's namespaces.
const HOST: &str = "host";
const PAUSE: &str = "pause";
const OWN: &str = "its own";

/// Whose namespace of a kind a process is in.
fn owner(pid: i32, pause: i32, kind: &str) -> Result<&'static str> {
    let inode = kernel::namespace(pid, kind)?;
    let own_pid = i32::try_from(std::process::id())?;
    Ok(if inode == kernel::namespace(own_pid, kind)? {
        HOST
    } else if inode == kernel::namespace(pause, kind)? {
        PAUSE
    } else {
        OWN
    })
}

/// Compares the six namespaces of a process with what they should be.
fn expect(what: &str, pid: i32, pause: i32, owners: [&str; 6]) -> Result<()> {
    for (kind, expected) in KINDS.into_iter().zip(owners) {
        let got = owner(pid, pause, kind)?;
        ensure!(got == expected, "{what}: the {kind} namespace is {got}, expected {expected}");
    }
    Ok(())
}

fn started(
    node: &Node,
    id: &str,
    config: &proto::PodSandboxConfig,
    name: &str,
    pid: proto::NamespaceOption,
) -> Result<(String, i32)> {
    let mut wanted = container(name, PATIENT);
    security(&mut wanted).namespace_options = Some(pid);
    let container = node.launch_container(id, config, &wanted)?;
    let init = kernel::pids_in(&node.container_cgroup(id, &container))?;
    Ok((container, *init.iter().min().context("no process")?))
}

fn pid_mode(mode: NamespaceMode) -> proto::NamespaceOption {
    proto::NamespaceOption { pid: mode.into(), ..Default::default() }
}

fn usual(node: &Node) -> Result<()> {
    let config = pod(node, "usual");
    let id = node.run_pod(&config)?;
    let pause = node.pause_pid(&id)?;
    for kind in ["net", "ipc", "uts"] {
        let got = owner(pause, pause, kind)?;
        ensure!(got == PAUSE, "pause's {kind} namespace is {got}");
    }
    let (_, one) = started(node, &id, &config, "one", pid_mode(NamespaceMode::Container))?;
    let (_, two) = started(node, &id, &config, "two", pid_mode(NamespaceMode::Container))?;
    for (name, init) in [("one", one), ("two", two)] {
        expect(name, init, pause, [PAUSE, PAUSE, PAUSE, OWN, OWN, OWN])?;
    }
    for kind in ["mnt", "pid", "cgroup"] {
        let same = kernel::namespace(one, kind)? == kernel::namespace(two, kind)?;
        ensure!(!same, "two containers share the {kind} namespace");
    }
    // Another pod shares nothing.
    let other = node.run_pod(&pod(node, "other"))?;
    let other = node.pause_pid(&other)?;
    for kind in ["net", "ipc", "uts"] {
        let same = kernel::namespace(pause, kind)? == kernel::namespace(other, kind)?;
        ensure!(!same, "two pods share the {kind} namespace");
    }
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

fn host_variants(node: &Node) -> Result<()> {
    type Change = fn(&mut proto::NamespaceOption);
    let host = || i32::from(NamespaceMode::Node);
    let rows: [(&str, Change, [&str; 6]); 4] = [
        ("network", |o| o.network = NamespaceMode::Node.into(), [HOST, PAUSE, HOST, OWN, OWN, OWN]),
        ("ipc", |o| o.ipc = NamespaceMode::Node.into(), [PAUSE, HOST, PAUSE, OWN, OWN, OWN]),
        ("pid", |o| o.pid = NamespaceMode::Node.into(), [PAUSE, PAUSE, PAUSE, OWN, HOST, OWN]),
        (
            "all",
            |o| {
                o.network = NamespaceMode::Node.into();
                o.ipc = o.network;
                o.pid = o.network;
            },
            [HOST, HOST, HOST, OWN, HOST, OWN],
        ),
    ];
    for (name, change, owners) in rows {
        let mut config = pod(node, &format!("host-{name}"));
        change(pod_namespaces(&mut config));
        let pid = pod_namespaces(&mut config).pid;
        let id = node.run_pod(&config).context(name)?;
        let pause = node.pause_pid(&id)?;
        let options = proto::NamespaceOption { pid, ..Default::default() };
        let (_, init) = started(node, &id, &config, "main", options).context(name)?;
        expect(name, init, pause, owners)?;
        let told = node.pod(&id)?.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
        let told = told.context("no namespaces in the status")?;
        ensure!((told.network == host()) == (owners[0] == HOST), "{name}: told {told:?}");
        ensure!(told.pid == pid, "{name}: told {told:?}");
    }
    Ok(())
}

fn more_than_its_pod(node: &Node) -> Result<()> {
    let config = pod(node, "modest");
    let id = node.run_pod(&config)?;
    let mut greedy = container("greedy", PATIENT);
    security(&mut greedy).namespace_options = Some(pid_mode(NamespaceMode::Node));
    let refused = node.launch_container(&id, &config, &greedy);
    ensure!(refused.is_err(), "it got the host's pid namespace");
    Ok(())
}

fn hostname(node: &Node) -> Result<()> {
    let host = kernel::read("/proc/sys/kernel/hostname")?;
    let run = |name: &str, wanted: &str, network| {
        let mut config = pod(node, name);
        config.hostname = wanted.into();
        pod_namespaces(&mut config).network = i32::from(network);
        let id = node.run_pod(&config)?;
        let (container, _) =
            started(node, &id, &config, "main", pid_mode(NamespaceMode::Container))?;
        let kernels = node.exec_ok(&container, &["hostname"])?;
        let file = node.exec_ok(&container, &["cat", "/etc/hostname"])?;
        let names = node.exec_ok(&container, &["sh", "-c", "echo $HOSTNAME"])?;
        ensure!(kernels == file && file == names, "{name}: {kernels:?} {file:?} {names:?}");
        anyhow::Ok(kernels)
    };
    ensure!(run("named", "web-0", NamespaceMode::Pod)? == "web-0");
    ensure!(run("nameless", "", NamespaceMode::Pod)? == host, "without a name it is the host's");
    ensure!(run("on-host", "web-1", NamespaceMode::Node)? == host, "on the host's network, too");
    ensure!(kernel::read("/proc/sys/kernel/hostname")? == host, "the host was renamed");
    Ok(())
}

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
const MSGMAX: &str = "/proc/sys/kernel/msgmax";

fn sysctls(node: &Node) -> Result<()> {
    let host = [kernel::read(SOMAXCONN)?, kernel::read(MSGMAX)?];
    let values = |name: &str, sysctls: &[(&str, &str)]| {
        let mut config = pod(node, name);
        config.linux.get_or_insert_default().sysctls =
            sysctls.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let id = node.run_pod(&config)?;
        let (container, _) =
            started(node, &id, &config, "main", pid_mode(NamespaceMode::Container))?;
        let read = |path| node.exec_ok(&container, &["cat", path]);
        anyhow::Ok([read(SOMAXCONN)?, read(MSGMAX)?])
    };
    let set = values("tuned", &[("net.core.somaxconn", "1234"), ("kernel/msgmax", "5678")])?;
    ensure!(set == ["1234", "5678"], "in the pod: {set:?}");
    // Control: nothing of it where it was not asked for.
    let plain = values("plain", &[])?;
    ensure!(plain[0] != "1234" && plain[1] != "5678", "in another pod: {plain:?}");
    ensure!(host == [kernel::read(SOMAXCONN)?, kernel::read(MSGMAX)?], "on the host");
    Ok(())
}

fn refused_sysctls(node: &Node) -> Result<()> {
    type Change = fn(&mut proto::NamespaceOption);
    let rows: [(&str, Change, Code); 6] = [
        ("kernel.pid_max", |_| (), Code::InvalidArgument),
        ("vm.swappiness", |_| (), Code::InvalidArgument),
        ("kernel.hostname", |_| (), Code::InvalidArgument),
        ("net.core.somaxconn", |o| o.network = NamespaceMode::Node.into(), Code::InvalidArgument),
        ("kernel.msgmax", |o| o.ipc = NamespaceMode::Node.into(), Code::InvalidArgument),
        // The kernel has none of this name.
        ("kernel.shm_of_no_kernel", |_| (), Code::Internal),
    ];
    for (name, change, code) in rows {
        let mut config = pod(node, "refused");
        change(pod_namespaces(&mut config));
        config.linux.get_or_insert_default().sysctls = [(name.to_owned(), "1".to_owned())].into();
        let status = node.run_pod(&config).err().context(name)?;
        let words = status.message().replace('/', ".");
        ensure!(status.code() == code && words.contains(name), "{name}: {status}");
        let left = kernel::names_in(&node.run_dir().join("sandboxes"));
        ensure!(left.is_empty(), "{name}: left {left:?}");
    }
    Ok(())
}
