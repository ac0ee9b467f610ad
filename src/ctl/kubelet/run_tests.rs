use super::*;
use crate::ctl::kubelet::test_pods::{kept, warning};

/// A pod with two containers, in these states.
fn pair(phase: &str, [a, b]: [Value; 2]) -> KeptPod {
    let status = |name: &str, state: &Value| {
        json!({
            "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": format!("berth://{name}{}", "0".repeat(40)), "state": state,
        })
    };
    kept(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
        "status": {
            "phase": phase,
            "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}],
            "containerStatuses": [status("a", &a), status("b", &b)],
        },
    }))
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
}

fn ended(reason: &str, code: i32) -> Value {
    let started = "2026-01-01T00:00:00Z";
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": started}})
}

fn waits(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn watched() -> Watched {
    let pod = Manifest { uid: "u1".into(), pods: vec!["shop/web".into()], ..Manifest::default() };
    Watched::of(&[pod, Manifest::default()])
}

/// What becomes of the run of one pod: `waits`, `runs`, or the fault.
fn told(kept: KeptPod) -> String {
    line(&mut watched(), vec![kept])
}

fn line(watched: &mut Watched, all: Vec<KeptPod>) -> String {
    match watched.outcome(&Inventory(all)) {
        None => "waits".to_owned(),
        Some(Ok(started)) => format!("{} runs", started.len()),
        Some(Err(error)) => error.line(),
    }
}

#[test]
fn a_pod_runs_when_each_container_has_been_started() {
    let making = || waits("ContainerCreating", "");
    for (states, expected) in [
        ([running(), making()], "waits"),
        ([running(), running()], "1 runs"),
        // Started, and ended at once: that is its own affair.
        ([running(), ended("Error", 3)], "1 runs"),
        ([ended("Completed", 0), ended("Completed", 0)], "1 runs"),
        ([waits("PodInitializing", ""), waits("PodInitializing", "")], "waits"),
    ] {
        assert_eq!(told(pair("Pending", states.clone())), expected, "{states:?}");
    }
}

#[test]
fn the_first_fault_ends_the_run() {
    let hint = "(hint: it was taken back; `berth apply` would keep on trying)";
    for (state, expected) in [
        (
            waits("ErrImageNeverPull", "no image"),
            "container b: its image cannot be had (ErrImageNeverPull): no image",
        ),
        (waits("CreateContainerConfigError", "no key"), "container b cannot be made: no key"),
        (waits("RunContainerError", "no such file"), "container b cannot be started: no such file"),
        (ended("StartError", 128), "container b cannot be started"),
    ] {
        let line = told(pair("Pending", [running(), state]));
        assert_eq!(line, format!("pod shop/web does not run: {expected} {hint}"));
    }
    let mut pulling = pair("Pending", [running(), waits("ContainerCreating", "")]);
    pulling.events = vec![warning("b", "Pulling", "Pulling image", 0)];
    assert_eq!(told(pulling), "waits", "a pull takes its time");
}

#[test]
fn a_pod_that_is_not_kept_yet_is_waited_for_and_one_that_is_gone_is_not() {
    let mut watched = watched();
    let making = || pair("Pending", [running(), waits("ContainerCreating", "")]);
    assert_eq!(line(&mut watched, Vec::new()), "waits");
    // Another of its name is not it.
    let mut other = pair("Running", [running(), running()]);
    other.pod.metadata.uid = Some("u2".into());
    assert_eq!(line(&mut watched, vec![other]), "waits");
    assert_eq!(line(&mut watched, vec![making()]), "waits");
    let gone = line(&mut watched, Vec::new());
    assert!(gone.starts_with("pod shop/web does not run: somebody has taken it back"), "{gone}");
    let mut ending = making();
    ending.pod.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let line = line(&mut watched, vec![ending]);
    assert!(line.starts_with("pod shop/web does not run: somebody takes it back"), "{line}");
}

#[test]
fn what_runs_is_told_to_people_and_to_programs() {
    let pod = pair("Running", [running(), running()]).pod;
    assert_eq!(
        lines(&pod),
        [
            "pod shop/web runs (address 10.1.2.3)".to_owned(),
            format!("  container a ({})", short_id(&format!("a{}", "0".repeat(40)))),
            format!("  container b ({})", short_id(&format!("b{}", "0".repeat(40)))),
        ]
    );
    let done = pair("Succeeded", [ended("Completed", 0), ended("Completed", 0)]).pod;
    assert_eq!(lines(&done)[0], "pod shop/web has ended: Succeeded (address 10.1.2.3)");
    let told = document(&pod);
    assert_eq!(told["containers"][1]["id"], format!("b{}", "0".repeat(40)));
    assert_eq!((&told["ips"][1], &told["uid"]), (&json!("fd00::1"), &json!("u1")));
}
