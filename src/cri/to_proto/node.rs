//! The node's state and settings as replies.

use super::info;
use crate::config::CgroupDriver;
use crate::cri::proto;
use crate::engine::view::NodeStatus;

/// The answer to Status. The native executor is the handler without a name.
pub(crate) fn runtime_status(
    status: NodeStatus,
    verbose: proto::StatusRequest,
) -> proto::StatusResponse {
    let conditions = status.conditions.into_iter().map(|c| proto::RuntimeCondition {
        r#type: c.kind,
        status: c.status,
        reason: c.reason,
        message: c.message,
    });
    // Other runtimes are not given user namespaces: see handlers.md.
    let others = status.handlers.into_iter();
    let others = others.map(|(name, can)| handler(name, can.recursive_read_only_mounts, false));
    proto::StatusResponse {
        status: Some(proto::RuntimeStatus { conditions: conditions.collect() }),
        info: if verbose.verbose { info(&status.info) } else { Default::default() },
        // mount_setattr(2) with AT_RECURSIVE is older than the oldest supported kernel.
        runtime_handlers: std::iter::once(handler(String::new(), true, status.user_namespaces))
            .chain(others)
            .collect(),
        features: Some(proto::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: status.user_namespaces,
            mount_options: false,
        }),
    }
}

fn handler(
    name: String,
    recursive_read_only_mounts: bool,
    user_namespaces: bool,
) -> proto::RuntimeHandler {
    let features = proto::RuntimeHandlerFeatures { recursive_read_only_mounts, user_namespaces };
    proto::RuntimeHandler { name, features: Some(features) }
}

/// The answer to RuntimeConfig. The driver is always told: its zero is systemd.
pub(crate) fn runtime_config(driver: CgroupDriver) -> proto::RuntimeConfigResponse {
    let driver = match driver {
        CgroupDriver::Cgroupfs => proto::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => proto::CgroupDriver::Systemd,
    };
    let linux = proto::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    proto::RuntimeConfigResponse { linux: Some(linux) }
}
