//! What of a container's first process belongs to the pod and not to its images.
//!
//! The network namespace and every bind mount are external to criu: named when the processes are dumped, and
//! given by that name when they come back. So are the covers of masked paths, whose file system the container
//! does not see. Standard streams are pipes to the shim, known by their inode.

use super::CheckpointError;
use super::saved::{Cover, Pipe, Place};
use oci_spec::runtime::Spec;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is external of one process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// The inode of its network namespace, unless that is the host's.
    pub(super) net: Option<u64>,
    pub(super) places: Vec<Place>,
    pub(super) pipes: Vec<Pipe>,
}

/// Looks at a process, by its pid on the host.
pub(super) fn outside(pid: i32, spec: &Spec) -> Result<Outside, CheckpointError> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let file = proc.join("mountinfo");
    let text =
        std::fs::read_to_string(&file).map_err(|e| CheckpointError::file("read", &file, e))?;
    let places = external_mounts(&text, spec)
        .into_iter()
        .map(|(at, kind)| Place { cover: cover(&proc, &at, kind), at })
        .collect();
    let ino = |path: &Path| {
        std::fs::metadata(path)
            .map(|m| m.ino())
            .map_err(|e| CheckpointError::file("look at", path, e))
    };
    let net = ino(&proc.join("ns/net"))?;
    let net = Some(net).filter(|_| ino(Path::new("/proc/self/ns/net")).is_ok_and(|own| own != net));
    let pipes = (0..3).filter_map(|fd| {
        let link = std::fs::read_link(proc.join(format!("fd/{fd}"))).ok()?;
        let name = link.to_str().filter(|name| name.starts_with("pipe:["))?.to_owned();
        Some(Pipe { fd, name })
    });
    Ok(Outside { net, places, pipes: pipes.collect() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bind,
    Mask,
}

fn cover(proc: &Path, at: &str, kind: Kind) -> Cover {
    match kind {
        Kind::Bind => Cover::Bind,
        Kind::Mask => {
            let seen = proc.join("root").join(at.trim_start_matches('/'));
            match std::fs::symlink_metadata(seen) {
                Ok(found) if found.is_dir() => Cover::Folder,
                _ => Cover::File,
            }
        }
    }
}

/// The mounts that are bind mounts of the configuration, what lies below those, and masked paths.
fn external_mounts(mountinfo: &str, spec: &Spec) -> Vec<(String, Kind)> {
    let masked: BTreeSet<&str> = spec
        .linux()
        .iter()
        .flat_map(|linux| linux.masked_paths().iter().flatten())
        .map(String::as_str)
        .collect();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for at in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped) {
        if at == "/" {
            continue;
        }
        if masked.contains(at.as_str()) {
            all.push((at, Kind::Mask));
            continue;
        }
        let nearest = mounts
            .iter()
            .filter(|m| Path::new(&at).starts_with(m.destination()))
            .max_by_key(|m| m.destination().components().count());
        if nearest.is_some_and(crate::oci::is_bind) {
            all.push((at, Kind::Bind));
        }
    }
    all
}

/// A path of mountinfo: space, tab, line feed and backslash are octal (proc(5)).
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_mounts_and_masked_paths_are_external_and_new_file_systems_are_not() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/dev/shm", "type": "bind", "source": "berth:shm", "options": ["rbind"] },
                { "destination": "/my data", "type": "bind", "source": "/x", "options": ["rbind"] },
            ],
            "linux": { "maskedPaths": ["/proc/keys", "/proc/kcore"] },
        }))
        .unwrap();
        let mountinfo = "72 77 0:45 / / rw - overlay overlay rw\n\
            83 72 0:48 / /proc rw - proc proc rw\n\
            91 83 0:48 /bus /proc/bus ro - proc proc rw\n\
            96 83 0:47 /null /proc/keys ro - tmpfs mask rw\n\
            85 72 0:50 / /dev rw - tmpfs tmpfs rw\n\
            89 85 0:43 / /dev/shm rw - tmpfs none rw\n\
            90 72 0:39 /x /my\\040data rw - tmpfs tmpfs rw\n\
            92 90 0:41 / /my\\040data/below rw - tmpfs tmpfs rw\n";
        let found = external_mounts(mountinfo, &spec);
        let expected = [
            ("/proc/keys", Kind::Mask),
            ("/dev/shm", Kind::Bind),
            ("/my data", Kind::Bind),
            ("/my data/below", Kind::Bind),
        ];
        assert_eq!(found, expected.map(|(at, kind)| (at.to_owned(), kind)));
    }
}
