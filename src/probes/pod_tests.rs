use super::super::fixture::checker;
use super::super::outcome::{Notice, Outcome};
use super::*;
use k8s_openapi::api::core::v1::{Pod, PodSpec, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;
use tokio::time::timeout;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A bound against hanging.
const SOON: Duration = Duration::from_secs(60);
const OLD: Duration = Duration::from_secs(1 << 20);

fn probe(port: IntOrString) -> v1::Probe {
    let tcp_socket = Some(TCPSocketAction { host: None, port });
    v1::Probe { tcp_socket, period_seconds: Some(1), ..Default::default() }
}

/// A probe that can never be made, and says so at each tick, at no cost of time.
fn impossible(period: i32, delay: i32) -> Option<v1::Probe> {
    Some(v1::Probe {
        period_seconds: Some(period),
        initial_delay_seconds: Some(delay),
        ..probe(IntOrString::String("none".into()))
    })
}

/// A probe of a port, that one failure is enough for.
fn port(of: u16) -> Option<v1::Probe> {
    Some(v1::Probe { failure_threshold: Some(1), ..probe(IntOrString::Int(of.into())) })
}

/// A port that accepts, and one that does not.
async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that nobody listens on as long as the socket is held.
fn closed() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((HERE, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

struct Scene {
    probes: PodProbes,
    reports: mpsc::UnboundedReceiver<Report>,
    tasks: TaskTracker,
    begin: Instant,
    _runtime: tokio::net::UnixListener,
}

impl Scene {
    async fn new(container: v1::Container) -> Self {
        let container = v1::Container { name: "c".into(), ..container };
        let spec = PodSpec { containers: vec![container], ..Default::default() };
        let pod = Pod { spec: Some(spec), ..Default::default() };
        let (sender, reports) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        let (checker, runtime) = checker().await;
        let begin = Instant::now();
        let probes = PodProbes::new(&checker, &pod, &sender, &tasks, OLD);
        Self { probes, reports, tasks, begin, _runtime: runtime }
    }

    /// The container with this id runs, for `age` now.
    fn run(&mut self, id: &str, age: Duration) {
        let now = SystemTime::now();
        let running = Running {
            container: "c".into(),
            container_id: id.into(),
            started_at: now - age,
            address: Some(HERE),
        };
        self.probes.sync(&[running], now);
    }

    async fn report(&mut self) -> Report {
        timeout(SOON, self.reports.recv()).await.expect("no report").expect("no probe")
    }

    /// The next change of a result.
    async fn change(&mut self) -> Finding {
        loop {
            if let Report::Changed(finding) = self.report().await {
                return finding;
            }
        }
    }

    /// When the next attempts are made, in milliseconds from the beginning, and of what.
    async fn attempts(&mut self, count: usize) -> Vec<(Kind, u128)> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let report = self.reports.recv().await.unwrap();
            let Report::Unhealthy(Notice { kind, .. }) = report else { panic!("{report:?}") };
            seen.push((kind, self.begin.elapsed().as_millis()));
        }
        seen
    }
}

async fn seconds(count: u64) {
    tokio::time::advance(Duration::from_secs(count)).await;
    tokio::task::yield_now().await;
}

/// Timers are late by up to a millisecond.
fn about(seen: &[(Kind, u128)], kind: Kind, expected: &[u128]) {
    let near = seen
        .iter()
        .zip(expected)
        .all(|((of, millis), second)| *of == kind && millis.abs_diff(second * 1000) <= 2);
    assert!(near && seen.len() == expected.len(), "{seen:?} and not {expected:?} s");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_begins_with_its_container_and_ticks_from_there() {
    let readiness_probe = impossible(10, 0);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    seconds(3).await;
    scene.run("1", Duration::ZERO);
    about(&scene.attempts(3).await, Kind::Readiness, &[3, 13, 23]);
}

#[tokio::test(start_paused = true)]
async fn a_liveness_probe_waits_for_its_tick() {
    let liveness_probe = impossible(10, 0);
    let mut scene = Scene::new(v1::Container { liveness_probe, ..Default::default() }).await;
    seconds(3).await;
    scene.run("1", Duration::ZERO);
    about(&scene.attempts(2).await, Kind::Liveness, &[10, 20]);
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_counts_from_the_container_s_start() {
    let readiness_probe = impossible(10, 7);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    seconds(3).await;
    scene.run("1", Duration::from_secs(2));
    about(&scene.attempts(2).await, Kind::Readiness, &[8, 18]);
}

#[tokio::test(start_paused = true)]
async fn the_same_again_changes_nothing() {
    let readiness_probe = impossible(10, 0);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    scene.run("1", Duration::ZERO);
    about(&scene.attempts(1).await, Kind::Readiness, &[0]);
    seconds(5).await;
    scene.run("1", Duration::from_secs(5));
    about(&scene.attempts(1).await, Kind::Readiness, &[10]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_on_a_container_that_does_not_run() {
    let readiness_probe = impossible(1, 0);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    seconds(30).await;
    assert!(scene.reports.try_recv().is_err());
    scene.run("1", Duration::ZERO);
    about(&scene.attempts(1).await, Kind::Readiness, &[30]);
    scene.probes.sync(&[], SystemTime::now());
    seconds(30).await;
    assert!(scene.reports.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_others_are_silent_until_the_startup_probe_succeeds() {
    let container = v1::Container {
        startup_probe: impossible(5, 0),
        readiness_probe: impossible(1, 0),
        liveness_probe: impossible(1, 0),
        ..Default::default()
    };
    let mut scene = Scene::new(container).await;
    scene.run("1", Duration::ZERO);
    about(&scene.attempts(3).await, Kind::Startup, &[0, 5, 10]);
    assert!(!scene.probes.started("c"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_tried_is_told_and_is_no_result() {
    let liveness_probe =
        impossible(1, 0).map(|probe| v1::Probe { failure_threshold: Some(1), ..probe });
    let mut scene = Scene::new(v1::Container { liveness_probe, ..Default::default() }).await;
    scene.run("1", Duration::ZERO);
    let Report::Unhealthy(notice) = scene.report().await else { panic!() };
    let why = "liveness probe could not be made: the probe cannot be made: the container has no port \
        with the name \"none\"";
    assert_eq!(notice.message, why);
    assert_eq!(scene.probes.must_end("c"), None);
    let last = scene.probes.last("c", Kind::Liveness).unwrap();
    assert_eq!((last.outcome, last.container_id.as_str()), (None, "1"));
    let (_, _, tally) = scene.probes.tallies()[0];
    assert_eq!(tally, Tally { unknown: 1, ..Default::default() });
}

#[tokio::test]
async fn a_container_without_probes_is_ready_while_it_runs() {
    let mut scene = Scene::new(v1::Container::default()).await;
    assert!(!scene.probes.started("c") && !scene.probes.ready("c"));
    scene.run("1", Duration::ZERO);
    assert!(scene.probes.started("c") && scene.probes.ready("c"));
    scene.probes.sync(&[], SystemTime::now());
    assert!(!scene.probes.started("c") && !scene.probes.ready("c"));
}

#[tokio::test]
async fn a_success_makes_ready_and_another_container_is_not() {
    let (_listener, open) = listen().await;
    let readiness_probe = port(open);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    scene.run("1", Duration::ZERO);
    assert!(!scene.probes.ready("c"));
    let finding = scene.change().await;
    assert_eq!((finding.outcome, finding.container_id.as_str()), (Outcome::Success, "1"));
    assert!(scene.probes.ready("c"));
    scene.run("2", Duration::ZERO);
    assert!(!scene.probes.ready("c"));
    assert_eq!(scene.change().await.container_id, "2");
    assert!(scene.probes.ready("c"));
}

#[tokio::test]
async fn a_container_that_is_gone_is_not_ready() {
    let (_listener, open) = listen().await;
    let readiness_probe = port(open);
    let mut scene = Scene::new(v1::Container { readiness_probe, ..Default::default() }).await;
    scene.run("1", Duration::ZERO);
    scene.change().await;
    scene.probes.sync(&[], SystemTime::now());
    assert!(!scene.probes.ready("c"));
    assert_eq!(scene.probes.recorded("c", Kind::Readiness), Some(Recorded::Failure));
}

#[tokio::test]
async fn readiness_follows_the_startup_probe() {
    let (_listener, open) = listen().await;
    let container = v1::Container {
        startup_probe: port(open),
        readiness_probe: port(open),
        ..Default::default()
    };
    let mut scene = Scene::new(container).await;
    scene.run("1", Duration::ZERO);
    assert!(!scene.probes.started("c"));
    assert_eq!(scene.change().await.kind, Kind::Startup);
    assert!(scene.probes.started("c"));
    assert_eq!(scene.change().await.kind, Kind::Readiness);
    assert!(scene.probes.ready("c"));
}

#[tokio::test]
async fn a_liveness_failure_ends_the_container_once_with_the_probe_s_grace() {
    let (_held, shut) = closed();
    let probe = v1::Probe { termination_grace_period_seconds: Some(7), ..port(shut).unwrap() };
    let container = v1::Container { liveness_probe: Some(probe), ..Default::default() };
    let mut scene = Scene::new(container).await;
    scene.run("1", Duration::ZERO);
    assert_eq!(scene.probes.must_end("c"), None);
    let finding = scene.change().await;
    assert_eq!(finding.grace, Some(Duration::from_secs(7)));
    assert!(finding.message.contains("refused"), "{}", finding.message);
    assert_eq!(scene.probes.must_end("c"), Some(finding));
    scene.run("2", Duration::ZERO);
    assert_eq!(scene.probes.must_end("c"), None);
    assert_eq!(scene.change().await.container_id, "2");
}

#[tokio::test]
async fn a_startup_failure_ends_the_container() {
    let (_held, shut) = closed();
    let container = v1::Container { startup_probe: port(shut), ..Default::default() };
    let mut scene = Scene::new(container).await;
    scene.run("1", Duration::ZERO);
    let finding = scene.change().await;
    assert_eq!(scene.probes.must_end("c"), Some(finding));
    assert!(!scene.probes.started("c"));
}

#[tokio::test]
async fn a_pod_being_deleted_keeps_its_readiness_probes_alone() {
    let (_listener, open) = listen().await;
    let (_held, shut) = closed();
    let container = v1::Container {
        startup_probe: port(shut),
        liveness_probe: port(shut),
        readiness_probe: port(open),
        ..Default::default()
    };
    let mut scene = Scene::new(container).await;
    scene.run("1", Duration::ZERO);
    scene.change().await;
    assert!(scene.probes.must_end("c").is_some());
    scene.probes.deleting();
    assert_eq!(scene.probes.must_end("c"), None);
    for kind in [Kind::Startup, Kind::Liveness] {
        assert_eq!(scene.probes.recorded("c", kind), Some(Recorded::Success), "{kind}");
    }
    let finding = scene.change().await;
    assert_eq!((finding.kind, finding.outcome), (Kind::Readiness, Outcome::Success));
    crate::testing::eventually("one task is left", || scene.tasks.len() == 1);
}

#[tokio::test]
async fn what_was_ready_before_the_daemon_stays_so_until_it_fails() {
    let (_held, shut) = closed();
    let container = v1::Container {
        startup_probe: port(shut),
        readiness_probe: port(shut),
        ..Default::default()
    };
    let mut scene = Scene::new(container).await;
    let known = Restored { phase: Phase::Started, readiness: Recorded::Success };
    scene.probes.restore("1", known);
    scene.run("1", Duration::from_secs(60));
    assert!(scene.probes.started("c") && scene.probes.ready("c"));
    let finding = scene.change().await;
    assert_eq!((finding.kind, finding.outcome), (Kind::Readiness, Outcome::Failure));
    assert!(scene.probes.started("c") && !scene.probes.ready("c"));
}

#[tokio::test]
async fn dropped_all_of_it_ends() {
    let container = v1::Container {
        readiness_probe: impossible(1, 0),
        liveness_probe: impossible(1, 0),
        ..Default::default()
    };
    let scene = Scene::new(container).await;
    assert_eq!(scene.tasks.len(), 2);
    drop(scene.probes);
    scene.tasks.close();
    timeout(SOON, scene.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn sidecars_are_probed_and_other_init_containers_are_not() {
    let init = |name: &str, policy: Option<&str>| v1::Container {
        name: name.into(),
        restart_policy: policy.map(str::to_owned),
        readiness_probe: impossible(1, 0),
        ..Default::default()
    };
    let init_containers = Some(vec![init("once", None), init("always", Some("Always"))]);
    let spec = PodSpec { init_containers, ..Default::default() };
    let pod = Pod { spec: Some(spec), ..Default::default() };
    let (sender, _reports) = mpsc::unbounded_channel();
    let (checker, _runtime) = checker().await;
    let probes = PodProbes::new(&checker, &pod, &sender, &TaskTracker::new(), OLD);
    let names: Vec<_> = probes.tallies().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["always"]);
}

#[test]
fn probes_of_a_daemon_that_has_just_started_are_spread_over_their_period() {
    let period = Duration::from_secs(10);
    assert_eq!(delay(period, period), Duration::ZERO);
    let delays: std::collections::BTreeSet<_> =
        (0..100).map(|_| delay(period, Duration::ZERO)).collect();
    assert!(delays.len() > 50 && delays.iter().all(|delay| *delay < period), "{delays:?}");
}
