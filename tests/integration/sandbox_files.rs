//! The files that all containers of a pod share: hosts, resolv.conf, /dev/shm.

use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("hosts_names_the_pod_with_its_addresses", &[Need::PodNetwork], hosts),
        shared("resolv_conf_is_the_requests_or_the_hosts", &[], resolv_conf),
        shared("the_pods_files_are_read_only_with_a_read_only_root_alone", &[], read_only),
        shared("dev_shm_is_shared_in_the_pod_and_goes_with_it", &[], shm),
        shared("dev_shm_with_the_hosts_ipc_is_the_hosts", &[], host_shm),
    ]
}

fn cat(node: &Node, config: &proto::PodSandboxConfig, path: &str) -> Result<String> {
    let id = node.run_pod(config)?;
    let container = node.launch_container(&id, config, &container("main", PATIENT))?;
    let (text, errors, code) = node.exec(&container, &["cat", path], 0)?;
    ensure!(code == 0, "cat {path}: {errors}");
    Ok(text)
}

fn hosts(node: &Node) -> Result<()> {
    let config = pod(node, "hosts");
    let text = cat(node, &config, "/etc/hosts")?;
    let id = node.run_pod(&config)?;
    let network = node.pod(&id)?.network.context("no network")?;
    ensure!(network.additional_ips.len() == 1, "two families: {network:?}");
    let names_of = |address: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(address));
        line.map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>()).unwrap_or_default()
    };
    for address in [&network.ip, &network.additional_ips[0].ip] {
        ensure!(names_of(address) == ["hosts"], "{address} in {text}");
    }
    for address in ["127.0.0.1", "::1"] {
        ensure!(names_of(address).contains(&"localhost"), "{address} in {text}");
    }
    let mut on_host = pod(node, "on-host");
    pod_namespaces(&mut on_host).network = NamespaceMode::Node.into();
    let text = cat(node, &on_host, "/etc/hosts")?;
    ensure!(text == std::fs::read_to_string("/etc/hosts")?, "not the host's: {text}");
    Ok(())
}

fn resolv_conf(node: &Node) -> Result<()> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let mut config = pod(node, "resolv");
    config.dns_config = Some(proto::DnsConfig {
        servers: words("10.96.0.10 fd00::10"),
        searches: words("tests.svc.cluster.local svc.cluster.local"),
        options: words("ndots:5"),
    });
    let text = cat(node, &config, "/etc/resolv.conf")?;
    let expected = "search tests.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                    nameserver fd00::10\noptions ndots:5\n";
    ensure!(text == expected, "{text}");
    let text = cat(node, &pod(node, "plain"), "/etc/resolv.conf")?;
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ensure!(text == host, "not the host's: {text}");
    Ok(())
}

fn read_only(node: &Node) -> Result<()> {
    let config = pod(node, "files");
    let id = node.run_pod(&config)?;
    let launch = |name: &str, readonly_rootfs| {
        let mut wanted = container(name, PATIENT);
        security(&mut wanted).readonly_rootfs = readonly_rootfs;
        node.launch_container(&id, &config, &wanted)
    };
    let (closed, open) = (launch("closed", true)?, launch("open", false)?);
    let mounts = |made| kernel::mounts(&node.init_pid(&id, made)?.to_string());
    let (of_closed, of_open) = (mounts(&closed)?, mounts(&open)?);
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        for (mounts, option) in [(&of_closed, "ro"), (&of_open, "rw")] {
            let mount = mounts.iter().rfind(|m| m.point == file);
            let mount = mount.with_context(|| format!("no mount at {file}"))?;
            ensure!(mount.options.split(',').any(|o| o == option), "not {option}: {mount:?}");
        }
        let write = format!("echo '# a line' >>{file}");
        let (_, errors, code) = node.exec(&closed, &["sh", "-c", &write], 0)?;
        ensure!(code != 0 && errors.contains("Read-only file system"), "{file}: {code} {errors}");
        // The control: it is the same file, and its other containers write to it.
        ensure!(!node.exec_ok(&closed, &["cat", file])?.contains("# a line"), "{file} was written");
        node.exec_ok(&open, &["sh", "-c", &write])?;
        ensure!(node.exec_ok(&closed, &["cat", file])?.contains("# a line"), "{file}: another one");
        let host = std::fs::read_to_string(file).unwrap_or_default();
        ensure!(!host.contains("# a line"), "the host's {file} was written");
    }
    Ok(())
}

/// Every process that finds a file of this name in its /dev/shm.
fn who_sees(name: &str) -> Vec<PathBuf> {
    let processes = kernel::names_in("/proc".as_ref());
    let pids = processes.into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    pids.map(|pid| PathBuf::from(format!("/proc/{pid}/root/dev/shm")).join(name))
        .filter(|path| path.exists())
        .collect()
}

fn shm(node: &Node) -> Result<()> {
    let config = pod(node, "shm");
    let id = node.run_pod(&config)?;
    let one = node.launch_container(&id, &config, &container("one", PATIENT))?;
    let two = node.launch_container(&id, &config, &container("two", PATIENT))?;
    let init = node.init_pid(&id, &one)?;
    let mounts = kernel::mounts(&init.to_string())?;
    let mount = mounts.iter().find(|m| m.point == "/dev/shm").context("no /dev/shm")?;
    ensure!(mount.kind == "tmpfs" && mount.super_options.contains("size=65536k"), "{mount:?}");
    let marker = format!("berth-test-{id}");
    let path = format!("/dev/shm/{marker}");
    node.exec_ok(&one, &["sh", "-c", &format!("echo shared >{path}")])?;
    ensure!(node.exec_ok(&two, &["cat", &path])? == "shared", "not shared");
    // 64 MiB and not more.
    let fill = |mebibytes: &str| {
        let script = format!("dd if=/dev/zero of=/dev/shm/fill bs=1M count={mebibytes} 2>&1");
        node.exec(&two, &["sh", "-c", &script], 0)
    };
    ensure!(fill("62")?.2 == 0, "62 MiB do not fit");
    ensure!(fill("66")?.2 != 0, "66 MiB fit");
    // Another pod has another one, and so has the host.
    let (_, stranger) = node.patient_pod("stranger")?;
    ensure!(node.exec(&stranger, &["cat", &path], 0)?.2 != 0, "another pod sees it");
    let seen = who_sees(&marker).len();
    ensure!(seen >= 2, "the containers' own processes see it, so that the look is one: {seen}");
    ensure!(!PathBuf::from(&path).exists(), "the host sees it");
    let shim = node.shim_pid(&id)?;
    node.stop_pod(&id)?;
    let seen = who_sees(&marker);
    ensure!(seen.is_empty(), "seen after the pod's stop: {seen:?}");
    ensure!(!kernel::alive(shim), "the shim, which holds the mount, outlives the stop");
    Ok(())
}

fn host_shm(node: &Node) -> Result<()> {
    let mut config = pod(node, "host-shm");
    pod_namespaces(&mut config).ipc = NamespaceMode::Node.into();
    let id = node.run_pod(&config)?;
    let main = node.launch_container(&id, &config, &container("main", PATIENT))?;
    let path = format!("/dev/shm/berth-test-{id}");
    std::fs::write(&path, "host")?;
    let read = node.exec_ok(&main, &["cat", &path]);
    std::fs::remove_file(&path)?;
    ensure!(read? == "host");
    Ok(())
}
