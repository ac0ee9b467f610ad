//! A pod as the requests of CRI, in the way a kubelet writes them; pure.

use super::model::{Container, Pod, Protocol, VolumeMount, VolumeSource};
use super::resources::{container_resources, pod_resources, qos};
use crate::cri::proto as cri;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The annotation by which `berth stop` knows how long a container may take, as kubelets write it.
pub const GRACE_ANNOTATION: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The label whose presence says that `berth run` made the pod and its folders.
pub const RUN_LABEL: &str = "io.berth.run";

const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where a pod's things are on the host, and its uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    /// The pod's uid.
    pub uid: String,
    /// The folder of the pod's volumes and files.
    pub dir: PathBuf,
    /// The folder of the pod's logs.
    pub logs: PathBuf,
}

impl PodPlace {
    /// Below the daemon's state folder.
    pub fn new(state: &Path, pod: &Pod, uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            dir: pod_dir(state, uid),
            logs: logs_dir(state, &pod.namespace, &pod.name, uid),
        }
    }

    /// The folder behind an emptyDir.
    pub fn empty_dir(&self, volume: &str) -> PathBuf {
        self.dir.join("volumes").join(volume)
    }

    /// The pod's /etc/hosts, when it has aliases.
    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }
}

/// The folder of a pod's volumes and files.
pub fn pod_dir(state: &Path, uid: &str) -> PathBuf {
    state.join("pods").join(uid)
}

/// The folder of a pod's logs: `<namespace>_<name>_<uid>`.
pub fn logs_dir(state: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    state.join("logs").join(format!("{namespace}_{name}_{uid}"))
}

/// What RunPodSandbox is asked for.
pub fn sandbox_config(pod: &Pod, place: &PodPlace) -> cri::PodSandboxConfig {
    let mut labels = pod.labels.clone();
    labels.extend(identity(pod, place));
    labels.insert(RUN_LABEL.to_owned(), "true".to_owned());
    let ports = pod.containers.iter().flat_map(|container| &container.ports);
    let mappings = ports.filter(|_| !pod.host_network).filter_map(|port| {
        Some(cri::PortMapping {
            protocol: protocol(port.protocol).into(),
            container_port: port.container_port.into(),
            host_port: port.host_port?.into(),
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        })
    });
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name.clone(),
            uid: place.uid.clone(),
            namespace: pod.namespace.clone(),
            attempt: 0,
        }),
        // With the host's network the pod has the host's name.
        hostname: if pod.host_network { String::new() } else { pod.hostname.clone() },
        log_directory: place.logs.display().to_string(),
        port_mappings: mappings.collect(),
        labels,
        annotations: pod.annotations.clone(),
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                ..Default::default()
            }),
            resources: Some(pod_resources(pod)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What a container's request is made of beside the container itself.
#[derive(Clone, Copy, Debug)]
pub struct ContainerContext<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Where its things are.
    pub place: &'a PodPlace,
    /// The image, as the daemon knows it.
    pub image_id: &'a str,
    /// The node's memory, bytes.
    pub node_memory: u64,
}

/// What CreateContainer is asked for.
pub fn container_config(
    container: &Container,
    context: &ContainerContext<'_>,
) -> cri::ContainerConfig {
    let ContainerContext { pod, place, .. } = *context;
    let mut labels: BTreeMap<String, String> = identity(pod, place).into();
    labels.insert("io.kubernetes.container.name".to_owned(), container.name.clone());
    let texts = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let mut mounts: Vec<cri::Mount> =
        container.mounts.iter().filter_map(|mount| volume_mount(mount, pod, place)).collect();
    let hosts = Path::new("/etc/hosts");
    if !pod.host_aliases.is_empty() && !container.mounts.iter().any(|m| m.path == hosts) {
        mounts.push(bind(hosts, &place.hosts()));
    }
    let env = container.env.iter();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: 0 }),
        image: Some(cri::ImageSpec {
            image: context.image_id.to_owned(),
            user_specified_image: container.image.clone(),
            ..Default::default()
        }),
        command: container.command.clone(),
        args: container.args.clone(),
        working_dir: container.working_dir.clone(),
        envs: env
            .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone().into() })
            .collect(),
        mounts,
        labels,
        annotations: BTreeMap::from([(GRACE_ANNOTATION.to_owned(), pod.grace_seconds.to_string())]),
        log_path: format!("{}/0.log", container.name),
        stdin: container.stdin,
        tty: container.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(container_resources(
                &container.resources,
                qos(pod),
                context.node_memory,
            )),
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces(pod)),
                masked_paths: texts(&MASKED_PATHS),
                readonly_paths: texts(&READONLY_PATHS),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The labels by which every tool of the field finds a pod's parts.
fn identity(pod: &Pod, place: &PodPlace) -> [(String, String); 3] {
    [
        ("io.kubernetes.pod.name".to_owned(), pod.name.clone()),
        ("io.kubernetes.pod.namespace".to_owned(), pod.namespace.clone()),
        ("io.kubernetes.pod.uid".to_owned(), place.uid.clone()),
    ]
}

fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let node = |host| if host { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    let pid = match (pod.host_pid, pod.share_pid) {
        (true, _) => cri::NamespaceMode::Node,
        (false, true) => cri::NamespaceMode::Pod,
        (false, false) => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: node(pod.host_network).into(),
        pid: pid.into(),
        ipc: node(pod.host_ipc).into(),
        ..Default::default()
    }
}

fn protocol(protocol: Protocol) -> cri::Protocol {
    match protocol {
        Protocol::Tcp => cri::Protocol::Tcp,
        Protocol::Udp => cri::Protocol::Udp,
        Protocol::Sctp => cri::Protocol::Sctp,
    }
}

/// `None` for a volume that the pod does not have, which reading its file has ruled out.
fn volume_mount(mount: &VolumeMount, pod: &Pod, place: &PodPlace) -> Option<cri::Mount> {
    let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume)?;
    let host_path = match &volume.source {
        VolumeSource::EmptyDir => place.empty_dir(&volume.name),
        VolumeSource::HostPath { path, .. } => path.clone(),
    };
    let propagation = if mount.host_to_container {
        cri::MountPropagation::PropagationHostToContainer
    } else {
        cri::MountPropagation::PropagationPrivate
    };
    Some(cri::Mount {
        readonly: mount.read_only,
        propagation: propagation.into(),
        ..bind(&mount.path, &host_path)
    })
}

fn bind(container_path: &Path, host_path: &Path) -> cri::Mount {
    cri::Mount {
        container_path: container_path.display().to_string(),
        host_path: host_path.display().to_string(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::pod::parse_pod;

    fn pod(spec: &str, container: &str) -> Pod {
        parse_pod(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: n, labels: {{app: x}}}}\n\
             spec:\n  {spec}\n  containers:\n  - name: c\n    image: i:1\n    {container}\n"
        ))
        .unwrap()
    }

    fn place(pod: &Pod) -> PodPlace {
        PodPlace::new(Path::new("/state"), pod, "u-1")
    }

    fn container(pod: &Pod) -> cri::ContainerConfig {
        let place = place(pod);
        let context =
            ContainerContext { pod, place: &place, image_id: "sha256:1", node_memory: 1 << 33 };
        container_config(&pod.containers[0], &context)
    }

    fn modes(options: &cri::NamespaceOption) -> [cri::NamespaceMode; 3] {
        [options.network(), options.pid(), options.ipc()]
    }

    #[test]
    fn pod_and_container_agree_on_namespaces() {
        use cri::NamespaceMode::{Container, Node, Pod};
        for (spec, expected) in [
            ("", [Pod, Container, Pod]),
            ("shareProcessNamespace: true", [Pod, Pod, Pod]),
            ("hostPID: true", [Pod, Node, Pod]),
            ("hostNetwork: true", [Node, Container, Pod]),
            ("hostIPC: true", [Pod, Container, Node]),
        ] {
            let pod = pod(spec, "");
            let sandbox = sandbox_config(&pod, &place(&pod)).linux.unwrap();
            let options = sandbox.security_context.unwrap().namespace_options.unwrap();
            assert_eq!(modes(&options), expected, "{spec}");
            let linux = container(&pod).linux.unwrap();
            let options = linux.security_context.unwrap().namespace_options.unwrap();
            assert_eq!(modes(&options), expected, "{spec}");
        }
    }

    #[test]
    fn the_sandbox_is_named_labelled_and_logged_like_a_kubelets() {
        let pod = pod("", "ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 81}]");
        let config = sandbox_config(&pod, &place(&pod));
        let metadata = config.metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.namespace.as_str()), ("p", "n"));
        assert_eq!(metadata.uid, "u-1");
        assert_eq!(config.log_directory, "/state/logs/n_p_u-1");
        let labels: Vec<_> = config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels,
            [
                "app=x",
                "io.berth.run=true",
                "io.kubernetes.pod.name=p",
                "io.kubernetes.pod.namespace=n",
                "io.kubernetes.pod.uid=u-1"
            ]
        );
        assert_eq!(config.port_mappings.len(), 1, "a port without a host port maps nothing");
        assert_eq!(config.port_mappings[0].host_port, 8080);
        assert_eq!(config.hostname, "p");
    }

    #[test]
    fn a_pod_on_the_hosts_network_maps_no_ports_and_has_no_name_of_its_own() {
        let pod = pod("hostNetwork: true", "ports: [{containerPort: 80, hostPort: 80}]");
        let config = sandbox_config(&pod, &place(&pod));
        assert!(config.port_mappings.is_empty());
        assert_eq!(config.hostname, "");
    }

    #[test]
    fn volumes_become_bind_mounts() {
        let pod = pod(
            "volumes: [{name: e, emptyDir: {}}, {name: h, hostPath: {path: /srv}}]",
            "volumeMounts: [{name: e, mountPath: /e}, {name: h, mountPath: /h, readOnly: true, \
             mountPropagation: HostToContainer}]",
        );
        let mounts = container(&pod).mounts;
        let rows: Vec<_> = mounts
            .iter()
            .map(|m| (m.container_path.as_str(), m.host_path.as_str(), m.readonly, m.propagation))
            .collect();
        assert_eq!(rows, [("/e", "/state/pods/u-1/volumes/e", false, 0), ("/h", "/srv", true, 1)]);
    }

    #[test]
    fn aliases_bring_a_hosts_file_unless_the_container_has_one() {
        let aliases = "hostAliases: [{ip: 1.2.3.4, hostnames: [x]}]";
        let mounts = container(&pod(aliases, "")).mounts;
        assert_eq!(mounts[0].container_path, "/etc/hosts");
        assert_eq!(mounts[0].host_path, "/state/pods/u-1/hosts");
        let own = format!("{aliases}\n  volumes: [{{name: h, hostPath: {{path: /h}}}}]");
        let mounts = container(&pod(&own, "volumeMounts: [{name: h, mountPath: /etc/hosts}]"));
        assert_eq!(mounts.mounts.len(), 1);
        assert_eq!(mounts.mounts[0].host_path, "/h");
    }

    #[test]
    fn a_container_hides_what_a_kubelet_hides() {
        let config = container(&pod("terminationGracePeriodSeconds: 7", ""));
        assert_eq!(config.log_path, "c/0.log");
        assert_eq!(config.annotations[GRACE_ANNOTATION], "7");
        assert_eq!(config.labels["io.kubernetes.container.name"], "c");
        assert_eq!(config.image.unwrap().user_specified_image, "i:1");
        let linux = config.linux.unwrap();
        let security = linux.security_context.unwrap();
        assert!(security.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert!(security.readonly_paths.contains(&"/proc/sys".to_owned()));
        assert!(!security.privileged && security.seccomp.is_none());
        assert_eq!(linux.resources.unwrap().oom_score_adj, 1000);
    }
}
