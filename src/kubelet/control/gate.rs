//! The kubelet half, once it keeps pods: the socket answers before.

use crate::kubelet::board::Board;
use crate::kubelet::source::LocalPods;
use std::sync::{Arc, OnceLock};
use tonic::Status;

/// What can be asked for.
#[derive(Clone, Debug)]
pub struct Control {
    /// Statuses, events and manifests.
    pub board: Board,
    /// What was applied.
    pub local: LocalPods,
}

/// Where the kubelet half will be, if there is to be one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KubeletGate(Option<Arc<OnceLock<Control>>>);

impl KubeletGate {
    /// A gate without a kubelet half behind it yet; `configured` tells whether there will be one.
    pub fn pending(configured: Option<&crate::config::Kubelet>) -> Self {
        Self(configured.map(|_| Arc::default()))
    }

    /// Lets calls through. A gate opens once.
    pub fn open(&self, control: Control) {
        if let Some(gate) = &self.0 {
            gate.set(control).ok();
        }
    }

    /// The kubelet half.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: berth runs without; UNAVAILABLE: it does not keep pods yet.
    pub fn control(&self) -> Result<&Control, Status> {
        let Some(gate) = &self.0 else {
            let message = "berth keeps no pods by itself: its configuration has no [kubelet]";
            return Err(Status::failed_precondition(message));
        };
        gate.get().ok_or_else(|| Status::unavailable("the kubelet half is still starting"))
    }
}
