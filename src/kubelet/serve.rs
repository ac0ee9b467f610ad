//! The kubelet half from its configuration to its end.

use super::cgroups::keep_enforced;
use super::control::{Control, KubeletGate};
use super::error::KubeletError;
use super::eviction::{self, Collector, Evictor, keep_links};
use super::http::{HttpError, HttpServer, Place, Shown};
use super::logs::{Limits, keep_rotating};
use super::node_status::{self, NodeKeeper};
use super::objects::Objects;
use super::prepare::{Given, prepare};
use super::run::Kubelet;
use super::shutdown::{Inhibitor, Order, ShutdownError, watch as watch_shutdowns};
use super::source::{FileSource, HttpSource, LocalPods, Source, Update};
use super::worker::{Ending, Host};
use crate::blocking;
use crate::config::{self, Config};
use crate::cri::client::{Cri, CriError, Metered, Operations};
use crate::cri::proto;
use crate::ctl::stream::Trust;
use crate::error::chain;
use crate::watch::Watcher;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

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
    let operations = Operations::default();
    let cri = Arc::new(Metered::new(cri, operations.clone()));
    let (objects, objects_now) = watch::channel(Arc::new(Objects::default()));
    let given = Given {
        config: Arc::clone(&config),
        own: own.clone(),
        cri,
        runtime,
        objects: objects_now,
        tasks: TaskTracker::new(),
    };
    let host = blocking::run("prepare the kubelet half", move || prepare(given)).await??;
    info!(node = host.node.name, runtime = host.runtime, "the kubelet half keeps pods");
    let node = Node { config, own, host: Arc::clone(&host), operations, objects };
    let kept = keep_pods(node, watcher, gate, stop).await;
    // Also after an error: the node's tmpfs is mounted.
    let released = release(&host).await;
    if let (Err(_), Err(error)) = (&kept, &released) {
        warn!(error = %chain(error), "what volumes had of the node is not released");
    }
    kept.and(released)
}

/// What is there before any pod is kept.
struct Node {
    config: Arc<Config>,
    own: config::Kubelet,
    host: Arc<Host>,
    operations: Operations,
    objects: watch::Sender<Arc<Objects>>,
}

async fn keep_pods(
    node: Node,
    watcher: Watcher,
    gate: KubeletGate,
    stop: CancellationToken,
) -> Result<(), KubeletError> {
    let Node { config, own, host, operations, objects } = node;
    let http = http(&config, &own, (&host, operations), &watcher, &stop).await?;
    host.tasks.spawn(host.board.clone().write_behind(stop.clone()));
    host.tasks.spawn(http.serve());
    let (evictions, unfinished) = keep_node(&config, &own, &host, &stop).await;
    // Before any pod is taken: the node may be shutting down already.
    let shutdowns = shutdowns(&host, &stop).await?;
    let (told, updates) = mpsc::channel(UPDATES);
    let local = config.paths.state.join("kubelet/local");
    let local = LocalPods::open(&local, &host.node.name, told.clone()).await?;
    gate.open(Control { board: host.board.clone(), local });
    let sources = begin_sources(&own, &host, &watcher, &told, &stop);
    Kubelet::new(Arc::clone(&host), sources, objects, stop)
        .with_endings(unfinished)
        .run(updates, evictions, shutdowns)
        .await;
    host.tasks.close();
    host.tasks.wait().await;
    Ok(())
}

async fn release(host: &Host) -> Result<(), KubeletError> {
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

/// Keeps logs, images and the node itself as they are to be, until `stop`; orders to evict pods, and those that the last
/// run gave.
async fn keep_node(
    config: &Config,
    own: &config::Kubelet,
    host: &Arc<Host>,
    stop: &CancellationToken,
) -> (mpsc::Receiver<eviction::Order>, BTreeMap<String, Ending>) {
    let state = config.paths.state.join("kubelet");
    let limits = Limits {
        bytes: own.container_log_max_bytes,
        files: own.container_log_max_files,
        every: Duration::from_secs(own.container_log_check_seconds),
    };
    let logs = host.settings.pod_logs.clone();
    let rotating = keep_rotating(Arc::clone(&host.cri), host.board.clone(), logs, limits);
    work_until(stop, host, rotating);
    let collector = Arc::new(Collector::new(host, own.image_gc.clone()));
    work_until(stop, host, Arc::clone(&collector).keep());
    let links = keep_links(own.container_logs_dir.clone(), own.pod_logs_dir.clone());
    work_until(stop, host, links);
    let (ordered, evictions) = mpsc::channel(UPDATES);
    let eviction = own.eviction.clone();
    let mut evictor = Evictor::new(Arc::clone(host), eviction, &state, collector, ordered);
    let unfinished = evictor.begin().await;
    work_until(stop, host, evictor.storage_keeper().run());
    work_until(stop, host, evictor.run());
    let keeper = NodeKeeper {
        host: Arc::clone(host),
        file: state.join("node.json"),
        port: own.http_address.map(|address| address.port()),
    };
    work_until(stop, host, node_status::keep(keeper));
    work_until(stop, host, keep_enforced(Arc::clone(host)));
    (evictions, unfinished)
}

/// Work that goes on until `stop`.
fn work_until<F>(stop: &CancellationToken, host: &Host, work: F)
where
    F: Future<Output: Send> + Send + 'static,
{
    host.tasks.spawn(stop.clone().run_until_cancelled_owned(work));
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
        work_until(stop, host, watching);
    }
    Ok(told)
}

/// The HTTP API, listening.
async fn http(
    config: &Config,
    own: &config::Kubelet,
    (host, operations): (&Host, Operations),
    watcher: &Watcher,
    stop: &CancellationToken,
) -> Result<HttpServer, HttpError> {
    let place = Place {
        kubelet: own.clone(),
        socket: config.paths.run.join("kubelet.sock"),
        pki: config.paths.state.join("kubelet/pki"),
        watcher: watcher.clone(),
    };
    let shown = Shown {
        cri: Arc::clone(&host.cri),
        operations,
        board: host.board.clone(),
        node: host.node.clone(),
        kubelet: own.clone(),
        state: config.paths.state.clone(),
        tallies: host.tallies.clone(),
        evictions: host.evictions.clone(),
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

/// Starts every source that is configured; which those are.
fn begin_sources(
    own: &config::Kubelet,
    host: &Host,
    watcher: &Watcher,
    told: &mpsc::Sender<Update>,
    stop: &CancellationToken,
) -> Vec<Source> {
    let mut sources = vec![Source::Local];
    let last_of = |source, is_its: &dyn Fn(&str) -> bool| host.board.last_of(source, is_its);
    if let Some(dir) = &own.manifest_dir {
        let source = FileSource::new(dir, &host.node.name)
            .relisting(Duration::from_secs(own.file_check_seconds))
            .with_last(last_of(Source::File, &|origin| Path::new(origin).parent() == Some(dir)));
        host.tasks.spawn(source.run(watcher.clone(), told.clone(), stop.clone()));
        sources.push(Source::File);
    }
    if let Some(url) = &own.manifest_url {
        let headers = own.manifest_url_headers.clone().into_iter().collect();
        let source = HttpSource::new(url, &host.node.name)
            .with_headers(headers)
            .with_last(last_of(Source::Http, &|origin| origin == url))
            .every(Duration::from_secs(own.http_check_seconds));
        host.tasks.spawn(source.run(told.clone(), stop.clone()));
        sources.push(Source::Http);
    }
    sources
}
