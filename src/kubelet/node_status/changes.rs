//! What has happened to the node, by what it was and what it is; pure.

use crate::kubelet::board::EventKind;
use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// An event of the node.
type What = (EventKind, &'static str, String);

/// A condition, and the events when it holds and when it does not, as kubelets name them.
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// The events between two looks. A node that nobody has seen before tells all of its conditions.
pub(super) fn changes(previous: Option<&Node>, made: &Node) -> Vec<What> {
    let rebooted = previous.and_then(|previous| {
        let (before, now) = (boot_id(previous)?, boot_id(made)?);
        let message = format!("Node {} has been rebooted, boot id: {now}", name(made));
        (before != now).then_some((EventKind::Warning, "Rebooted", message))
    });
    let turned = CONDITIONS.iter().filter_map(|(kind, holds, ends)| {
        let now = condition(made, kind)?;
        let before = previous.and_then(|previous| condition(previous, kind));
        if before.is_some_and(|before| before.status == now.status) {
            return None;
        }
        let is_true = now.status == "True";
        let reason = if is_true { holds } else { ends };
        let well = is_true == (*kind == "Ready");
        let event = if well { EventKind::Normal } else { EventKind::Warning };
        let why = now.message.as_deref().filter(|_| !well).map(|why| format!(": {why}"));
        let status = format!("Node {} status is now: {reason}", name(made));
        Some((event, *reason, status + &why.unwrap_or_default()))
    });
    rebooted.into_iter().chain(turned).collect()
}

fn name(of: &Node) -> &str {
    of.metadata.name.as_deref().unwrap_or_default()
}

/// The id of the boot, if it is known.
fn boot_id(of: &Node) -> Option<&str> {
    let info = of.status.as_ref()?.node_info.as_ref()?;
    Some(info.boot_id.as_str()).filter(|id| !id.is_empty())
}

fn condition<'a>(of: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let all = of.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(boot: &str, ready: &str, disk: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "status": {
                "conditions": [
                    {"type": "DiskPressure", "status": disk, "message": "m"},
                    {"type": "Ready", "status": ready, "message": "no network"},
                ],
                "nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                    "operatingSystem": "", "osImage": "", "systemUUID": ""},
            },
        }))
        .unwrap()
    }

    fn told(previous: Option<&Node>, made: &Node) -> Vec<(EventKind, &'static str)> {
        changes(previous, made).into_iter().map(|(kind, reason, _)| (kind, reason)).collect()
    }

    #[test]
    fn a_change_of_a_condition_is_an_event() {
        use EventKind::{Normal, Warning};
        let well = node("1", "True", "False");
        assert_eq!(told(None, &well), [(Normal, "NodeHasNoDiskPressure"), (Normal, "NodeReady")]);
        assert_eq!(told(Some(&well), &well), []);
        let full = node("1", "False", "True");
        let expected = [(Warning, "NodeHasDiskPressure"), (Warning, "NodeNotReady")];
        assert_eq!(told(Some(&well), &full), expected);
        let message = changes(Some(&well), &full).pop().unwrap().2;
        assert_eq!(message, "Node n status is now: NodeNotReady: no network");
        assert_eq!(told(Some(&full), &node("1", "True", "True")), [(Normal, "NodeReady")]);
    }

    #[test]
    fn another_boot_is_an_event_and_an_unknown_one_is_not() {
        let of = |boot| node(boot, "True", "False");
        assert_eq!(told(Some(&of("1")), &of("2")), [(EventKind::Warning, "Rebooted")]);
        assert_eq!(told(Some(&of("")), &of("2")), []);
    }
}
