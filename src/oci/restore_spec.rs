//! A container that criu brings back: its mounts by descriptor, as another runtime gets them, and criu's arguments.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use oci_spec::runtime::{Mount, Spec};

use super::error::OciError;
use super::handler::NO_LEVEL;
use super::handler_spec::{HandlerPlace, base, shared_fds};
use super::options;
use super::prepare::{PodContext, Prepared, SHM_SOURCE, is_bind};
use super::source::{clone_source, take_volume};
use crate::checkpoint::{Cover, Place};
use crate::shim::wire::{HandlerMount, HandlerPlan, InitPlan, RestorePlan, handler_mount::Source};
use crate::sys::mount::{Change, FsContext, Reach, attr, clone_tree, set_attributes};

/// What a masked path is covered with may be read, and that is all.
const COVER: u64 = attr::RDONLY | attr::NOSUID | attr::NOEXEC;

/// What is known of a container that is to come back.
#[derive(Debug)]
pub struct Restored<'a> {
    /// criu's arguments, but those that name mounts and the network namespace.
    pub arguments: Vec<String>,
    /// The mounts that are given.
    pub places: &'a [Place],
    /// The network namespace.
    pub net: Option<PathBuf>,
}

/// The request for a container that criu, at `place`, brings back.
///
/// Blocks: it resolves the sources of bind mounts.
///
/// # Errors
/// [`OciError`]: what cannot be done, by name.
pub fn prepare_restored(
    spec: &Spec,
    rootfs: OwnedFd,
    (pod, place): (&PodContext, &HandlerPlace),
    restored: Restored<'_>,
) -> Result<Prepared, OciError> {
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let sealed = Change { set: attr::RDONLY, ..Change::default() };
        set_attributes(rootfs.as_fd(), sealed, Reach::One)
            .map_err(|source| host("the root file system", source))?;
    }
    let mut mounts = Mounts::new(place)?;
    let root = mounts.add(Some(rootfs));
    let mut arguments = restored.arguments;
    arguments.extend(["--root".to_owned(), root.display().to_string()]);
    let binds: Vec<&Mount> = spec.mounts().iter().flatten().filter(|m| is_bind(m)).collect();
    let mut attached: Vec<(&Path, PathBuf)> = Vec::new();
    for bind in &binds {
        let at = mounts.add(source(bind, pod)?);
        attached.push((bind.destination(), at));
    }
    for place in restored.places {
        let from = match place.cover {
            Cover::Bind => below(&attached, &place.at)?,
            Cover::Folder => mounts.add(Some(folder_cover()?)),
            Cover::File => mounts.add(Some(file_cover()?)),
        };
        let external = format!("mnt[{}]:{}", place.at, from.display());
        arguments.extend(["--external".to_owned(), external]);
    }
    let net_fd = match restored.net {
        None => None,
        Some(path) => {
            let opened = File::open(&path);
            let file = opened.map_err(|source| OciError::Namespace { path, source })?;
            Some(mounts.push(file.into()))
        }
    };
    mounts.plan.needs_pause = Some(true);
    mounts.plan.restore = Some(RestorePlan { arguments, net_fd });
    let Mounts { plan, fds, .. } = mounts;
    let plan = InitPlan { level: NO_LEVEL, handler: Some(plan), ..InitPlan::default() };
    Ok(Prepared { plan, fds, outside: None })
}

/// The mounts of a bundle, by position.
struct Mounts<'a> {
    place: &'a HandlerPlace,
    plan: HandlerPlan,
    fds: Vec<OwnedFd>,
    /// The descriptors before those that the plan names.
    first: usize,
}

impl<'a> Mounts<'a> {
    fn new(place: &'a HandlerPlace) -> Result<Self, OciError> {
        let (plan, fds) = (base(place)?, shared_fds(place)?);
        Ok(Self { place, plan, first: fds.len(), fds })
    }

    fn push(&mut self, fd: OwnedFd) -> u32 {
        self.fds.push(fd);
        u32::try_from(self.fds.len() - 1 - self.first).unwrap_or(u32::MAX)
    }

    /// Where it will be found; `None`: the pod's /dev/shm.
    fn add(&mut self, fd: Option<OwnedFd>) -> PathBuf {
        let source = match fd {
            Some(fd) => Source::Fd(self.push(fd)),
            None => Source::Shm(true),
        };
        self.plan.mounts.push(HandlerMount { source: Some(source) });
        self.place.bundle.join(format!("mounts/{}", self.plan.mounts.len() - 1))
    }
}

fn source(bind: &Mount, pod: &PodContext) -> Result<Option<OwnedFd>, OciError> {
    let field = "mounts.source";
    let source = bind.source().as_ref().ok_or(OciError::Missing { field })?;
    let options = options::parse(bind.options().as_deref().unwrap_or_default())?;
    let target = bind.destination();
    match pod.volumes.get(source) {
        _ if source == Path::new(SHM_SOURCE) => Ok(None),
        Some(volume) => take_volume(volume, source, target, &options).map(Some),
        None => clone_source(source, target, &options, None).map(Some),
    }
}

/// The bind mount at a place, or what lies below the nearest one above it.
fn below(attached: &[(&Path, PathBuf)], at: &str) -> Result<PathBuf, OciError> {
    let at = Path::new(at);
    let nearest = attached
        .iter()
        .filter(|(target, _)| at.starts_with(target))
        .max_by_key(|(target, _)| target.components().count());
    let (target, from) = nearest.ok_or_else(|| {
        OciError::invalid("mounts", at.display(), "is in the checkpoint and not in the request")
    })?;
    match at.strip_prefix(target) {
        Ok(rest) if !rest.as_os_str().is_empty() => Ok(from.join(rest)),
        _ => Ok(from.clone()),
    }
}

fn host(path: &'static str, source: std::io::Error) -> OciError {
    OciError::Host { path, source }
}

fn folder_cover() -> Result<OwnedFd, OciError> {
    let make = || {
        let context = FsContext::open(c"tmpfs")?;
        context.set(c"source", c"mask")?;
        context.set(c"nr_inodes", c"2")?;
        context.set(c"size", c"4096")?;
        context.set(c"mode", c"0555")?;
        context.mount(COVER)
    };
    make().map_err(|source| host("the cover of a masked folder", source))
}

fn file_cover() -> Result<OwnedFd, OciError> {
    let make = || {
        let null = clone_tree(AT_FDCWD, c"/dev/null", Reach::One)?;
        set_attributes(null.as_fd(), Change { set: COVER, ..Change::default() }, Reach::One)?;
        Ok(null)
    };
    make().map_err(|source| host("/dev/null", source))
}
