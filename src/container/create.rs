//! CreateContainer: everything that can fail before a process exists.
//!
//! It touches no process: a writable layer, users from the image's own passwd, the OCI
//! configuration. Mount sources are only made if missing; they are resolved at the start, so that
//! what is mounted on the host until then is seen.

use super::apparmor::{self, AppArmor};
use super::config::ContainerConfig;
use super::log;
use super::mounts::image_source;
use super::object::Container;
use super::spec::{self, SpecInputs};
use super::state::Event;
use super::user;
use crate::blocking::Wanted;
use crate::cdi::{self, DeviceName};
use crate::error::{AtStep, StepFailed};
use crate::failpoint;
use crate::image::{ImageInfo, View};
use crate::node::Node;
use crate::oci::{OciError, Volumes};
use crate::sandbox::{pod_files, userns};
use crate::selinux::{self, Forbidden, Labels};
use oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a host path (a hung NFS or FUSE mount) may keep a verb waiting.
pub const HOST_PATH_WITHIN: Duration = Duration::from_secs(60);

/// The step of image volumes, by which a caller knows it.
pub const IMAGE_VOLUME: &str = "mount an image volume";

/// What is settled of a container before anything of it is made.
#[derive(Debug)]
pub struct Settled {
    /// Its image.
    pub image: ImageInfo,
    /// The pid of the container whose pid namespace it joins.
    pub target: Option<i32>,
    /// Its SELinux labels; `None` where labels are off.
    pub labels: Option<Labels>,
}

/// Makes the container and moves it to `Created`. The caller holds its sandbox's lane and has
/// written the record.
///
/// # Errors
/// The step that failed. The caller undoes by [`super::remove::forget`].
pub async fn create(
    node: &Arc<Node>,
    container: &Arc<Container>,
    settled: Settled,
) -> Result<(), StepFailed> {
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    let overdue = &container.sandbox.overdue;
    overdue
        .run_within("prepare the container", HOST_PATH_WITHIN, move |wanted| {
            prepare(&work_node, &work, &settled, wanted)
        })
        .await
        .at("prepare the container")??;
    container.step(node, Event::Made).at("record that the container is made")?.ok();
    Ok(())
}

fn prepare(
    node: &Node,
    container: &Container,
    settled: &Settled,
    wanted: &Wanted,
) -> Result<(), StepFailed> {
    const PREPARE: &str = "prepare the container";
    let Settled { image, target, labels } = settled;
    let config = container.config();
    let sandbox = container.sandbox.record();
    failpoint::hold("create");
    let volumes: Vec<_> =
        container.record().volumes.into_iter().map(|volume| volume.image_id).collect();
    wanted
        .effect(|| {
            let maps = sandbox.config.userns.as_ref();
            node.images.prepare_snapshot(&image.id, &container.id, &volumes, maps)
        })
        .at(PREPARE)?
        .at("prepare the container's writable layer")?;
    let mount_label = labels.as_ref().map(|labels| labels.mount.to_string());
    let space = userns::of_pod(&sandbox)?;
    let view =
        View { space: space.as_ref().map(|space| space.as_fd()), label: mount_label.as_deref() };
    let rootfs = node
        .images
        .mount_snapshot(&container.id, view)
        .at("mount the container's root file system")?;
    let user = user::resolve_user(rootfs.as_fd(), &config.security, &image.config.user)
        .at("resolve the container's user")?;
    drop(rootfs);
    make_missing_sources(&config, wanted)?;
    if let Some(label) = view.label {
        relabel_sources(node, &config, label, wanted)?;
    }
    // What cannot be mounted is told now, and not by a container that does not start.
    mount_volumes(node, container, view)?;
    let leaf = sandbox.cgroup.child(container.id.as_str());
    let apparmor = apparmor::of_container(&config.security, &AppArmor::default())
        .at("choose the AppArmor profile")?;
    let mut spec = spec::build(&SpecInputs {
        sandbox: &sandbox.config,
        sandbox_id: &sandbox.id,
        container_id: &container.id,
        config: &config,
        image: &image.config,
        user: &user,
        pause: sandbox.pause.as_ref().map(|p| p.pid),
        files: &pod_files::paths(&node.layout, &sandbox.id),
        cgroup_path: &leaf.to_string(),
        apparmor: apparmor.as_deref(),
        labels: labels.as_ref(),
        nofile: (node.config.process.nofile_soft, node.config.process.nofile_hard),
        target: *target,
        effective_hostname: &pod_files::hostname(&sandbox.config),
    })
    .at("build the OCI configuration")?;
    add_devices(node, &config, &mut spec)?;
    let json = serde_json::to_vec(&spec).map_err(std::io::Error::other).at("encode config.json")?;
    wanted
        .effect(|| crate::store::replace(&node.layout.bundle_config(&container.id), &json))
        .at(PREPARE)?
        .at("write config.json")?;
    wanted.still().at(PREPARE)?;
    log::open(container).at("open the container's log")?;
    let user = (user.uid, user.gid, user.additional_gids);
    wanted
        .effect(|| container.change(node, |record| record.user = Some(user)))
        .at(PREPARE)?
        .at("record the container's user")
}

/// Makes the configuration's edits for CDI devices.
fn add_devices(node: &Node, config: &ContainerConfig, spec: &mut Spec) -> Result<(), StepFailed> {
    const STEP: &str = "add the container's CDI devices";
    let names = config.cdi_devices.iter().map(|name| DeviceName::parse(name));
    let names = names.collect::<Result<Vec<_>, _>>().at(STEP)?;
    cdi::inject(spec, &names, &node.config.cdi.dirs).at(STEP)
}

/// Gives the sources that ask for it the label of the container's files.
fn relabel_sources(
    node: &Node,
    config: &ContainerConfig,
    label: &str,
    wanted: &Wanted,
) -> Result<(), StepFailed> {
    let paths = &node.config.paths;
    let own = [paths.run.as_path(), paths.state.as_path()];
    let asked = config.mounts.iter().filter(|mount| mount.selinux_relabel && mount.image.is_none());
    for mount in asked {
        selinux::relabel(&mount.host_path, label, Forbidden(&own), || wanted.still().is_ok())
            .at("relabel a volume")?;
    }
    Ok(())
}

/// The container's image volumes, detached, seen as its root file system unless the request maps their
/// ids otherwise, by the source that stands for each.
///
/// # Errors
/// The image, and what in it, that cannot be mounted.
pub fn mount_volumes(
    node: &Node,
    container: &Container,
    view: View<'_>,
) -> Result<Volumes, StepFailed> {
    let (record, sandbox) = (container.record(), container.sandbox.record());
    let mut mounted = BTreeMap::new();
    for volume in record.volumes {
        let Some(mount) = record.config.mounts.get(volume.mount) else { continue };
        let Some(asked) = &mount.image else { continue };
        // Said or not: an image's files are the root's of who uses it.
        let other = mount.maps.as_ref().filter(|maps| sandbox.config.userns.as_ref() != Some(maps));
        let made = other.map(|maps| userns::make(node, maps)).transpose()?;
        let space = made.as_ref().map(|space| space.as_fd()).or(view.space);
        let part = (&volume.image_id, asked.sub_path.as_path());
        let mount = node.images.mount_volume(&container.id, part, View { space, ..view });
        mounted.insert(image_source(volume.mount), mount.at(IMAGE_VOLUME)?);
    }
    Ok(Arc::new(mounted))
}

/// A missing source becomes a directory, as other runtimes do.
fn make_missing_sources(config: &ContainerConfig, wanted: &Wanted) -> Result<(), StepFailed> {
    const STEP: &str = "find the sources of mounts";
    for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
        let failed = |operation| {
            move |source| OciError::Source {
                operation,
                path: mount.host_path.clone(),
                target: mount.container_path.clone(),
                source,
            }
        };
        // symlink_metadata would miss a dangling link's target; metadata follows it.
        match std::fs::metadata(&mount.host_path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                wanted.still().at(STEP)?;
                std::fs::create_dir_all(&mount.host_path).map_err(failed("create")).at(STEP)?;
            }
            Err(e) => return Err(failed("open")(e)).at(STEP),
        }
    }
    Ok(())
}
