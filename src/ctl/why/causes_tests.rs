use super::*;
use crate::ctl::kubelet::test_pods::{kept, warning};
use crate::kubelet::board::EventKind;
use serde_json::{Value, json};

/// The moment of the question.
const NOW: i64 = 1000;

/// The status of a container in a state, not ready.
fn container(name: &str, state: Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": false, "started": false,
        "restartCount": 0, "state": state,
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "1970-01-01T00:15:00Z"}})
}

/// A container that waits for its next start, 16 s after it ended, with a back-off of 40 s.
fn crashed(name: &str, end: Value) -> Value {
    let mut terminated = end;
    terminated["startedAt"] = json!("1970-01-01T00:16:20Z");
    terminated["finishedAt"] = json!("1970-01-01T00:16:24Z");
    terminated["containerID"] = json!("berth://0123456789abcdef");
    let message = format!("back-off 40s restarting failed container={name} pod=web_default(u)");
    let mut status = container(name, waiting("CrashLoopBackOff", &message));
    status["lastState"] = json!({"terminated": terminated});
    status["restartCount"] = json!(3);
    status
}

fn error(code: i32, message: &str) -> Value {
    json!({"exitCode": code, "reason": "Error", "message": message})
}

/// A fault: what the status and the events are, by which it is known.
struct Fault {
    name: &'static str,
    spec: Value,
    init: Vec<Value>,
    apps: Vec<Value>,
    status: Value,
    events: Vec<Event>,
    plugin: Option<&'static str>,
    first: &'static str,
}

impl Fault {
    /// Of the container `c` alone.
    fn of(name: &'static str, status: Value, first: &'static str) -> Self {
        let spec = json!({"containers": [{"name": "c"}, {"name": "d"}]});
        let (init, apps, events) = (Vec::new(), vec![status], Vec::new());
        Self { name, spec, init, apps, status: json!({}), events, plugin: None, first }
    }

    fn with(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    fn spec(self, spec: Value) -> Self {
        Self { spec, ..self }
    }

    fn causes(&self) -> Vec<Cause> {
        let mut status = json!({
            "phase": "Pending", "startTime": "1970-01-01T00:15:00Z",
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True"},
                {"type": "Ready", "status": "False"},
            ],
            "initContainerStatuses": self.init, "containerStatuses": self.apps,
        });
        for (key, value) in self.status.as_object().unwrap() {
            status[key] = value.clone();
        }
        let pod = json!({"metadata": {"name": "web"}, "spec": self.spec, "status": status});
        causes(&kept(pod).pod, &self.events, NOW, self.plugin)
    }
}

fn no_sandbox() -> Value {
    json!({"conditions": [{"type": "PodReadyToStartContainers", "status": "False"}]})
}

fn creating() -> Value {
    json!({"waiting": {"reason": "ContainerCreating"}})
}

fn sandbox_fault(name: &'static str, message: &str, first: &'static str) -> Fault {
    let event = warning(
        "",
        "FailedCreatePodSandBox",
        &format!("Failed to create pod sandbox: {message}"),
        990,
    );
    let fault = Fault::of(name, container("c", creating()), first).with(event);
    Fault { status: no_sandbox(), ..fault }
}

fn refused(name: &'static str, reason: &str, message: &str, first: &'static str) -> Fault {
    let lost = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
    let fault = Fault::of(name, container("c", lost), first);
    Fault { status: json!({"phase": "Failed", "reason": reason, "message": message}), ..fault }
}

fn killing(why: &str) -> Event {
    let message = format!("Stopping container c (0123456789abc): {why}");
    Event { kind: EventKind::Normal, ..warning("c", "Killing", &message, 983) }
}

fn normal(reason: &str, at: i64) -> Event {
    Event { kind: EventKind::Normal, ..warning("c", reason, "it", at) }
}

fn before_the_container() -> Vec<Fault> {
    vec![
        sandbox_fault(
            "hostPort taken",
            "RunPodSandbox pod default/web: network: hostPort 80/TCP is taken \
by pod default/a",
            "the pod's sandbox cannot be made: RunPodSandbox pod default/web: network: \
             hostPort 80/TCP is taken by pod default/a",
        ),
        sandbox_fault(
            "no CNI configuration",
            "network is not ready",
            "the pod's sandbox cannot be made: network is not ready",
        ),
        sandbox_fault(
            "IPAM exhausted",
            "no free address in 10.0.0.0/30: all 1 are leased",
            "the pod's sandbox cannot be made: no free address in 10.0.0.0/30: \
all 1 are leased",
        ),
        sandbox_fault(
            "unknown handler",
            "runtime_handler: no runtime handler \"x\" is configured",
            "the pod's sandbox cannot be made: runtime_handler: no runtime handler \"x\" is \
             configured",
        ),
        Fault {
            status: no_sandbox(),
            ..Fault::of(
                "CNI plugin hangs",
                container("c", creating()),
                "its sandbox and network have been in the making",
            )
        },
        Fault {
            status: no_sandbox(),
            plugin: Some("plugin slow of its network has not ended (ADD, pid 7)"),
            ..Fault::of(
                "CNI plugin that is seen",
                container("c", creating()),
                "its sandbox and network have been in the making for 100s: plugin slow of its network \
                 has not ended (ADD, pid 7)",
            )
        },
        Fault::of(
            "a step that hangs",
            container("c", creating()),
            "set up the pod's volumes does not end: its thread waits in newfstatat",
        )
        .with(warning(
            "",
            "StepHangs",
            "set up the pod's volumes does not end: its thread waits in newfstatat",
            995,
        )),
        Fault::of(
            "volume source missing",
            container(
                "c",
                waiting(
                    "ContainerCreating",
                    "MountVolume.SetUp failed: volume \"v\": ConfigMap n/m does not exist",
                ),
            ),
            "a volume cannot be set up: volume \"v\": ConfigMap n/m does not exist",
        ),
        Fault::of(
            "D-state mount",
            container(
                "c",
                waiting(
                    "ContainerCreating",
                    "MountVolume.SetUp failed: set up the pod's volumes did not end \
within 123s",
                ),
            ),
            "a volume cannot be set up: set up the pod's volumes did not end \
within 123s",
        ),
        refused(
            "node full",
            "OutOfpods",
            "Node didn't have enough resource: pods",
            "the node has no room for the pod (OutOfpods): Node didn't have \
enough resource: pods",
        ),
        refused(
            "memory request too large",
            "OutOfmemory",
            "requested: 9, capacity: 1",
            "the node has no room for the pod (OutOfmemory): requested: 9, \
capacity: 1",
        ),
        refused(
            "more huge pages than there are",
            "OutOfhugepages-2Mi",
            "Node didn't have enough resource: hugepages-2Mi, requested: 4, used: 0, capacity: 0",
            "the node has no room for the pod (OutOfhugepages-2Mi): Node didn't have \
enough resource: hugepages-2Mi, requested: 4, used: 0, capacity: 0",
        ),
        refused(
            "hostPort of another pod",
            "NodePorts",
            "host port 80/TCP is pod a's",
            "a host port of the pod is taken (NodePorts): host port 80/TCP is \
pod a's",
        ),
        refused(
            "eviction",
            "Evicted",
            "The node was low on memory",
            "the pod was evicted (Evicted): The node was low on memory",
        ),
    ]
}

fn at_the_start() -> Vec<Fault> {
    let waits = |name, (reason, message), first| {
        Fault::of(name, container("c", waiting(reason, message)), first)
    };
    let unable = |name, message, first| {
        let end = json!({"exitCode": 128, "reason": "StartError", "message": message});
        Fault::of(name, crashed("c", end), first)
    };
    let config = "CreateContainerConfigError";
    let hook = json!({"postStart": {"sleep": {"seconds": 99}}});
    let hooked = json!({"containers": [{"name": "c", "lifecycle": hook}]});
    vec![
        waits(
            "image missing",
            ("ErrImageNeverPull", "not present"),
            "container c: its image cannot be had (ErrImageNeverPull): not present",
        ),
        waits(
            "pull denied",
            ("ErrImagePull", "r answered 401"),
            "container c: its image cannot be had (ErrImagePull): r answered 401",
        ),
        waits(
            "registry down",
            ("RegistryUnavailable", "Connection refused"),
            "container c: its image cannot be had (RegistryUnavailable): \
Connection refused",
        ),
        waits(
            "pull waits",
            ("ImagePullBackOff", "Back-off pulling image"),
            "container c: its image cannot be had (ImagePullBackOff): Back-off \
pulling image",
        ),
        Fault::of(
            "a pull that takes long",
            container("c", creating()),
            "container c: its image is being pulled, for 60s",
        )
        .with(normal("Pulling", 940)),
        waits(
            "missing ConfigMap",
            (config, "ConfigMap n/m does not exist"),
            "container c cannot be made: ConfigMap n/m does not exist",
        ),
        waits(
            "missing key",
            (config, "has no key \"k\""),
            "container c cannot be made: has no key \"k\"",
        ),
        waits(
            "runAsNonRoot",
            (config, "will run as root"),
            "container c cannot be made: will run as root",
        ),
        waits(
            "subPath absent",
            (config, "subPath \"a\" of volume \"v\""),
            "container c cannot be made: subPath \"a\" of volume \"v\"",
        ),
        waits(
            "first bad command",
            ("RunContainerError", "exec: no such file"),
            "container c cannot be started: exec: no such file",
        ),
        unable(
            "bad command",
            "exec: no such file or directory: \"/x\"",
            "container c cannot be started: exec: no such file or directory: \"/x\"",
        ),
        unable(
            "not executable",
            "exec: permission denied",
            "container c cannot be started: exec: permission denied",
        ),
        unable(
            "wrong architecture",
            "exec format error",
            "container c cannot be started: exec format error",
        ),
        Fault::of(
            "postStart hangs",
            container("c", creating()),
            "container c: its postStart hook has not ended for 50s",
        )
        .with(normal("Started", 950))
        .spec(hooked),
        Fault::of(
            "postStart fails",
            crashed("c", error(137, "")),
            "container c: its postStart hook failed: it ended with 5: oops",
        )
        .with(warning("c", "FailedPostStartHook", "Error: it ended with 5: oops", 983))
        .with(killing("its postStart hook failed")),
    ]
}

fn while_it_runs() -> Vec<Fault> {
    let probed =
        |kind: &str| json!({"containers": [{"name": "c", kind: {"tcpSocket": {"port": 1}}}]});
    let limited =
        json!({"containers": [{"name": "c", "resources": {"limits": {"memory": "16Mi"}}}]});
    vec![
        Fault::of(
            "OOM by container",
            crashed("c", json!({"exitCode": 137, "reason": "OOMKilled"})),
            "container c was killed for want of memory: its limit is 16Mi",
        )
        .spec(limited),
        Fault::of(
            "OOM by pod",
            crashed("c", json!({"exitCode": 137, "reason": "OOMKilled"})),
            "container c was killed for want of memory: it has no limit of its \
own, so the pod's or the node's was reached",
        ),
        Fault::of(
            "crash loop",
            crashed("c", error(3, "bye\n")),
            "container c ended with exit code 3: bye",
        ),
        Fault::of(
            "seccomp kill",
            crashed("c", error(159, "")),
            "container c was killed by SIGSYS: a system call that its seccomp \
profile forbids",
        ),
        Fault::of(
            "killed",
            crashed("c", error(139, "")),
            "container c was ended by SIGSEGV (exit code 139)",
        ),
        Fault::of(
            "failed for good",
            container("c", json!({"terminated": error(1, "")})),
            "container c ended with exit code 1",
        ),
        Fault::of(
            "liveness timeout",
            crashed("c", error(137, "")),
            "container c: liveness probe failed: timed out after 1 s",
        )
        .with(warning("c", "Unhealthy", "liveness probe failed: timed out after 1 s", 982))
        .with(killing("it failed its liveness probe")),
        Fault::of(
            "readiness refused",
            container("c", running()),
            "container c: readiness probe failed: connection refused",
        )
        .with(warning("c", "Unhealthy", "readiness probe failed: connection refused", 990))
        .spec(probed("readinessProbe")),
        Fault::of(
            "readiness silent",
            container("c", running()),
            "container c: its readiness probe has not passed for 100s",
        )
        .spec(probed("readinessProbe")),
        Fault {
            apps: vec![container("c", waiting("PodInitializing", ""))],
            init: vec![container("s", running())],
            ..Fault::of(
                "sidecar startup probe never passes",
                json!({}),
                "sidecar s: startup probe failed: not yet",
            )
        }
        .with(warning("s", "Unhealthy", "startup probe failed: not yet", 990))
        .spec(json!({
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}
            ],
            "containers": [{"name": "c"}],
        })),
        Fault {
            apps: vec![container("c", waiting("PodInitializing", ""))],
            init: vec![crashed("s", error(4, ""))],
            ..Fault::of(
                "init container fails",
                json!({}),
                "init container s ended with exit code 4",
            )
        }
        .spec(json!({"initContainers": [{"name": "s"}], "containers": [{"name": "c"}]})),
    ]
}

#[test]
fn the_first_line_is_the_cause() {
    let all = [before_the_container(), at_the_start(), while_it_runs()];
    for fault in all.into_iter().flatten() {
        let causes = fault.causes();
        let first = causes.first().map(|cause| cause.headline.as_str()).unwrap_or_default();
        let hangs = fault.first.ends_with("in the making") && first.starts_with(fault.first);
        assert!(first == fault.first || hangs, "{}: {first}", fault.name);
    }
}

#[test]
fn of_two_faults_the_earlier_one_comes_first() {
    let none = || waiting("ErrImageNeverPull", "none");
    let with_init =
        json!({"initContainers": [{"name": "s"}], "containers": [{"name": "c"}, {"name": "d"}]});
    let probed = json!({
        "containers": [{"name": "c", "readinessProbe": {"grpc": {"port": 1}}}, {"name": "d"}]
    });
    let two =
        |name, c: Value, d: Value| Fault { apps: vec![c, d], ..Fault::of(name, json!({}), "") };
    let rows = [
        (
            two("an image and a crash", crashed("c", error(1, "")), container("d", none())),
            vec!["container d: its image", "container c ended"],
        ),
        (
            two("a probe and a crash", container("c", running()), crashed("d", error(1, "")))
                .spec(probed),
            vec!["container d ended", "container c: its readiness"],
        ),
        (
            Fault {
                init: vec![crashed("s", error(1, ""))],
                ..two("init and an image", container("c", none()), container("d", none()))
            }
            .spec(with_init),
            vec!["init container s ended", "container c: its image", "container d: its image"],
        ),
        (
            two(
                "a missing key and a bad command",
                container("c", waiting("RunContainerError", "no")),
                container("d", waiting("CreateContainerConfigError", "no key")),
            ),
            vec!["container d cannot be made", "container c cannot be started"],
        ),
        (
            Fault {
                status: no_sandbox(),
                ..two("no sandbox and an image", container("c", none()), container("d", creating()))
            }
            .with(warning("", "FailedCreatePodSandBox", "no network", 990)),
            vec!["the pod's sandbox", "container c: its image"],
        ),
        (
            two(
                "one volume for both",
                container("c", waiting("ContainerCreating", "MountVolume.SetUp failed: x")),
                container("d", waiting("ContainerCreating", "MountVolume.SetUp failed: x")),
            ),
            vec!["a volume cannot be set up: x"],
        ),
    ];
    for (fault, expected) in rows {
        let causes = fault.causes();
        let fits =
            causes.iter().zip(&expected).all(|(cause, begin)| cause.headline.starts_with(begin));
        assert!(fits && causes.len() == expected.len(), "{}: {causes:?}", fault.name);
    }
}

#[test]
fn a_crash_tells_when_it_was_and_when_the_next_start_is() {
    let causes = Fault::of("", crashed("c", error(3, "")), "").causes();
    assert_eq!(
        causes[0].details,
        ["ended 16s ago after 4s", "restarted 3 times; back-off 40s, 24s left"]
    );
}

#[test]
fn a_stuck_pod_tells_since_when_and_what_came_last() {
    let fault = Fault::of("", container("c", creating()), "").with(warning("", "Odd", "m", 960));
    let causes = Fault { status: no_sandbox(), ..fault }.causes();
    assert_eq!(causes[0].headline, "its sandbox and network have been in the making for 100s");
    assert_eq!(causes[0].details, ["newest event: Odd 40s ago: m"]);
}

#[test]
fn a_probe_of_an_earlier_instance_is_no_cause() {
    let mut status = container("c", running());
    (status["ready"], status["started"]) = (json!(true), json!(true));
    let old = warning("c", "Unhealthy", "liveness probe failed: x", 800);
    let fault = Fault::of("", status, "").with(old);
    let fault = fault.spec(json!({"containers": [{"name": "c", "livenessProbe": {"exec": {}}}]}));
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    assert_eq!(Fault { status: ready, ..fault }.causes(), []);
}

#[test]
fn a_pod_that_is_done_has_no_cause() {
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let fault = Fault::of("", container("c", done), "");
    assert_eq!(Fault { status: json!({"phase": "Succeeded"}), ..fault }.causes(), []);
}
