//! Making room on disks with what nobody needs: containers of pods that have ended, images that no container uses.

use super::collect::Collector;
use super::log::Reclaimed;
use crate::blocking;
use crate::cri::proto;
use crate::kubelet::request::Identity;
use crate::kubelet::worker::Host;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use tracing::{info, warn};

/// Removes it. `ended` are the uids of pods that have.
pub(super) async fn reclaim(
    host: &Arc<Host>,
    ended: &BTreeSet<String>,
    collector: &Collector,
) -> Reclaimed {
    let containers = dead_containers(host, ended).await;
    // What those were made of is used by one container less each.
    let images = collector.remove_unused().await;
    Reclaimed { containers, images }
}

/// Removes the containers of pods that have ended; their ids. Their statuses and logs stay.
async fn dead_containers(host: &Arc<Host>, ended: &BTreeSet<String>) -> Vec<String> {
    let listed = host.cri.list_containers(proto::ListContainersRequest::default()).await;
    let all = match listed {
        Ok(answer) => answer.containers,
        Err(error) => {
            warn!(%error, "dead containers are not known");
            return Vec::new();
        }
    };
    let mut gone = Vec::new();
    for container in all {
        let Some(of) = Identity::read(&container.labels) else { continue };
        let exited = container.state == i32::from(proto::ContainerState::ContainerExited);
        if !exited || !ended.contains(&of.uid) {
            continue;
        }
        let request = proto::RemoveContainerRequest { container_id: container.id.clone() };
        match host.cri.remove_container(request).await {
            Ok(_) => {
                info!(
                    pod_uid = of.uid,
                    container_id = container.id,
                    "a dead container was removed"
                );
                unlink(host, &of, &container).await;
                gone.push(container.id);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                warn!(container_id = container.id, %error, "a dead container was not removed");
            }
        }
    }
    gone
}

/// Removes the link by which tools find its log: nobody knows its id any more.
async fn unlink(host: &Arc<Host>, of: &Identity, container: &proto::Container) {
    let name = container.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
    let link = host.log_link(&of.name, &of.namespace, (name, &container.id));
    let unlinked = blocking::run("remove a log's link", move || std::fs::remove_file(link)).await;
    if let Ok(Err(error)) = unlinked
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(container_id = container.id, %error, "the link of a log was not removed");
    }
}
