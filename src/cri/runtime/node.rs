//! The node as a whole: version, status, settings.

use crate::cri::from_proto::pod_ranges;
use crate::cri::{proto, to_proto};
use crate::engine::Engine;
use tonic::Status;

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

/// A request without a range asks for nothing.
pub(in crate::cri) async fn update_runtime_config(
    engine: &Engine,
    request: proto::UpdateRuntimeConfigRequest,
) -> Result<proto::UpdateRuntimeConfigResponse, Status> {
    let network = request.runtime_config.and_then(|c| c.network_config).unwrap_or_default();
    let field = "runtime_config.network_config.pod_cidr";
    if let Some(ranges) = pod_ranges(field, &network.pod_cidr)? {
        engine.set_pod_ranges(ranges).await?;
    }
    Ok(proto::UpdateRuntimeConfigResponse {})
}
