//! Which namespaces pause makes and which a container joins; pure.
//!
//! | mode | pause makes | a container |
//! | --- | --- | --- |
//! | net, ipc `Pod` | its own (and uts with net) | joins pause's |
//! | net, ipc `Node` | nothing | stays in the host's |
//! | pid `Pod` | its own, and is its pid 1 | joins pause's |
//! | pid `Container` | nothing | makes its own |
//! | pid `Node` | nothing | stays in the host's |
//! | pid `Target` | – | joins that of the other container |
//!
//! Mount and cgroup namespaces are always the container's own. A user namespace is the pod's, and owns
//! all of these; a pod in one has IPC and pids of its own, since the kernel would not let it mount
//! the host's /proc and /dev/mqueue.

use super::config::{PidNamespace, PodNamespace, SandboxConfig};
use crate::container::error::SpecError;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use std::path::PathBuf;

/// What pause makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseNamespaces {
    /// A network namespace.
    pub net: bool,
    /// An IPC namespace, with the pod's /dev/shm.
    pub ipc: bool,
    /// A UTS namespace, with the pod's hostname.
    pub uts: bool,
    /// A pid namespace that containers share.
    pub pid: bool,
}

/// What pause makes for this pod. A pod with the host's network has the host's name, too.
pub fn plan_pause(sandbox: &SandboxConfig) -> PauseNamespaces {
    let net = sandbox.namespaces.network == PodNamespace::Pod;
    PauseNamespaces {
        net,
        ipc: sandbox.namespaces.ipc == PodNamespace::Pod,
        uts: net,
        pid: sandbox.namespaces.pid == PidNamespace::Pod,
    }
}

/// Refuses a pod whose own pid mode is one that only a container can have.
///
/// # Errors
/// [`SpecError::Invalid`].
pub fn validate_namespaces(sandbox: &SandboxConfig) -> Result<(), SpecError> {
    match &sandbox.namespaces.pid {
        PidNamespace::Target(id) => Err(SpecError::invalid(
            "namespace_options.pid",
            format!("TARGET {id}"),
            "a pod has no target, only a container has",
        )),
        PidNamespace::Pod | PidNamespace::Container | PidNamespace::Node => Ok(()),
    }
}

/// The processes whose namespaces a container may join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Pause.
    pub pause: Option<i32>,
    /// The container that `Target` names.
    pub target: Option<i32>,
}

/// The namespaces of a container. One that is not listed is the host's.
///
/// # Errors
/// [`SpecError::NoHolder`] when pause or the target does not run, [`SpecError::Invalid`] when a
/// container asks for more of the host than its pod has.
pub fn plan_container(
    sandbox: &SandboxConfig,
    pid: &PidNamespace,
    holders: Holders,
) -> Result<Vec<LinuxNamespace>, SpecError> {
    use LinuxNamespaceType as Type;
    let wanted = plan_pause(sandbox);
    let mut namespaces = vec![namespace(Type::Mount, None), namespace(Type::Cgroup, None)];
    if sandbox.userns.is_some() {
        namespaces.push(of_pause(Type::User, "user", holders)?);
    }
    for (join, typ, file) in [
        (wanted.net, Type::Network, "net"),
        (wanted.ipc, Type::Ipc, "ipc"),
        (wanted.uts, Type::Uts, "uts"),
    ] {
        if join {
            namespaces.push(of_pause(typ, file, holders)?);
        }
    }
    match (pid, &sandbox.namespaces.pid) {
        (PidNamespace::Container, _) => namespaces.push(namespace(Type::Pid, None)),
        (PidNamespace::Pod, PidNamespace::Pod) => {
            namespaces.push(of_pause(Type::Pid, "pid", holders)?);
        }
        // The pod's pid namespace is the node's.
        (PidNamespace::Pod | PidNamespace::Node, PidNamespace::Node) => {}
        (PidNamespace::Target(id), _) => {
            let pid = holders.target.ok_or_else(|| SpecError::NoHolder {
                namespace: "pid",
                holder: format!("container {id}"),
            })?;
            namespaces.push(namespace(Type::Pid, Some(path(pid, "pid"))));
        }
        (PidNamespace::Pod, PidNamespace::Container | PidNamespace::Target(_)) => {
            // Pause is in the host's pid namespace here: joining it would be joining the host's.
            return Err(refuse_pid("POD", "its sandbox shares no pid namespace"));
        }
        (PidNamespace::Node, _) => {
            return Err(refuse_pid("NODE", "its sandbox does not use the node's pid namespace"));
        }
    }
    Ok(namespaces)
}

fn refuse_pid(mode: &str, reason: &'static str) -> SpecError {
    SpecError::invalid("namespace_options.pid", mode, reason)
}

fn of_pause(
    typ: LinuxNamespaceType,
    file: &'static str,
    holders: Holders,
) -> Result<LinuxNamespace, SpecError> {
    let holder = || SpecError::NoHolder { namespace: file, holder: "the pod's pause".to_owned() };
    let pause = holders.pause.ok_or_else(holder)?;
    Ok(namespace(typ, Some(path(pause, file))))
}

fn path(pid: i32, file: &str) -> PathBuf {
    format!("/proc/{pid}/ns/{file}").into()
}

fn namespace(typ: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(typ).set_path(path);
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::sandbox;
    use crate::sandbox::config::SandboxNamespaces;

    fn pod(network: PodNamespace, ipc: PodNamespace, pid: PidNamespace) -> SandboxConfig {
        SandboxConfig { namespaces: SandboxNamespaces { network, ipc, pid }, ..sandbox() }
    }

    fn text(namespaces: &[LinuxNamespace]) -> String {
        let one = |n: &LinuxNamespace| match n.path() {
            Some(path) => format!("{}={}", n.typ(), path.display()),
            None => n.typ().to_string(),
        };
        namespaces.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_container_joins_what_its_pod_has_and_makes_the_rest() {
        use PodNamespace::{Node, Pod};
        let shared = "mnt cgroup net=/proc/7/ns/net ipc=/proc/7/ns/ipc uts=/proc/7/ns/uts";
        let target = || PidNamespace::Target("other".into());
        let rows = [
            (Pod, Pod, PidNamespace::Container, PidNamespace::Container, format!("{shared} pid")),
            (
                Pod,
                Pod,
                PidNamespace::Pod,
                PidNamespace::Pod,
                format!("{shared} pid=/proc/7/ns/pid"),
            ),
            (Pod, Pod, PidNamespace::Pod, PidNamespace::Container, format!("{shared} pid")),
            (Pod, Pod, PidNamespace::Node, PidNamespace::Node, shared.to_owned()),
            (Pod, Pod, PidNamespace::Node, PidNamespace::Pod, shared.to_owned()),
            (Pod, Pod, PidNamespace::Container, target(), format!("{shared} pid=/proc/9/ns/pid")),
            (
                Node,
                Pod,
                PidNamespace::Container,
                PidNamespace::Container,
                "mnt cgroup ipc=/proc/7/ns/ipc pid".to_owned(),
            ),
            (
                Pod,
                Node,
                PidNamespace::Container,
                PidNamespace::Container,
                "mnt cgroup net=/proc/7/ns/net uts=/proc/7/ns/uts pid".to_owned(),
            ),
            (Node, Node, PidNamespace::Node, PidNamespace::Node, "mnt cgroup".to_owned()),
        ];
        let holders = Holders { pause: Some(7), target: Some(9) };
        for (net, ipc, pod_pid, pid, expected) in rows {
            let planned = plan_container(&pod(net, ipc, pod_pid.clone()), &pid, holders).unwrap();
            assert_eq!(text(&planned), expected, "{net:?} {ipc:?} {pod_pid:?} {pid:?}");
        }
    }

    #[test]
    fn a_container_never_gets_more_of_the_host_than_its_pod() {
        use PidNamespace as Pid;
        let holders = Holders { pause: Some(7), target: None };
        for (pod_pid, pid) in
            [(Pid::Container, Pid::Pod), (Pid::Container, Pid::Node), (Pid::Pod, Pid::Node)]
        {
            let pod = pod(PodNamespace::Pod, PodNamespace::Pod, pod_pid.clone());
            assert!(plan_container(&pod, &pid, holders).is_err(), "{pod_pid:?} {pid:?}");
        }
    }

    #[test]
    fn a_missing_holder_is_a_precondition_and_names_who_should_run() {
        let error = plan_container(&sandbox(), &PidNamespace::Container, Holders::default());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition);
        let holders = Holders { pause: Some(7), target: None };
        let target = PidNamespace::Target("debugged".into());
        let error = plan_container(&sandbox(), &target, holders).unwrap_err();
        assert!(error.to_string().contains("debugged"), "{error}");
    }

    #[test]
    fn a_pod_on_the_hosts_network_keeps_the_hosts_name() {
        let planned = plan_pause(&pod(PodNamespace::Node, PodNamespace::Pod, PidNamespace::Pod));
        let expected = PauseNamespaces { net: false, ipc: true, uts: false, pid: true };
        assert_eq!(planned, expected);
    }

    #[test]
    fn a_user_namespace_is_pauses() {
        let range = vec![crate::idmap::IdRange { container: 0, host: 9, length: 1 }];
        let maps = crate::idmap::IdMaps { uids: range.clone(), gids: range };
        let pod = SandboxConfig { userns: Some(maps), ..sandbox() };
        let holders = Holders { pause: Some(7), target: None };
        let planned = plan_container(&pod, &PidNamespace::Container, holders).unwrap();
        assert!(text(&planned).contains(" user=/proc/7/ns/user "), "{}", text(&planned));
        let missing = plan_container(&pod, &PidNamespace::Container, Holders::default());
        assert!(matches!(missing, Err(SpecError::NoHolder { namespace: "user", .. })));
    }

    #[test]
    fn a_pod_cannot_target_a_container() {
        let target = PidNamespace::Target("x".into());
        let pod = pod(PodNamespace::Pod, PodNamespace::Pod, target);
        assert!(validate_namespaces(&pod).is_err());
        assert!(validate_namespaces(&sandbox()).is_ok());
    }
}
