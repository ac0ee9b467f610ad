//! What a status says, for whoever reads it.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Whether the pod's phase is one that is never left.
pub fn has_ended(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// When the pod began, once it has.
pub fn start_time(pod: &Pod) -> Option<&Time> {
    pod.status.as_ref()?.start_time.as_ref()
}

/// All containers: those before the apps, then the apps.
pub fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

/// The id that the runtime gave the newest instance of a container: `containerID` without the runtime's name.
pub fn container_id(status: &ContainerStatus) -> Option<&str> {
    Some(status.container_id.as_deref()?.split_once("://")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_status_is_read_in_the_order_of_starts() {
        let one = |name: &str, id: &str| {
            json!({
                "name": name, "containerID": id, "image": "", "imageID": "", "ready": false,
                "restartCount": 0,
            })
        };
        let status: PodStatus = from_value(json!({
            "phase": "Failed",
            "containerStatuses": [one("b", "berth://2"), one("c", "")],
            "initContainerStatuses": [one("a", "berth://1")],
        }))
        .unwrap();
        let all: Vec<_> = containers(&status).map(|of| (&*of.name, container_id(of))).collect();
        assert_eq!(all, [("a", Some("1")), ("b", Some("2")), ("c", None)]);
        assert!(has_ended(&status) && !has_ended(&PodStatus::default()));
    }
}
