//! A pod's place on the node: cgroups, network, names, and who is not taken.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{kubelet, patient, pod, sh, with};
use crate::harness::machine::{Machine, Need};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    let mut all = super::eviction::of_memory();
    all.extend(super::why_hangs::of_memory());
    all.extend(super::memory::of_place());
    all.extend([
        own("a_pods_cgroup_is_in_its_class", NETWORK, kubelet, classes),
        own("a_process_is_killed_by_its_class", WITH_RESOURCES, kubelet, scores),
        own("a_pods_cgroup_has_its_limits", WITH_CONTROLLERS, kubelet, limits),
        own("all_pods_are_held_to_what_the_node_has_for_them", WITH_CONTROLLERS, held, allocatable),
        own("what_is_reserved_is_a_limit_of_its_own_cgroup", WITH_CONTROLLERS, kubelet, reserved),
        own("who_says_nothing_of_seccomp_is_filtered", NETWORK, held, seccomp),
        own("a_pod_has_users_of_its_own", WITH_USERS, kubelet, own_users),
        own("a_pod_in_the_hosts_network_is_in_it", NETWORK, kubelet, host_network),
        own("a_taken_host_port_fails_a_pod", NETWORK, kubelet, ports),
        own("a_full_node_fails_a_pod", NETWORK, two_pods, full),
        own("a_pod_that_asks_for_too_much_fails", NETWORK, kubelet, too_much),
        own("a_pod_has_its_names_in_etc_hosts", NETWORK, kubelet, names),
        own("a_user_that_cannot_be_told_apart_from_root_is_refused", NETWORK, kubelet, non_root),
        own("a_missing_image_that_is_never_pulled_is_told", NETWORK, kubelet, no_image),
        own("a_command_that_is_missing_is_told", NETWORK, kubelet, no_command),
    ]);
    all
}

const WITH_RESOURCES: &[Need] = &[Need::PodNetwork, Need::Resources];
const WITH_USERS: &[Need] = &[Need::PodNetwork, Need::MappedTmpfs];
pub(super) const WITH_CONTROLLERS: &[Need] = &[Need::PodNetwork, Need::Controllers];

fn two_pods(_: &Machine) -> Options {
    Options { kubelet: Some("max_pods = 2".to_owned()), ..Options::default() }
}

pub(super) fn asking(requests: Value, limits: Value) -> Value {
    with(patient("main"), json!({"resources": {"requests": requests, "limits": limits}}))
}

/// A pod of each class, by its name.
pub(super) fn three(node: &Node) -> Result<()> {
    let rows = [
        ("none", asking(json!({}), json!({}))),
        ("some", asking(json!({"cpu": "100m", "memory": "32Mi"}), json!({"memory": "64Mi"}))),
        ("all", asking(json!({}), json!({"cpu": "200m", "memory": "64Mi"}))),
    ];
    for (name, container) in rows {
        node.manifest(&format!("{name}.yaml"), &pod(name, json!({"containers": [container]})))?;
    }
    Ok(())
}

fn classes(node: &mut Node) -> Result<()> {
    three(node)?;
    let rows = [
        ("none", "BestEffort", "besteffort/"),
        ("some", "Burstable", "burstable/"),
        ("all", "Guaranteed", ""),
    ];
    for (name, class, folder) in rows {
        let shown = node.wait_ready(name)?;
        ensure!(shown.text("/pod/status/qosClass") == class, "{name}: {shown:?}");
        let own = node.cgroup_in_pod(node.first_pid(&shown, "main")?)?;
        let wanted = format!("/kubepods/{folder}pod{}/", shown.uid());
        ensure!(own.contains(&wanted), "{name} is in {own}");
    }
    Ok(())
}

fn scores(node: &mut Node) -> Result<()> {
    three(node)?;
    let score = |name: &str| -> Result<i32> {
        let shown = node.wait_ready(name)?;
        let first = node.first_pid(&shown, "main")?;
        Ok(kernel::read(format!("/proc/{first}/oom_score_adj"))?.parse()?)
    };
    ensure!(score("none")? == 1000 && score("all")? == -997);
    let some = score("some")?;
    ensure!((3..=999).contains(&some), "{some}");
    Ok(())
}

fn limits(node: &mut Node) -> Result<()> {
    three(node)?;
    let file = |name: &str, file: &str| -> Result<String> {
        let shown = node.wait_ready(name)?;
        kernel::read(node.kubelet_pod_cgroup(&shown).join(file))
    };
    let rows = [
        ("all", "memory.max", "67108864"),
        ("all", "cpu.max", "20000 100000"),
        ("some", "memory.max", "67108864"),
        ("some", "cpu.max", "max 100000"),
        ("none", "memory.max", "max"),
        ("none", "cpu.max", "max 100000"),
    ];
    for (name, of, wanted) in rows {
        let found = file(name, of)?;
        ensure!(found == wanted, "{of} of {name} is {found}, not {wanted}");
    }
    let heavier: u64 = file("all", "cpu.weight")?.parse()?;
    let lighter: u64 = file("some", "cpu.weight")?.parse()?;
    ensure!(heavier > lighter && lighter > 1, "weights {heavier} and {lighter}");
    Ok(())
}

fn host_network(node: &mut Node) -> Result<()> {
    let spec = json!({"hostNetwork": true, "containers": [patient("main")]});
    node.manifest("host.yaml", &pod("host", spec))?;
    let shown = node.wait_ready("host")?;
    let first = node.first_pid(&shown, "main")?;
    let daemon = node.pid()?;
    ensure!(kernel::namespace(first, "net")? == kernel::namespace(daemon, "net")?, "another net");
    ensure!(kernel::namespace(first, "mnt")? != kernel::namespace(daemon, "mnt")?, "the same mnt");
    ensure!(shown.ip() == shown.text("/pod/status/hostIP") && !shown.ip().is_empty(), "{shown:?}");
    let hosts = node.exec_ok(&shown.id("main"), &["cat", "/etc/hosts"])?;
    let own = kernel::read("/etc/hosts")?;
    ensure!(hosts.contains(own.lines().last().unwrap_or_default()), "{hosts}");
    Ok(())
}

fn ports(node: &mut Node) -> Result<()> {
    let of = |name: &str, port: u16| {
        let ports = json!({"ports": [{"containerPort": 80, "hostPort": port}]});
        pod(name, json!({"containers": [with(patient("main"), ports)]}))
    };
    node.manifest("a.yaml", &of("a", 45671))?;
    node.wait_ready("a")?;
    node.manifest("b.yaml", &of("b", 45671))?;
    node.manifest("c.yaml", &of("c", 45672))?;
    let refused = node.wait_phase("b", "Failed")?;
    ensure!(refused.text("/pod/status/reason") == "NodePorts", "{refused:?}");
    ensure!(refused.text("/pod/status/message").contains("45671"), "{refused:?}");
    ensure!(refused.id("main").is_empty(), "it was made");
    node.wait_ready("c").map(drop)
}

fn full(node: &mut Node) -> Result<()> {
    for name in ["a", "b"] {
        let of = pod(name, json!({"containers": [patient("main")]}));
        node.manifest(&format!("{name}.yaml"), &of)?;
        node.wait_ready(name)?;
    }
    node.manifest("c.yaml", &pod("c", json!({"containers": [patient("main")]})))?;
    let refused = node.wait_phase("c", "Failed")?;
    ensure!(refused.text("/pod/status/reason") == "OutOfpods", "{refused:?}");
    ensure!(refused.event("OutOfpods").is_some(), "no event: {refused:?}");
    Ok(())
}

fn too_much(node: &mut Node) -> Result<()> {
    for (name, resource, amount) in [("cpu", "cpu", "10k"), ("memory", "memory", "1Pi")] {
        let container = asking(json!({resource: amount}), json!({}));
        node.manifest(&format!("{name}.yaml"), &pod(name, json!({"containers": [container]})))?;
        let refused = node.wait_phase(name, "Failed")?;
        let reason = refused.text("/pod/status/reason");
        ensure!(reason == format!("OutOf{resource}"), "{refused:?}");
    }
    Ok(())
}

fn names(node: &mut Node) -> Result<()> {
    let spec = json!({
        "hostname": "proper", "subdomain": "sub",
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["other.example", "another"]}],
        "containers": [patient("main")],
    });
    node.manifest("named.yaml", &pod("named", spec))?;
    node.manifest("plain.yaml", &pod("plain", json!({"containers": [patient("main")]})))?;
    let shown = node.wait_ready("named")?;
    let id = shown.id("main");
    ensure!(node.exec_ok(&id, &["hostname"])? == "proper");
    let hosts = node.exec_ok(&id, &["cat", "/etc/hosts"])?;
    let own = format!("{}\tproper.sub.default.svc.cluster.local\tproper", shown.ip());
    for line in [own.as_str(), "192.0.2.7\tother.example\tanother", "127.0.0.1\tlocalhost"] {
        ensure!(hosts.lines().any(|found| found == line), "no {line:?} in {hosts}");
    }
    let plain = node.wait_ready("plain")?;
    ensure!(node.exec_ok(&plain.id("main"), &["hostname"])? == "plain-node");
    Ok(())
}

fn non_root(node: &mut Node) -> Result<()> {
    let main = with(patient("main"), json!({"securityContext": {"runAsNonRoot": true}}));
    node.manifest("root.yaml", &pod("root", json!({"containers": [main]})))?;
    let shown = node.wait_for("root", "it is refused", |shown| {
        shown.waiting("main") == "CreateContainerConfigError"
    })?;
    let message = shown.container("main")["state"]["waiting"]["message"].to_string();
    ensure!(message.contains("root"), "{message}");
    let user = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 1000}});
    let main = with(patient("main"), user);
    node.manifest("user.yaml", &pod("user", json!({"containers": [main]})))?;
    let shown = node.wait_ready("user")?;
    let first = node.first_pid(&shown, "main")?;
    let ids = kernel::status_field(first, "Uid")?;
    ensure!(ids.split_whitespace().all(|id| id == "1000"), "{ids}");
    Ok(())
}

fn no_image(node: &mut Node) -> Result<()> {
    let main = with(patient("main"), json!({"image": "berth.test/none:1"}));
    node.manifest("none.yaml", &pod("none", json!({"containers": [main]})))?;
    let shown =
        node.wait_for("none", "it is told", |shown| shown.waiting("main") == "ErrImageNeverPull")?;
    let message = shown.container("main")["state"]["waiting"]["message"].to_string();
    ensure!(message.contains("berth.test/none:1"), "{message}");
    Ok(())
}

fn no_command(node: &mut Node) -> Result<()> {
    let main = with(sh("main", ""), json!({"command": ["/no/such/program"]}));
    node.manifest("none.yaml", &pod("none", json!({"containers": [main, patient("good")]})))?;
    let shown = node.wait_for("none", "it is told", |shown| {
        let message = &shown.container("main")["state"]["waiting"]["message"];
        message.as_str().is_some_and(|message| message.contains("/no/such/program"))
    })?;
    let reason = shown.waiting("main");
    ensure!(["RunContainerError", "CreateContainerError"].contains(&reason), "{shown:?}");
    // The other is not held up.
    eventually("the other runs", || {
        Ok(node.find("none")?.context("no status")?.running("good").then_some(()))
    })
}

pub(super) fn held(_: &Machine) -> Options {
    let further = "memory_qos = true\npod_pids_limit = 50\nsystem_reserved = { cpu = \"100m\", memory = \"64Mi\", \
                   pid = \"1000\" }\nseccomp_default = true";
    Options { kubelet: Some(further.to_owned()), ..Options::default() }
}

/// Bytes of the node's memory.
pub(super) fn total_memory() -> Result<u64> {
    let text = kernel::read("/proc/meminfo")?;
    let total = kernel::field_of(&text, "MemTotal").context("no MemTotal")?;
    let kib: u64 = total.strip_suffix(" kB").context("not in kB")?.parse()?;
    Ok(kib * 1024)
}

fn allocatable(node: &mut Node) -> Result<()> {
    three(node)?;
    let pod = node.wait_ready("some")?;
    let own = node.kubelet_pod_cgroup(&pod);
    ensure!(kernel::read(own.join("pids.max"))? == "50");
    let root = node.kubelet_cgroup();
    let number = |file: &str| -> Result<u64> { Ok(kernel::read(root.join(file))?.parse()?) };
    let total = total_memory()?;
    ensure!(number("memory.max")? == total - (64 << 20), "{}", number("memory.max")?);
    ensure!(number("pids.max")? < 4_194_304);
    // A pod that comes after the last has gone finds the same again.
    for name in ["none", "some", "all"] {
        node.remove_manifest(&format!("{name}.yaml"))?;
        node.wait_gone(name)?;
    }
    three(node)?;
    node.wait_ready("none")?;
    ensure!(number("memory.max")? == total - (64 << 20));
    Ok(())
}

/// Cgroups of others; they go with the value.
struct Groups(Vec<PathBuf>);

impl Drop for Groups {
    fn drop(&mut self) {
        self.0.iter().for_each(|group| kernel::remove_cgroup(group));
    }
}

/// The system's cgroup is held to all that is reserved for it, the runtime's to its share of the CPU alone.
fn reserved(node: &mut Node) -> Result<()> {
    let name = |of: &str| format!("berth-tests-reserved-{of}-{}", std::process::id());
    let group = |of: &str| node.machine.cgroup_root.join(name(of));
    let (system, runtime) = (group("system"), group("runtime"));
    let further = format!(
        "system_reserved = {{ cpu = \"100m\", memory = \"64Mi\", pid = \"1000\" }}\n\
         kube_reserved = {{ cpu = \"200m\", memory = \"32Mi\", pid = \"500\" }}\n\
         system_reserved_cgroup = {:?}\nkube_reserved_cgroup = {:?}\n\
         enforce_node_allocatable = [\"pods\", \"system-reserved\", \"kube-reserved-compressible\"]",
        format!("/{}", name("system")),
        format!("/{}", name("runtime")),
    );
    node.refuses(&further, "it does not exist")?;
    let groups = Groups(vec![system.clone(), runtime.clone()]);
    for group in &groups.0 {
        std::fs::create_dir(group)?;
        ensure!(kernel::read(group.join("memory.max"))? == "max", "limited before");
    }
    node.launch()?;
    eventually("the system's cgroup is limited", || {
        Ok((kernel::read(system.join("memory.max"))? == "67108864").then_some(()))
    })?;
    for (group, file, wanted) in [
        (&system, "pids.max", "1000"),
        (&system, "cpu.weight", "17"),
        (&system, "memory.swap.max", "max"),
        (&runtime, "cpu.weight", "29"),
        (&runtime, "memory.max", "max"),
        (&runtime, "pids.max", "max"),
    ] {
        let found = kernel::read(group.join(file))?;
        ensure!(found == wanted, "{file} of {} is {found}, not {wanted}", group.display());
    }
    // Both are kept back from pods.
    node.manifest("a.yaml", &pod("a", json!({"containers": [patient("main")]})))?;
    node.wait_ready("a")?;
    let all: u64 = kernel::read(node.kubelet_cgroup().join("memory.max"))?.parse()?;
    ensure!(all == total_memory()? - (96 << 20), "all pods have {all}");
    Ok(())
}

fn seccomp(node: &mut Node) -> Result<()> {
    let unconfined = json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}});
    let rows = [("silent", patient("main"), "2"), ("open", with(patient("main"), unconfined), "0")];
    for (name, container, mode) in rows {
        node.manifest(&format!("{name}.yaml"), &pod(name, json!({"containers": [container]})))?;
        let shown = node.wait_ready(name)?;
        let found = kernel::status_field(node.first_pid(&shown, "main")?, "Seccomp")?;
        ensure!(found.trim() == mode, "{name} has {found}");
    }
    Ok(())
}

/// The id of the host that a pod's root has; its files are its root's inside.
fn first_host_id(node: &Node, name: &str) -> Result<u32> {
    let shown = node.wait_ready(name)?;
    let id = shown.id("main");
    let text = kernel::read(format!("/proc/{}/uid_map", node.first_pid(&shown, "main")?))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(words.len() == 3 && words[0] == "0" && words[2] == "65536", "{text}");
    node.exec_ok(&id, &["sh", "-c", "echo x > /data/file && cat /map/key"])?;
    ensure!(node.exec_ok(&id, &["stat", "-c", "%u", "/data/file"])? == "0");
    Ok(words[1].parse()?)
}

/// Its root is nobody on the node, and its files are its root's inside.
fn own_users(node: &mut Node) -> Result<()> {
    let mounts = json!({"volumeMounts": [
        {"name": "data", "mountPath": "/data"}, {"name": "map", "mountPath": "/map"},
    ]});
    node.manifest(
        "map.yaml",
        &crate::harness::kubelet::config_map("map", json!({"key": "value"})),
    )?;
    let spec = || {
        json!({
            "hostUsers": false,
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "map", "configMap": {"name": "map"}}],
            "containers": [with(patient("main"), mounts.clone())],
        })
    };
    for name in ["one", "two"] {
        node.manifest(&format!("{name}.yaml"), &pod(name, spec()))?;
    }
    let (one, two) = (first_host_id(node, "one")?, first_host_id(node, "two")?);
    ensure!(one % 65_536 == 0 && two % 65_536 == 0 && one > 0 && two > 0 && one != two);
    // A daemon that was killed gives nobody the ids of another.
    node.kill()?;
    node.launch()?;
    node.manifest("three.yaml", &pod("three", spec()))?;
    let three = first_host_id(node, "three")?;
    ensure!(
        three != one && three != two && first_host_id(node, "one")? == one,
        "{one} {two} {three}"
    );
    Ok(())
}
