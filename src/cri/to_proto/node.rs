//! The node's state and settings as replies.

use super::info;
use crate::config::CgroupDriver;
use crate::cri::proto;
use crate::engine::view::NodeStatus;

/// The answer to Status. The default handler is the only one.
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
    proto::StatusResponse {
        status: Some(proto::RuntimeStatus { conditions: conditions.collect() }),
        info: if verbose.verbose { info(&status.info) } else { Default::default() },
        runtime_handlers: vec![proto::RuntimeHandler {
            name: String::new(),
            features: Some(proto::RuntimeHandlerFeatures {
                // mount_setattr(2) with AT_RECURSIVE is older than the oldest supported kernel.
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        }],
        features: Some(proto::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: false,
        }),
    }
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
