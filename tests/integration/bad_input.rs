//! Bad requests: a clear code and message, nothing left behind, the daemon unharmed.

use crate::harness::pod::{PATIENT, container, pod, resources};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::time::Duration;
use tonic::{Code, Status};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("an_unknown_sandbox_is_not_found_but_is_stopped_and_removed", &[], unknown_sandbox),
        shared("an_unknown_container_is_not_found_but_is_stopped_and_removed", &[], unknown_id),
        shared("an_unknown_image_is_not_found", &[], unknown_image),
        shared("pods_are_refused_by_the_field_at_fault", &[], bad_pods),
        shared("containers_are_refused_by_the_field_at_fault", &[], bad_containers),
        shared("a_log_that_cannot_be_one_is_refused_by_its_path", &[], bad_logs),
        shared("commands_that_cannot_begin_are_start_errors", &[], bad_commands),
        shared("a_pod_s_name_with_another_config_is_taken", &[], taken_pod),
        shared("a_container_s_name_with_another_config_is_taken", &[], taken_container),
    ]
}

/// An answer must be an error with this code, and its message must hold all these words.
pub(crate) fn refused<T>(
    what: &str,
    answer: Result<T, Status>,
    code: Code,
    words: &[&str],
) -> Result<()> {
    let Err(status) = answer else { anyhow::bail!("{what}: taken") };
    ensure!(status.code() == code, "{what}: {status:?}");
    for word in words {
        ensure!(status.message().contains(word), "{what}: {word:?} is not in {status:?}");
    }
    let one_line = !status.message().contains('\n');
    ensure!(one_line && status.message().len() < 1000, "{what}: {status:?}");
    Ok(())
}

/// No sandbox and no container is there, in any answer.
pub(crate) fn nothing_listed(node: &Node) -> Result<()> {
    let pods = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
    let all = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(pods.is_empty() && all.is_empty(), "listed: {pods:?} {all:?}");
    Ok(())
}

fn unknown_sandbox(node: &Node) -> Result<()> {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let words = &[ID, "does not exist"];
    let id = || ID.to_owned();
    let status = proto::PodSandboxStatusRequest { pod_sandbox_id: id(), ..Default::default() };
    refused("status", node.cri.pod_sandbox_status(status), Code::NotFound, words)?;
    let stats = proto::PodSandboxStatsRequest { pod_sandbox_id: id() };
    refused("stats", node.cri.pod_sandbox_stats(stats), Code::NotFound, words)?;
    let made = node.create(ID, &pod(node, "x"), &container("main", PATIENT));
    refused("create", made, Code::NotFound, words)?;
    // "If the corresponding … does not exist, the call must not return an error" (CRI).
    node.remove_pod(ID)?;
    let empty = proto::PodSandboxStatusRequest::default();
    refused("no id", node.cri.pod_sandbox_status(empty), Code::InvalidArgument, &["required"])?;
    nothing_listed(node)
}

fn unknown_id(node: &Node) -> Result<()> {
    const ID: &str = "fedcba9876543210";
    let words = &[ID, "does not exist"];
    let id = || ID.to_owned();
    let status = proto::ContainerStatusRequest { container_id: id(), ..Default::default() };
    refused("status", node.cri.container_status(status), Code::NotFound, words)?;
    refused("start", node.start_container(ID), Code::NotFound, words)?;
    refused("exec", node.exec(ID, &["true"], 0), Code::NotFound, words)?;
    let update = proto::UpdateContainerResourcesRequest {
        container_id: id(),
        linux: Some(proto::LinuxContainerResources { cpu_shares: 2, ..Default::default() }),
        ..Default::default()
    };
    refused("update", node.cri.update_container_resources(update), Code::NotFound, words)?;
    let reopen = proto::ReopenContainerLogRequest { container_id: id() };
    refused("reopen", node.cri.reopen_container_log(reopen), Code::NotFound, words)?;
    let stats = proto::ContainerStatsRequest { container_id: id() };
    refused("stats", node.cri.container_stats(stats), Code::NotFound, words)?;
    node.stop_container(ID, Duration::from_secs(1)).context("stop")?;
    let remove = proto::RemoveContainerRequest { container_id: id() };
    node.cri.remove_container(remove).context("remove")?;
    Ok(())
}

fn unknown_image(node: &Node) -> Result<()> {
    let config = pod(node, "imageless");
    let id = node.run_pod(&config)?;
    for (name, code) in [
        ("berth.test/nothing:here", Code::NotFound),
        ("sha256:0000000000000000000000000000000000000000000000000000000000000000", Code::NotFound),
        ("UPPER/Case:::", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let mut c = container("main", PATIENT);
        c.image = Some(proto::ImageSpec { image: name.into(), ..Default::default() });
        let words = if name.is_empty() { "image" } else { name };
        refused(name, node.create(&id, &config, &c), code, &[words])?;
    }
    no_containers(node)
}

/// Neither a record nor a writable layer, and the name is free.
pub(crate) fn no_containers(node: &Node) -> Result<()> {
    let all = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(all.is_empty(), "listed: {all:?}");
    for folder in [node.run_dir().join("containers"), node.state_dir().join("snapshots")] {
        let names = kernel::names_in(&folder);
        ensure!(names.is_empty(), "left in {}: {names:?}", folder.display());
    }
    Ok(())
}

type PodChange = fn(&mut proto::PodSandboxConfig);

fn bad_pods(node: &Node) -> Result<()> {
    let nothing = proto::RunPodSandboxRequest::default();
    refused("no config", node.cri.run_pod_sandbox(nothing), Code::InvalidArgument, &["config"])?;
    let rows: [(&str, PodChange); 12] = [
        ("config.metadata: required", |c| c.metadata = None),
        ("config.metadata.name: required", |c| c.metadata.as_mut().unwrap().name.clear()),
        ("config.metadata.uid: required", |c| c.metadata.as_mut().unwrap().uid.clear()),
        ("config.metadata.namespace: required", |c| c.metadata.as_mut().unwrap().namespace.clear()),
        ("config.metadata.name: ", |c| c.metadata.as_mut().unwrap().name = "../../etc".into()),
        ("config.hostname: ", |c| c.hostname = "h".repeat(65)),
        ("config.log_directory: ", |c| c.log_directory = "/var/log/../../etc".into()),
        ("config.linux.cgroup_parent: ", |c| {
            c.linux.as_mut().unwrap().cgroup_parent = "/kubepods/../../elsewhere".into();
        }),
        // The systemd driver's form.
        ("slice", |c| c.linux.as_mut().unwrap().cgroup_parent = "kubepods.slice".into()),
        ("config.linux.sysctls", |c| {
            let sysctls = &mut c.linux.as_mut().unwrap().sysctls;
            sysctls.insert("../../kernel/core_pattern".into(), "x".into());
        }),
        ("kernel.panic", |c| {
            c.linux.as_mut().unwrap().sysctls.insert("kernel.panic".into(), "1".into());
        }),
        ("config.port_mappings[0].host_port: ", |c| {
            c.port_mappings = vec![proto::PortMapping {
                container_port: 80,
                host_port: 70_000,
                ..Default::default()
            }];
        }),
    ];
    for (words, change) in rows {
        let mut config = pod(node, "refused");
        change(&mut config);
        refused(words, node.run_pod(&config), Code::InvalidArgument, &[words])?;
        nothing_listed(node)?;
    }
    let config = pod(node, "refused");
    let handler =
        proto::RunPodSandboxRequest { config: Some(config), runtime_handler: "kata".into() };
    let words = &["runtime_handler", "kata"];
    refused("handler", node.cri.run_pod_sandbox(handler), Code::InvalidArgument, words)?;
    // The name was never taken.
    node.run_pod(&pod(node, "refused"))?;
    Ok(())
}

type ContainerChange = fn(&mut proto::ContainerConfig);

fn bad_containers(node: &Node) -> Result<()> {
    let config = pod(node, "strict");
    let id = node.run_pod(&config)?;
    let rows: [(&str, ContainerChange); 17] = [
        ("config.metadata: required", |c| c.metadata = None),
        ("config.metadata.name: required", |c| c.metadata.as_mut().unwrap().name.clear()),
        ("config.image: required", |c| c.image = None),
        ("config.log_path: ", |c| c.log_path = "../../escaped.log".into()),
        ("config.log_path: ", |c| c.log_path = "/tmp/escaped.log".into()),
        ("config.working_dir: ", |c| c.working_dir = "relative".into()),
        ("config.envs[0].key: ", |c| {
            c.envs = vec![proto::KeyValue { key: "A=B".into(), value: b"c".to_vec() }];
        }),
        ("memory_limit_in_bytes: ", |c| resources(c).memory_limit_in_bytes = -5),
        ("memory_limit_in_bytes: ", |c| resources(c).memory_limit_in_bytes = 17),
        ("memory_limit_in_bytes: ", |c| resources(c).memory_limit_in_bytes = i64::MAX),
        ("cpu_quota: ", |c| resources(c).cpu_quota = -2),
        ("cpu_period: ", |c| resources(c).cpu_period = 1),
        ("cpu_shares: ", |c| resources(c).cpu_shares = -1),
        ("oom_score_adj: ", |c| resources(c).oom_score_adj = 5000),
        ("cpuset_cpus: ", |c| resources(c).cpuset_cpus = "zero".into()),
        ("unified", |c| {
            resources(c).unified.insert("../cgroup.procs".into(), "1".into());
        }),
        ("mounts[0].host_path: ", |c| {
            c.mounts = vec![proto::Mount {
                host_path: "/tmp/../etc".into(),
                container_path: "/x".into(),
                ..Default::default()
            }];
        }),
    ];
    for (words, change) in rows {
        let mut c = container("main", PATIENT);
        change(&mut c);
        refused(words, node.create(&id, &config, &c), Code::InvalidArgument, &[words])?;
        no_containers(node)?;
    }
    ensure!(!node.path("logs/escaped.log").exists() && !node.path("escaped.log").exists());
    // The name was never taken, and what is refused at an update changes nothing.
    let id = node.launch_container(&id, &config, &container("main", PATIENT))?;
    let update = proto::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(proto::LinuxContainerResources {
            memory_limit_in_bytes: -7,
            ..Default::default()
        }),
        ..Default::default()
    };
    let updated = node.cri.update_container_resources(update);
    refused("update", updated, Code::InvalidArgument, &["memory_limit_in_bytes"])?;
    ensure!(node.exec_ok(&id, &["echo", "here"])? == "here");
    Ok(())
}

/// What is in the way of a log is seen when the container is made: its path is well formed.
fn bad_logs(node: &Node) -> Result<()> {
    let mut config = pod(node, "logless");
    let id = node.run_pod(&config)?;
    let folder = node.path("logs/logless/taken.log");
    std::fs::create_dir_all(&folder)?;
    std::os::unix::fs::symlink("/dev/null", folder.join("link.log"))?;
    for log in ["taken.log", "taken.log/link.log"] {
        let mut c = container("main", PATIENT);
        c.log_path = log.into();
        refused(log, node.create(&id, &config, &c), Code::InvalidArgument, &[log])?;
        no_containers(node)?;
    }
    node.remove_pod(&id)?;
    // Each part of the folder's path but the last is there, and no folder.
    config.log_directory = "/dev/null/logs".into();
    let answer =
        node.run_pod(&config).and_then(|id| node.create(&id, &config, &container("main", PATIENT)));
    refused("a device as folder", answer, Code::InvalidArgument, &["/dev/null"])?;
    no_containers(node)
}

/// Refused at CreateContainer or at StartContainer; there, the container tells it, too.
fn bad_commands(node: &Node) -> Result<()> {
    let config = pod(node, "commands");
    let id = node.run_pod(&config)?;
    let rows: [(&str, &[&str], &str, ContainerChange); 4] = [
        ("missing", &["/no/such/program"], "/no/such/program", |_| {}),
        ("not-executable", &["/not-a-program"], "/not-a-program", |_| {}),
        ("user", PATIENT, "nobody-here", |c| {
            crate::harness::pod::security(c).run_as_username = "nobody-here".into();
        }),
        ("cwd", PATIENT, "/etc/passwd", |c| c.working_dir = "/etc/passwd".into()),
    ];
    for (name, command, words, change) in rows {
        let mut c = container(name, command);
        change(&mut c);
        match node.create(&id, &config, &c) {
            Err(status) => {
                ensure!(status.code() != Code::Unknown, "{name}: {status:?}");
                ensure!(status.message().contains(words), "{name}: {status:?}");
                no_containers(node)?;
            }
            Ok(made) => {
                let Err(status) = node.start_container(&made) else {
                    anyhow::bail!("{name}: started")
                };
                ensure!(status.message().contains(words), "{name}: {status:?}");
                let told = node.container(&made)?;
                ensure!(told.state() == proto::ContainerState::ContainerExited, "{told:?}");
                ensure!(told.exit_code == 128 && told.reason == "StartError", "{name}: {told:?}");
                ensure!(told.message.contains(words), "{name}: {told:?}");
                let remove = proto::RemoveContainerRequest { container_id: made };
                node.cri.remove_container(remove)?;
            }
        }
    }
    node.launch_container(&id, &config, &container("missing", PATIENT)).context("the control")?;
    Ok(())
}

fn taken_pod(node: &Node) -> Result<()> {
    let config = pod(node, "taken");
    let id = node.run_pod(&config)?;
    ensure!(node.run_pod(&config)? == id, "an unchanged repeat answers the same id");
    let mut other = config.clone();
    other.labels.insert("new".into(), "label".into());
    refused("labels", node.run_pod(&other), Code::AlreadyExists, &[&id, "labels"])?;
    node.stop_pod(&id)?;
    refused("stopped", node.run_pod(&config), Code::AlreadyExists, &[&id])?;
    let all = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
    ensure!(all.len() == 1, "{all:?}");
    Ok(())
}

fn taken_container(node: &Node) -> Result<()> {
    let config = pod(node, "crowded");
    let pod = node.run_pod(&config)?;
    let c = container("main", PATIENT);
    let id = node.create(&pod, &config, &c)?;
    ensure!(node.create(&pod, &config, &c)? == id, "an unchanged repeat answers the same id");
    let mut other = c.clone();
    other.args = vec!["more".into()];
    refused("args", node.create(&pod, &config, &other), Code::AlreadyExists, &[&id, "args"])?;
    node.start_container(&id)?;
    refused("running", node.create(&pod, &config, &c), Code::AlreadyExists, &[&id])?;
    ensure!(node.exec_ok(&id, &["echo", "here"])? == "here");
    Ok(())
}
