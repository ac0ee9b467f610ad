//! A checkpoint's files to a container that can be started, and its start.

use super::command::tar;
use super::dump::text;
use super::saved::{DIFF, IMAGES, SavedContainer};
use super::{CheckpointError, read_container};
use crate::cgroups::Leaf;
use crate::oci::{HandlerPlace, PodContext, Prepared, Restored, prepare_restored};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use prost::Message as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the files of a container may take.
const FILL_WITHIN: Duration = Duration::from_secs(1800);
const CAPABILITIES: &str = "/process/capabilities";
/// What a process brings along, whatever its new configuration says: the two have to be equal.
const FIXED: [&str; 12] = [
    "/process/args",
    "/process/user",
    CAPABILITIES,
    "/process/noNewPrivileges",
    "/process/apparmorProfile",
    "/process/selinuxLabel",
    "/process/terminal",
    "/root/readonly",
    "/linux/seccomp",
    "/linux/mountLabel",
    "/linux/maskedPaths",
    "/linux/readonlyPaths",
];

/// Where a container comes from, and where it goes to.
#[derive(Debug)]
pub struct RestoreFrom<'a> {
    /// Its folder in the checkpoint.
    pub source: &'a Path,
    /// Where its process images are kept until it is started; does not exist.
    pub images: &'a Path,
    /// Its new writable layer.
    pub upper: &'a Path,
    /// Its new OCI configuration.
    pub spec: &'a Spec,
    /// The host name of its new pod.
    pub hostname: &'a str,
    /// The new sandbox's cgroup of helpers.
    pub helpers: &'a Leaf,
}

/// What criu writes of a UTS namespace (its images/utsns.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct Uts {
    #[prost(string, required, tag = "1")]
    nodename: String,
    #[prost(string, required, tag = "2")]
    domainname: String,
}

/// The file's two magic numbers, then each message with its length before it.
const UTS_HEADER: usize = 8;

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> CheckpointError {
    move |source| CheckpointError::file(operation, path, source)
}

/// criu gives the names in its image to the namespace that it joins: the pod's, which has its own.
fn rename(images: &Path, hostname: &str) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(images).map_err(failed("list", images))?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("utsns-") {
            continue;
        }
        let path = entry.path();
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let renamed = renamed(&bytes, hostname).ok_or_else(|| CheckpointError::Format {
            path: path.clone(),
            reason: "it is no image of a UTS namespace".to_owned(),
        })?;
        fs::write(&path, renamed).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn renamed(image: &[u8], hostname: &str) -> Option<Vec<u8>> {
    let (header, rest) = image.split_at_checked(UTS_HEADER)?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let mut uts = Uts::decode(message.get(..length)?).ok()?;
    hostname.clone_into(&mut uts.nodename);
    let message = uts.encode_to_vec();
    let length = u32::try_from(message.len()).ok()?.to_le_bytes();
    Some([header, &length, &message].concat())
}

/// Gives a new container the files of a checkpoint, which are only read. Blocks.
///
/// # Errors
/// A configuration that is not that of the checkpoint, by field; a file that cannot be copied.
pub fn fill(from: &RestoreFrom<'_>) -> Result<(), CheckpointError> {
    let (saved, old) = read_container(from.source)?;
    same(&saved, &old, from.spec)?;
    let images = from.images.join(IMAGES);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&images)
        .map_err(failed("make", &images))?;
    copy_files(&from.source.join(IMAGES), &images)?;
    copy_files(from.source, from.images)?;
    rename(&images, from.hostname)?;
    let diff = from.images.join(DIFF);
    let mut args = vec!["--extract", "--file", text(&diff)?, "--numeric-owner"];
    args.extend(["--same-owner", "--same-permissions", "--xattrs", "--xattrs-include=*"]);
    args.extend(["--directory", text(from.upper)?]);
    tar("unpack what it had written", &args, FILL_WITHIN, from.helpers)?;
    fs::remove_file(&diff).map_err(failed("remove", &diff))
}

/// The plain files of a folder; nothing else belongs there.
fn copy_files(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(from).map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        let kind = entry.file_type().map_err(failed("look at", &entry.path()))?;
        if kind.is_file() {
            let copied = fs::copy(entry.path(), to.join(entry.file_name()));
            copied.map_err(failed("copy", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether what comes back is what the new configuration asks for.
fn same(saved: &SavedContainer, old: &Spec, new: &Spec) -> Result<(), CheckpointError> {
    let refused = |reason: String| Err(CheckpointError::refused(&saved.name, reason));
    let json = |spec: &Spec| serde_json::to_value(spec).unwrap_or_default();
    let (before, now) = (json(old), json(new));
    let at = |spec: &Value, field| {
        let mut value = spec.pointer(field).filter(|v| !v.is_null()).cloned()?;
        if field == CAPABILITIES {
            // Sets, which are written in any order.
            for set in value.as_object_mut().into_iter().flat_map(|sets| sets.values_mut()) {
                if let Some(names) = set.as_array_mut() {
                    names.sort_by_cached_key(Value::to_string);
                }
            }
        }
        Some(value)
    };
    for field in FIXED {
        if at(&before, field) != at(&now, field) {
            let field = field.trim_start_matches('/').replace('/', ".");
            return refused(format!("{field} differs from the checkpoint's"));
        }
    }
    if new.hooks().is_some() {
        return refused("it has hooks, which cannot run at a restore".to_owned());
    }
    let kinds = |spec: &Spec| -> BTreeSet<String> {
        let all = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
        all.map(|n| format!("{:?} {}", n.typ(), n.path().is_some())).collect()
    };
    if kinds(old) != kinds(new) {
        return refused("linux.namespaces differ from the checkpoint's".to_owned());
    }
    let targets = |spec: &Spec| -> BTreeSet<PathBuf> {
        spec.mounts().iter().flatten().map(|m| m.destination().clone()).collect()
    };
    if let Some(target) = targets(old).symmetric_difference(&targets(new)).next() {
        let target = target.display();
        return refused(format!("the mount at {target} is in one of checkpoint and request only"));
    }
    Ok(())
}

/// What the shim needs to bring a container back by criu, the program at `place`. Blocks.
///
/// # Errors
/// [`CheckpointError`].
pub fn prepare(
    folder: &Path,
    spec: &Spec,
    rootfs: OwnedFd,
    (pod, place): (&PodContext, &HandlerPlace),
) -> Result<Prepared, CheckpointError> {
    let (saved, _) = read_container(folder)?;
    let mut args: Vec<String> = [
        "restore",
        "--images-dir",
        text(&folder.join(IMAGES))?,
        "--work-dir",
        text(&place.bundle)?,
        "--log-file",
        "log",
        "-v1",
        "--restore-detached",
        "--pidfile",
        "pid",
        "--manage-cgroups=ignore",
        "--file-locks",
        "--ext-unix-sk",
        "--tcp-close",
    ]
    .map(str::to_owned)
    .into();
    let namespaces = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    let mut net = None;
    for (kind, path) in namespaces.filter_map(|n| Some((n.typ(), n.path().as_ref()?))) {
        let name = match kind {
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::Network => {
                net = Some(path.clone());
                continue;
            }
            _ => {
                let reason = format!("its {kind:?} namespace is another's");
                return Err(CheckpointError::refused(&saved.name, reason));
            }
        };
        args.extend(["--join-ns".to_owned(), format!("{name}:{}", path.display())]);
    }
    for pipe in &saved.pipes {
        args.extend(["--inherit-fd".to_owned(), format!("fd[{}]:{}", pipe.fd, pipe.name)]);
    }
    let restored = Restored { arguments: args, places: &saved.places, net };
    prepare_restored(spec, rootfs, (pod, place), restored).map_err(CheckpointError::Mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut Value)) -> Spec {
        let mut value = serde_json::json!({
            "ociVersion": "1.2.0",
            "root": { "path": "rootfs", "readonly": false },
            "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
            "mounts": [{ "destination": "/data", "type": "bind", "source": "/a" }],
            "linux": {
                "maskedPaths": ["/proc/keys"],
                "namespaces": [{ "type": "mount" }, { "type": "network", "path": "/proc/1/ns/net" }],
            },
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_host_name_in_an_image_is_replaced() {
        let image = b"\x11\x22\x33\x44\x55\x66\x77\x88\x0d\0\0\0\x0a\x03one\x12\x06(none)";
        let back = b"\x11\x22\x33\x44\x55\x66\x77\x88\x0e\0\0\0\x0a\x04back\x12\x06(none)";
        assert_eq!(renamed(image, "back").unwrap(), back);
        for cut in 0..image.len() {
            assert!(renamed(&image[..cut], "back").is_none(), "{cut}");
        }
    }

    #[test]
    fn a_restored_container_has_what_it_had() {
        let saved = SavedContainer {
            version: 1,
            name: "main".into(),
            id: "x".into(),
            image_id: crate::ids::ImageId::parse(&"a".repeat(64)).unwrap(),
            places: Vec::new(),
            pipes: Vec::new(),
        };
        let old = spec(|_| ());
        let other_pod = spec(|s| {
            s["linux"]["namespaces"][1]["path"] = "/proc/2/ns/net".into();
            s["mounts"][0]["source"] = "/b".into();
        });
        same(&saved, &old, &other_pod).unwrap();
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 5] = [
            ("linux.maskedPaths", |s| s["linux"]["maskedPaths"] = serde_json::json!([])),
            ("process.user", |s| s["process"]["user"]["uid"] = 7.into()),
            ("process.args", |s| s["process"]["args"][0] = "y".into()),
            ("/other", |s| s["mounts"][0]["destination"] = "/other".into()),
            ("linux.namespaces", |s| s["linux"]["namespaces"] = serde_json::json!([])),
        ];
        for (field, change) in cases {
            let error = same(&saved, &old, &spec(change)).unwrap_err().to_string();
            assert!(error.contains(field) || field == "/other", "{field}: {error}");
        }
    }
}
