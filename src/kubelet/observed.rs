//! A pod as its runtime has it: sandboxes and container instances, read through CRI.

use crate::cri::client::{Cri, CriError};
use crate::cri::proto;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The label that tells whose a sandbox or container is.
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
/// The annotation with the hash of what a container was made from.
pub const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";
/// The annotation with a container's restart count.
pub const RESTART_COUNT_ANNOTATION: &str = "io.kubernetes.container.restartCount";

/// A pod's sandboxes and instances, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Its container instances, of all sandboxes.
    pub instances: Vec<Instance>,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// How many came before.
    pub attempt: u32,
    /// Whether it runs.
    pub ready: bool,
    /// When it was made.
    pub created: SystemTime,
    /// Whether it is in the node's network.
    pub host_network: bool,
    /// Its addresses; empty in the node's network.
    pub ips: Vec<IpAddr>,
}

/// One start of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// Its sandbox.
    pub sandbox: String,
    /// How many came before.
    pub restarts: u32,
    /// The hash of what it was made from; empty if unknown.
    pub hash: String,
    /// The image as the pod names it.
    pub image: String,
    /// The image's id or digest.
    pub image_ref: String,
    /// When it was made.
    pub created: SystemTime,
    /// Its log.
    pub log_path: String,
    /// Where on the host its termination message is.
    pub message_file: Option<String>,
    /// What it does.
    pub state: InstanceState,
}

/// What an instance does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It was made and not started.
    Created,
    /// It runs.
    Running {
        /// Since when.
        started: SystemTime,
    },
    /// It has ended.
    Exited(Exit),
    /// Nobody knows.
    Unknown,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// The runtime's word: Completed, Error, OOMKilled, StartError.
    pub reason: String,
    /// More of it.
    pub message: String,
    /// When it began to run; none if it never did.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub finished: SystemTime,
}

impl Instance {
    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            InstanceState::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Since when it runs, if it does.
    pub fn running(&self) -> Option<SystemTime> {
        match self.state {
            InstanceState::Running { started } => Some(started),
            _ => None,
        }
    }
}

impl Observed {
    /// The sandbox in which the pod lives: the newest.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    /// The instance before the newest.
    pub fn before_latest(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().filter(|instance| instance.name == name).nth(1)
    }

    /// The newest instance of a container within one sandbox.
    pub fn latest_in(&self, sandbox: &str, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name && i.sandbox == sandbox)
    }

    /// The instances that run, or may.
    pub fn alive(&self) -> impl Iterator<Item = &Instance> {
        let may = |i: &&Instance| {
            matches!(i.state, InstanceState::Running { .. } | InstanceState::Unknown)
        };
        self.instances.iter().filter(may)
    }
}

/// The time of a moment that the protocol counts in nanoseconds since 1970; none for 0.
fn time(nanos: i64) -> Option<SystemTime> {
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?;
    Some(UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// What has ended does not change any more: its status is asked for once.
#[derive(Clone, Debug, Default)]
pub struct Remembered(BTreeMap<String, Instance>);

/// Reads what the runtime has of the pod `uid`.
///
/// # Errors
/// A list or a status failed, other than for what has just gone.
pub async fn observe(
    cri: &dyn Cri,
    uid: &str,
    remembered: &mut Remembered,
) -> Result<Observed, CriError> {
    let label_selector = BTreeMap::from([(POD_UID_LABEL.to_owned(), uid.to_owned())]);
    let filter = proto::PodSandboxFilter {
        label_selector: label_selector.clone(),
        ..proto::PodSandboxFilter::default()
    };
    let listed =
        cri.list_pod_sandbox(proto::ListPodSandboxRequest { filter: Some(filter) }).await?;
    let mut sandboxes = Vec::new();
    for item in listed.items {
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id: item.id, verbose: false };
        match cri.pod_sandbox_status(request).await {
            Ok(answer) => sandboxes.extend(answer.status.map(sandbox)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let filter = proto::ContainerFilter { label_selector, ..proto::ContainerFilter::default() };
    let listed = cri.list_containers(proto::ListContainersRequest { filter: Some(filter) }).await?;
    let mut instances = Vec::new();
    for item in listed.containers {
        if let Some(known) = remembered.0.get(&item.id) {
            instances.push(known.clone());
            continue;
        }
        let request =
            proto::ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
        match cri.container_status(request).await {
            Ok(answer) => {
                instances.extend(answer.status.map(|status| instance(status, item.pod_sandbox_id)));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let ended = instances.iter().filter(|i| i.exit().is_some());
    remembered.0 = ended.map(|i| (i.id.clone(), i.clone())).collect();
    Ok(sorted(Observed { sandboxes, instances }))
}

/// The newest first; of the same moment, the one that says it came later.
fn sorted(mut observed: Observed) -> Observed {
    observed.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created, s.attempt)));
    observed.instances.sort_by_key(|i| std::cmp::Reverse((i.created, i.restarts)));
    observed
}

fn sandbox(status: proto::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    let ips = std::iter::once(network.ip).chain(more).filter_map(|ip| ip.parse().ok()).collect();
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    Sandbox {
        id: status.id,
        attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
        ready: status.state == i32::from(proto::PodSandboxState::SandboxReady),
        created: time(status.created_at).unwrap_or(UNIX_EPOCH),
        host_network: options.is_some_and(|o| o.network() == proto::NamespaceMode::Node),
        ips,
    }
}

fn instance(status: proto::ContainerStatus, sandbox: String) -> Instance {
    let state = match status.state() {
        proto::ContainerState::ContainerCreated => InstanceState::Created,
        proto::ContainerState::ContainerRunning => {
            InstanceState::Running { started: time(status.started_at).unwrap_or(UNIX_EPOCH) }
        }
        proto::ContainerState::ContainerExited => InstanceState::Exited(Exit {
            code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            started: time(status.started_at),
            finished: time(status.finished_at).or(time(status.created_at)).unwrap_or(UNIX_EPOCH),
        }),
        proto::ContainerState::ContainerUnknown => InstanceState::Unknown,
    };
    let metadata = status.metadata.unwrap_or_default();
    let text = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let message_path = text(super::request::MESSAGE_PATH_ANNOTATION);
    let image = status.image.unwrap_or_default();
    Instance {
        id: status.id,
        name: metadata.name,
        sandbox,
        restarts: text(RESTART_COUNT_ANNOTATION).parse().unwrap_or(metadata.attempt),
        hash: text(HASH_ANNOTATION),
        image: if image.user_specified_image.is_empty() {
            image.image
        } else {
            image.user_specified_image
        },
        image_ref: status.image_ref,
        created: time(status.created_at).unwrap_or(UNIX_EPOCH),
        log_path: status.log_path,
        message_file: status
            .mounts
            .into_iter()
            .find(|mount| !message_path.is_empty() && mount.container_path == message_path)
            .map(|mount| mount.host_path),
        state,
    }
}
