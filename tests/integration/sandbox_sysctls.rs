//! Kernel parameters of a pod: those it asks for, those it may not, and those it has without asking.

use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, namespaces, pod, pod_namespaces, security};
use crate::harness::scene::Scene;
use crate::harness::syscalls::{call, programs};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    use Need::PodNetwork;
    vec![
        shared("sysctls_are_set_in_the_pod_alone", &[PodNetwork], sysctls),
        shared("sysctls_of_the_node_are_refused_by_name", &[], refused_sysctls),
        shared("everybody_may_ping_and_listen_at_any_port_of_a_pod", &[PodNetwork], everybody),
    ]
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
        let container = node.launch_container(&id, &config, &container("main", PATIENT))?;
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

const PORTS: &str = "net.ipv4.ip_unprivileged_port_start";
const PINGS: &str = "net.ipv4.ping_group_range";

/// What a user without capabilities may do in a pod: listen at port 80, and open a socket for echo
/// requests.
fn may(scene: &Scene<'_>) -> Result<[bool; 2]> {
    let programs = programs(scene.node)?;
    let made = scene.start("user", &["sleep", "100000"], |c| {
        security(c).run_as_user = Some(proto::Int64Value { value: 1000 });
        c.mounts.push(programs);
    })?;
    let listen = "nc -l -p 80 </dev/null & n=$!; trap 'kill $n' EXIT; \
        while kill -0 $n; do cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0050 ' && exit 0; done; \
        exit 1";
    let (_, errors, code) = scene.node.exec(&made.id, &["sh", "-c", listen], 60)?;
    ensure!(code < 2, "neither listens nor fails: {code} {errors}");
    // AF_INET, SOCK_DGRAM, IPPROTO_ICMP.
    let socket = libc::SYS_socket.to_string();
    let opened = call(&made, "native", &[&socket, "2", "2", "1"])?;
    ensure!(opened >= 0 || opened == i64::from(-libc::EACCES), "{opened}");
    Ok([code == 0, opened >= 0])
}

/// Without a user namespace, which has a root of its own, and unless the pod says otherwise.
fn everybody(node: &Node) -> Result<()> {
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let host = [kernel::read(path(PORTS))?, kernel::read(path(PINGS))?];
    let found = may(&Scene::new(node, "everybody")?)?;
    ensure!(found == [true, true], "in a pod: {found:?}");
    // The control: the kernel does refuse them.
    let strict = |config: &mut proto::PodSandboxConfig| {
        config.linux.get_or_insert_default().sysctls =
            [(PORTS.to_owned(), "1024".to_owned()), (PINGS.to_owned(), "1 0".to_owned())].into();
    };
    let found = may(&Scene::with(node, "strict", strict)?)?;
    ensure!(found == [false, false], "in a pod that forbids it: {found:?}");
    // The host's network stays as it is.
    let mut config = pod(node, "on-host");
    *pod_namespaces(&mut config) = namespaces(NamespaceMode::Node);
    config.hostname.clear();
    node.run_pod(&config)?;
    ensure!(host == [kernel::read(path(PORTS))?, kernel::read(path(PINGS))?], "the host's changed");
    Ok(())
}
