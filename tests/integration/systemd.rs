//! The systemd cgroup driver and the installed unit, where systemd is the first process.

use crate::harness::kubelet::{self as keeps, patient, sh, with};
use crate::harness::machine::{Machine, Need};
use crate::harness::node::{UNIT, systemctl};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod, poll};
use crate::userns;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, LinuxContainerResources};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::Systemd];
    vec![
        own("a_pod_is_a_scope_and_a_shim_is_outside_of_it", NEEDS, unit, scopes),
        own("limits_and_devices_outlive_what_systemd_does", NEEDS, unit, reloads),
        own("pods_outlive_every_end_of_the_daemon", NEEDS, unit, every_end),
        own("a_pod_in_a_user_namespace_is_a_scope_as_others_are", NEEDS, unit, mapped),
        own("a_sandbox_that_was_cut_off_leaves_no_scope", NEEDS, unit, cut_off),
        own("slices_of_pods_have_their_weights_and_go_with_them", NEEDS, keeping, slices),
        own("pods_end_before_the_node_does", NEEDS, keeping, shutdown),
        own("the_parent_is_a_slice_and_the_driver_is_told", NEEDS, unit, parents),
    ]
}

fn unit(_: &Machine) -> Options {
    Options { unit: true, ..Options::default() }
}

/// A kubelet half for which a shutdown of the node waits.
fn keeping(_: &Machine) -> Options {
    let further = "shutdown_grace_seconds = 40\nshutdown_grace_critical_seconds = 20\n\
                   pod_pids_limit = 77\nmemory_qos = true";
    Options { unit: true, kubelet: Some(further.to_owned()), ..Options::default() }
}

const MIB: i64 = 1 << 20;
const SHIMS: &str = "system.slice/berth-shims.scope";
/// The parent of slices that tests make.
const SLICE: &str = "berthtest.slice";

fn limits(cpu_quota: i64, memory: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_quota,
        cpu_period: 100_000,
        memory_limit_in_bytes: memory,
        ..Default::default()
    }
}

/// Makes the pod limited, and puts it where it shall be.
fn limited(config: &mut proto::PodSandboxConfig, resources: LinuxContainerResources, slice: &str) {
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(resources);
    linux.cgroup_parent = slice.into();
}

/// The cgroup of a pod's scope, in whatever slice.
fn scope(node: &Node, pod: &str) -> Result<PathBuf> {
    let name = scope_name(pod);
    let all = kernel::cgroups_below(&node.machine.cgroup_root);
    all.into_iter().find(|group| group.ends_with(&name)).with_context(|| format!("no {name}"))
}

fn scope_name(pod: &str) -> String {
    format!("berth-{pod}.scope")
}

fn property(name: &str, property: &str) -> Result<String> {
    systemctl(&["show", "--value", "-p", property, name])
}

/// Nothing of pods is left: in systemd, and in the kernel.
fn gone(node: &Node) -> Result<()> {
    eventually("systemd and the kernel know no pod any more", || {
        let patterns = ["berth-*.scope", "berth.slice"];
        let units = systemctl(
            &[&["list-units", "--all", "--plain", "--no-legend"][..], &patterns].concat(),
        )?;
        let groups = kernel::cgroups_below(&node.machine.cgroup_root);
        let ours = |group: &&PathBuf| {
            let name = group.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("berth-") || name == "berth.slice"
        };
        let groups: Vec<&PathBuf> = groups.iter().filter(ours).collect();
        ensure!(units.is_empty() && groups.is_empty(), "units: {units}; cgroups: {groups:?}");
        Ok(Some(()))
    })
}

/// The shims' scope is held by shims alone.
fn no_seed(node: &Node) -> Result<()> {
    eventually("only shims hold their scope", || {
        let own = kernel::pids_in(&node.machine.cgroup_root.join(SHIMS))?;
        Ok(own.is_empty().then_some(()))
    })
}

fn mapped(node: &mut Node) -> Result<()> {
    let base = userns::BASE;
    let scene = Scene::with(node, "mapped-scope", |config| {
        userns::pod_from(base)(config);
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
    })?;
    let made = scene.start("main", pod::PATIENT, |config| {
        userns::from(config, base);
        pod::security(config).privileged = true;
    })?;
    ensure!(scope(node, &scene.pod)? == node.pod_cgroup(&scene.pod), "it is elsewhere");
    let (pause, init) = (node.pause_pid(&scene.pod)?, made.init()?);
    let user = kernel::namespace(init, "user")?;
    ensure!(kernel::namespace(pause, "user")? == user, "another user namespace than pause's");
    ensure!(kernel::namespace(node.pid()?, "user")? != user, "the node's user namespace");
    // What is its own in it stays so.
    systemctl(&["daemon-reload"])?;
    let owner = std::fs::metadata(made.cgroup())?.uid();
    ensure!(owner == base, "its cgroup is of {owner}");
    node.exec_ok(&made.id, &["sh", "-c", "mkdir /sys/fs/cgroup/a && rmdir /sys/fs/cgroup/a"])?;
    node.remove_pod(&scene.pod)?;
    gone(node)
}

fn scopes(node: &mut Node) -> Result<()> {
    let scene = Scene::with(node, "scope", |c| limited(c, limits(50_000, 64 * MIB), ""))?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let (group, name) = (scope(node, &scene.pod)?, scope_name(&scene.pod));
    ensure!(group == node.pod_cgroup(&scene.pod), "{} is elsewhere", group.display());
    for (key, expected) in [
        ("Slice", "berth.slice"),
        ("Delegate", "yes"),
        ("ActiveState", "active"),
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("DevicePolicy", "auto"),
        ("DeviceAllow", ""),
    ] {
        let found = property(&name, key)?;
        ensure!(found == expected, "{key} is {found:?}, not {expected:?}");
    }
    for (file, expected) in
        [("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("cgroup.procs", "")]
    {
        let found = kernel::read(group.join(file))?;
        ensure!(found == expected, "{file} is {found:?}, not {expected:?}");
    }
    node.pause_pid(&scene.pod).context("pause is not in its leaf")?;
    made.init().context("the container is not in its leaf")?;
    let shim = kernel::cgroup_of(node.shim_pid(&scene.pod)?)?;
    ensure!(shim == format!("/{SHIMS}/{}", scene.pod), "the shim is in {shim}");
    no_seed(node)?;
    let update = |memory| {
        let resources = Some(limits(70_000, memory));
        let pod_sandbox_id = scene.pod.clone();
        node.cri.update_pod_sandbox_resources(proto::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id,
            overhead: None,
            resources,
        })
    };
    update(128 * MIB)?;
    let both = |expected: [&str; 3]| {
        let found = [property(&name, "MemoryMax")?, property(&name, "CPUQuotaPerSecUSec")?];
        ensure!(found == expected[..2], "systemd knows {found:?}, not {expected:?}");
        let found = kernel::read(group.join("memory.max"))?;
        ensure!(found == expected[2], "the kernel has {found}, not {expected:?}");
        Ok(())
    };
    both(["134217728", "700ms", "134217728"])?;
    // Refused by berth, before systemd hears of it.
    let error = update(1).err().context("a limit of one byte")?;
    ensure!(error.code() == Code::InvalidArgument, "{error}");
    both(["134217728", "700ms", "134217728"])?;
    update(0)?;
    both(["infinity", "700ms", "max"])?;
    node.remove_pod(&scene.pod)?;
    gone(node)
}

/// Tries the kernel's log, and a device that everybody has.
const PROBE: &str = "[ -e /tmp/probe ] || mknod /tmp/probe c 1 11; \
    (: >>/tmp/probe) 2>/dev/null && echo kmsg; head -c 1 /dev/urandom >/dev/null && echo random";

fn reloads(node: &mut Node) -> Result<()> {
    let scene = Scene::with(node, "reload", |c| limited(c, limits(50_000, 64 * MIB), ""))?;
    let denied = scene
        .start("denied", pod::PATIENT, |c| pod::resources(c).memory_limit_in_bytes = 32 * MIB)?;
    let kmsg = proto::Device {
        host_path: "/dev/kmsg".into(),
        container_path: "/dev/kmsg".into(),
        permissions: "rwm".into(),
    };
    let allowed = scene.start("allowed", pod::PATIENT, |c| c.devices = vec![kmsg])?;
    let (group, name) = (scope(node, &scene.pod)?, scope_name(&scene.pod));
    let as_before = |after: &str| {
        for (file, expected) in [
            (group.join("memory.max"), "67108864"),
            (group.join("cpu.max"), "50000 100000"),
            (group.join(&denied.id).join("memory.max"), "33554432"),
        ] {
            let found = kernel::read(&file)?;
            ensure!(found == expected, "after {after}: {} is {found}", file.display());
        }
        for (made, expected) in [(&denied, "random"), (&allowed, "kmsg\nrandom")] {
            let found = node.exec_ok(&made.id, &["sh", "-c", PROBE])?;
            ensure!(found == expected, "after {after}: {found:?} instead of {expected:?}");
        }
        Ok(())
    };
    as_before("nothing")?;
    let properties = ["set-property", "--runtime"];
    for words in [
        vec!["daemon-reload"],
        [&properties[..], &["berth.slice", "CPUWeight=50"]].concat(),
        // systemd sets all that it knows of the CPU and of memory again.
        [&properties[..], &[name.as_str(), "CPUWeight=77", "MemoryHigh=60M"]].concat(),
        vec!["daemon-reload"],
        vec!["daemon-reexec"],
    ] {
        systemctl(&words)?;
        as_before(&words.join(" "))?;
    }
    ensure!(kernel::read(group.join("cpu.weight"))? == "77", "systemd's own word counts, too");
    // The control: a limit that systemd was not told of is set back.
    std::fs::write(group.join("memory.max"), "50000000")?;
    systemctl(&["set-property", "--runtime", &name, "MemoryHigh=61M"])?;
    as_before("a limit behind systemd's back")
}

/// What must not change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    shim: i32,
    /// Every cgroup of the pod and who is in it.
    processes: BTreeMap<PathBuf, Vec<i32>>,
    limits: BTreeMap<PathBuf, String>,
}

fn look(node: &Node, pods: &[(String, String)]) -> Result<Vec<Seen>> {
    let look = |(pod, container): &(String, String)| {
        let group = scope(node, pod)?;
        let mut seen =
            Seen { shim: node.shim_pid(pod)?, processes: BTreeMap::new(), limits: BTreeMap::new() };
        for folder in [group.clone(), group.join("pause"), group.join(container)] {
            for file in ["memory.max", "cpu.max", "pids.max"] {
                seen.limits.insert(folder.join(file), kernel::read(folder.join(file))?);
            }
            let mut pids = kernel::pids_in(&folder)?;
            pids.sort_unstable();
            seen.processes.insert(folder, pids);
        }
        Ok(seen)
    };
    pods.iter().map(look).collect()
}

/// The daemon's unit holds the daemon and nothing else.
fn one_process(node: &Node) -> Result<()> {
    let group = node.machine.cgroup_root.join("system.slice").join(UNIT);
    let (found, pid) = (kernel::pids_in(&group)?, node.pid()?);
    ensure!(found == [pid], "{found:?} in the unit of {pid}");
    ensure!(kernel::cgroups_below(&group).is_empty(), "cgroups below the unit's");
    let text = systemctl(&["status", "--no-pager", "--lines=0", UNIT])?;
    let tree = text.lines().skip_while(|line| !line.contains("CGroup:")).skip(1);
    let shown: Vec<&str> = tree.take_while(|line| !line.trim().is_empty()).collect();
    ensure!(shown.len() == 1 && shown[0].contains(&pid.to_string()), "{text}");
    Ok(())
}

fn every_end(node: &mut Node) -> Result<()> {
    type End = fn(&mut Node) -> Result<()>;
    let mut pods = Vec::new();
    for number in 0..5 {
        let slice = if number < 3 { String::new() } else { format!("berthtest-pod{number}.slice") };
        let scene = Scene::with(node, &format!("pod{number}"), |c| {
            limited(c, limits(20_000 + 10_000 * number, (64 + number) * MIB), &slice);
        })?;
        let made = scene.start("main", pod::PATIENT, |c| {
            pod::resources(c).memory_limit_in_bytes = (32 + number) * MIB;
        })?;
        pods.push((scene.pod.clone(), made.id));
    }
    no_seed(node)?;
    let before = look(node, &pods)?;
    for (number, seen) in before.iter().enumerate() {
        let limit = ((64 + number) << 20).to_string();
        ensure!(
            seen.limits.iter().any(|(file, found)| file.ends_with("memory.max") && *found == limit),
            "{seen:?}"
        );
        ensure!(seen.processes.values().filter(|pids| !pids.is_empty()).count() == 2, "{seen:?}");
    }
    one_process(node)?;
    let ends: [(&str, End); 4] = [
        ("restart", |_| systemctl(&["restart", UNIT]).map(drop)),
        ("stop", |_| systemctl(&["stop", UNIT]).map(drop)),
        ("kill -9", kill_and_wait),
        ("daemon-reload", |_| systemctl(&["daemon-reload"]).map(drop)),
    ];
    for (end, carry_out) in ends {
        let pid = node.pid()?;
        carry_out(node)?;
        ensure!(
            look(node, &pods)? == before,
            "after {end}: {:#?} and not {before:#?}",
            look(node, &pods)?
        );
        node.ensure_running()?;
        ensure!(
            (node.pid()? == pid) == (end == "daemon-reload"),
            "{end}: the same daemon, or another"
        );
        let after = look(node, &pods)?;
        ensure!(after == before, "after {end} and a start: {after:#?} and not {before:#?}");
        one_process(node).context(end)?;
        for (pod, container) in &pods {
            ensure!(node.pod(pod)?.state() == proto::PodSandboxState::SandboxReady, "{end}");
            let state = node.container(container)?.state();
            ensure!(state == proto::ContainerState::ContainerRunning, "{end}: {state:?}");
            ensure!(node.exec_ok(container, &["echo", "here"])? == "here", "{end}");
        }
    }
    node.remove_all()?;
    // A slice that a client names is the client's.
    systemctl(&["stop", SLICE])?;
    gone(node)
}

/// SIGKILL, and wait until systemd has started it again.
fn kill_and_wait(node: &mut Node) -> Result<()> {
    let pid = node.pid()?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    eventually("systemd has started it again", || {
        Ok(node.pid().is_ok_and(|now| now != pid).then_some(()))
    })
}

fn cut_off(node: &mut Node) -> Result<()> {
    type Moment = fn(&Path) -> bool;
    let moments: [(&str, Moment); 3] = [
        ("seed", |root| root.join("berth-helpers/seed").exists() || root.join(SHIMS).exists()),
        ("shim", |root| !kernel::names_in(&root.join(SHIMS)).iter().all(|name| name.len() != 64)),
        ("scope", |root| !kernel::cgroups_below(&root.join("berth.slice")).is_empty()),
    ];
    for (name, reached) in moments {
        let request = proto::RunPodSandboxRequest {
            config: Some(pod::pod(node, name)),
            ..Default::default()
        };
        let mut client = node.cri.runtime();
        let call = node.cri.begin(async move { client.run_pod_sandbox(request).await });
        let root = node.machine.cgroup_root.clone();
        eventually("the moment to kill it", || Ok(reached(&root).then_some(())))?;
        kill_and_wait(node)?;
        node.cri.finish(call).ok();
        node.answers()?;
        let pods = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
        for sandbox in pods {
            // Whole, if the kill came too late for it.
            ensure!(sandbox.state() == proto::PodSandboxState::SandboxReady, "{name}: {sandbox:?}");
            node.remove_pod(&sandbox.id)?;
        }
        gone(node).with_context(|| format!("cut off at its {name}"))?;
    }
    // A scope without any record.
    let stray = scope_name(&"0a".repeat(32));
    let mut run = Command::new("systemd-run")
        .args(["--scope", "--quiet", "--slice=berth.slice", "--unit", &stray, "sleep", "100000"])
        .stdin(Stdio::null())
        .spawn()?;
    eventually("the stray scope is there", || {
        Ok((property(&stray, "ActiveState")? == "active").then_some(()))
    })?;
    systemctl(&["restart", UNIT])?;
    node.answers()?;
    let end = poll::within(Duration::from_secs(60), "the stray's end", || Ok(run.try_wait()?))?;
    ensure!(!end.success(), "it ended by itself");
    gone(node)
}

fn parents(node: &mut Node) -> Result<()> {
    let answer = node.cri.runtime_config(proto::RuntimeConfigRequest {})?;
    let driver = answer.linux.context("no linux")?.cgroup_driver();
    ensure!(driver == proto::CgroupDriver::Systemd, "{driver:?}");
    for (parent, word) in [
        ("/kubepods/pod1", "systemd cgroup driver"),
        ("berthtest--x.slice", "empty"),
        ("/elsewhere.slice/berthtest-x.slice", "/berthtest.slice/berthtest-x.slice"),
    ] {
        let mut config = pod::pod(node, "refused");
        limited(&mut config, limits(0, 0), parent);
        let error = node.run_pod(&config).err().with_context(|| format!("{parent} is taken"))?;
        ensure!(error.code() == Code::InvalidArgument, "{error}");
        ensure!(error.message().contains(word), "{error}");
    }
    for parent in ["berthtest-x.slice", "/berthtest.slice/berthtest-x.slice"] {
        let scene = Scene::with(node, "taken", |c| limited(c, limits(0, 64 * MIB), parent))?;
        let expected = node.machine.cgroup_root.join("berthtest.slice/berthtest-x.slice");
        let found = scope(node, &scene.pod)?;
        ensure!(found.parent() == Some(&expected), "{}", found.display());
        node.remove_pod(&scene.pod)?;
    }
    systemctl(&["stop", SLICE])?;
    gone(node)
}

/// The cgroups of slices whose names end so.
fn slices_named(node: &Node, end: &str) -> Vec<PathBuf> {
    let all = kernel::cgroups_below(&node.machine.cgroup_root);
    all.into_iter().filter(|group| group.to_string_lossy().ends_with(end)).collect()
}

fn slices(node: &mut Node) -> Result<()> {
    let resources = json!({"resources": {"requests": {"cpu": "500m", "memory": "16Mi"}}});
    // The machine has no network for pods.
    let spec = json!({"hostNetwork": true, "containers": [with(patient("main"), resources)]});
    node.manifest("some.yaml", &keeps::pod("some", spec))?;
    let shown = node.wait_ready("some")?;
    let end = format!("kubepods-burstable-pod{}.slice", shown.uid().replace('-', "_"));
    let found = slices_named(node, &end);
    let [own] = found.as_slice() else { anyhow::bail!("{found:?}") };
    let class = own.parent().context("no class")?;
    let root = class.parent().context("no root")?;
    // 512 shares.
    let weight = kernel::read(own.join("cpu.weight"))?;
    ensure!(weight == "59", "the pod weighs {weight}");
    ensure!(kernel::read(class.join("cpu.weight"))? == weight, "the class weighs another");
    ensure!(kernel::read(own.join("pids.max"))? == "77");
    ensure!(kernel::read(root.join("memory.max"))? != "max", "all pods are held to nothing");
    systemctl(&["daemon-reload"])?;
    ensure!(kernel::read(own.join("cpu.weight"))? == weight, "systemd set it back");
    memory_is_kept(node, own, 16 * MIB)?;
    // Also when what is above has been told before.
    let more = with(patient("main"), json!({"resources": {"requests": {"memory": "8Mi"}}}));
    let more = json!({"hostNetwork": true, "containers": [more]});
    node.manifest("more.yaml", &keeps::pod("more", more))?;
    node.wait_ready("more")?;
    memory_is_kept(node, root, 24 * MIB)?;
    for pod in ["more", "some"] {
        node.remove_manifest(&format!("{pod}.yaml"))?;
        node.wait_gone(pod)?;
    }
    eventually("the pod's slice is gone", || Ok((!own.exists()).then_some(())))?;
    stop_slices()
}

/// A slice and all above it that is there for pods alone keep so much, and so does the scope in it.
fn memory_is_kept(node: &Node, slice: &Path, bytes: i64) -> Result<()> {
    let scopes = kernel::cgroups_below(slice).into_iter();
    let scopes = scopes.filter(|group| {
        group.parent() == Some(slice) && group.extension().is_some_and(|end| end == "scope")
    });
    // That one has a file, by which an operator says what it keeps.
    let installed = node.machine.cgroup_root.join("berth.slice");
    ensure!(kernel::read(installed.join("memory.min"))? == "0", "an operator's slice was changed");
    let above = slice.ancestors().take_while(|group| *group != installed);
    for group in above.map(Path::to_owned).chain(scopes) {
        let kept = kernel::read(group.join("memory.min"))?;
        ensure!(kept == bytes.to_string(), "{} keeps {kept}, not {bytes}", group.display());
    }
    Ok(())
}

/// Those of classes stay when their last pod has gone, as those of kubelets do.
fn stop_slices() -> Result<()> {
    systemctl(&["stop", "berth-tests.slice"]).map(drop)
}

/// What a process has called.
fn call_logind(method: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new("busctl");
    command.args(["call", "org.freedesktop.login1", "/org/freedesktop/login1"]);
    let output = command.args(["org.freedesktop.login1.Manager", method]).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{method}: {failed}");
    Ok(said)
}

/// A shutdown that in the end cannot be: its target is masked while it waits for the pods.
fn shutdown(node: &mut Node) -> Result<()> {
    let inhibitors = || call_logind("ListInhibitors", &[]);
    ensure!(inhibitors()?.contains("berth"), "no lock: {}", inhibitors()?);
    let drop_in = kernel::read("/etc/systemd/logind.conf.d/99-berth.conf")?;
    ensure!(drop_in.contains("InhibitDelayMaxSec=40"), "{drop_in}");
    let slow = |name: &str| sh(name, "trap 'sleep 10; exit 0' TERM; sleep 100000 & wait; wait");
    let grace = json!({"terminationGracePeriodSeconds": 15});
    let plain =
        || json!({"hostNetwork": true, "restartPolicy": "Never", "containers": [slow("main")]});
    let spec = |further: Value| with(with(plain(), grace.clone()), further);
    node.manifest("plain.yaml", &keeps::pod("plain", spec(json!({}))))?;
    let critical = json!({"priorityClassName": "system-node-critical"});
    node.manifest("needed.yaml", &keeps::pod("needed", spec(critical)))?;
    let before = [node.wait_ready("plain")?, node.wait_ready("needed")?];
    call_logind("Reboot", &["b", "false"])?;
    let reason = |pod: &str| -> Result<String> {
        let shown = node.find(pod)?.context("no status")?;
        Ok(shown.text("/pod/status/reason").to_owned())
    };
    eventually("the regular pod is to end", || {
        Ok((reason("plain")? == "Terminated").then_some(()))
    })?;
    systemctl(&["mask", "--runtime", "reboot.target"])?;
    ensure!(reason("needed")?.is_empty(), "the critical pod was to end first");
    let told = eventually("the node is not ready", || {
        let text = kernel::read(node.state_dir().join("kubelet/node.json"))?;
        Ok(text.contains("node is shutting down").then_some(text))
    })?;
    ensure!(told.contains("KubeletNotReady"), "{told}");
    node.manifest("late.yaml", &keeps::pod("late", plain()))?;
    let late = node.wait_phase("late", "Failed")?;
    ensure!(late.text("/pod/status/reason") == "NodeShutdown", "{late:?}");
    eventually("the critical pod is to end", || {
        Ok((reason("needed")? == "Terminated").then_some(()))
    })?;
    // logind finds no target, and says that the shutdown is none.
    for (pod, before) in [("plain", &before[0]), ("needed", &before[1])] {
        let again = node.wait_ready(pod)?;
        ensure!(again.id("main") != before.id("main"), "{pod} did not end");
    }
    node.wait_ready("late")?;
    eventually("the lock is there again", || Ok(inhibitors()?.contains("berth").then_some(())))?;
    systemctl(&["unmask", "--runtime", "reboot.target"])?;
    for pod in ["plain", "needed", "late"] {
        node.remove_manifest(&format!("{pod}.yaml"))?;
        node.wait_gone(pod)?;
    }
    stop_slices()
}
