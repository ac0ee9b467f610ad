//! Waits for something to become of pods.

use super::inventory::Inventory;
use crate::ctl::connect::Daemon;
use crate::ctl::error::CtlError;
use crate::kubelet::control::proto::WatchPodsRequest;
use tonic::{Code, Status};

/// Looks at the pods now, and at each change, until there is an answer.
///
/// # Errors
/// The daemon stops.
pub(super) async fn until<T>(
    daemon: &Daemon,
    mut ask: impl FnMut(&Inventory) -> Option<T>,
) -> Result<T, CtlError> {
    loop {
        // Asked for before the list, so that nothing falls between them.
        let changes = daemon.pods.clone().watch_pods(WatchPodsRequest {}).await;
        let mut changes = changes.map_err(CtlError::rpc("watch", "pods"))?.into_inner();
        loop {
            if let Some(answer) = ask(&Inventory::read(daemon).await?) {
                return Ok(answer);
            }
            match changes.message().await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let stops = Status::unavailable("the daemon stops");
                    return Err(CtlError::rpc("watch", "pods")(stops));
                }
                Err(status) if missed_some(&status) => break,
                Err(status) => return Err(CtlError::rpc("watch", "pods")(status)),
            }
        }
    }
}

/// Whether this reader was too slow, and has to list again.
pub(super) fn missed_some(status: &Status) -> bool {
    status.code() == Code::DataLoss
}
