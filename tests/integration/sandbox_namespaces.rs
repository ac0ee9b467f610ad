//! The namespaces of a pod and its containers, by inode.

use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    use Need::PodNetwork;
    vec![
        shared("containers_share_net_ipc_uts_and_have_their_own_rest", &[PodNetwork], usual),
        shared("host_namespaces_are_the_hosts", &[PodNetwork], host_variants),
        shared(
            "a_container_gets_no_more_of_the_host_than_its_pod",
            &[PodNetwork],
            more_than_its_pod,
        ),
        shared("the_hostname_is_the_pods_and_not_the_hosts", &[PodNetwork], hostname),
    ]
}

const KINDS: [&str; 6] = ["net", "ipc", "uts", "mnt", "pid", "cgroup"];
/// The harness runs in the host's namespaces.
pub(crate) const HOST: &str = "host";
pub(crate) const PAUSE: &str = "pause";
pub(crate) const OWN: &str = "its own";

/// Whose namespace of a kind a process is in.
pub(crate) fn owner(pid: i32, pause: i32, kind: &str) -> Result<&'static str> {
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

pub(crate) fn started(
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

pub(crate) fn pid_mode(mode: NamespaceMode) -> proto::NamespaceOption {
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
    type Change = fn(&mut proto::NamespaceOption);
    let rows: [(&str, &str, Change); 3] = [
        ("network", "net", |o| o.network = NamespaceMode::Node.into()),
        ("ipc", "ipc", |o| o.ipc = NamespaceMode::Node.into()),
        ("pid", "pid", |o| o.pid = NamespaceMode::Node.into()),
    ];
    let config = pod(node, "modest");
    let id = node.run_pod(&config)?;
    // The control: where the pod has the host's, so has the container that asks for them.
    let mut host = pod(node, "host");
    rows.iter().for_each(|(_, _, change)| change(pod_namespaces(&mut host)));
    host.hostname.clear();
    let host_id = node.run_pod(&host)?;
    for (field, kind, change) in rows {
        let mut greedy = container(kind, PATIENT);
        let options = security(&mut greedy).namespace_options.get_or_insert_default();
        options.pid = NamespaceMode::Container.into();
        change(options);
        let status = node.create(&id, &config, &greedy).err();
        let status = status.with_context(|| format!("it got the host's {kind} namespace"))?;
        ensure!(status.code() == Code::InvalidArgument, "{kind}: {status}");
        let path = format!("namespace_options.{field}");
        ensure!(status.message().contains(&path), "{kind}: {status}");
        let made = node.launch_container(&host_id, &host, &greedy).context(kind)?;
        let init = kernel::pids_in(&node.container_cgroup(&host_id, &made))?;
        let got =
            owner(*init.iter().min().context("no process")?, node.pause_pid(&host_id)?, kind)?;
        ensure!(got == HOST, "in a pod of the host it is in {got}");
    }
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
