//! The node as a whole: version, status, settings.

use crate::cri::{proto, to_proto};
use crate::engine::Engine;

pub(in crate::cri) fn version() -> proto::VersionResponse {
    proto::VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "berth".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

pub(in crate::cri) fn status(
    engine: &Engine,
    request: proto::StatusRequest,
) -> proto::StatusResponse {
    to_proto::runtime_status(engine.status(), request)
}

pub(in crate::cri) fn runtime_config(engine: &Engine) -> proto::RuntimeConfigResponse {
    to_proto::runtime_config(engine.status().cgroup_driver)
}
