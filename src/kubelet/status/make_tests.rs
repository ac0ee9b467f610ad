use super::*;
use crate::kubelet::observed::{Exit, Instance, InstanceState, Sandbox};
use k8s_openapi::api::core::v1::ContainerStatus;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// A pod with what there is of it, and what is known beside.
struct Scene {
    pod: Pod,
    observed: Observed,
    started: BTreeSet<String>,
    ready: BTreeSet<String>,
    waiting: BTreeMap<String, Waiting>,
    messages: BTreeMap<String, String>,
    verdict: Option<Verdict>,
    ended: bool,
    previous: PodStatus,
    now: SystemTime,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn exit(code: i32) -> InstanceState {
    InstanceState::Exited(Exit {
        code,
        reason: if code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        started: Some(at(1)),
        finished: at(2),
    })
}

fn running() -> InstanceState {
    InstanceState::Running { started: at(1) }
}

impl Scene {
    fn new(spec: Value) -> Self {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec});
        let sandbox = Sandbox {
            id: "s".into(),
            attempt: 0,
            ready: true,
            created: at(0),
            host_network: false,
            ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        };
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            observed: Observed { sandboxes: vec![sandbox], instances: Vec::new() },
            started: BTreeSet::new(),
            ready: BTreeSet::new(),
            waiting: BTreeMap::new(),
            messages: BTreeMap::new(),
            verdict: None,
            ended: false,
            previous: PodStatus::default(),
            now: at(10),
        }
    }

    /// Adds an instance, newer than those before. What runs has started and is ready.
    fn with(mut self, name: &str, state: InstanceState) -> Self {
        let restarts = self.observed.instances.iter().filter(|i| i.name == name).count();
        if matches!(state, InstanceState::Running { .. }) {
            self.started.insert(name.to_owned());
            self.ready.insert(name.to_owned());
        }
        let instance = Instance {
            id: format!("{name}{restarts}"),
            name: name.to_owned(),
            sandbox: "s".into(),
            restarts: u32::try_from(restarts).unwrap(),
            hash: String::new(),
            image: "i".into(),
            image_ref: "sha256:1".into(),
            created: at(1),
            log_path: String::new(),
            message_file: None,
            state,
        };
        self.observed.instances.insert(0, instance);
        self
    }

    fn waits(mut self, name: &str, reason: &str) -> Self {
        let waiting = Waiting { reason: reason.to_owned(), message: "m".into() };
        self.waiting.insert(name.to_owned(), waiting);
        self
    }

    fn ended(mut self) -> Self {
        self.ended = true;
        self
    }

    fn status(&self) -> PodStatus {
        status(&Input {
            pod: &self.pod,
            observed: &self.observed,
            started: &self.started,
            ready: &self.ready,
            waiting: &self.waiting,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            ended: self.ended,
            previous: &self.previous,
            host_ips: &["192.0.2.1".parse().unwrap()],
            runtime: "berth",
            now: self.now,
        })
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }
}

fn pod(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

fn with_init(policy: &str) -> Value {
    json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]})
}

fn condition(status: &PodStatus, kind: &str) -> (String, String) {
    let all = status.conditions.as_ref().unwrap();
    let found = all.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone().unwrap_or_default())
}

fn app(status: &PodStatus, at: usize) -> &ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[at]
}

#[test]
fn phases_follow_from_containers_and_policy() {
    let rows = [
        ("nothing yet", Scene::new(pod("Always")), "Pending"),
        ("one of two", Scene::new(pod("Always")).with("a", running()), "Pending"),
        ("both", Scene::new(pod("Always")).with("a", running()).with("b", running()), "Running"),
        ("one ended", Scene::new(pod("Never")).with("a", exit(1)).with("b", running()), "Running"),
        ("all well", Scene::new(pod("Never")).with("a", exit(0)).with("b", exit(0)), "Succeeded"),
        ("one badly", Scene::new(pod("Never")).with("a", exit(0)).with("b", exit(1)), "Failed"),
        (
            "on failure",
            Scene::new(pod("OnFailure")).with("a", exit(0)).with("b", exit(1)),
            "Running",
        ),
        ("always", Scene::new(pod("Always")).with("a", exit(0)).with("b", exit(0)), "Running"),
        (
            "a crash loop",
            Scene::new(pod("Always"))
                .with("a", exit(1))
                .with("b", running())
                .waits("a", "CrashLoopBackOff"),
            "Running",
        ),
        ("init runs", Scene::new(with_init("Always")).with("i", running()), "Pending"),
        ("init failed", Scene::new(with_init("Never")).with("i", exit(1)), "Failed"),
        ("init fails", Scene::new(with_init("Always")).with("i", exit(1)), "Pending"),
        (
            "ended by force",
            Scene::new(pod("Always")).with("a", exit(137)).with("b", exit(0)).ended(),
            "Failed",
        ),
        (
            "ended well",
            Scene::new(pod("Always")).with("a", exit(0)).with("b", exit(0)).ended(),
            "Succeeded",
        ),
    ];
    for (name, scene, expected) in rows {
        assert_eq!(scene.phase(), expected, "{name}");
    }
}

#[test]
fn sidecars_never_decide_how_a_pod_ended() {
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let scene = Scene::new(spec.clone()).with("s", running()).with("a", exit(0));
    assert_eq!(scene.phase(), "Succeeded");
    let scene = Scene::new(spec).with("s", exit(137)).with("a", exit(0)).ended();
    assert_eq!(scene.phase(), "Succeeded");
}

#[test]
fn a_terminal_phase_is_never_left() {
    let mut scene = Scene::new(pod("Never")).with("a", exit(0)).with("b", exit(0));
    scene.previous = scene.status();
    scene.observed.instances.clear();
    scene.ended = true;
    let status = scene.status();
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    let end = app(&status, 0).state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")), "kept from before");
}

#[test]
fn a_container_of_which_nothing_is_left_was_lost() {
    let mut scene = Scene::new(pod("Never")).with("a", exit(0)).ended();
    scene.verdict = Some(Verdict { reason: "Evicted".into(), message: "why".into() });
    let status = scene.status();
    let end = app(&status, 1).state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("Evicted"))
    );
}

#[test]
fn a_pod_that_the_node_ends_was_the_target_of_a_disruption_from_then_on() {
    let mut scene = Scene::new(pod("Always")).with("a", running()).with("b", running());
    let told = |status: &PodStatus| {
        let all = status.conditions.clone().unwrap();
        all.into_iter().find(|c| c.type_ == "DisruptionTarget")
    };
    assert_eq!(told(&scene.status()), None);
    scene.previous = scene.status();
    scene.verdict = Some(Verdict { reason: "Evicted".into(), message: "why".into() });
    let first = told(&scene.status()).unwrap();
    assert_eq!(
        (first.status.as_str(), first.reason.as_deref()),
        ("True", Some("TerminationByKubelet"))
    );
    assert_eq!(first.message.as_deref(), Some("why"));
    scene.previous = scene.status();
    scene.now = at(99);
    assert_eq!(told(&scene.ended().status()), Some(first));
    // Who was kept out had failed before its first status was made.
    let mut kept_out = Scene::new(pod("Always")).ended();
    kept_out.previous.phase = Some("Failed".into());
    kept_out.verdict = Some(Verdict { reason: "Evicted".into(), message: "why".into() });
    assert_eq!(told(&kept_out.status()), None);
}

#[test]
fn a_pod_that_was_never_let_in_has_lost_no_container() {
    let mut scene = Scene::new(pod("Always")).ended();
    scene.observed.sandboxes.clear();
    scene.verdict = Some(Verdict { reason: "OutOfcpu".into(), message: "why".into() });
    for _ in 0..2 {
        let status = scene.status();
        assert_eq!(
            (status.phase.as_deref(), status.reason.as_deref()),
            (Some("Failed"), Some("OutOfcpu"))
        );
        assert!(app(&status, 0).state.as_ref().unwrap().waiting.is_some());
        scene.previous = status;
    }
}

#[test]
fn who_has_ended_keeps_the_ends_of_containers_that_were_removed_since() {
    let mut scene = Scene::new(pod("Never")).with("a", exit(0)).with("b", exit(3)).ended();
    let before = scene.status();
    assert_eq!(before.phase.as_deref(), Some("Failed"));
    scene.previous = before.clone();
    scene.observed.instances.clear();
    // A daemon that has just started does not say yet that it is over.
    scene.ended = false;
    let status = scene.status();
    assert_eq!(status.container_statuses, before.container_statuses);
}

#[test]
fn a_restarted_container_tells_of_the_one_before() {
    let mut scene = Scene::new(pod("Always")).with("a", exit(3)).with("a", running());
    scene.messages.insert("a0".into(), "last words".into());
    let status = scene.status();
    let container = app(&status, 0);
    assert_eq!(
        (container.restart_count, container.ready, container.started),
        (1, true, Some(true))
    );
    assert_eq!(container.container_id.as_deref(), Some("berth://a1"));
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.message.as_deref()), (3, Some("last words")));
    assert_eq!(last.container_id.as_deref(), Some("berth://a0"));
}

#[test]
fn what_waits_says_why() {
    let waiting = |status: &PodStatus, at| {
        let state = app(status, at).state.clone().unwrap();
        state.waiting.unwrap().reason.unwrap()
    };
    let status = Scene::new(with_init("Always")).with("i", running()).status();
    assert_eq!(waiting(&status, 0), "PodInitializing");
    let status = Scene::new(pod("Always")).waits("b", "ImagePullBackOff").status();
    assert_eq!(
        (waiting(&status, 0), waiting(&status, 1)),
        ("ContainerCreating".into(), "ImagePullBackOff".into())
    );
    let scene = Scene::new(pod("Always")).with("a", exit(1)).waits("a", "CrashLoopBackOff");
    let status = scene.status();
    assert_eq!(waiting(&status, 0), "CrashLoopBackOff");
    assert_eq!(
        app(&status, 0).last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code,
        1
    );
}

#[test]
fn conditions_tell_how_far_a_pod_is() {
    let of = |scene: &Scene, kind: &str| condition(&scene.status(), kind);
    let yes = ("True".to_owned(), String::new());
    let no = |reason: &str| ("False".to_owned(), reason.to_owned());
    let scene = Scene::new(with_init("Always")).with("i", running());
    assert_eq!(of(&scene, "PodScheduled"), yes);
    assert_eq!(of(&scene, "PodReadyToStartContainers"), yes);
    assert_eq!(of(&scene, "Initialized"), no("ContainersNotInitialized"));
    assert_eq!(of(&scene, "Ready"), no("ContainersNotReady"));
    let scene = scene.with("i", exit(0)).with("a", running());
    for kind in ["Initialized", "Ready", "ContainersReady"] {
        assert_eq!(of(&scene, kind), yes, "{kind}");
    }
    let mut gated = Scene::new(json!({"readinessGates": [{"conditionType": "x/y"}],
        "containers": [{"name": "a"}]}))
    .with("a", running());
    assert_eq!(of(&gated, "ContainersReady"), yes);
    assert_eq!(of(&gated, "Ready"), no("ReadinessGatesNotReady"));
    gated.ready.clear();
    assert_eq!(of(&gated, "Ready"), no("ContainersNotReady"));
    let done = Scene::new(pod("Never")).with("a", exit(0)).with("b", exit(0));
    assert_eq!(of(&done, "Ready"), no("PodCompleted"));
}

#[test]
fn a_transition_time_changes_with_the_value_alone() {
    let time = |status: &PodStatus| {
        let all = status.conditions.as_ref().unwrap();
        let ready = all.iter().find(|condition| condition.type_ == "Ready").unwrap();
        ready.last_transition_time.clone().unwrap()
    };
    let mut scene = Scene::new(json!({"containers": [{"name": "a"}]})).with("a", running());
    scene.previous = scene.status();
    scene.now = at(50);
    assert_eq!(time(&scene.status()), api_time(at(10)));
    scene.ready.clear();
    assert_eq!(time(&scene.status()), api_time(at(50)));
    assert_eq!(scene.status().start_time, Some(api_time(at(10))), "it began once");
}

#[test]
fn addresses_are_the_sandboxes_or_the_nodes() {
    let scene = Scene::new(json!({"containers": [{"name": "a"}]}));
    let status = scene.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(status.pod_ips.unwrap().len(), 2);
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let mut scene = Scene::new(json!({"hostNetwork": true, "containers": [{"name": "a"}]}));
    scene.observed.sandboxes[0].host_network = true;
    scene.observed.sandboxes[0].ips.clear();
    assert_eq!(scene.status().pod_ip.as_deref(), Some("192.0.2.1"));
    scene.observed.sandboxes[0].ready = false;
    assert_eq!(scene.status().pod_ip, None);
}
