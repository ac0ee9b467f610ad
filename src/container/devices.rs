//! Which device nodes a container has and which devices its cgroup lets it use.
//!
//! The executor makes the nodes every container has (`null`, `zero`, `full`, `random`, `urandom`,
//! `tty`, `ptmx`); the rules for them are here. The only I/O of the folder's planning: the numbers
//! of a host device are read from the host, and a folder of devices is walked.

use super::config::{ContainerConfig, Device};
use super::error::SpecError;
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Folders of the host's /dev that hold no devices for a container.
const SKIPPED_FOLDERS: [&str; 6] = ["fd", "hugepages", "mqueue", "pts", "shm", ".udev"];
/// Nodes that the executor makes itself.
const MADE_BY_THE_EXECUTOR: [&str; 8] =
    ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"];
/// How deep a folder of devices is walked.
const MAX_DEPTH: usize = 16;
/// How many devices one request may bring.
const MAX_DEVICES: usize = 65_536;

/// The nodes to make and the rules of the cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePlan {
    /// Nodes beside those that the executor makes itself.
    pub nodes: Vec<LinuxDevice>,
    /// Rules in order; a later one wins. The first denies everything.
    pub rules: Vec<LinuxDeviceCgroup>,
    /// Nodes of the host to be bound under their own name, with their owner.
    pub bound: Vec<PathBuf>,
}

/// Whose root the container's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The host's.
    Host,
    /// That of a user namespace.
    Mapped,
}

/// Reads the devices that the request names and, for a privileged container, all of the host.
///
/// # Errors
/// [`SpecError::Device`] for one that does not exist or is no device, [`SpecError::Invalid`] for
/// permissions that are none.
pub fn read_devices(config: &ContainerConfig, root: Root) -> Result<DevicePlan, SpecError> {
    let mut plan = DevicePlan { nodes: Vec::new(), rules: default_rules(), bound: Vec::new() };
    for device in &config.devices {
        let access = parse_permissions(&device.permissions)?;
        for node in read_device(device)? {
            plan.rules.push(allow_node(&node, &access));
            add(&mut plan.nodes, node);
        }
    }
    if config.security.privileged {
        let mut host = Vec::new();
        walk(Path::new("/dev"), Path::new("/dev"), 0, &mut host)?;
        host.retain(|node| {
            !MADE_BY_THE_EXECUTOR.iter().any(|name| node.path() == &Path::new("/dev").join(name))
        });
        for node in host {
            match root {
                Root::Host => add(&mut plan.nodes, node),
                // A node of its own would be the pod's root's. The host's is open to it as far as
                // it is to everybody: /dev/fuse is, a disk is not.
                Root::Mapped if plan.nodes.iter().any(|known| known.path() == node.path()) => {}
                Root::Mapped => plan.bound.push(node.path().clone()),
            }
        }
        plan.rules = vec![rule(true, LinuxDeviceType::A, None, None, "rwm")];
    }
    Ok(plan)
}

/// A request's device at a path goes before one that was found.
fn add(nodes: &mut Vec<LinuxDevice>, node: LinuxDevice) {
    if !nodes.iter().any(|known| known.path() == node.path()) {
        nodes.push(node);
    }
}

/// Everything is denied but making nodes and the devices that every container has.
fn default_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, B, C};
    let mut rules = vec![
        rule(false, A, None, None, "rwm"),
        rule(true, C, None, None, "m"),
        rule(true, B, None, None, "m"),
    ];
    // null, zero, full, random, urandom; tty, ptmx.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)] {
        rules.push(rule(true, C, Some(major), Some(minor), "rwm"));
    }
    // /dev/pts/*
    rules.push(rule(true, C, Some(136), None, "rwm"));
    rules
}

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(typ))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

fn allow_node(node: &LinuxDevice, access: &str) -> LinuxDeviceCgroup {
    rule(true, node.typ(), Some(node.major()), Some(node.minor()), access)
}

/// A subset of `rwm` in that order; nothing means all three.
fn parse_permissions(text: &str) -> Result<String, SpecError> {
    if let Some(odd) = text.chars().find(|c| !"rwm".contains(*c)) {
        let reason = "is not made of r, w and m";
        return Err(SpecError::invalid("devices.permissions", format!("{text} ({odd})"), reason));
    }
    if text.is_empty() {
        return Ok("rwm".to_owned());
    }
    Ok("rwm".chars().filter(|c| text.contains(*c)).collect())
}

/// The node of one host device, or the nodes of a folder of them.
fn read_device(device: &Device) -> Result<Vec<LinuxDevice>, SpecError> {
    if !device.container_path.is_absolute() {
        let path = device.container_path.display().to_string();
        return Err(SpecError::invalid("devices.container_path", path, "is not absolute"));
    }
    let fail =
        |operation, source| SpecError::Device { operation, path: device.host_path.clone(), source };
    let path = fs::canonicalize(&device.host_path).map_err(|e| fail("resolve", e))?;
    let about = fs::metadata(&path).map_err(|e| fail("examine", e))?;
    if let Some(node) = node_of(&device.container_path, &about) {
        return Ok(vec![node]);
    }
    if !about.is_dir() {
        return Err(fail("use", io::Error::new(io::ErrorKind::InvalidInput, "it is not a device")));
    }
    let mut nodes = Vec::new();
    walk(&path, &device.container_path, 0, &mut nodes)?;
    if nodes.is_empty() {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "the folder holds no devices");
        return Err(fail("use", none));
    }
    Ok(nodes)
}

/// Every device below `host`, as it shall appear below `inside`, in order of names. Symlinks are
/// not followed.
fn walk(
    host: &Path,
    inside: &Path,
    depth: usize,
    nodes: &mut Vec<LinuxDevice>,
) -> Result<(), SpecError> {
    let fail = |operation, path: &Path, source| SpecError::Device {
        operation,
        path: path.to_path_buf(),
        source,
    };
    if depth > MAX_DEPTH || nodes.len() > MAX_DEVICES {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "too many devices or folders");
        return Err(fail("walk", host, source));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(host).map_err(|e| fail("list", host, e))? {
        names.push(entry.map_err(|e| fail("list", host, e))?.file_name());
    }
    names.sort();
    for name in names {
        let path: PathBuf = host.join(&name);
        let about = match fs::symlink_metadata(&path) {
            Ok(about) => about,
            // Devices come and go while the folder is read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(fail("examine", &path, e)),
        };
        if about.is_dir() {
            if !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                walk(&path, &inside.join(&name), depth + 1, nodes)?;
            }
        } else if let Some(node) = node_of(&inside.join(&name), &about) {
            nodes.push(node);
        }
    }
    Ok(())
}

/// The node that stands for this inode, if it is a device.
fn node_of(path: &Path, about: &fs::Metadata) -> Option<LinuxDevice> {
    let typ = if about.file_type().is_char_device() {
        LinuxDeviceType::C
    } else if about.file_type().is_block_device() {
        LinuxDeviceType::B
    } else {
        return None;
    };
    let mut node = LinuxDevice::default();
    node.set_path(path.to_path_buf())
        .set_typ(typ)
        .set_major(i64::try_from(major(about.rdev())).ok()?)
        .set_minor(i64::try_from(minor(about.rdev())).ok()?)
        .set_file_mode(Some(about.mode() & 0o777))
        .set_uid(Some(about.uid()))
        .set_gid(Some(about.gid()));
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::container;

    fn asked(host_path: &Path, permissions: &str) -> ContainerConfig {
        let device = Device {
            container_path: "/dev/mine".into(),
            host_path: host_path.into(),
            permissions: permissions.into(),
        };
        ContainerConfig { devices: vec![device], ..container() }
    }

    #[test]
    fn without_devices_everything_but_the_common_ones_is_denied() {
        let plan = read_devices(&container(), Root::Host).unwrap();
        assert_eq!(plan.nodes, []);
        assert_eq!(plan.rules[0], rule(false, LinuxDeviceType::A, None, None, "rwm"));
        assert!(plan.rules.contains(&rule(true, LinuxDeviceType::C, Some(1), Some(3), "rwm")));
        let all = rule(true, LinuxDeviceType::A, None, None, "rwm");
        assert!(!plan.rules.contains(&all));
    }

    #[test]
    fn a_device_keeps_its_numbers_and_gets_the_permissions_asked_for() {
        let plan = read_devices(&asked(Path::new("/dev/full"), "wr"), Root::Host).unwrap();
        assert_eq!(plan.nodes.len(), 1);
        let node = &plan.nodes[0];
        assert_eq!(node.path(), Path::new("/dev/mine"));
        assert_eq!((node.typ(), node.major(), node.minor()), (LinuxDeviceType::C, 1, 7));
        let last = plan.rules.last().unwrap();
        assert_eq!(last, &rule(true, LinuxDeviceType::C, Some(1), Some(7), "rw"));
    }

    #[test]
    fn a_symlink_to_a_device_is_that_device() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let plan = read_devices(&asked(&link, ""), Root::Host).unwrap();
        assert_eq!((plan.nodes[0].major(), plan.nodes[0].minor()), (1, 5));
    }

    #[test]
    fn what_is_no_device_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, why) in [
            (dir.path().join("missing"), "resolve device"),
            (file, "use device"),
            (dir.path().to_path_buf(), "use device"),
        ] {
            let error = read_devices(&asked(&path, "rw"), Root::Host).unwrap_err();
            assert_eq!(error.to_string(), format!("{why} {}", path.display()));
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn in_a_user_namespace_the_hosts_nodes_keep_their_owners() {
        let mut config = asked(Path::new("/dev/full"), "r");
        config.security.privileged = true;
        let plan = read_devices(&config, Root::Mapped).unwrap();
        // What was asked for is the container's own.
        assert_eq!(plan.nodes.len(), 1);
        assert_eq!(plan.nodes[0].path(), Path::new("/dev/mine"));
        assert!(!plan.bound.is_empty());
        assert!(!plan.bound.iter().any(|path| path == Path::new("/dev/null")));
        let host = read_devices(&config, Root::Host).unwrap();
        assert_eq!((host.bound.len(), host.nodes.len()), (0, plan.bound.len() + 1));
    }

    #[test]
    fn odd_permissions_are_refused() {
        assert!(read_devices(&asked(Path::new("/dev/null"), "rx"), Root::Host).is_err());
    }

    #[test]
    fn a_privileged_container_gets_the_hosts_devices_and_may_use_all() {
        let mut config = asked(Path::new("/dev/full"), "r");
        config.security.privileged = true;
        let plan = read_devices(&config, Root::Host).unwrap();
        assert_eq!(plan.rules, [rule(true, LinuxDeviceType::A, None, None, "rwm")]);
        assert!(plan.nodes.iter().any(|node| node.path() == Path::new("/dev/mine")));
        assert!(!plan.nodes.iter().any(|node| node.path() == Path::new("/dev/null")));
        assert!(!plan.nodes.iter().any(|node| node.path().starts_with("/dev/pts")));
    }
}
