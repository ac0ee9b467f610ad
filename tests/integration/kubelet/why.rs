//! Planted faults: the first line of `berth why` names the first cause.
//!
//! Each row is a pod with a fault that really happens; many of them are kept by one daemon at once.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{config_map, host_folder, kubelet, patient, pod, sh, with};
use crate::harness::machine::Machine;
use crate::harness::registry::{Manner, Registry, write_image};
use crate::harness::{Node, Options, Test, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("why_names_what_keeps_an_image_away", NETWORK, pulling, images),
        own("why_names_what_keeps_a_container_from_being_made", NETWORK, kubelet, making),
        own("why_names_what_keeps_a_container_from_running", NETWORK, kubelet, running),
        own("why_names_why_the_node_takes_no_pod", NETWORK, three_pods, refused),
        own("why_names_the_first_of_two_causes", NETWORK, kubelet, two_at_once),
    ]
}

/// How long a fault may take to be told: longer than anything but a hang, also on emulated processors.
const WITHIN: Duration = Duration::from_secs(180);

/// A pod with a fault, and the parts of the line that names it; of a part with `|` either side will do, as another
/// runtime says it.
pub(super) struct Planted {
    pub(super) name: &'static str,
    pub(super) spec: Value,
    pub(super) first: Vec<String>,
}

impl Planted {
    pub(super) fn new(name: &'static str, spec: Value, first: &[&str]) -> Self {
        Self { name, spec, first: first.iter().map(|part| (*part).to_owned()).collect() }
    }

    /// Of one container.
    pub(super) fn of(name: &'static str, container: Value, first: &[&str]) -> Self {
        Self::new(name, json!({"containers": [container]}), first)
    }
}

/// What `berth why` says of a pod, as lines.
pub(super) fn why(node: &Node, pod: &str) -> Result<Vec<String>> {
    Ok(node.berth_ok(&["why", pod])?.lines().map(str::to_owned).collect())
}

/// Waits until the first line for a pod has all these parts.
pub(super) fn first_line<Part: AsRef<str>>(
    node: &Node,
    pod: &str,
    parts: &[Part],
) -> Result<Vec<String>> {
    poll::within(WITHIN, &format!("why names the fault of {pod}"), || {
        let lines = why(node, pod)?;
        let first = lines.first().context("nothing is said")?;
        let has = |part: &&str| part.split('|').any(|either| first.contains(either));
        let missing = parts.iter().map(AsRef::as_ref).find(|part| !has(part));
        ensure!(missing.is_none(), "no {:?} in {lines:#?}", missing.unwrap_or_default());
        Ok(Some(lines))
    })
}

/// Plants all faults at once and waits for what is said of each.
pub(super) fn plant(node: &Node, faults: &[Planted]) -> Result<()> {
    for fault in faults {
        let of = pod(fault.name, fault.spec.clone());
        node.manifest(&format!("{}.yaml", fault.name), &of)?;
    }
    for fault in faults {
        first_line(node, fault.name, &fault.first)?;
    }
    Ok(())
}

fn pulling(_: &Machine) -> Options {
    let config = "[image]\nplain_http = [\"127.0.0.1\"]\n".to_owned();
    Options { config, ..kubelet(&Machine::probe()) }
}

fn images(node: &mut Node) -> Result<()> {
    let open = Registry::start(&node.path("registry"))?;
    open.push(&write_image(node, "any:1")?, "team/web", "v1")?;
    let login = Manner { login: true, ..Manner::default() };
    let closed = Registry::in_manner(&node.path("closed"), "closed", &login)?;
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let image = |name: &str| {
        with(patient("main"), json!({"image": name, "imagePullPolicy": "IfNotPresent"}))
    };
    let none = format!("{}/team/none:v1", open.address);
    let denied = format!("{}/team/web:v1", closed.address);
    let down = format!("{nobody}/team/web:v1");
    let never = with(patient("main"), json!({"image": "berth.test/none:1"}));
    let cannot = "container main: its image cannot be had";
    plant(
        node,
        &[
            Planted::of("never", never, &[cannot, "ErrImageNeverPull", "berth.test/none:1"]),
            Planted::of("missing", image(&none), &[cannot, &none, "not"]),
            Planted::of(
                "denied",
                image(&denied),
                &[cannot, &denied, "wants a user name and a password|401|authorization failed"],
            ),
            Planted::of("down", image(&down), &[cannot, &nobody.to_string(), "refused"]),
            Planted::of("name", image("No/Such:::name"), &[cannot, "InvalidImageName"]),
        ],
    )
}

fn making(node: &mut Node) -> Result<()> {
    node.manifest("map.yaml", &config_map("map", json!({"key": "text"})))?;
    let volume = node.volume("host")?;
    std::os::unix::fs::symlink("/etc", volume.join("out"))?;
    let from = |name: &str, key: &str| {
        let of = json!({"configMapKeyRef": {"name": name, "key": key}});
        with(patient("main"), json!({"env": [{"name": "VALUE", "valueFrom": of}]}))
    };
    let mounted = |further: Value, volume: Value| {
        let mount = with(json!({"name": "v", "mountPath": "/v"}), further);
        json!({"containers": [with(patient("main"), json!({"volumeMounts": [mount]}))], "volumes": [volume]})
    };
    let nothing =
        json!({"name": "v", "hostPath": {"path": volume.join("nothing"), "type": "Directory"}});
    let map = json!({"name": "v", "configMap": {"name": "map"}});
    let no_map = json!({"name": "v", "configMap": {"name": "later"}});
    let root = with(patient("main"), json!({"securityContext": {"runAsNonRoot": true}}));
    let handler = json!({"runtimeClassName": "nonesuch", "containers": [patient("main")]});
    let made = "container main cannot be made";
    let volumes = "a volume cannot be set up";
    plant(
        node,
        &[
            Planted::of("no-map", from("later", "key"), &[made, "ConfigMap default/later"]),
            Planted::of("no-key", from("map", "other"), &[made, "ConfigMap default/map", "other"]),
            Planted::of("root", root, &[made, "root"]),
            Planted::new("no-source", mounted(json!({}), nothing), &[volumes, "nothing"]),
            Planted::new(
                "no-object",
                mounted(json!({}), no_map),
                &[volumes, "ConfigMap default/later"],
            ),
            Planted::new("no-part", mounted(json!({"subPath": "absent"}), map), &[made, "absent"]),
            Planted::new(
                "part-outside",
                mounted(json!({"subPath": "out"}), host_folder("v", &volume)),
                &[made, "out", "leads out of the volume"],
            ),
            Planted::new("handler", handler, &["the pod's sandbox cannot be made", "nonesuch"]),
        ],
    )
}

/// A program for a processor that this is not: the head of an ELF file for 64-bit Arm.
fn other_architecture() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    // ET_EXEC, EM_AARCH64, version 1.
    head.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    head.resize(4096, 0);
    head
}

fn running(node: &mut Node) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let volume = node.volume("host")?;
    std::fs::write(volume.join("other"), other_architecture())?;
    std::fs::set_permissions(volume.join("other"), std::fs::Permissions::from_mode(0o755))?;
    let profiles = node.path("seccomp");
    std::fs::create_dir_all(&profiles)?;
    let kills = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    std::fs::write(profiles.join("kills.json"), kills.to_string())?;
    node.reconfigure(&format!("seccomp_dir = {profiles:?}\n"))?;

    let command = |words: &[&str]| with(sh("main", ""), json!({"command": words}));
    let other = with(
        command(&["/host/other"]),
        json!({"volumeMounts": [{"name": "host", "mountPath": "/host"}]}),
    );
    let other = json!({"containers": [other], "volumes": [host_folder("host", &volume)]});
    let profile = json!({"type": "Localhost", "localhostProfile": "kills.json"});
    let killed = with(
        sh("main", "exec mkdir /tmp/x"),
        json!({"securityContext": {"seccompProfile": profile}}),
    );
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let often = json!({"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1});
    let probe =
        |kind: &str, of: Value| with(patient("main"), json!({kind: with(of, often.clone())}));
    let slow_stop =
        |container: Value| json!({"containers": [container], "terminationGracePeriodSeconds": 1});
    let closed = json!({"tcpSocket": {"port": 9}});
    let hook = with(patient("main"), json!({"lifecycle": {"postStart": exec("sleep 1000")}}));
    let bad_hook =
        with(patient("main"), json!({"lifecycle": {"postStart": exec("echo oops; exit 5")}}));
    let never = json!({"restartPolicy": "Always", "startupProbe": with(exec("false"), json!({"periodSeconds": 1, "failureThreshold": 100}))});
    let sidecar =
        json!({"initContainers": [with(patient("side"), never)], "containers": [patient("main")]});
    let init = json!({"initContainers": [sh("setup", "exit 4")], "containers": [patient("main")]});
    let started = "container main cannot be started";
    // runc tells it in the container's log alone.
    let other_told: &[&str] = match node.has_other_runtime() {
        true => &["container main ended with exit code 1"],
        false => &[started, "/host/other", "xec format error"],
    };
    plant(
        node,
        &[
            Planted::of(
                "no-command",
                command(&["/no/such/program"]),
                &[started, "/no/such/program"],
            ),
            Planted::of(
                "no-right",
                command(&["/not-a-program"]),
                &[started, "/not-a-program", "ermission denied"],
            ),
            Planted::new("other-arch", other, other_told),
            Planted::of("crash", sh("main", "exit 3"), &["container main ended with exit code 3"]),
            Planted::of("seccomp", killed, &["container main was killed by SIGSYS", "seccomp"]),
            Planted::new(
                "slow-live",
                slow_stop(probe("livenessProbe", exec("sleep 1000"))),
                &["container main: liveness probe failed", "timed out after 1 s"],
            ),
            Planted::of(
                "closed",
                probe("readinessProbe", closed),
                &["container main: readiness probe", "refused"],
            ),
            Planted::of("hook", hook, &["container main: its postStart hook has not ended for"]),
            Planted::new(
                "bad-hook",
                slow_stop(bad_hook),
                &["container main: its postStart hook failed", "oops"],
            ),
            Planted::new("sidecar", sidecar, &["sidecar side: startup probe failed"]),
            Planted::new("init", init, &["init container setup ended with exit code 4"]),
        ],
    )
}

fn three_pods(_: &Machine) -> Options {
    Options { kubelet: Some("max_pods = 3\n".to_owned()), ..Options::default() }
}

fn refused(node: &mut Node) -> Result<()> {
    let ports = json!({"ports": [{"containerPort": 80, "hostPort": 45673}]});
    let with_port = json!({"containers": [with(patient("main"), ports)]});
    node.manifest("a.yaml", &pod("a", with_port.clone()))?;
    node.wait_ready("a")?;
    let large = json!({"resources": {"requests": {"memory": "1Pi"}}});
    let pages = json!({"resources": {"limits": {"cpu": "1m", "hugepages-1Gi": "1Ti"}}});
    plant(
        node,
        &[
            Planted::new("port", with_port, &["a host port of the pod is taken", "45673"]),
            Planted::of(
                "large",
                with(patient("main"), large),
                &["the node has no room for the pod (OutOfmemory)"],
            ),
            Planted::of(
                "pages",
                with(patient("main"), pages),
                &["the node has no room for the pod (OutOfhugepages-1Gi)", "requested"],
            ),
        ],
    )?;
    // What was refused takes no room.
    for name in ["b", "c"] {
        node.manifest(
            &format!("{name}.yaml"),
            &pod(name, json!({"containers": [patient("main")]})),
        )?;
        node.wait_ready(name)?;
    }
    let full = json!({"containers": [patient("main")]});
    plant(node, &[Planted::new("full", full, &["the node has no room for the pod (OutOfpods)"])])
}

fn two_at_once(node: &mut Node) -> Result<()> {
    let named = |name: &str, of: Value| with(of, json!({"name": name}));
    let no_image = |name: &str| with(patient(name), json!({"image": "berth.test/none:1"}));
    let of = json!({"configMapKeyRef": {"name": "later", "key": "key"}});
    let no_map = with(patient("b"), json!({"env": [{"name": "VALUE", "valueFrom": of}]}));
    let no_command = |name: &str| with(sh(name, ""), json!({"command": ["/no/such/program"]}));
    let closed = json!({"readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1}});
    let nothing = node.path("volumes/nothing");
    let nothing = json!({"name": "v", "hostPath": {"path": nothing, "type": "Directory"}});
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let two = |a: Value, b: Value| json!({"containers": [a, b]});
    plant(
        node,
        &[
            Planted::new(
                "image-and-crash",
                two(sh("a", "exit 3"), no_image("b")),
                &["container b: its image cannot be had"],
            ),
            Planted::new(
                "config-and-command",
                two(no_command("a"), no_map),
                &["container b cannot be made", "default/later"],
            ),
            Planted::new(
                "init-and-image",
                json!({"initContainers": [sh("setup", "exit 4")], "containers": [no_image("a")]}),
                &["init container setup ended with exit code 4"],
            ),
            Planted::new(
                "volume-and-image",
                json!({"containers": [with(no_image("a"), mount)], "volumes": [nothing]}),
                &["a volume cannot be set up", "nothing"],
            ),
            Planted::new(
                "probe-and-crash",
                two(with(patient("a"), closed), named("b", sh("b", "exit 7"))),
                &["container b ended with exit code 7"],
            ),
        ],
    )?;
    // The later cause is told, too.
    let lines = first_line(node, "image-and-crash", &["container b"])?;
    ensure!(
        lines.iter().any(|line| line.contains("container a ended with exit code 3")),
        "{lines:#?}"
    );
    Ok(())
}
