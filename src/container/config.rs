//! What CreateContainer asks for, validated.

use crate::cgroups::Resources;
use crate::idmap::IdMaps;
use crate::sandbox::config::PidNamespace;
pub use crate::sandbox::config::Profile;
use crate::selinux;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name in its pod.
    pub name: String,
    /// How many containers of that name the pod had before.
    pub attempt: u32,
    /// The image as given in the request.
    pub image: String,
    /// The image as the user wrote it, when the request says so.
    pub user_specified_image: String,
    /// Replaces the image's entrypoint (and drops its Cmd) when not empty.
    pub command: Vec<String>,
    /// Replaces the image's Cmd when not empty.
    pub args: Vec<String>,
    /// Replaces the image's working directory when not empty.
    pub working_dir: String,
    /// Added to the image's environment, in order; the last of a name wins.
    pub envs: Vec<(String, String)>,
    /// Mounts, in the request's order.
    pub mounts: Vec<Mount>,
    /// Host devices.
    pub devices: Vec<Device>,
    /// Devices by their CDI names, whole and each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cdi_devices: Vec<String>,
    /// Labels, for filters.
    pub labels: BTreeMap<String, String>,
    /// Annotations, handed through.
    pub annotations: BTreeMap<String, String>,
    /// The log file, relative to the log directory; empty: no log.
    pub log_path: PathBuf,
    /// The pod's log directory, where the request names another one than the sandbox has.
    #[serde(default)]
    pub log_directory: Option<PathBuf>,
    /// Whether stdin is open.
    pub stdin: bool,
    /// Whether stdin closes when its first user leaves.
    pub stdin_once: bool,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Requests and limits.
    pub resources: Resources,
    /// Users, capabilities, profiles.
    pub security: Security,
    /// The stop signal, by name (`SIGUSR1`, `SIGRTMIN+3`); `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
}

/// Which way mounts travel between the host and the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountPropagation {
    /// Neither way (rprivate).
    Private,
    /// From the host into the container (rslave).
    HostToContainer,
    /// Both ways (rshared).
    Bidirectional,
}

/// A bind mount of a host path, or of the content of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the container; absolute.
    pub container_path: PathBuf,
    /// What on the host; absolute. A missing one is created as a directory. Empty for an image.
    pub host_path: PathBuf,
    /// The image whose content is mounted, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVolume>,
    /// Whether the mount is read-only.
    pub readonly: bool,
    /// Whether the mounts below it are read-only, too.
    pub recursive_read_only: bool,
    /// Which way mounts travel.
    pub propagation: MountPropagation,
    /// Whether the source gets the pod's SELinux label.
    pub selinux_relabel: bool,
    /// How the ids of its files are mapped; `None`: not at all. Not written when they are not, so
    /// that requests of before have the same hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<IdMaps>,
}

/// An image as a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// The image as given in the request.
    pub image: String,
    /// The image as the user wrote it, when the request says so.
    pub user_specified_image: String,
    /// What in the image, relative; empty: all of it.
    pub sub_path: PathBuf,
}

/// A host device, or a directory of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where in the container.
    pub container_path: PathBuf,
    /// What on the host.
    pub host_path: PathBuf,
    /// A subset of `rwm`.
    pub permissions: String,
}

/// Whom the process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAs {
    /// The image's user.
    #[default]
    Image,
    /// A uid.
    Uid(u32),
    /// A name in the image's passwd.
    Name(String),
}

/// Which supplementary groups a process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupsPolicy {
    /// Those given and those of the image's group file.
    #[default]
    Merge,
    /// Only those given.
    Strict,
}

/// Users, capabilities, profiles, paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, devices and paths.
    pub privileged: bool,
    /// Whom the process runs as.
    pub run_as: RunAs,
    /// Its primary group; `None`: from the image's passwd.
    pub run_as_group: Option<u32>,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// How they combine with the image's.
    pub groups_policy: GroupsPolicy,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Whether set-user-id bits and file capabilities are ignored.
    pub no_new_privs: bool,
    /// Capabilities to add, upper case with `CAP_`, or `ALL`.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop.
    pub drop_capabilities: Vec<String>,
    /// Capabilities to add, and to make ambient.
    pub ambient_capabilities: Vec<String>,
    /// Whose pid namespace; the request's own, which overrides the pod's.
    pub pid: PidNamespace,
    /// The seccomp profile; `None`: unconfined, as CRI defines it.
    pub seccomp: Option<Profile>,
    /// The AppArmor profile; `None`: unconfined.
    pub apparmor: Option<Profile>,
    /// The parts of the SELinux label that are asked for; the others are the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<selinux::Options>,
    /// Paths that read as empty.
    pub masked_paths: Vec<String>,
    /// Paths that are read-only.
    pub readonly_paths: Vec<String>,
}
