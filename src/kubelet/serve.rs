//! The kubelet half from its configuration to its end.

use super::board::{Board, BoardError};
use super::cgroups::{PodRules, QosCgroups, QosError, enforce_reserved, keep_enforced};
use super::control::{Control, KubeletGate};
use super::eviction::{Collector, Evictor, Pressure, keep_links};
use super::files::ClusterDns;
use super::http::{HttpError, HttpServer, Place, Pulse, Shown, Tallies};
use super::logs::{Limits, keep_rotating};
use super::node::{NodeError, NodeFacts};
use super::node_status::{self, NodeKeeper};
use super::objects::Objects;
use super::request::MemoryRules;
use super::run::Kubelet;
use super::shutdown::{Inhibitor, Order, ShutdownError, groups, watch as watch_shutdowns};
use super::source::{FileSource, HttpSource, LocalError, LocalPods, Source, Update};
use super::userns::{Ids, UsernsError};
use super::volumes::{VolumeError, Volumes};
use super::worker::{Host, PullLimits, Settings};
use crate::blocking;
use crate::cgroups::{CgroupError, Cgroups};
use crate::config::{self, Config};
use crate::cri::client::{Cri, CriError};
use crate::cri::proto;
use crate::ctl::stream::Trust;
use crate::error::ErrorKind;
use crate::probes::check::{Checker, NoTls};
use crate::watch::Watcher;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

/// A kubelet half that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The statuses of the last run.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// What volumes need of the node.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// The node's cgroups.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// More is reserved than there is.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is swap, and there must be none.
    #[error("the node has {bytes} bytes of swap, and kubelet.fail_swap_on is true")]
    Swap {
        /// How much.
        bytes: u64,
    },
    /// A cgroup of what is reserved.
    #[error(transparent)]
    Reserved(#[from] QosError),
    /// The ids of pods' user namespaces.
    #[error(transparent)]
    Userns(#[from] UsernsError),
    /// Graceful node shutdown.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] CriError),
    /// What was applied.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// TLS of probes.
    #[error(transparent)]
    Tls(#[from] NoTls),
    /// The HTTP API.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Work of the start was cut off.
    #[error(transparent)]
    Blocking(#[from] blocking::BlockingError),
}

impl KubeletError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Board(error) => error.kind(),
            Self::Volumes(error) => error.kind(),
            Self::Cgroups(error) => error.kind(),
            Self::Node(_) => ErrorKind::InvalidArgument,
            Self::Swap { .. } => ErrorKind::FailedPrecondition,
            Self::Reserved(error) => error.kind(),
            Self::Userns(error) => error.kind(),
            Self::Shutdown(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Local(error) => error.kind(),
            Self::Tls(_) => ErrorKind::Internal,
            Self::Http(error) => error.kind(),
            Self::Blocking(error) => error.kind(),
        }
    }
}

/// After how long a runtime that does not answer yet is asked again, and for how long.
const ASK_AGAIN: Duration = Duration::from_millis(200);
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How many updates of sources may wait.
const UPDATES: usize = 16;

/// Keeps pods until `stop`, and leaves them running then.
///
/// # Errors
/// The node or the runtime is not fit for it.
pub async fn serve(
    config: Arc<Config>,
    cri: Arc<dyn Cri>,
    watcher: Watcher,
    gate: KubeletGate,
    stop: CancellationToken,
) -> Result<(), KubeletError> {
    let Some(own) = config.kubelet.clone() else { return Ok(()) };
    let runtime = answers(&*cri).await?;
    let (objects, objects_now) = watch::channel(Arc::new(Objects::default()));
    let tasks = TaskTracker::new();
    let of = (Arc::clone(&config), own.clone(), cri, runtime, objects_now, tasks.clone());
    let host = blocking::run("prepare the kubelet half", move || prepare(of)).await??;
    info!(node = host.node.name, runtime = host.runtime, "the kubelet half keeps pods");
    let http = http(&config, &own, &host, &stop).await?;
    tasks.spawn(host.board.clone().write_behind(stop.clone()));
    let limits = Limits {
        bytes: own.container_log_max_bytes,
        files: own.container_log_max_files,
        every: Duration::from_secs(own.container_log_check_seconds),
    };
    let logs = host.settings.pod_logs.clone();
    let rotating = keep_rotating(Arc::clone(&host.cri), host.board.clone(), logs, limits);
    tasks.spawn(stop.clone().run_until_cancelled_owned(rotating));
    tasks.spawn(http.serve());
    let collector =
        Arc::new(Collector::new(Arc::clone(&host.cri), host.board.clone(), own.image_gc.clone()));
    tasks.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&collector).keep()));
    let links = keep_links(own.container_logs_dir.clone(), own.pod_logs_dir.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(links));
    let (ordered, evictions) = mpsc::channel(UPDATES);
    let state = config.paths.state.join("kubelet");
    let eviction = own.eviction.clone();
    let mut evictor = Evictor::new(Arc::clone(&host), eviction, &state, collector, ordered);
    evictor.look().await;
    tasks.spawn(stop.clone().run_until_cancelled_owned(evictor.run()));
    let keeper = NodeKeeper {
        host: Arc::clone(&host),
        file: config.paths.state.join("kubelet/node.json"),
        port: own.http_address.map(|address| address.port()),
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(node_status::keep(keeper)));
    tasks.spawn(stop.clone().run_until_cancelled_owned(keep_enforced(Arc::clone(&host))));
    // Before any pod is taken: the node may be shutting down already.
    let shutdowns = shutdowns(&host, &stop).await?;
    let (told, updates) = mpsc::channel(UPDATES);
    let local = config.paths.state.join("kubelet/local");
    let local = LocalPods::open(&local, &host.node.name, told.clone()).await?;
    gate.open(Control { board: host.board.clone(), local });
    let sources = begin_sources(&own, &host, &watcher, &told, &stop);
    Kubelet::new(Arc::clone(&host), sources, objects, stop)
        .run(updates, evictions, shutdowns)
        .await;
    tasks.close();
    tasks.wait().await;
    let volumes = Arc::clone(&host.volumes);
    Ok(blocking::run("release what volumes had of the node", move || volumes.release_node())
        .await??)
}

/// Waits until the runtime answers; its name.
async fn answers(cri: &dyn Cri) -> Result<String, CriError> {
    let began = tokio::time::Instant::now();
    loop {
        // Version alone is answered before the engine knows its state.
        let lists = cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()).await;
        match lists {
            Ok(_) => {
                let request = proto::VersionRequest { version: "v1".to_owned() };
                return Ok(cri.version(request).await?.runtime_name);
            }
            Err(error) if began.elapsed() >= ANSWERS_WITHIN => return Err(error),
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

type Parts = (
    Arc<Config>,
    config::Kubelet,
    Arc<dyn Cri>,
    String,
    watch::Receiver<Arc<Objects>>,
    TaskTracker,
);

fn prepare(parts: Parts) -> Result<Arc<Host>, KubeletError> {
    let (config, own, cri, runtime, objects, tasks) = parts;
    let state = config.paths.state.join("kubelet");
    let pods = state.join("pods");
    let board = Board::open(state.join("status"))?;
    let volumes = Volumes::new(pods.clone(), config.paths.run.join("kubelet/payload"));
    volumes.prepare_node()?;
    let node = NodeFacts::read(&own, &config.paths.state)?;
    if own.fail_swap_on && node.swap_bytes > 0 {
        return Err(KubeletError::Swap { bytes: node.swap_bytes });
    }
    let cgroups = Cgroups::open(&config.cgroups)?;
    enforce_reserved(&own, &cgroups)?;
    let rules = PodRules::new(&own, &node);
    let cgroups = match own.cgroup_root.as_str() {
        "" => None,
        root => Some(QosCgroups::new(cgroups, root, rules)),
    };
    let userns = Ids::read(pods.clone())?;
    let checker = Arc::new(Checker::new(Arc::clone(&cri))?);
    Ok(Arc::new(Host {
        cri,
        runtime,
        settings: settings(&own, pods),
        node,
        objects,
        cgroups,
        userns,
        volumes: Arc::new(volumes),
        pulls: PullLimits::new(&own),
        checker,
        began: Instant::now(),
        board,
        shutting_down: watch::Sender::new(false),
        tallies: Tallies::default(),
        pulse: Pulse::new(Instant::now()),
        pressure: watch::Sender::new(Pressure::default()),
        tasks,
    }))
}

/// Tells of shutdowns of the node, if pods are to end before it.
async fn shutdowns(
    host: &Arc<Host>,
    stop: &CancellationToken,
) -> Result<mpsc::Receiver<Order>, ShutdownError> {
    let (orders, told) = mpsc::channel(UPDATES);
    let groups = host.settings.shutdown.clone();
    if !groups.is_empty() {
        let first = Inhibitor::take(&groups).await?;
        host.shutting_down.send_replace(first.is_preparing());
        let watching = watch_shutdowns(first, groups, orders);
        host.tasks.spawn(stop.clone().run_until_cancelled_owned(watching));
    }
    Ok(told)
}

/// The HTTP API, listening.
async fn http(
    config: &Config,
    own: &config::Kubelet,
    host: &Host,
    stop: &CancellationToken,
) -> Result<HttpServer, HttpError> {
    let place = Place {
        kubelet: own.clone(),
        socket: config.paths.run.join("kubelet.sock"),
        pki: config.paths.state.join("kubelet/pki"),
    };
    let shown = Shown {
        cri: Arc::clone(&host.cri),
        board: host.board.clone(),
        node: host.node.clone(),
        kubelet: own.clone(),
        state: config.paths.state.clone(),
        tallies: host.tallies.clone(),
        pulse: host.pulse.clone(),
        // Another runtime's certificate is not known.
        trust: match own.runtime_endpoint {
            None => Trust::of_certificate(config.streaming.tls_cert.clone()),
            Some(_) => Trust::default(),
        },
        tasks: host.tasks.clone(),
        stop: stop.clone(),
    };
    HttpServer::bind(place, shown).await
}

fn settings(own: &config::Kubelet, pods: std::path::PathBuf) -> Settings {
    let resolv_conf = own.resolv_conf.clone().unwrap_or_else(|| "/etc/resolv.conf".into());
    Settings {
        pods,
        pod_logs: own.pod_logs_dir.clone(),
        container_logs: own.container_logs_dir.clone(),
        seccomp_profiles: own.seccomp_dir.clone(),
        seccomp_default: own.seccomp_default,
        memory: MemoryRules::new(own),
        crash_cap: Duration::from_secs(own.crash_loop_max_seconds),
        sync: Duration::from_secs(own.sync_seconds),
        shutdown: groups(own),
        allowed_sysctls: own.allowed_unsafe_sysctls.clone(),
        dns: ClusterDns {
            servers: own.cluster_dns.iter().map(ToString::to_string).collect(),
            domain: own.cluster_domain.clone(),
        },
        resolv_conf,
    }
}

/// Starts every source that is configured; which those are.
fn begin_sources(
    own: &config::Kubelet,
    host: &Host,
    watcher: &Watcher,
    told: &mpsc::Sender<Update>,
    stop: &CancellationToken,
) -> Vec<Source> {
    let mut sources = vec![Source::Local];
    if let Some(dir) = &own.manifest_dir {
        let source = FileSource::new(dir, &host.node.name)
            .relisting(Duration::from_secs(own.file_check_seconds));
        host.tasks.spawn(source.run(watcher.clone(), told.clone(), stop.clone()));
        sources.push(Source::File);
    }
    if let Some(url) = &own.manifest_url {
        let headers = own.manifest_url_headers.clone().into_iter().collect();
        let source = HttpSource::new(url, &host.node.name)
            .with_headers(headers)
            .every(Duration::from_secs(own.http_check_seconds));
        host.tasks.spawn(source.run(told.clone(), stop.clone()));
        sources.push(Source::Http);
    }
    sources
}
