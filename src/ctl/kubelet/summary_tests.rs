use super::*;
use crate::ctl::kubelet::test_pods::kept;
use serde_json::{Value, json};

/// The status of a container: name, state, whether it is ready, restarts.
fn container(name: &str, state: Value, ready: bool, restarts: i32) -> Value {
    json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": restarts, "state": state})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason}})
}

/// A pod with the init containers `i0`, `i1` and, when `sidecar`, `i1` a sidecar, and the containers `a`, `b`.
struct Case {
    phase: &'static str,
    reason: &'static str,
    init: Vec<Value>,
    sidecar: Option<&'static str>,
    apps: Vec<Value>,
    conditions: Value,
    deleted: Option<&'static str>,
}

impl Case {
    fn of(phase: &'static str, apps: Vec<Value>) -> Self {
        let conditions = json!([
            {"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}
        ]);
        let (reason, init) = ("", Vec::new());
        Self { phase, reason, init, sidecar: None, apps, conditions, deleted: None }
    }

    fn init(init: Vec<Value>) -> Self {
        let waits = waiting("PodInitializing");
        let apps = vec![container("a", waits.clone(), false, 0), container("b", waits, false, 0)];
        let conditions = json!([{"type": "Initialized", "status": "False"}]);
        Self { init, conditions, ..Self::of("Pending", apps) }
    }

    fn summary(&self) -> Summary {
        let init: Vec<Value> = self
            .init
            .iter()
            .map(|status| {
                let name = status["name"].as_str().unwrap();
                let policy = self.sidecar.filter(|sidecar| *sidecar == name).map(|_| "Always");
                json!({"name": name, "restartPolicy": policy})
            })
            .collect();
        let apps: Vec<Value> = self.apps.iter().map(|s| json!({"name": s["name"]})).collect();
        let pod = kept(json!({
            "metadata": {"name": "web", "namespace": "n", "deletionTimestamp": self.deleted},
            "spec": {"initContainers": init, "containers": apps},
            "status": {
                "phase": self.phase, "reason": self.reason, "conditions": self.conditions,
                "initContainerStatuses": self.init, "containerStatuses": self.apps,
            },
        }));
        Summary::of(&pod.pod)
    }
}

#[test]
fn the_status_is_the_word_that_kubectl_users_know() {
    let one = |state| vec![container("a", state, false, 0)];
    let up = || container("a", running(), true, 0);
    let mut started = container("s", running(), true, 0);
    started["started"] = json!(true);
    let not_ready = json!([{"type": "Ready", "status": "False"}]);
    let rows = [
        ("runs", Case::of("Running", vec![up()]), "Running", (1, 1)),
        ("runs, not ready", Case::of("Running", one(running())), "Running", (0, 1)),
        (
            "is made",
            Case::of("Pending", one(waiting("ContainerCreating"))),
            "ContainerCreating",
            (0, 1),
        ),
        (
            "two wait: the first one speaks",
            Case::of(
                "Pending",
                vec![
                    container("a", waiting("ImagePullBackOff"), false, 0),
                    container("b", waiting("CreateContainerConfigError"), false, 0),
                ],
            ),
            "ImagePullBackOff",
            (0, 2),
        ),
        (
            "one runs, one crashes",
            Case::of("Running", vec![up(), container("b", waiting("CrashLoopBackOff"), false, 4)]),
            "CrashLoopBackOff",
            (1, 2),
        ),
        ("ended with an error", Case::of("Failed", one(ended(1, "Error"))), "Error", (0, 1)),
        ("ended well", Case::of("Succeeded", one(ended(0, "Completed"))), "Completed", (0, 1)),
        ("ended without a word", Case::of("Failed", one(ended(7, ""))), "ExitCode:7", (0, 1)),
        (
            "one is done, the other runs",
            Case::of("Running", vec![up(), container("b", ended(0, "Completed"), false, 0)]),
            "Running",
            (1, 2),
        ),
        (
            "one is done, the other runs, the pod is not ready",
            Case {
                conditions: not_ready,
                ..Case::of("Running", vec![up(), container("b", ended(0, "Completed"), false, 0)])
            },
            "NotReady",
            (1, 2),
        ),
        (
            "init waits",
            Case::init(vec![
                container("i0", ended(0, "Completed"), true, 0),
                container("i1", running(), false, 0),
            ]),
            "Init:1/2",
            (0, 2),
        ),
        (
            "init is made",
            Case::init(vec![container("i0", waiting("ContainerCreating"), false, 0)]),
            "Init:0/1",
            (0, 2),
        ),
        (
            "init crashes",
            Case::init(vec![container("i0", waiting("CrashLoopBackOff"), false, 3)]),
            "Init:CrashLoopBackOff",
            (0, 2),
        ),
        (
            "init failed",
            Case::init(vec![container("i0", ended(2, "Error"), false, 0)]),
            "Init:Error",
            (0, 2),
        ),
        (
            "init failed silently",
            Case::init(vec![container("i0", ended(2, ""), false, 0)]),
            "Init:ExitCode:2",
            (0, 2),
        ),
        (
            "a sidecar runs and counts",
            Case { init: vec![started], sidecar: Some("s"), ..Case::of("Running", vec![up()]) },
            "Running",
            (2, 2),
        ),
        (
            "a sidecar has not started",
            Case { sidecar: Some("s"), ..Case::init(vec![container("s", running(), false, 0)]) },
            "Init:0/1",
            (0, 3),
        ),
        (
            "is ended",
            Case { deleted: Some("2026-01-01T00:00:00Z"), ..Case::of("Running", vec![up()]) },
            "Terminating",
            (1, 1),
        ),
        (
            "was ended, and has",
            Case {
                deleted: Some("2026-01-01T00:00:00Z"),
                ..Case::of("Succeeded", one(ended(0, "Completed")))
            },
            "Completed",
            (0, 1),
        ),
        (
            "was refused",
            Case {
                reason: "OutOfmemory",
                ..Case::of("Failed", one(ended(137, "ContainerStatusUnknown")))
            },
            "OutOfmemory",
            (0, 1),
        ),
        ("is not known", Case::of("Pending", vec![]), "Pending", (0, 0)),
    ];
    for (name, case, status, ready) in rows {
        let summary = case.summary();
        assert_eq!((summary.status.as_str(), summary.ready), (status, ready), "{name}");
    }
}

#[test]
fn restarts_tell_when_the_last_one_was() {
    let mut status = container("a", running(), true, 3);
    status["lastState"] =
        json!({"terminated": {"exitCode": 1, "finishedAt": "1970-01-01T00:01:30Z"}});
    let mut other = container("b", running(), true, 2);
    other["lastState"] =
        json!({"terminated": {"exitCode": 1, "finishedAt": "1970-01-01T00:01:00Z"}});
    let summary = Case::of("Running", vec![status, other]).summary();
    assert_eq!(summary.cells(100)[3], "5 (10s ago)");
    let never = Case::of("Running", vec![container("a", running(), true, 0)]).summary();
    assert_eq!(never.cells(100)[3], "0");
}

#[test]
fn init_containers_count_their_restarts_until_they_are_done() {
    let failing = Case::init(vec![container("i0", waiting("CrashLoopBackOff"), false, 3)]);
    assert_eq!(failing.summary().restarts.count, 3);
    let done = Case {
        init: vec![container("i0", ended(0, "Completed"), true, 3)],
        ..Case::of("Running", vec![container("a", running(), true, 1)])
    };
    assert_eq!(done.summary().restarts.count, 1);
}

#[test]
fn the_age_is_that_of_the_start_when_nobody_made_the_pod() {
    let pod = kept(json!({
        "metadata": {"name": "web"},
        "spec": {"containers": []},
        "status": {"phase": "Running", "startTime": "1970-01-01T00:01:40Z"},
    }));
    assert_eq!(Summary::of(&pod.pod).cells(400)[4], "5m");
}
