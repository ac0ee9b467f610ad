//! What a request for a sandbox may say: the cgroup parent, and what is refused.

use crate::harness::pod::pod;
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::PathBuf;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_pod_goes_below_its_cgroup_parent_and_leaves_it_as_it_was", &[], cgroup_parent),
        shared("a_bad_request_is_refused_and_leaves_nothing", &[], bad_requests),
        shared("a_request_of_20_mib_is_refused", &[], too_big),
    ]
}

/// A cgroup that goes when the test ends, however it ends.
struct Parent(PathBuf);

impl Drop for Parent {
    fn drop(&mut self) {
        kernel::remove_cgroup(&self.0);
    }
}

fn cgroup_parent(node: &Node) -> Result<()> {
    let name = format!("berth-test-parent-{}", std::process::id());
    let root = &node.machine.cgroup_root;
    let parent = Parent(root.join(&name));
    std::fs::create_dir(&parent.0).context("make the parent")?;
    let mut config = pod(node, "placed");
    config.linux.get_or_insert_default().cgroup_parent = format!("/{name}");
    let id = node.run_pod(&config)?;
    let pause = kernel::pids_in(&parent.0.join(&id).join("pause"))?;
    ensure!(pause.len() == 1, "one pause below the parent: {pause:?}");
    let told = kernel::cgroup_of(pause[0])?;
    ensure!(told.ends_with(&format!("/{name}/{id}/pause")), "pause is in {told}");
    ensure!(!node.pod_cgroup(&id).exists(), "it has a cgroup at the usual place, too");
    // A limit of the pod does not touch its supervisor.
    let shim = kernel::cgroup_of(node.shim_pid(&id)?)?;
    ensure!(!shim.contains(&name), "the shim is in {shim}");
    node.remove_pod(&id)?;
    ensure!(parent.0.exists(), "the parent went with the pod");
    let left = kernel::cgroups_below(&parent.0);
    ensure!(left.is_empty(), "left below the parent: {left:?}");
    Ok(())
}

fn bad_requests(node: &Node) -> Result<()> {
    type Change = fn(&mut proto::PodSandboxConfig);
    let rows: [(&str, Change); 7] = [
        ("metadata", |c| c.metadata = None),
        ("metadata.name", |c| c.metadata.get_or_insert_default().name.clear()),
        ("'..'", |c| c.linux.get_or_insert_default().cgroup_parent = "/a/../../etc".into()),
        ("systemd cgroup driver", |c| {
            c.linux.get_or_insert_default().cgroup_parent = "/kubepods-besteffort.slice".into();
        }),
        ("log_directory", |c| c.log_directory = "/var/log/../../etc".into()),
        ("hostname", |c| c.hostname = "two words".into()),
        ("host_port", |c| {
            let port =
                proto::PortMapping { container_port: 1, host_port: -1, ..Default::default() };
            c.port_mappings = vec![port];
        }),
    ];
    for (words, change) in rows {
        let mut config = pod(node, "bad");
        change(&mut config);
        let status = node.run_pod(&config).err().context(words)?;
        let told = status.message();
        ensure!(
            status.code() == Code::InvalidArgument && told.contains(words),
            "{words}: {status}"
        );
    }
    let request =
        proto::RunPodSandboxRequest { config: Some(pod(node, "bad")), runtime_handler: "x".into() };
    let status = node.cri.run_pod_sandbox(request).err().context("an unknown handler ran")?;
    ensure!(status.code() == Code::InvalidArgument && status.message().contains("\"x\""));
    let status = node.cri.run_pod_sandbox(Default::default()).err().context("nothing ran")?;
    ensure!(status.code() == Code::InvalidArgument, "empty request: {status}");
    ensure!(kernel::names_in(&node.run_dir().join("sandboxes")).is_empty(), "something was made");
    // Control: the request that all of them were made from is fine.
    node.run_pod(&pod(node, "bad"))?;
    Ok(())
}

fn too_big(node: &Node) -> Result<()> {
    let mut config = pod(node, "big");
    config.annotations = [("big".to_owned(), "x".repeat(20 << 20))].into();
    let status = node.run_pod(&config).err().context("20 MiB were taken")?;
    ensure!(status.code() == Code::OutOfRange, "20 MiB: {status}");
    // Control: the daemon is unharmed, and 8 MiB are fine.
    config.annotations = [("big".to_owned(), "x".repeat(8 << 20))].into();
    node.run_pod(&config)?;
    Ok(())
}
