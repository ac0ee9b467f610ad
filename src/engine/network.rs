//! What the cluster tells of the node's network.

use super::error::EngineError;
use super::open::Engine;
use crate::cni::PodRanges;
use crate::error::AtStep as _;
use std::sync::Arc;

impl Engine {
    /// UpdateRuntimeConfig: the addresses that pods get from now on.
    ///
    /// # Errors
    /// Invalid for a range that cannot hold pods; Precondition when the template makes no network.
    pub async fn set_pod_ranges(&self, ranges: PodRanges) -> Result<(), EngineError> {
        self.ready()?;
        let node = Arc::clone(&self.node);
        self.owned("UpdateRuntimeConfig", async move {
            node.network
                .set_ranges(ranges)
                .await
                .at("take over the pod range")
                .map_err(|f| EngineError::step("UpdateRuntimeConfig", "the node", f))
        })
        .await
    }
}
