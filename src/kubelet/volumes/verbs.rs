//! The verbs: node, set up, refresh, mounts, tear down.

use super::atomic_writer::{self, Written};
use super::empty_dir;
use super::error::{VolumeError, VolumeErrors};
use super::folders::{Folders, PodFolders, READY, SUB_PATHS, VOLUMES, is_component, make_private};
use super::fs_group;
use super::host_path;
use super::mount_point::{Tmpfs, is_mount_point, mount_tmpfs};
use super::mounts::{self, Planned, Recursive};
use super::payload::payload;
use super::remove::{remove_tree, unmount_below};
use super::source::{Payload, Source};
use super::sub_path::{self, Missing, Wanted};
use crate::blocking;
use crate::cri::proto;
use crate::image::{TreeUse, disk_use};
use crate::kubelet::env::{EnvInput, Kind, Named};
use crate::kubelet::node::NodeFacts;
use crate::kubelet::objects::Objects;
use crate::kubelet::spec::{self, spec, uid};
use crate::sys::mount::attr;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// How many inodes of a volume are counted.
pub const MOST_COUNTED: u64 = 1_000_000;

/// The volumes of the node's pods.
#[derive(Clone, Debug)]
pub struct Volumes {
    folders: Folders,
    recursive: Recursive,
}

/// What volumes are made of.
#[derive(Clone, Copy, Debug)]
pub struct VolumeInput<'a> {
    /// The pod. Its uid names its folders.
    pub pod: &'a Pod,
    /// What its namespace has.
    pub objects: &'a Objects,
    /// Where it runs.
    pub node: &'a NodeFacts,
    /// Whether anybody waits for what is made of it.
    pub wanted: &'a blocking::Wanted,
}

impl<'a> VolumeInput<'a> {
    /// An object of the pod's namespace.
    pub(super) fn named<'n>(&self, kind: Kind, name: &'n str) -> Named<'n>
    where
        'a: 'n,
    {
        let namespace = spec::namespace(self.pod);
        Named { kind, namespace, name }
    }

    /// For the downward API. Files tell nothing of the pod's addresses.
    pub(super) fn env(&self) -> EnvInput<'a> {
        let Self { pod, objects, node, .. } = *self;
        EnvInput { pod, objects, node, pod_ips: &[], host_ips: &node.ips }
    }

    fn uid(&self) -> &'a str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Volume> {
        self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
    }
}

/// What a refresh did.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The volumes whose files are others now.
    pub changed: Vec<String>,
    /// What could not be refreshed, a missing object among them; such a volume stays as it was.
    pub failed: Vec<VolumeError>,
}

impl Volumes {
    /// Volumes of pods with folders below `pods` (on disk) and `payload` (where the node's tmpfs is mounted).
    /// Does nothing yet.
    pub fn new(pods: PathBuf, payload: PathBuf) -> Self {
        let folders = Folders { pods, payload };
        Self { folders, recursive: Recursive::Supported }
    }

    /// For a runtime that cannot make mounts read-only all the way down.
    #[must_use]
    pub fn without_recursive_read_only(self) -> Self {
        Self { recursive: Recursive::Unsupported, ..self }
    }

    /// Mounts the one tmpfs of the node, if it is not there already. Once before any other verb.
    ///
    /// # Errors
    /// The mount's refusal.
    pub fn prepare_node(&self) -> Result<(), VolumeError> {
        make_private(&self.folders.pods)?;
        let path = &self.folders.payload;
        make_private(path)?;
        if is_mount_point(path).map_err(VolumeError::io("look at", path))? {
            return Ok(());
        }
        // Programs may be among the files.
        let attributes = attr::NOSUID | attr::NODEV;
        let tmpfs = Tmpfs { size_bytes: None, mode: "0700", attributes };
        mount_tmpfs(path, &tmpfs).map_err(VolumeError::io("mount a tmpfs on", path))
    }

    /// Unmounts the tmpfs of the node if no pod has files on it. After the last of the other verbs.
    ///
    /// # Errors
    /// The folder cannot be read, or the mount's refusal.
    pub fn release_node(&self) -> Result<(), VolumeError> {
        let path = &self.folders.payload;
        let look = |error| VolumeError::io("look at", path)(error);
        let empty = fs::read_dir(path).map_err(look)?.next().is_none();
        if !empty || !is_mount_point(path).map_err(look)? {
            return Ok(());
        }
        let unmounted = umount2(path, MntFlags::MNT_DETACH).map_err(io::Error::from);
        unmounted.map_err(VolumeError::io("unmount", path))
    }

    /// Makes what is missing of a pod's volumes. May be repeated, also after it was cut off.
    ///
    /// # Errors
    /// The first volume that cannot be set up.
    pub fn set_up(&self, input: &VolumeInput<'_>) -> Result<(), VolumeError> {
        let folders = self.folders.of(input.uid())?;
        input.volumes().try_for_each(|volume| set_up(&folders, volume, input))
    }

    /// Brings the files of a pod that is set up to what its objects are now. Goes on past errors.
    pub fn refresh(&self, input: &VolumeInput<'_>) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let folders = match self.folders.of(input.uid()) {
            Ok(folders) => folders,
            Err(e) => return Refreshed { failed: vec![e], ..refreshed },
        };
        for volume in input.volumes() {
            let Source::Payload(source) = Source::of(volume) else { continue };
            match write(&folders, &volume.name, source, input) {
                Ok(Written::Changed) => refreshed.changed.push(volume.name.clone()),
                Ok(Written::Same) => {}
                Err(e) => refreshed.failed.push(e),
            }
        }
        refreshed
    }

    /// The mounts of a container whose pod is set up, in its order; `vars` is its environment. Sub-paths
    /// are bound, anew where they lead elsewhere than they did.
    ///
    /// # Errors
    /// The first mount that the container cannot have.
    pub fn mounts(
        &self,
        input: &VolumeInput<'_>,
        container: &Container,
        vars: &[(String, String)],
    ) -> Result<Vec<proto::Mount>, VolumeError> {
        let folders = self.folders.of(input.uid())?;
        let mut made = Vec::new();
        for (index, asked) in container.volume_mounts.iter().flatten().enumerate() {
            let volume = find(input, container, asked)?;
            let source = Source::of(volume);
            let planned = mounts::plan(container, asked, source, vars, self.recursive)?;
            let host = match source {
                Source::Image(image) => {
                    made.push(mounts::of_image(planned, image));
                    continue;
                }
                Source::EmptyDir(_) => folders.volume(component(&volume.name)?),
                Source::Payload(_) => folders.payload(component(&volume.name)?),
                Source::HostPath(host) => host_path::path(&volume.name, host)?,
                Source::Unsupported(what) => return Err(unsupported(volume, what)),
            };
            let host = match &planned.sub_path {
                None => host,
                Some(sub_path) => {
                    let missing = match source {
                        Source::Payload(_) => Missing::Refuse,
                        _ => Missing::Create,
                    };
                    let (container, volume) = (&container.name, &volume.name);
                    let still = input.wanted;
                    let wanted = Wanted { container, volume, sub_path, missing, still };
                    bind(&folders, &host, source, &wanted, index)?
                }
            };
            let Planned { mount, .. } = planned;
            made.push(proto::Mount { host_path: text(&host)?, ..mount });
        }
        Ok(made)
    }

    /// Takes away all that this made for a pod, by what is there. The pod's folder goes, too, unless others
    /// have something in it. May be repeated.
    ///
    /// # Errors
    /// All that failed.
    pub fn tear_down(&self, uid: &str) -> Result<(), VolumeErrors> {
        let folders = self.folders.of(uid).map_err(|e| VolumeErrors(vec![e]))?;
        let mut errors = unmount_below(&folders.own);
        for name in [SUB_PATHS, VOLUMES, READY] {
            errors.extend(remove_tree(&folders.own.join(name)));
        }
        errors.extend(remove_tree(&folders.payload));
        match fs::remove_dir(&folders.own) {
            Err(e) if !is_fine(e.kind()) => {
                errors.push(VolumeError::io("remove", &folders.own)(e));
            }
            _ => {}
        }
        if errors.is_empty() { Ok(()) } else { Err(VolumeErrors(errors)) }
    }

    /// What the emptyDirs on disk of a pod take, by volume, as long as somebody `wants` to know: those that are there,
    /// each as far as it can be counted, or why not at all. Blocking.
    pub(in crate::kubelet) fn empty_dirs(
        &self,
        pod: &Pod,
        wants: impl Fn() -> bool,
    ) -> Vec<(String, io::Result<TreeUse>)> {
        let Ok(folders) = self.folders.of(uid(pod)) else { return Vec::new() };
        let volumes = spec(pod).volumes.iter().flatten();
        let own = volumes.filter(|v| v.empty_dir.as_ref().is_some_and(empty_dir::on_disk));
        own.filter_map(|volume| {
            let folder = folders.volume(component(&volume.name).ok()?);
            match disk_use(&folder, MOST_COUNTED, &wants) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                told => Some((volume.name.clone(), told)),
            }
        })
        .collect()
    }

    /// The uids of all pods that have a folder.
    ///
    /// # Errors
    /// A root that cannot be listed; one that is not there has none.
    pub fn known(&self) -> io::Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for root in [&self.folders.pods, &self.folders.payload] {
            let entries = match fs::read_dir(root) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().into_string().ok().filter(|name| is_component(name));
                if entry.file_type()?.is_dir() {
                    found.extend(name);
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn is_fine(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
}

fn set_up(
    folders: &PodFolders,
    volume: &Volume,
    input: &VolumeInput<'_>,
) -> Result<(), VolumeError> {
    match Source::of(volume) {
        Source::EmptyDir(source) => {
            let plan = empty_dir::plan(&volume.name, source, input)?;
            let name = component(&volume.name)?;
            input.wanted.effect(|| empty_dir::set_up(folders, name, plan, input))?
        }
        Source::HostPath(source) => host_path::set_up(&volume.name, source, input.wanted),
        Source::Payload(source) => write(folders, &volume.name, source, input).map(drop),
        // The runtime's, when a container mounts it.
        Source::Image(_) => Ok(()),
        Source::Unsupported(what) => Err(unsupported(volume, what)),
    }
}

fn unsupported(volume: &Volume, what: &'static str) -> VolumeError {
    VolumeError::Unsupported { volume: volume.name.clone(), what }
}

fn write(
    folders: &PodFolders,
    name: &str,
    source: Payload<'_>,
    input: &VolumeInput<'_>,
) -> Result<Written, VolumeError> {
    let files = payload(name, source, input)?;
    let group = fs_group::of(input.pod)?.map(|group| group.id);
    let folder = folders.payload(component(name)?);
    input.wanted.effect(|| {
        make_private(&folders.payload)?;
        atomic_writer::write(&folder, &files, group)
    })?
}

fn component(name: &str) -> Result<&str, VolumeError> {
    if is_component(name) {
        return Ok(name);
    }
    let (volume, value) = (name.to_owned(), name.to_owned());
    Err(VolumeError::Invalid { volume, field: "name", value, reason: "is not a name" })
}

fn find<'a>(
    input: &VolumeInput<'a>,
    container: &Container,
    asked: &VolumeMount,
) -> Result<&'a Volume, VolumeError> {
    input.volumes().find(|volume| volume.name == asked.name).ok_or_else(|| VolumeError::Mount {
        container: container.name.clone(),
        path: asked.mount_path.clone(),
        reason: "names a volume that the pod does not have",
    })
}

/// Binds a place of the volume at `root`; answers where.
fn bind(
    folders: &PodFolders,
    root: &Path,
    source: Source<'_>,
    wanted: &Wanted<'_>,
    index: usize,
) -> Result<PathBuf, VolumeError> {
    // The host's own path may be a link.
    let follow = match source {
        Source::HostPath(_) => OFlag::empty(),
        _ => OFlag::O_NOFOLLOW,
    };
    let root = sub_path::open_root(root, follow)?;
    let place = sub_path::open(root.as_fd(), wanted)?;
    let folder = folders.sub_paths(component(wanted.container)?);
    wanted.still.effect(|| make_private(&folder))??;
    let target = folder.join(index.to_string());
    sub_path::bind(place.as_fd(), &target, wanted.still)?;
    Ok(target)
}

fn text(path: &Path) -> Result<String, VolumeError> {
    let odd = || io::Error::from(io::ErrorKind::InvalidFilename);
    path.to_str().map(str::to_owned).ok_or_else(|| VolumeError::io("name", path)(odd()))
}

#[cfg(test)]
#[path = "verbs_tests.rs"]
mod tests;
