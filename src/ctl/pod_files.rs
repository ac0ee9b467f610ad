//! What a pod of `berth run` needs on the host: its folders, its volumes, its hosts file.

use super::error::CtlError;
use super::pod::{HostPathKind, Pod, PodPlace, VolumeSource};
use crate::sandbox::files::hosts_file;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes the folders and checks the host paths.
///
/// # Errors
/// The first folder that cannot be made, or host path that is not what the pod says.
pub(super) fn prepare(pod: &Pod, place: &PodPlace) -> Result<(), CtlError> {
    make_folder(&place.dir, 0o711)?;
    make_folder(&place.logs, 0o755)?;
    for volume in &pod.volumes {
        match &volume.source {
            VolumeSource::EmptyDir => {
                let folder = place.empty_dir(&volume.name);
                make_folder(&folder, 0o777)?;
                // Whoever the containers run as may write, whatever the umask is.
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))
                    .map_err(CtlError::file("set the mode of", &folder))?;
            }
            VolumeSource::HostPath { path, kind } => prepare_host_path(path, *kind)?,
        }
    }
    Ok(())
}

/// Writes the hosts file of a pod with aliases.
///
/// # Errors
/// The file cannot be written, or the host's not read.
pub(super) fn write_hosts(pod: &Pod, place: &PodPlace, ips: &[IpAddr]) -> Result<(), CtlError> {
    if pod.host_aliases.is_empty() {
        return Ok(());
    }
    let base = if pod.host_network {
        match fs::read_to_string("/etc/hosts") {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(CtlError::file("read", "/etc/hosts")(e));
            }
            text => text.unwrap_or_default(),
        }
    } else {
        hosts_file(&pod.hostname, ips)
    };
    let path = place.hosts();
    fs::write(&path, with_aliases(base, pod)).map_err(CtlError::file("write", &path))
}

fn with_aliases(mut text: String, pod: &Pod) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for alias in &pod.host_aliases {
        // Writing to a String cannot fail.
        writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t")).ok();
    }
    text
}

fn make_folder(path: &Path, mode: u32) -> Result<(), CtlError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(CtlError::file("make folder", path))
}

fn prepare_host_path(path: &Path, kind: HostPathKind) -> Result<(), CtlError> {
    let about = match fs::metadata(path) {
        Ok(about) => Some(about),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(CtlError::file("examine host path", path)(e)),
    };
    let Some(about) = about else {
        return match kind {
            HostPathKind::DirectoryOrCreate => make_folder(path, 0o755),
            HostPathKind::FileOrCreate => {
                let made = fs::File::options().create_new(true).write(true).open(path);
                made.map(drop).map_err(CtlError::file("make file", path))
            }
            // The daemon makes a missing source.
            HostPathKind::Any => Ok(()),
            _ => Err(wrong(path, "does not exist")),
        };
    };
    let found = about.file_type();
    let (right, problem) = match kind {
        HostPathKind::Any => (true, ""),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => {
            (found.is_dir(), "is not a folder")
        }
        HostPathKind::File | HostPathKind::FileOrCreate => (found.is_file(), "is not a file"),
        HostPathKind::Socket => (found.is_socket(), "is not a socket"),
        HostPathKind::CharDevice => (found.is_char_device(), "is not a character device"),
        HostPathKind::BlockDevice => (found.is_block_device(), "is not a block device"),
    };
    if right { Ok(()) } else { Err(wrong(path, problem)) }
}

fn wrong(path: &Path, problem: &str) -> CtlError {
    CtlError::Refused {
        problem: format!("host path {} {problem}", path.display()),
        hint: "make it, or change the volume's type",
    }
}

/// The node's memory, bytes.
///
/// # Errors
/// /proc/meminfo cannot be read.
pub(super) fn node_memory() -> Result<u64, CtlError> {
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).map_err(CtlError::file("read", path))?;
    parse_mem_total(&text).ok_or_else(|| {
        CtlError::file("read", path)(io::Error::new(io::ErrorKind::InvalidData, "no MemTotal"))
    })
}

fn parse_mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::pod::parse_pod;

    fn pod(spec: &str) -> Pod {
        parse_pod(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {spec}\n  containers: \
             [{{name: c, image: i}}]\n"
        ))
        .unwrap()
    }

    #[test]
    fn an_empty_dir_is_writable_by_everyone() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod("volumes: [{name: v, emptyDir: {}}]");
        let place = PodPlace::new(dir.path(), &pod, "u");
        prepare(&pod, &place).unwrap();
        let mode = fs::metadata(place.empty_dir("v")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
        assert!(place.logs.is_dir());
        // Once more changes nothing.
        prepare(&pod, &place).unwrap();
    }

    #[test]
    fn host_paths_must_be_what_the_pod_says() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("folder"), dir.path().join("file"));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "").unwrap();
        let missing = |name: &str| dir.path().join(name);
        use HostPathKind::{
            Any, BlockDevice, CharDevice, Directory, DirectoryOrCreate, File, FileOrCreate, Socket,
        };
        let null = Path::new("/dev/null").to_owned();
        for (path, kind, right) in [
            (&folder, Directory, true),
            (&file, Directory, false),
            (&file, File, true),
            (&folder, File, false),
            (&file, Socket, false),
            (&null, CharDevice, true),
            (&null, BlockDevice, false),
            (&missing("a"), Any, true),
            (&missing("b"), Directory, false),
            (&missing("c"), File, false),
            (&missing("d/e"), DirectoryOrCreate, true),
            (&missing("f"), FileOrCreate, true),
            (&folder, FileOrCreate, false),
        ] {
            assert_eq!(prepare_host_path(path, kind).is_ok(), right, "{path:?} {kind:?}");
        }
        assert!(missing("d/e").is_dir() && missing("f").is_file() && !missing("a").exists());
    }

    #[test]
    fn aliases_follow_the_pods_own_lines() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod("hostAliases: [{ip: 10.0.0.1, hostnames: [a, b]}]");
        let place = PodPlace::new(dir.path(), &pod, "u");
        prepare(&pod, &place).unwrap();
        write_hosts(&pod, &place, &["10.88.0.2".parse().unwrap()]).unwrap();
        let text = fs::read_to_string(place.hosts()).unwrap();
        assert!(text.ends_with("10.88.0.2\tp\n10.0.0.1\ta\tb\n"), "{text}");
        assert_eq!(with_aliases("x".into(), &pod), "x\n10.0.0.1\ta\tb\n");
    }

    #[test]
    fn the_nodes_memory_is_read_in_bytes() {
        assert_eq!(parse_mem_total("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(parse_mem_total("MemFree: 1 kB\n"), None);
    }
}
