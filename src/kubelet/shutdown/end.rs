//! Ends the pods, group by group.

use super::groups::{Group, group_of};
use crate::kubelet::status::Verdict;
use crate::kubelet::worker::{Command, Ending, Handle};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::sync::Arc;
use tracing::{info, warn};

/// The reason of a pod that has ended for a shutdown.
pub const TERMINATED: &str = "Terminated";
/// The reason of a pod that came too late.
pub const NOT_TAKEN: &str = "NodeShutdown";

/// Ends pods, the first group first, each with its own grace or its group's, whichever is shorter. A group that takes
/// longer than it may is left to end beside the next.
pub async fn end_in_groups(groups: Vec<Group>, pods: Vec<(Handle, Arc<Pod>)>) {
    for (index, group) in groups.iter().enumerate() {
        let own = pods.iter().filter(|(_, pod)| group_of(&groups, pod) == index);
        let own: Vec<&Handle> = own.map(|(handle, _)| handle).collect();
        if own.is_empty() {
            continue;
        }
        let (priority, seconds) = (group.priority, group.grace.as_secs());
        info!(priority, seconds, pods = own.len(), "pods end for the shutdown");
        for handle in &own {
            let verdict = Verdict {
                reason: TERMINATED.to_owned(),
                message: "Pod was terminated in response to imminent node shutdown.".to_owned(),
            };
            handle.tell(Command::End(Ending {
                deleted: false,
                grace: Some(group.grace),
                verdict: Some(verdict),
            }));
        }
        let ended = futures::future::join_all(own.iter().map(|handle| handle.ended()));
        if tokio::time::timeout(group.grace, ended).await.is_err() {
            warn!(
                priority,
                seconds, "pods have not ended in the time that the shutdown has for them"
            );
        }
    }
}

/// Whether a pod has failed for a shutdown alone: when that is over it is to run again, because its source still
/// wants it, and there is nobody else to make another.
pub fn ended_for_it(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Failed")
        && matches!(status.reason.as_deref(), Some(TERMINATED | NOT_TAKEN))
}
