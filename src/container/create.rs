//! CreateContainer: everything that can fail before a process exists.
//!
//! It touches no process: a writable layer, users from the image's own passwd, the OCI
//! configuration. Mount sources are only made if missing; they are resolved at the start, so that
//! what is mounted on the host until then is seen.

use super::log;
use super::object::Container;
use super::spec::{self, SpecInputs};
use super::state::Event;
use super::user;
use crate::blocking;
use crate::error::{AtStep, StepFailed};
use crate::image::ImageInfo;
use crate::node::Node;
use crate::oci::OciError;
use crate::sandbox::pod_files;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a host path (a hung NFS or FUSE mount) may keep a verb waiting.
pub const HOST_PATH_WITHIN: Duration = Duration::from_secs(60);

/// Makes the container and moves it to `Created`. The caller holds its sandbox's lane and has
/// written the record.
///
/// # Errors
/// The step that failed. The caller undoes by [`super::remove::forget`].
pub async fn create(
    node: &Arc<Node>,
    container: &Arc<Container>,
    image: ImageInfo,
    target: Option<i32>,
) -> Result<(), StepFailed> {
    let (work_node, work) = (Arc::clone(node), Arc::clone(container));
    blocking::run_within("prepare the container", HOST_PATH_WITHIN, move || {
        prepare(&work_node, &work, &image, target)
    })
    .await
    .at("prepare the container")??;
    container.step(node, Event::Made).at("record that the container is made")?.ok();
    Ok(())
}

fn prepare(
    node: &Node,
    container: &Container,
    image: &ImageInfo,
    target: Option<i32>,
) -> Result<(), StepFailed> {
    let config = container.config();
    let sandbox = container.sandbox.record();
    node.images
        .prepare_snapshot(&image.id, &container.id)
        .at("prepare the container's writable layer")?;
    let rootfs =
        node.images.mount_snapshot(&container.id).at("mount the container's root file system")?;
    let user = user::resolve_user(rootfs.as_fd(), &config.security, &image.config.user)
        .at("resolve the container's user")?;
    drop(rootfs);
    make_missing_sources(&config).at("find the sources of mounts")?;
    let leaf = sandbox.cgroup.child(container.id.as_str());
    let spec = spec::build(&SpecInputs {
        sandbox: &sandbox.config,
        sandbox_id: &sandbox.id,
        container_id: &container.id,
        config: &config,
        image: &image.config,
        user: &user,
        pause: sandbox.pause.as_ref().map(|p| p.pid),
        files: &pod_files::paths(&node.layout, &sandbox.id),
        cgroup_path: &leaf.to_string(),
        nofile: (node.config.process.nofile_soft, node.config.process.nofile_hard),
        target,
        effective_hostname: &pod_files::hostname(&sandbox.config),
    })
    .at("build the OCI configuration")?;
    let json = serde_json::to_vec(&spec).map_err(std::io::Error::other).at("encode config.json")?;
    crate::store::replace(&node.layout.bundle_config(&container.id), &json)
        .at("write config.json")?;
    if let Some(path) = &container.record().log_path {
        log::open(path).at("open the container's log")?;
    }
    container
        .change(node, |r| r.user = Some((user.uid, user.gid, user.additional_gids.clone())))
        .at("record the container's user")
}

/// A missing source becomes a directory, as other runtimes do.
fn make_missing_sources(config: &super::config::ContainerConfig) -> Result<(), OciError> {
    for mount in &config.mounts {
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
                std::fs::create_dir_all(&mount.host_path).map_err(failed("create"))?;
            }
            Err(e) => return Err(failed("open")(e)),
        }
    }
    Ok(())
}
