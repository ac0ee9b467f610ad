//! Requests that cannot be meant: an enumeration's value that does not exist, fields that exclude one
//! another, sizes beyond what the kernel or the interface has. Each is refused by its field, and
//! leaves nothing.

use crate::bad_input::{no_containers, nothing_listed};
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::{Node, Test, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, NamespaceMode};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("an_enum_out_of_range_is_refused_by_its_field", &[], enums),
        shared("fields_that_exclude_one_another_are_refused", &[], exclusive),
        shared("a_copy_of_the_pod_with_other_namespaces_is_refused", &[], copies),
        shared("sizes_beyond_limits_are_refused", &[], sizes),
        shared("a_class_that_there_is_not_is_refused_by_its_annotation", &[], classes),
    ]
}

type PodChange = fn(&mut proto::PodSandboxConfig);
type Change = fn(&mut proto::ContainerConfig);

/// Every pod is refused by these words, and none is left; unchanged, it runs.
fn pods_refused(node: &Node, rows: &[(&str, PodChange)]) -> Result<()> {
    for (words, change) in rows {
        let mut config = pod(node, "contradiction");
        change(&mut config);
        let status = node.run_pod(&config).err().with_context(|| format!("{words}: it runs"))?;
        ensure!(status.code() == Code::InvalidArgument, "{words}: {status:?}");
        ensure!(status.message().contains(words), "{words}: {status}");
        nothing_listed(node)?;
    }
    node.run_pod(&pod(node, "contradiction")).map(drop).context("the control")
}

/// Every container is refused by these words, and none is left; unchanged, it is made.
fn containers_refused(node: &Node, rows: &[(&str, Change)]) -> Result<()> {
    let config = pod(node, "containers");
    let id = node.run_pod(&config)?;
    for (words, change) in rows {
        let mut c = container("main", PATIENT);
        change(&mut c);
        let status = node.create(&id, &config, &c).err();
        let status = status.with_context(|| format!("{words}: it was made"))?;
        ensure!(status.code() == Code::InvalidArgument, "{words}: {status:?}");
        ensure!(status.message().contains(words), "{words}: {status}");
        no_containers(node)?;
    }
    node.create(&id, &config, &container("main", PATIENT)).map(drop).context("the control")
}

fn pod_security(c: &mut proto::PodSandboxConfig) -> &mut proto::LinuxSandboxSecurityContext {
    c.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn options(c: &mut proto::ContainerConfig) -> &mut proto::NamespaceOption {
    security(c).namespace_options.get_or_insert_default()
}

const NO_PROFILE: proto::SecurityProfile =
    proto::SecurityProfile { profile_type: 9, localhost_ref: String::new() };

fn mount(c: &mut proto::ContainerConfig) -> &mut proto::Mount {
    c.mounts = vec![proto::Mount {
        host_path: "/tmp".into(),
        container_path: "/x".into(),
        ..Default::default()
    }];
    &mut c.mounts[0]
}

fn enums(node: &Node) -> Result<()> {
    pods_refused(
        node,
        &[
            ("namespace_options.network: 9", |c| pod_namespaces(c).network = 9),
            ("namespace_options.pid: -1", |c| pod_namespaces(c).pid = -1),
            ("namespace_options.ipc: 9", |c| pod_namespaces(c).ipc = 9),
            ("port_mappings[0].protocol: 9", |c| {
                let protocol = 9;
                let port = proto::PortMapping { protocol, container_port: 1, ..Default::default() };
                c.port_mappings = vec![port];
            }),
            ("seccomp.profile_type: 9", |c| pod_security(c).seccomp = Some(NO_PROFILE)),
            ("supplemental_groups_policy: 9", |c| pod_security(c).supplemental_groups_policy = 9),
        ],
    )?;
    containers_refused(
        node,
        &[
            ("mounts[0].propagation: 9", |c| mount(c).propagation = 9),
            ("stop_signal: 999", |c| c.stop_signal = 999),
            ("namespace_options.network: 9", |c| options(c).network = 9),
            ("namespace_options.pid: 9", |c| options(c).pid = 9),
            ("namespace_options.ipc: -1", |c| options(c).ipc = -1),
            ("seccomp.profile_type: 9", |c| security(c).seccomp = Some(NO_PROFILE)),
            ("apparmor.profile_type: 9", |c| security(c).apparmor = Some(NO_PROFILE)),
            ("supplemental_groups_policy: 9", |c| security(c).supplemental_groups_policy = 9),
        ],
    )?;
    let state = Some(proto::ContainerStateValue { state: 9 });
    let filter = Some(proto::ContainerFilter { state, ..Default::default() });
    let listed = node.cri.list_containers(proto::ListContainersRequest { filter });
    ensure!(listed.is_err_and(|status| status.code() == Code::InvalidArgument), "containers");
    let state = Some(proto::PodSandboxStateValue { state: 9 });
    let filter = Some(proto::PodSandboxFilter { state, ..Default::default() });
    let listed = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest { filter });
    ensure!(listed.is_err_and(|status| status.code() == Code::InvalidArgument), "sandboxes");
    Ok(())
}

fn exclusive(node: &Node) -> Result<()> {
    pods_refused(
        node,
        &[
            ("kernel.hostname", |c| {
                pod_namespaces(c).network = NamespaceMode::Node.into();
                c.hostname.clear();
                let sysctls = &mut c.linux.get_or_insert_default().sysctls;
                sysctls.insert("kernel.hostname".into(), "x".into());
            }),
            ("net.ipv4.ip_forward", |c| {
                pod_namespaces(c).network = NamespaceMode::Node.into();
                c.hostname.clear();
                let sysctls = &mut c.linux.get_or_insert_default().sysctls;
                sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
            }),
            ("run_as_group: needs run_as_user", |c| {
                pod_security(c).run_as_group = Some(proto::Int64Value { value: 1 });
            }),
            ("target_id: required", |c| pod_namespaces(c).pid = NamespaceMode::Target.into()),
        ],
    )?;
    containers_refused(
        node,
        &[
            ("run_as_group: ", |c| {
                security(c).run_as_group = Some(proto::Int64Value { value: 1 });
            }),
            ("run_as_username: ", |c| {
                security(c).run_as_user = Some(proto::Int64Value { value: 1 });
                security(c).run_as_username = "web".into();
            }),
            ("privileged: the sandbox is not privileged", |c| security(c).privileged = true),
            ("namespace_options.ipc: ", |c| options(c).ipc = NamespaceMode::Node.into()),
            ("target_id: ", |c| options(c).pid = NamespaceMode::Target.into()),
            ("recursive_read_only: needs readonly", |c| mount(c).recursive_read_only = true),
            ("recursive_read_only: needs PROPAGATION_PRIVATE", |c| {
                let mount = mount(c);
                (mount.readonly, mount.recursive_read_only, mount.propagation) = (true, true, 1);
            }),
            ("image_sub_path: needs an image", |c| mount(c).image_sub_path = "x".into()),
            ("host_path: excludes image", |c| {
                let image = Some(proto::ImageSpec { image: "x".into(), ..Default::default() });
                mount(c).image = image;
            }),
        ],
    )?;
    // A container's processes are shown to its own pod alone.
    let (_, foreign) = node.patient_pod("foreign")?;
    let (own_pod, own) = node.patient_pod("own")?;
    let config = pod(node, "own");
    let aimed = |target: &str| {
        let mut c = container("debug", PATIENT);
        options(&mut c).pid = NamespaceMode::Target.into();
        options(&mut c).target_id = target.into();
        node.create(&own_pod, &config, &c)
    };
    let status = aimed(&foreign).err().context("it sees another pod's processes")?;
    ensure!(status.code() == Code::InvalidArgument, "{status:?}");
    ensure!(status.message().contains("another pod"), "{status}");
    aimed(&own).map(drop).context("the control")
}

/// CreateContainer brings the pod's request once more.
fn copies(node: &Node) -> Result<()> {
    let config = pod(node, "copied");
    let id = node.run_pod(&config)?;
    let network = pod_namespaces(&mut config.clone()).network;
    let other = |mode: i32| match mode == i32::from(NamespaceMode::Node) {
        true => NamespaceMode::Pod.into(),
        false => NamespaceMode::Node.into(),
    };
    let map = || vec![proto::IdMapping { host_id: 70_000, container_id: 0, length: 1000 }];
    let own = proto::UserNamespace { mode: 0, uids: map(), gids: map() };
    type Row<'a> = (&'a str, &'a dyn Fn(&mut proto::PodSandboxConfig));
    let rows: [Row<'_>; 5] = [
        ("network: ", &|c| pod_namespaces(c).network = other(network)),
        ("pid: Pod, but the sandbox has Container", &|c| {
            pod_namespaces(c).pid = NamespaceMode::Pod.into();
        }),
        ("ipc: Node, but the sandbox has Pod", &|c| {
            pod_namespaces(c).ipc = NamespaceMode::Node.into();
        }),
        ("target_id: ", &|c| pod_namespaces(c).target_id = "x".into()),
        ("userns_options: ", &|c| pod_namespaces(c).userns_options = Some(own.clone())),
    ];
    for (words, change) in rows {
        let mut copy = config.clone();
        change(&mut copy);
        let status = node.create(&id, &copy, &container("main", PATIENT)).err();
        let status = status.with_context(|| format!("{words}: it was made"))?;
        let start = "sandbox_config.linux.security_context.namespace_options.";
        ensure!(status.code() == Code::InvalidArgument, "{words}: {status:?}");
        ensure!(status.message().starts_with(&format!("{start}{words}")), "{words}: {status}");
        no_containers(node)?;
    }
    // What a kubelet may have learned since the pod was made, and a copy that says nothing.
    let mut copy = config.clone();
    copy.labels.insert("since".into(), "then".into());
    copy.annotations.insert("since".into(), "then".into());
    node.create(&id, &copy, &container("learned", PATIENT)).context("the control")?;
    pod_security(&mut copy).namespace_options = None;
    node.create(&id, &copy, &container("silent", PATIENT)).map(drop).context("without a word")
}

fn unified(c: &mut proto::ContainerConfig, key: &str, value: &str) {
    crate::harness::pod::resources(c).unified.insert(key.into(), value.into());
}

fn sizes(node: &Node) -> Result<()> {
    pods_refused(
        node,
        &[
            ("config.metadata.name: ", |c| c.metadata.as_mut().unwrap().name = "n".repeat(513)),
            ("config.hostname: ", |c| c.hostname = "h".repeat(65)),
            ("config.log_directory: ", |c| c.log_directory = format!("/{}", "d".repeat(4096))),
            ("supplemental_groups[0]: ", |c| pod_security(c).supplemental_groups = vec![1 << 32]),
        ],
    )?;
    containers_refused(
        node,
        &[
            ("config.metadata.name: ", |c| c.metadata.as_mut().unwrap().name = "n".repeat(513)),
            ("container_path: ", |c| mount(c).container_path = format!("/{}", "d".repeat(4096))),
            ("host_path: ", |c| mount(c).host_path = format!("/{}", "d".repeat(4096))),
            ("run_as_user: ", |c| {
                security(c).run_as_user = Some(proto::Int64Value { value: i64::MAX });
            }),
            ("unified[\"cgroup.kill\"]: not a resource", |c| unified(c, "cgroup.kill", "1")),
            ("unified[\"../memory.max\"]: ", |c| unified(c, "../memory.max", "1")),
            ("unified[\"pids.max\"]: longer", |c| unified(c, "pids.max", &"1".repeat(4097))),
            ("hugepage_limits[0].page_size: ", |c| {
                let limit = proto::HugepageLimit { page_size: "2M".into(), limit: 0 };
                crate::harness::pod::resources(c).hugepage_limits = vec![limit];
            }),
            ("hugepage_limits[1].page_size: 2MB is given twice", |c| {
                let limit = proto::HugepageLimit { page_size: "2MB".into(), limit: 0 };
                crate::harness::pod::resources(c).hugepage_limits = vec![limit.clone(), limit];
            }),
            ("hugepage_limits", |c| {
                let limit = proto::HugepageLimit { page_size: "2MB".into(), limit: u64::MAX };
                crate::harness::pod::resources(c).hugepage_limits = vec![limit];
            }),
        ],
    )?;
    let request =
        proto::ContainerStatusRequest { container_id: "0".repeat(300), ..Default::default() };
    let answer = node.cri.container_status(request);
    ensure!(answer.is_err_and(|status| status.code() == Code::InvalidArgument), "an id");
    // More than the kernel takes for a program: the start says so.
    let config = pod(node, "arguments");
    let id = node.run_pod(&config)?;
    let mut long = container("long", &["true"]);
    long.args = vec!["x".repeat(3 << 20)];
    let id = node.create(&id, &config, &long)?;
    let status = node.start_container(&id).err().context("3 MiB are an argument")?;
    ensure!(status.message().contains("Argument list too long"), "{status}");
    Ok(())
}

/// A kubelet hands annotations of the pod through; a runtime without the classes must not run what
/// asks for one.
fn classes(node: &Node) -> Result<()> {
    let rows = [
        ("blockio.resources.beta.kubernetes.io/pod", true),
        ("blockio.resources.beta.kubernetes.io/container.main", true),
        ("rdt.resources.beta.kubernetes.io/pod", true),
        // Another container's.
        ("blockio.resources.beta.kubernetes.io/container.other", false),
        ("example.test/blockio", false),
    ];
    for (n, (annotation, refused)) in rows.into_iter().enumerate() {
        let mut config = pod(node, &format!("class-{n}"));
        config.annotations.insert(annotation.into(), "fast".into());
        let id = node.run_pod(&config)?;
        let made = node.create(&id, &config, &container("main", PATIENT));
        match (made, refused) {
            (Err(status), true) => {
                // No class of block I/O is configured, and RDT is not done at all.
                let code = if n < 2 { Code::InvalidArgument } else { Code::Unimplemented };
                ensure!(status.code() == code, "{annotation}: {status:?}");
                ensure!(status.message().contains(annotation), "{annotation}: {status}");
            }
            (made, false) => drop(made.with_context(|| annotation.to_owned())?),
            (Ok(_), true) => anyhow::bail!("{annotation}: it was made"),
        }
    }
    let config = pod(node, "class-own");
    let id = node.run_pod(&config)?;
    let mut c = container("main", PATIENT);
    c.annotations.insert("io.kubernetes.cri.blockio-class".into(), "fast".into());
    let status = node.create(&id, &config, &c).err().context("it was made")?;
    ensure!(status.message().contains("io.kubernetes.cri.blockio-class"), "{status}");
    // An empty class is none.
    c.annotations.insert("io.kubernetes.cri.blockio-class".into(), String::new());
    node.create(&id, &config, &c).map(drop).context("the control")
}
