//! The files that a container finds: its volumes, the pod's /etc/hosts, the file of its termination message.

use super::host::Host;
use crate::blocking::{BlockingError, Wanted};
use crate::cri::proto;
use crate::kubelet::env::Environment;
use crate::kubelet::ephemeral::named;
use crate::kubelet::files::{
    FileError, HostnameError, hosts_mount, hosts_of_node, hosts_of_pod, pod_hostname,
    replace_in_place,
};
use crate::kubelet::spec::{host_network, uid};
use crate::kubelet::volumes::VolumeInput;
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The node's own hosts.
const NODE_HOSTS: &str = "/etc/hosts";

/// What a container's request names on the host.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) mounts: Vec<proto::Mount>,
    pub(super) message: PathBuf,
}

/// A file of a container that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContainerFilesError {
    #[error(transparent)]
    Volume(#[from] crate::kubelet::volumes::VolumeError),
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    #[error(transparent)]
    Hosts(#[from] FileError),
    #[error("make {path}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Unwanted(#[from] BlockingError),
}

impl Host {
    /// Makes the files of a container: its volumes, the pod's /etc/hosts, the file of its termination message.
    pub(super) fn container_files(
        &self,
        pod: &Pod,
        container: &str,
        (ips, env): (&[IpAddr], &Environment),
        wanted: &Wanted,
    ) -> Result<Files, ContainerFilesError> {
        let Some(named) = named(pod, container) else {
            return Ok(Files { mounts: Vec::new(), message: PathBuf::new() });
        };
        let member = named.member();
        let objects = Arc::clone(&self.objects.borrow());
        let input = VolumeInput { pod, objects: &objects, node: &self.node, wanted };
        let mut mounts = self.volumes.mounts(&input, member.container, &env.vars)?;
        let dir = self.pod_dir(uid(pod));
        let file = dir.join("etc-hosts");
        if let Some(mount) = hosts_mount(member.container, &file) {
            let text = if host_network(pod) {
                hosts_of_node(pod, &std::fs::read_to_string(NODE_HOSTS).unwrap_or_default())
            } else {
                hosts_of_pod(pod, &pod_hostname(pod, &self.settings.dns.domain)?, ips)
            };
            let made = wanted.effect(|| std::fs::create_dir_all(&dir))?;
            made.map_err(|source| ContainerFilesError::File { path: dir.clone(), source })?;
            wanted.effect(|| replace_in_place(&file, &text))??;
            mounts.push(mount);
        }
        let folder = dir.join("containers").join(container);
        let message = wanted.effect(|| self.message_file(&folder))??;
        Ok(Files { mounts, message })
    }

    /// A new file that any user of the container may write.
    fn message_file(&self, folder: &Path) -> Result<PathBuf, ContainerFilesError> {
        let made = || {
            std::fs::create_dir_all(folder)?;
            let path = folder.join(crate::ids::random_hex_of::<4>()?);
            std::fs::write(&path, "")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            Ok(path)
        };
        made().map_err(|source| ContainerFilesError::File { path: folder.to_owned(), source })
    }
}
