//! Status: is the node able to run pods. Polled every few seconds: no lock that a verb holds, no I/O.

use super::open::Engine;
use super::view::{Condition, NodeStatus};
use crate::config::Enforce;

impl Engine {
    /// The node's conditions: RuntimeReady and NetworkReady, and a false one for each thing that the
    /// best-effort switches left out, and for runtime handlers that cannot be used.
    pub fn status(&self) -> NodeStatus {
        let mut conditions = vec![self.runtime_ready(), self.network_ready()];
        let degraded = self.node.cgroups.degraded();
        if !degraded.is_empty() {
            conditions.push(Condition {
                kind: "CgroupsEnforced".into(),
                status: false,
                reason: "BestEffort".into(),
                message: degraded.join("; "),
            });
        }
        if self.node.config.process.privileges == Enforce::BestEffort {
            conditions.push(Condition {
                kind: "PrivilegesEnforced".into(),
                status: false,
                reason: "BestEffort".into(),
                message: "a lower oom_score_adj or a higher hard limit that the kernel refuses is left out"
                    .into(),
            });
        }
        let unusable = self.node.handlers.unusable();
        if !unusable.is_empty() {
            conditions.push(Condition {
                kind: "RuntimeHandlersReady".into(),
                status: false,
                reason: "ProgramMissing".into(),
                message: unusable.join("; "),
            });
        }
        NodeStatus {
            conditions,
            handlers: self.node.handlers.usable(),
            user_namespaces: self.node.userns.is_ok(),
            cgroup_driver: self.node.config.cgroups.driver,
            info: serde_json::json!({
                "config": *self.node.config,
                "sandboxes": self.registry.sandboxes().len(),
                "containers": self.registry.containers().len(),
                "userNamespaces": self.node.userns.as_ref().err().map_or("possible", |e| e.as_str()),
            }),
        }
    }

    fn runtime_ready(&self) -> Condition {
        let recovering = self.ready().is_err();
        Condition {
            kind: "RuntimeReady".into(),
            status: !recovering,
            reason: if recovering { "Recovering".into() } else { String::new() },
            message: if recovering {
                "berth is adopting running pods".into()
            } else {
                String::new()
            },
        }
    }

    fn network_ready(&self) -> Condition {
        let (reason, message) = match self.node.network.ready() {
            Ok(()) => (String::new(), String::new()),
            Err(not_ready) => (not_ready.reason.to_string(), not_ready.message),
        };
        Condition { kind: "NetworkReady".into(), status: reason.is_empty(), reason, message }
    }
}
