//! Which mounts a container gets, and in which order; pure.
//!
//! The defaults, less those that the request replaces, and the request's own, parents before
//! children. Symlinks are followed by the executor: those of a source on the host, those of a
//! destination inside the root file system.

use super::config::{ContainerConfig, Mount, MountPropagation};
use super::error::SpecError;
use crate::idmap::IdRange;
use crate::sandbox::config::{PodNamespace, SandboxConfig};
use oci_spec::runtime as oci;
use std::path::{Component, Path, PathBuf};

/// A bind source that stands for the pod's own /dev/shm, in the namespace of its shim.
pub const POD_SHM: &str = "berth:shm";
/// A bind source that stands for an image: the number of the request's mount follows.
const IMAGE: &str = "berth:image:";

/// The bind source of the image volume that is the request's mount of this number.
pub fn image_source(mount: usize) -> PathBuf {
    PathBuf::from(format!("{IMAGE}{mount}"))
}

/// The files that every container of a pod shares, on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFiles {
    /// Becomes /etc/hosts.
    pub hosts: PathBuf,
    /// Becomes /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// Becomes /etc/hostname.
    pub hostname: PathBuf,
}

/// All mounts of a container, in the order in which they are made. `host_devices` are nodes of the
/// host that appear under their own name.
///
/// # Errors
/// [`SpecError::Invalid`] for a destination or a combination of options that cannot be.
pub fn plan_mounts(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    files: &PodFiles,
    host_devices: &[PathBuf],
) -> Result<Vec<oci::Mount>, SpecError> {
    let asked = config.mounts.iter().enumerate().map(|(index, mount)| request_mount(index, mount));
    let asked = asked.collect::<Result<Vec<_>, _>>()?;
    let mut mounts = default_mounts(sandbox, config, files);
    mounts.extend(host_devices.iter().map(|path| {
        mount_at(path.clone(), "bind", path, &["bind", "rprivate", "nosuid", "noexec"])
    }));
    let below_dev = asked.iter().any(|mount| mount.destination() == Path::new("/dev"));
    mounts.retain(|default| {
        let replaced = asked.iter().any(|mount| mount.destination() == default.destination());
        // A request's /dev comes with everything below it.
        !(replaced || below_dev && default.destination().starts_with("/dev"))
    });
    mounts.extend(asked);
    // Stable: equals keep their order, so a later mount of the request covers an earlier one.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

/// The widest propagation that any mount asks for, which the root file system has to allow.
pub fn rootfs_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let asks = |propagation| mounts.iter().any(|mount| mount.propagation == propagation);
    if asks(MountPropagation::Bidirectional) {
        Some("rshared")
    } else if asks(MountPropagation::HostToContainer) {
        Some("rslave")
    } else {
        None
    }
}

fn default_mounts(
    sandbox: &SandboxConfig,
    config: &ContainerConfig,
    files: &PodFiles,
) -> Vec<oci::Mount> {
    let system = if config.security.privileged { "rw" } else { "ro" };
    let shm = match sandbox.namespaces.ipc {
        PodNamespace::Pod => POD_SHM,
        PodNamespace::Node => "/dev/shm",
    };
    let file = |destination: &str, source: &Path| {
        let access = if config.security.readonly_rootfs { "ro" } else { "rw" };
        mount(destination, "bind", source, &["rbind", "rprivate", access])
    };
    let special = |destination: &str, typ: &str, options: &[&str]| {
        mount(destination, typ, Path::new(typ), options)
    };
    vec![
        special("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        special("/sys", "sysfs", &["nosuid", "noexec", "nodev", system]),
        special("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        special(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        special("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "bind",
            Path::new(shm),
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
        ),
        special("/sys/fs/cgroup", "cgroup2", &["nosuid", "noexec", "nodev", "relatime", system]),
        file("/etc/hosts", &files.hosts),
        file("/etc/resolv.conf", &files.resolv_conf),
        file("/etc/hostname", &files.hostname),
    ]
}

fn request_mount(index: usize, asked: &Mount) -> Result<oci::Mount, SpecError> {
    let destination = plan_destination(&asked.container_path)?;
    if asked.image.is_some() {
        let source = image_source(index);
        return Ok(mount_at(destination, "bind", &source, &["rbind", "rprivate", "rro"]));
    }
    if !asked.host_path.is_absolute() {
        return Err(refuse("mounts.host_path", &asked.host_path, "is not absolute"));
    }
    let propagation = match asked.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let access = match (asked.readonly, asked.recursive_read_only) {
        (_, true) => recursive_access(asked)?,
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let options = ["rbind", propagation, access];
    let mut mount = mount_at(destination, "bind", &asked.host_path, &options);
    if let Some(maps) = &asked.maps {
        // The whole tree, as the mount is of the whole tree: what is below and cannot be mapped
        // would show other ids without a word.
        mount.options_mut().get_or_insert_default().push("ridmap".to_owned());
        mount.set_uid_mappings(Some(oci_ranges(&maps.uids)?));
        mount.set_gid_mappings(Some(oci_ranges(&maps.gids)?));
    }
    Ok(mount)
}

/// Ranges of ids as the specification writes them.
///
/// # Errors
/// None that is known: the library's builder could ask for more.
pub(super) fn oci_ranges(ranges: &[IdRange]) -> Result<Vec<oci::LinuxIdMapping>, SpecError> {
    let one = |range: &IdRange| {
        oci::LinuxIdMappingBuilder::default()
            .container_id(range.container)
            .host_id(range.host)
            .size(range.length)
            .build()
            .map_err(|e| SpecError::invalid("mappings", e.to_string(), "cannot be written down"))
    };
    ranges.iter().map(one).collect()
}

/// A mount that shall be read-only all the way down must be read-only itself, and no mount may
/// arrive below it later (KEP-3857).
fn recursive_access(asked: &Mount) -> Result<&'static str, SpecError> {
    let refuse = |reason| Err(refuse("mounts.recursive_read_only", &asked.container_path, reason));
    if !asked.readonly {
        return refuse("needs readonly");
    }
    if asked.propagation != MountPropagation::Private {
        return refuse("needs private propagation");
    }
    Ok("rro")
}

/// The destination without `.` and `..`, which must not be the root itself.
fn plan_destination(path: &Path) -> Result<PathBuf, SpecError> {
    if !path.is_absolute() {
        return Err(refuse("mounts.container_path", path, "is not absolute"));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                // At the root `..` is the root.
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") {
        return Err(refuse("mounts.container_path", path, "would cover the root file system"));
    }
    Ok(clean)
}

fn refuse(field: &'static str, path: &Path, reason: &'static str) -> SpecError {
    SpecError::invalid(field, path.display().to_string(), reason)
}

fn mount(destination: &str, typ: &str, source: &Path, options: &[&str]) -> oci::Mount {
    mount_at(PathBuf::from(destination), typ, source, options)
}

fn mount_at(destination: PathBuf, typ: &str, source: &Path, options: &[&str]) -> oci::Mount {
    let mut mount = oci::Mount::default();
    mount
        .set_destination(destination)
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_path_buf()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::{container, sandbox};
    use proptest::prelude::*;

    fn files() -> PodFiles {
        PodFiles {
            hosts: "/pod/hosts".into(),
            resolv_conf: "/pod/resolv.conf".into(),
            hostname: "/pod/hostname".into(),
        }
    }

    fn bind(container_path: &str, host_path: &str) -> Mount {
        Mount {
            container_path: container_path.into(),
            host_path: host_path.into(),
            image: None,
            readonly: false,
            recursive_read_only: false,
            propagation: MountPropagation::Private,
            selinux_relabel: false,
            maps: None,
        }
    }

    fn planned(mounts: Vec<Mount>) -> Result<Vec<oci::Mount>, SpecError> {
        let config = ContainerConfig { mounts, ..container() };
        plan_mounts(&sandbox(), &config, &files(), &[])
    }

    fn at<'a>(mounts: &'a [oci::Mount], destination: &str) -> Vec<&'a oci::Mount> {
        mounts.iter().filter(|m| m.destination() == Path::new(destination)).collect()
    }

    fn options(mounts: &[oci::Mount], destination: &str) -> String {
        let found = at(mounts, destination);
        assert_eq!(found.len(), 1, "{destination}");
        found[0].options().as_ref().unwrap().join(",")
    }

    #[test]
    fn a_container_that_asks_for_nothing_gets_the_ten_defaults() {
        let mounts = planned(Vec::new()).unwrap();
        let rows = [
            ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
            ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            (
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            ("/dev/shm", "bind", POD_SHM, "rbind,rprivate,nosuid,noexec,nodev,rw"),
            ("/etc/hosts", "bind", "/pod/hosts", "rbind,rprivate,rw"),
            ("/etc/resolv.conf", "bind", "/pod/resolv.conf", "rbind,rprivate,rw"),
            ("/etc/hostname", "bind", "/pod/hostname", "rbind,rprivate,rw"),
            ("/sys/fs/cgroup", "cgroup2", "cgroup2", "nosuid,noexec,nodev,relatime,ro"),
        ];
        let seen: Vec<_> = mounts
            .iter()
            .map(|m| {
                (
                    m.destination().to_str().unwrap(),
                    m.typ().as_deref().unwrap(),
                    m.source().as_ref().unwrap().to_str().unwrap(),
                    m.options().as_ref().unwrap().join(","),
                )
            })
            .collect();
        let rows: Vec<_> = rows.into_iter().map(|(d, t, s, o)| (d, t, s, o.to_owned())).collect();
        assert_eq!(seen, rows);
    }

    #[test]
    fn the_kernels_trees_are_writable_for_a_privileged_container_alone() {
        let mut config = container();
        config.security.privileged = true;
        let mounts = plan_mounts(&sandbox(), &config, &files(), &[]).unwrap();
        assert!(options(&mounts, "/sys").ends_with(",rw"));
        assert!(options(&mounts, "/sys/fs/cgroup").ends_with(",rw"));
    }

    #[test]
    fn the_pods_files_are_read_only_exactly_with_a_read_only_root() {
        let mut config = container();
        config.security.readonly_rootfs = true;
        let mounts = plan_mounts(&sandbox(), &config, &files(), &[]).unwrap();
        for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
            assert_eq!(options(&mounts, file), "rbind,rprivate,ro");
        }
        assert!(options(&mounts, "/dev/shm").ends_with(",rw"));
    }

    #[test]
    fn a_pod_with_the_hosts_ipc_shares_the_hosts_shm() {
        let mut pod = sandbox();
        pod.namespaces.ipc = PodNamespace::Node;
        let mounts = plan_mounts(&pod, &container(), &files(), &[]).unwrap();
        assert_eq!(at(&mounts, "/dev/shm")[0].source(), &Some("/dev/shm".into()));
    }

    #[test]
    fn a_request_mount_replaces_the_default_at_its_place() {
        for path in ["/etc/hosts", "/etc//hosts/", "/etc/x/../hosts"] {
            let mounts = planned(vec![bind(path, "/mine")]).unwrap();
            let found = at(&mounts, "/etc/hosts");
            assert_eq!(found.len(), 1, "{path}");
            assert_eq!(found[0].source(), &Some("/mine".into()), "{path}");
        }
        let mounts = planned(vec![bind("/dev", "/dev")]).unwrap();
        let below: Vec<_> = mounts.iter().filter(|m| m.destination().starts_with("/dev")).collect();
        assert_eq!(below.len(), 1, "a request's /dev drops the defaults below it");
        let mounts = planned(vec![bind("/device", "/x")]).unwrap();
        assert_eq!(at(&mounts, "/dev/pts").len(), 1, "/device is not below /dev");
    }

    #[test]
    fn options_follow_the_request() {
        use MountPropagation::{Bidirectional, HostToContainer, Private};
        let rows = [
            ("writable", false, false, Private, Some("rbind,rprivate,rw")),
            ("read-only", true, false, Private, Some("rbind,rprivate,ro")),
            ("slave", false, false, HostToContainer, Some("rbind,rslave,rw")),
            ("shared, read-only", true, false, Bidirectional, Some("rbind,rshared,ro")),
            ("recursively read-only", true, true, Private, Some("rbind,rprivate,rro")),
            ("recursively read-only but writable", false, true, Private, None),
            ("recursively read-only but slave", true, true, HostToContainer, None),
            ("recursively read-only but shared", true, true, Bidirectional, None),
        ];
        for (row, readonly, recursive_read_only, propagation, expected) in rows {
            let asked =
                Mount { readonly, recursive_read_only, propagation, ..bind("/data", "/src") };
            let got = planned(vec![asked]).ok().map(|mounts| options(&mounts, "/data"));
            assert_eq!(got.as_deref(), expected, "{row}");
        }
    }

    #[test]
    fn an_image_is_mounted_read_only_by_the_number_of_its_mount() {
        use crate::container::config::ImageVolume;
        let (image, sub_path) = ("i".to_owned(), PathBuf::from("x"));
        let volume = ImageVolume { image, user_specified_image: String::new(), sub_path };
        let image = Mount { image: Some(volume), readonly: true, ..bind("/image", "") };
        let mounts = planned(vec![bind("/data", "/src"), image]).unwrap();
        assert_eq!(options(&mounts, "/image"), "rbind,rprivate,rro");
        assert_eq!(at(&mounts, "/image")[0].source(), &Some("berth:image:1".into()));
    }

    #[test]
    fn the_root_and_relative_paths_are_refused() {
        for (to, from) in [("/", "/x"), ("/..", "/x"), ("data", "/x"), ("", "/x"), ("/data", "x")] {
            assert!(planned(vec![bind(to, from)]).is_err(), "{to} {from}");
        }
    }

    #[test]
    fn the_root_file_system_allows_the_widest_propagation_asked_for() {
        let mut mounts = vec![bind("/a", "/a")];
        assert_eq!(rootfs_propagation(&mounts), None);
        mounts.push(Mount { propagation: MountPropagation::HostToContainer, ..bind("/b", "/b") });
        assert_eq!(rootfs_propagation(&mounts), Some("rslave"));
        mounts.push(Mount { propagation: MountPropagation::Bidirectional, ..bind("/c", "/c") });
        assert_eq!(rootfs_propagation(&mounts), Some("rshared"));
    }

    proptest! {
        #[test]
        fn parents_come_before_children_and_equals_keep_their_order(
            paths in proptest::collection::vec("(/[a-c]){1,4}|/dev|/dev/[a-c]|/sys/[a-c]", 0..12)
        ) {
            let asked: Vec<Mount> = paths.iter().enumerate()
                .map(|(n, path)| bind(path, &format!("/source/{n}"))).collect();
            let mounts = planned(asked).unwrap();
            for (index, child) in mounts.iter().enumerate() {
                for later in &mounts[index + 1..] {
                    prop_assert!(
                        child.destination() == later.destination()
                            || !child.destination().starts_with(later.destination()),
                        "{:?} is made before {:?}", child.destination(), later.destination()
                    );
                }
            }
            for path in &paths {
                let sources: Vec<usize> = at(&mounts, path).iter()
                    .map(|m| m.source().as_ref().unwrap().file_name().unwrap()
                        .to_str().unwrap().parse().unwrap())
                    .collect();
                let expected: Vec<usize> = paths.iter().enumerate()
                    .filter(|(_, p)| *p == path).map(|(n, _)| n).collect();
                prop_assert_eq!(sources, expected);
            }
        }
    }
}
