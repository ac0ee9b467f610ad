//! emptyDir: a folder on disk, a tmpfs, or a hugetlbfs.

use super::error::VolumeError;
use super::folders::{PodFolders, make_private};
use super::fs_group;
use super::mount_point::{Tmpfs, is_mount_point, mount_hugetlbfs, mount_tmpfs, set_mode};
use super::verbs::VolumeInput;
use crate::kubelet::quantity::{HUGE_PAGES, memory_bytes, whole};
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// What everybody may do with it.
const DEFAULT_MODE: u32 = 0o777;

/// What an emptyDir is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Disk,
    /// No more than that; `None` when nothing is known that bounds it.
    Memory {
        size_bytes: Option<u64>,
    },
    HugePages {
        page_bytes: u64,
    },
}

/// Whether an emptyDir is a folder on disk.
pub fn on_disk(source: &EmptyDirVolumeSource) -> bool {
    source.medium.as_deref().unwrap_or_default().is_empty()
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) medium: Medium,
    pub(super) mode: u32,
}

/// Reads the source of an emptyDir; pure.
///
/// # Errors
/// A medium that is none, huge pages that the pod does not ask for, a mode beyond 01777.
pub(super) fn plan(
    volume: &str,
    source: Option<&EmptyDirVolumeSource>,
    input: &VolumeInput<'_>,
) -> Result<Plan, VolumeError> {
    let invalid = |field, value: &str, reason| {
        let (volume, value) = (volume.to_owned(), value.to_owned());
        VolumeError::Invalid { volume, field, value, reason }
    };
    let mode = match source.and_then(|source| source.mode) {
        None => DEFAULT_MODE,
        Some(mode) => u32::try_from(mode).ok().filter(|mode| *mode <= 0o1777).ok_or_else(|| {
            invalid("emptyDir.mode", &mode.to_string(), "is not within 0 and 01777")
        })?,
    };
    let medium = source.and_then(|source| source.medium.as_deref()).unwrap_or_default();
    let medium = match medium {
        "" => Medium::Disk,
        "Memory" => {
            let limit = source.and_then(|source| source.size_limit.as_ref()).and_then(whole);
            let bounds =
                [Some(input.node.allocatable.memory_bytes), memory_limit(input.pod), limit];
            // 0 bounds nothing: as a size it would mean no bound to the kernel.
            let size_bytes = bounds.into_iter().flatten().filter(|bytes| *bytes > 0).min();
            Medium::Memory { size_bytes }
        }
        huge if huge == "HugePages" || huge.starts_with("HugePages-") => {
            let page_bytes = page_bytes(huge.strip_prefix("HugePages-"), input.pod)
                .map_err(|reason| invalid("emptyDir.medium", huge, reason))?;
            Medium::HugePages { page_bytes }
        }
        other => return Err(invalid("emptyDir.medium", other, "is not a medium")),
    };
    Ok(Plan { medium, mode })
}

/// The memory that a pod may use, if all of it is limited: its own limit, else the most that its
/// containers may use together, at the start or after it.
fn memory_limit(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    let limit = |resources: &Option<ResourceRequirements>| {
        let limits = resources.as_ref().and_then(|resources| resources.limits.as_ref());
        memory_bytes(limits).filter(|bytes| *bytes > 0)
    };
    if let Some(bytes) = limit(&spec.resources) {
        return Some(bytes);
    }
    let is_sidecar = |c: &Container| c.restart_policy.as_deref() == Some("Always");
    let (mut sidecars, mut starting) = (0u64, 0u64);
    for container in spec.init_containers.iter().flatten() {
        let bytes = limit(&container.resources)?;
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(bytes);
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(sidecars.saturating_add(bytes));
        }
    }
    let mut running = sidecars;
    for container in &spec.containers {
        running = running.saturating_add(limit(&container.resources)?);
    }
    let overhead = memory_bytes(spec.overhead.as_ref()).unwrap_or(0);
    Some(running.max(starting).saturating_add(overhead))
}

/// The one page size that the pod asks for, or the named one, which it must ask for.
fn page_bytes(named: Option<&str>, pod: &Pod) -> Result<u64, &'static str> {
    let parse = |size: &str| whole(&Quantity(size.to_owned())).filter(|bytes| *bytes > 0);
    let asked = asked_pages(pod);
    let asked: BTreeSet<u64> = asked.into_iter().filter_map(parse).collect();
    match named {
        Some(named) => {
            let bytes = parse(named).ok_or("names no page size")?;
            asked.get(&bytes).copied().ok_or("is of pages that no container asks for")
        }
        None => match (asked.first(), asked.len()) {
            (Some(bytes), 1) => Ok(*bytes),
            (None, _) => Err("needs a container that asks for huge pages"),
            _ => Err("must name a page size, as the pod asks for several"),
        },
    }
}

fn asked_pages(pod: &Pod) -> BTreeSet<&str> {
    let Some(spec) = pod.spec.as_ref() else { return BTreeSet::new() };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let resources = containers.filter_map(|c| c.resources.as_ref()).chain(spec.resources.as_ref());
    let lists = resources.flat_map(|r| r.requests.iter().chain(r.limits.iter()));
    lists.flat_map(|list| list.keys()).filter_map(|name| name.strip_prefix(HUGE_PAGES)).collect()
}

/// Makes the volume, or goes on where an earlier attempt ended. What is there stays: containers may
/// have used it already.
///
/// # Errors
/// The step that failed.
pub(super) fn set_up(
    folders: &PodFolders,
    name: &str,
    plan: Plan,
    input: &VolumeInput<'_>,
) -> Result<(), VolumeError> {
    let (path, ready) = (folders.volume(name), folders.ready(name));
    for parent in [&path, &ready].into_iter().filter_map(|path| path.parent()) {
        make_private(parent)?;
    }
    create(&path)?;
    let mounted = is_mount_point(&path).map_err(VolumeError::io("look at", &path))?;
    // A reboot leaves the mark and takes the mount.
    let complete = plan.medium == Medium::Disk || mounted;
    if complete && ready.exists() {
        return Ok(());
    }
    if !mounted {
        mount(&path, plan)?;
    }
    set_mode(&path, plan.mode).map_err(VolumeError::io("set the mode of", &path))?;
    if let Some(group) = fs_group::of(input.pod)? {
        fs_group::apply(&path, group.id, group.policy)?;
    }
    fs::write(&ready, "").map_err(VolumeError::io("write", &ready))
}

fn create(path: &Path) -> Result<(), VolumeError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(VolumeError::io("create the folder", path)),
    }
}

fn mount(path: &Path, plan: Plan) -> Result<(), VolumeError> {
    match plan.medium {
        Medium::Disk => Ok(()),
        Medium::Memory { size_bytes } => {
            let mode = format!("{:o}", plan.mode);
            let tmpfs = Tmpfs { size_bytes, mode: &mode, attributes: 0 };
            mount_tmpfs(path, &tmpfs).map_err(VolumeError::io("mount a tmpfs on", path))
        }
        Medium::HugePages { page_bytes } => {
            mount_hugetlbfs(path, page_bytes).map_err(VolumeError::io("mount a hugetlbfs on", path))
        }
    }
}

#[cfg(test)]
#[path = "empty_dir_tests.rs"]
mod tests;
