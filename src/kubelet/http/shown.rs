//! What the API tells of.

use super::pulse::Pulse;
use super::tallies::Tallies;
use crate::config;
use crate::cri::client::{Cri, Operations};
use crate::ctl::stream::Trust;
use crate::kubelet::board::Board;
use crate::kubelet::eviction::EvictionTally;
use crate::kubelet::node::NodeFacts;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the API tells of, and by what.
pub struct Shown {
    /// The runtime.
    pub cri: Arc<dyn Cri>,
    /// The calls to it.
    pub operations: Operations,
    /// The pods.
    pub board: Board,
    /// The node.
    pub node: NodeFacts,
    /// The configuration in effect.
    pub kubelet: config::Kubelet,
    /// The folder whose file system pods use.
    pub state: PathBuf,
    /// What probes came to.
    pub tallies: Tallies,
    /// How many pods were evicted.
    pub evictions: EvictionTally,
    /// Whether the loop of the kubelet half turns.
    pub pulse: Pulse,
    /// Whom to believe behind an https URL of the runtime's.
    pub trust: Trust,
    /// Where connections are kept.
    pub tasks: TaskTracker,
    /// When it ends.
    pub stop: CancellationToken,
}
