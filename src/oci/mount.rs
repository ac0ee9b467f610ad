//! Applies the mount plan inside the root, by descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag};

use super::init::{Init, missing};
use super::step::{At, Step, StepError};
use super::target::{self, Kind, Links, open_or_make};
use crate::shim::wire::mount_plan::Source;
use crate::shim::wire::{FilesystemPlan, MountPlan};
use crate::sys::fs;
use crate::sys::mount::{self, Change, FsContext, Reach};

/// Mounts everything, in order; `shm` is the pod's /dev/shm, when it was cloned before.
pub(super) fn apply(
    init: &Init<'_>,
    root: BorrowedFd<'_>,
    shm: Option<BorrowedFd<'_>>,
) -> Result<(), StepError> {
    init.plan.mounts.iter().try_for_each(|plan| apply_one(init, (root, shm), plan))
}

/// The pod's /dev/shm, detached, for the mount that asks for it.
pub(super) fn clone_pods_shm(init: &Init<'_>) -> Result<Option<OwnedFd>, StepError> {
    let is_shm = |plan: &&MountPlan| matches!(plan.source, Some(Source::Shm(_)));
    let Some(plan) = init.plan.mounts.iter().find(is_shm) else { return Ok(None) };
    let shm = clone_shm(init, plan.attributes.unwrap_or(0));
    shm.on(Step::Mount, || plan.target.clone()).map(Some)
}

fn apply_one(
    init: &Init<'_>,
    (root, shm): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
    plan: &MountPlan,
) -> Result<(), StepError> {
    let attributes = plan.attributes.unwrap_or(0);
    let source = plan.source.as_ref().ok_or_else(|| missing("source of a mount"))?;
    match source {
        Source::Fd(index) => attach(root, init.fd(*index)?, plan, Links::Follow),
        Source::Shm(_) => match shm {
            Some(shm) => attach(root, shm, plan, Links::Follow),
            None => {
                let shm = clone_shm(init, attributes).on(Step::Mount, || plan.target.clone())?;
                attach(root, shm.as_fd(), plan, Links::Follow)
            }
        },
        Source::Filesystem(fs) => {
            let label = init.plan.mount_label.as_deref();
            let mount = new_filesystem(fs, attributes, label)
                .map_err(|(e, log)| StepError::new(Step::Mount, &e, detail(plan, fs, &log)))?;
            // What is written below /proc and /sys must go to these file systems.
            let links = match fs.r#type.as_str() {
                "proc" | "sysfs" => Links::Refuse,
                _ => Links::Follow,
            };
            attach(root, mount.as_fd(), plan, links)
        }
    }
}

fn detail(plan: &MountPlan, fs: &FilesystemPlan, log: &str) -> String {
    let mut text = format!("{} at {}", fs.r#type, plan.target);
    if !log.is_empty() {
        text.push_str(": ");
        text.push_str(log.trim_end());
    }
    text
}

fn attach(
    root: BorrowedFd<'_>,
    source: BorrowedFd<'_>,
    plan: &MountPlan,
    links: Links,
) -> Result<(), StepError> {
    let detail = || plan.target.clone();
    let directory = target::is(source, SFlag::S_IFDIR).on(Step::Mount, detail)?;
    let kind = if directory { Kind::Directory } else { Kind::File };
    let at = open_or_make(root, Path::new(&plan.target), kind, links).on(Step::Mount, detail)?;
    mount::attach(source, at.as_fd()).on(Step::Mount, detail)
}

fn clone_shm(init: &Init<'_>, attributes: u64) -> io::Result<OwnedFd> {
    let none = || io::Error::from_raw_os_error(libc::ENODEV);
    let path = init.pod.shm.ok_or_else(none)?;
    let clone = mount::clone_tree(AT_FDCWD, path, Reach::One)?;
    let change = Change { set: attributes, ..Change::default() };
    mount::set_attributes(clone.as_fd(), change, Reach::One)?;
    Ok(clone)
}

/// A new instance of a file system, detached; on failure with what the kernel says about it.
/// What is the container's alone gets its SELinux label; proc, sysfs and cgroup2 are labelled by the
/// policy, file by file.
fn new_filesystem(
    plan: &FilesystemPlan,
    attributes: u64,
    label: Option<&str>,
) -> Result<OwnedFd, (io::Error, String)> {
    let plain = |e| (e, String::new());
    let context = FsContext::open(&c_string(&plan.r#type).map_err(plain)?).map_err(plain)?;
    for option in &plan.options {
        let name = c_string(&option.name).map_err(plain)?;
        let done = match &option.value {
            Some(value) => c_string(value).and_then(|value| context.set(&name, &value)),
            None => context.set_flag(&name),
        };
        done.map_err(|e| (e, format!("option {}: {}", option.name, context.log())))?;
    }
    if matches!(plan.r#type.as_str(), "tmpfs" | "devpts") {
        let told = |e| (e, format!("option context: {}", context.log()));
        context.set_label(label).map_err(told)?;
    }
    let mount = context.mount(attributes).map_err(plain)?;
    if let Some(label) = label.filter(|_| plan.r#type == "mqueue") {
        // There is one a pod, which a second mount cannot give another context.
        label_root(mount.as_fd(), label).map_err(plain)?;
    }
    Ok(mount)
}

fn label_root(mount: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    fs::set_label(nix::fcntl::openat(mount, ".", flags, Mode::empty())?, label)
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
