//! What tests of several files need.

use super::{Pulse, Shown, Tallies};
use crate::config;
use crate::cri::client::{Operations, RemoteCri};
use crate::kubelet::board::Board;
use crate::kubelet::eviction::EvictionTally;
use crate::kubelet::node::NodeFacts;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the API tells of a node named `node-1` without pods, in a folder. Its runtime listens, as long as the listener is
/// held, and never answers.
pub(super) async fn shown(dir: &Path, kubelet: config::Kubelet) -> (Shown, UnixListener) {
    let runtime = UnixListener::bind(dir.join("runtime")).unwrap();
    let cri = RemoteCri::connect(&dir.join("runtime")).await.unwrap();
    let shown = Shown {
        cri: Arc::new(cri),
        operations: Operations::default(),
        board: Board::open(dir.join("status")).unwrap(),
        node: NodeFacts { name: "node-1".into(), ..NodeFacts::default() },
        kubelet,
        state: dir.to_owned(),
        tallies: Tallies::default(),
        evictions: EvictionTally::default(),
        pulse: Pulse::new(Instant::now()),
        trust: crate::ctl::stream::Trust::default(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    (shown, runtime)
}
