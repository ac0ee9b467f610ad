//! Where a container's cgroup is.

use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use crate::cgroups::{CgroupPath, expand_slice, is_slice};
use oci_spec::runtime::Spec;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Below it are the cgroups of containers that do not say where theirs is.
const PARENT: &str = "/berth-oci";
/// The slice of scopes that do not say theirs, and what begins their names.
const SLICE: &str = "system.slice";
const PREFIX: &str = "berth-oci";

/// The cgroup of a configuration: `linux.cgroupsPath`, absolute below the hierarchy's root, or
/// relative to `/berth-oci`. Of systemd's: `slice:prefix:name`.
///
/// # Errors
/// For the form of the other one, and for a path that cannot be.
pub(super) fn path(
    spec: &Spec,
    id: &str,
    systemd_cgroup: bool,
) -> Result<CgroupPath, RuntimeError> {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let given = given.map_or(Path::new(""), |path| path.as_path());
    let text = given.to_str().unwrap_or_default();
    let units = matches!(text.split(':').collect::<Vec<_>>().as_slice(), [slice, _, _]
        if slice.is_empty() || slice.ends_with(".slice"));
    if systemd_cgroup {
        return scope(text, id);
    }
    if units {
        return Err(RuntimeError::refused(format!(
            "linux.cgroupsPath {text:?}: slice:prefix:name is for cgroups made by systemd, and needs \
             --systemd-cgroup"
        )));
    }
    let parent = Path::new(PARENT);
    let whole = match text {
        "" => parent.join(id),
        // Joining an absolute path is that path.
        _ => parent.join(given),
    };
    let doing = || format!("linux.cgroupsPath {text:?}");
    let whole = whole.to_str().ok_or("is not UTF-8").doing(doing)?;
    match CgroupPath::parse(whole).doing(doing)? {
        root if root == CgroupPath::root() => {
            Err(RuntimeError::refused(format!("linux.cgroupsPath {text:?} is the root cgroup")))
        }
        path => Ok(path),
    }
}

/// The scope of `slice:prefix:name`; an empty slice is `system.slice`.
fn scope(text: &str, id: &str) -> Result<CgroupPath, RuntimeError> {
    let refuse = |why: &str| {
        Err(RuntimeError::refused(format!(
            "linux.cgroupsPath {text:?}: {why} (--systemd-cgroup: slice:prefix:name)"
        )))
    };
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let (slice, prefix, name) = match parts.as_slice() {
        [""] => (SLICE, PREFIX, id),
        ["", prefix, name] => (SLICE, *prefix, *name),
        [slice, prefix, name] => (*slice, *prefix, *name),
        _ => return refuse("it is no scope of systemd's"),
    };
    if name.is_empty() {
        return refuse("the name is empty");
    }
    if is_slice(name) {
        return refuse("a container is a scope and not a slice");
    }
    let doing = || format!("linux.cgroupsPath {text:?}");
    let slice = expand_slice(slice).doing(doing)?;
    let unit = match prefix {
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    let path = CgroupPath::parse(&format!("{}/{unit}", slice.as_str())).doing(doing)?;
    if path.parent().as_ref() == Some(&slice) {
        Ok(path)
    } else {
        refuse("a unit is a name and not a path")
    }
}

/// The cgroup of this process, for a clone that the container's refuses.
pub(super) fn own(ctx: &Context<'_>) -> Result<OwnedFd, RuntimeError> {
    open(ctx, "self").doing(|| "open the own cgroup")
}

/// The cgroup of the process `pid`.
pub(super) fn of(ctx: &Context<'_>, pid: i32) -> Result<OwnedFd, RuntimeError> {
    open(ctx, &pid.to_string()).doing(|| format!("open the cgroup of process {pid}"))
}

fn open(ctx: &Context<'_>, process: &str) -> std::io::Result<OwnedFd> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = ctx.cgroups.root().join(path.trim_start_matches('/'));
    std::fs::File::open(folder).map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str, systemd: bool) -> Result<String, String> {
        let spec = serde_json::json!({ "ociVersion": "1.0.2", "linux": { "cgroupsPath": given } });
        path(&serde_json::from_value(spec).unwrap(), "c1", systemd)
            .map(String::from)
            .map_err(|e| crate::error::chain(&e))
    }

    #[test]
    fn a_path_is_absolute_relative_or_the_id() {
        assert_eq!(of("/default/x", false).unwrap(), "/default/x");
        assert_eq!(of("mine/x", false).unwrap(), "/berth-oci/mine/x");
        assert_eq!(of("", false).unwrap(), "/berth-oci/c1");
        let none = serde_json::from_value(serde_json::json!({ "ociVersion": "1.0.2" })).unwrap();
        assert_eq!(String::from(path(&none, "c1", false).unwrap()), "/berth-oci/c1");
    }

    #[test]
    fn units_escapes_and_the_root_are_refused() {
        for bad in ["system.slice:berth:c1", ":berth:c1", "/a/../..", "../x", "/"] {
            assert!(of(bad, false).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_below_its_slice_with_its_prefix() {
        for (given, path) in [
            ("", "/system.slice/berth-oci-c1.scope"),
            (":runc:x", "/system.slice/runc-x.scope"),
            ("a-b.slice:cri-containerd:x", "/a.slice/a-b.slice/cri-containerd-x.scope"),
            ("-.slice::x:y", "/x:y.scope"),
        ] {
            assert_eq!(of(given, true).unwrap(), path, "{given}");
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for bad in [
            "/default/x",
            "a:b",
            "a.slice:b:",
            "a.slice:b:c.slice",
            "a:b:c",
            "a.slice:b:../c",
            "a.slice:b:c/d",
            "../a.slice:b:c",
        ] {
            assert!(of(bad, true).unwrap_err().contains(bad), "{bad}");
        }
    }
}
