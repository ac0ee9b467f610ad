//! The files that all containers of a pod share: hosts, resolv.conf, hostname.

use super::config::{PodNamespace, SandboxConfig};
use super::files;
use crate::container::mounts::PodFiles;
use crate::ids::SandboxId;
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
    put(&paths.hosts, &hosts)?;
    put(
        &paths.resolv_conf,
        &files::resolv_conf(config.dns.as_ref(), &of_host("/etc/resolv.conf")),
    )?;
    put(&paths.hostname, &files::hostname_file(&hostname))
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    // Containers of any user read them.
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}
