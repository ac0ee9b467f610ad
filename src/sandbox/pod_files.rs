//! The files that all containers of a pod share: hosts, resolv.conf, hostname.

use super::config::{PodNamespace, SandboxConfig};
use super::files;
use crate::container::mounts::PodFiles;
use crate::idmap::IdMaps;
use crate::ids::SandboxId;
use crate::selinux::{self, Label, SelinuxError};
use crate::store::Layout;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Where they are.
pub fn paths(layout: &Layout, id: &SandboxId) -> PodFiles {
    let folder = layout.sandbox(id);
    PodFiles {
        hosts: folder.join("hosts"),
        resolv_conf: folder.join("resolv.conf"),
        hostname: folder.join("hostname"),
    }
}

/// The name that processes of the pod see.
pub fn hostname(config: &SandboxConfig) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    files::effective_hostname(config, &host.to_string_lossy()).to_owned()
}

/// Writes all three.
///
/// # Errors
/// The errno, with the path.
pub fn write(
    layout: &Layout,
    id: &SandboxId,
    config: &SandboxConfig,
    ips: &[IpAddr],
) -> io::Result<()> {
    let paths = paths(layout, id);
    let hostname = hostname(config);
    // A node without these files is odd, but its pods can run.
    let of_host = |path| std::fs::read_to_string(path).unwrap_or_default();
    let hosts = match config.namespaces.network {
        PodNamespace::Node => of_host("/etc/hosts"),
        PodNamespace::Pod => files::hosts_file(&hostname, ips),
    };
    let resolv_conf = files::resolv_conf(config.dns.as_ref(), &of_host("/etc/resolv.conf"));
    let owner = config.userns.as_ref().and_then(IdMaps::host_root);
    for (path, text) in [
        (&paths.hosts, hosts),
        (&paths.resolv_conf, resolv_conf),
        (&paths.hostname, files::hostname_file(&hostname)),
    ] {
        put(path, &text, owner)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

/// Gives all three the SELinux label of the pod's files.
///
/// # Errors
/// The kernel's refusal.
pub fn label(layout: &Layout, id: &SandboxId, label: &Label) -> Result<(), SelinuxError> {
    let paths = paths(layout, id);
    let text = label.to_string();
    [paths.hosts, paths.resolv_conf, paths.hostname]
        .iter()
        .try_for_each(|path| selinux::set_label(path, &text))
}

/// Containers of any user read them; the root of the pod's user namespace owns them.
fn put(path: &Path, text: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o644).open(path)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    file.write_all(text.as_bytes())
}
