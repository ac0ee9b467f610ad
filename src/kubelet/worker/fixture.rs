//! What tests of workers need.

use super::host::Host;
use super::pull_limits::PullLimits;
use crate::config;
use crate::cri::client::Cri;
use crate::kubelet::board::Board;
use crate::kubelet::eviction::Pressure;
use crate::kubelet::http::{Pulse, Tallies};
use crate::kubelet::node::NodeFacts;
use crate::kubelet::objects::Objects;
use crate::kubelet::prepare::settings;
use crate::kubelet::userns::Ids;
use crate::kubelet::volumes::Volumes;
use crate::probes::Checker;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// A node in a folder, and the other end of its objects.
pub(super) fn host(dir: &Path, cri: Arc<dyn Cri>) -> (Arc<Host>, watch::Sender<Arc<Objects>>) {
    let (objects, watched) = watch::channel(Arc::new(Objects::default()));
    let resolv_conf = dir.join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 192.0.2.1\n").unwrap();
    let own = config::Kubelet {
        pod_logs_dir: dir.join("logs"),
        container_logs_dir: dir.join("links"),
        resolv_conf: Some(resolv_conf),
        ..config::Kubelet::default()
    };
    let pods = dir.join("pods");
    let host = Host {
        checker: Arc::new(Checker::new(Arc::clone(&cri)).unwrap()),
        cri,
        runtime: "fake".to_owned(),
        settings: settings(&own, pods.clone()),
        node: NodeFacts { name: "node".to_owned(), ..NodeFacts::default() },
        objects: watched,
        cgroups: None,
        userns: Ids::read(pods.clone()).unwrap(),
        volumes: Arc::new(Volumes::new(pods, dir.join("payload"))),
        pulls: PullLimits::new(&own),
        began: Instant::now(),
        board: Board::open(dir.join("status")).unwrap(),
        shutting_down: watch::Sender::new(false),
        tallies: Tallies::default(),
        evictions: crate::kubelet::eviction::EvictionTally::default(),
        pulse: Pulse::new(Instant::now()),
        pressure: watch::Sender::new(Pressure::default()),
        tasks: TaskTracker::new(),
    };
    (Arc::new(host), objects)
}
