//! Runtime handlers: the same pod by the native executor, by Debian's runc and by its crun.

use crate::checkpoint;
use crate::harness::leaks::Baseline;
use crate::harness::machine::{Machine, Need};
use crate::harness::oci::{script, text};
use crate::harness::pod::{PATIENT, pod, resources, security};
use crate::harness::scene::{Made, Scene, bind};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use crate::userns;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::Value;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("runc_makes_the_same_pod", NEEDS, options, |node| same(node, "runc")),
        own("crun_makes_the_same_pod", CRUN, options, |node| same(node, "crun")),
        own("what_fails_by_runc_is_told_in_its_words", NEEDS, options, |n| failures(n, "runc")),
        own("what_fails_by_crun_is_told_in_its_words", CRUN, options, |n| failures(n, "crun")),
        own("runcs_containers_outlive_the_daemon", NEEDS, options, |node| recovery(node, "runc")),
        own("cruns_containers_outlive_the_daemon", CRUN, options, |node| recovery(node, "crun")),
        own("runcs_containers_stop_and_leave_nothing", NEEDS, options, |node| stop(node, "runc")),
        own("cruns_containers_stop_and_leave_nothing", CRUN, options, |node| stop(node, "crun")),
        own("limits_are_berths_with_every_handler", LIMITS, options, limits),
        own("handlers_are_told_and_unknown_ones_refused", NEEDS, options, known),
        own("ids_of_mounts_are_mapped_and_pods_are_not", MAPPED, options, mapped),
    ]
}

pub(crate) const NEEDS: &[Need] = &[Need::Engines];
const MAPPED: &[Need] = &[Need::Engines, Need::MappedTmpfs];
/// crun raises its own limit of locked memory.
pub(crate) const CRUN: &[Need] = &[Need::Engines, Need::Resources];
const LIMITS: &[Need] = &[Need::Engines, Need::Resources, Need::Controllers];

/// The folder of Debian's programs.
pub(crate) fn peers(machine: &Machine) -> PathBuf {
    machine.peers.clone().unwrap_or_default()
}

/// crun's libraries are unpacked beside it.
fn crun(machine: &Machine) -> Result<PathBuf> {
    let peers = peers(machine);
    let base = std::env::var_os("BERTH_TEST_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = base.join(format!("crun-{}", std::process::id()));
    let libraries = peers.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let program = near(&peers.join("usr/bin/crun"))?;
    let line = format!("LD_LIBRARY_PATH={} exec {} \"$@\"", text(&libraries)?, text(&program)?);
    script(&path, &line)?;
    Ok(path)
}

/// A program in memory: where the machine's disk is another's, reading it page by page takes long.
pub(crate) fn near(program: &Path) -> Result<PathBuf> {
    let base = std::env::var_os("BERTH_TEST_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
    let name = program.file_name().context("no name")?;
    let path = base.join(format!("near-{}-{}", std::process::id(), name.to_string_lossy()));
    if !path.exists() {
        std::fs::copy(program, &path)?;
    }
    Ok(path)
}

pub(crate) fn options(machine: &Machine) -> Options {
    let runc = near(&peers(machine).join("usr/bin/runc")).unwrap_or_default();
    let crun = crun(machine).unwrap_or_default();
    let config = format!(
        "[runtimes.runc]\npath = {runc:?}\n[runtimes.crun]\npath = {crun:?}\n\
         [runtimes.absent]\npath = \"/no/such/runtime\"\n"
    );
    Options { config, ..Options::default() }
}

/// A pod whose containers are made by `handler`.
pub(crate) fn by<'n>(node: &'n Node, handler: &str, what: &str) -> Result<Scene<'n>> {
    let name = format!("{what}-{}", if handler.is_empty() { "native" } else { handler });
    let config = pod(node, &name);
    let request = proto::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let pod = node.cri.run_pod_sandbox(request)?.pod_sandbox_id;
    Ok(Scene { node, config, pod })
}

/// What the runtime itself keeps of a container.
fn state_of(node: &Node, id: &str, file: &str) -> Result<Value> {
    let path = node.run_dir().join("containers").join(id).join("handler/state").join(id).join(file);
    Ok(serde_json::from_str(&kernel::read(path)?)?)
}

/// Whether a handler's runtime knows this process as that of the container.
pub(crate) fn kept_by(node: &Node, handler: &str, id: &str, pid: i32) -> Result<()> {
    let (file, key) = match handler {
        "runc" => ("state.json", "init_process_pid"),
        "crun" => ("status", "pid"),
        _ => {
            let folder = node.run_dir().join("containers").join(id).join("handler");
            ensure!(!folder.exists(), "the native executor left something for a runtime");
            return Ok(());
        }
    };
    let state = state_of(node, id, file)?;
    ensure!(state[key] == pid, "{handler} does not have {pid}: {state}");
    Ok(())
}

/// Answers the same whoever made the container.
const LOOK: &str = "echo out; echo err >&2; id -u; pwd; cat /data/file; echo $HOSTNAME; \
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n; ulimit -Hn; \
    cat /proc/self/oom_score_adj; ls /dev | grep -v core | tr '\\n' ' '; stat -c %a /dev/shm; umask; \
    cat /etc/hostname; test -w /proc/sys/kernel && echo writable; touch /data/x 2>/dev/null || echo read-only; exit 7";

fn same(node: &mut Node, other: &'static str) -> Result<()> {
    let node = &*node;
    let volume = node.volume("data")?;
    std::fs::write(volume.join("file"), "content\n")?;
    let mut said = Vec::new();
    for handler in ["", other] {
        let scene = by(node, handler, "same").with_context(|| handler.to_owned())?;
        let change = |c: &mut proto::ContainerConfig| {
            c.mounts = vec![proto::Mount { readonly: true, ..bind(&volume, "/data") }];
            c.working_dir = "/tmp".into();
            c.envs = vec![proto::KeyValue { key: "HOSTNAME".into(), value: "named".into() }];
            let security = security(c);
            security.run_as_user = Some(proto::Int64Value { value: 1000 });
            security.no_new_privs = true;
            security.seccomp = Some(proto::SecurityProfile {
                profile_type: proto::security_profile::ProfileType::RuntimeDefault.into(),
                ..Default::default()
            });
        };
        let (status, text) = scene.output("look", LOOK, change)?;
        ensure!(status.exit_code == 7 && status.reason == "Error", "{handler}: {status:?}");
        let of = |stream: &str| -> Result<String> {
            let log = PathBuf::from(&scene.config.log_directory).join("look.log");
            Ok(crate::harness::logs::stream(&crate::harness::logs::read(&log)?, stream))
        };
        ensure!(of("stderr")?.trim() == "err", "{handler}: {text}");
        let out = of("stdout")?.replace(&scene.config.hostname, "POD");
        ensure!(out.contains("content") && out.contains("read-only"), "{handler}: {out}");
        said.push(out);

        // Namespaces: the pod's are pause's, the container's are its own.
        let main = scene.start("main", PATIENT, |_| ())?;
        let (init, pause) = (main.init()?, node.pause_pid(&scene.pod)?);
        for kind in ["ipc", "net", "uts"] {
            let (ours, pods) = (kernel::namespace(init, kind)?, kernel::namespace(pause, kind)?);
            ensure!(ours == pods, "{handler}: another {kind} namespace than pause's");
        }
        for kind in ["pid", "mnt", "cgroup"] {
            let (ours, pods) = (kernel::namespace(init, kind)?, kernel::namespace(pause, kind)?);
            ensure!(ours != pods, "{handler}: the {kind} namespace of pause");
        }
        ensure!(kernel::cgroup_of(init)?.ends_with(&main.id), "{}", kernel::cgroup_of(init)?);
        kept_by(node, handler, &main.id, init)?;
        // The shim is its parent, and nothing of the runtime stays.
        let parent: i32 = kernel::status_field(init, "PPid")?.parse()?;
        ensure!(parent == node.shim_pid(&scene.pod)?, "{handler}: the parent is {parent}");
        let beside = kernel::pids_in(&shims(node, &scene.pod))?;
        ensure!(beside == [parent], "{handler}: beside the shim: {beside:?}");
        exec(node, &main).with_context(|| format!("exec by {handler:?}"))?;
        node.remove_pod(&scene.pod)?;
    }
    ensure!(said[0] == said[1], "{other} differs:\n{}\n{}", said[0], said[1]);
    Ok(())
}

fn shims(node: &Node, pod: &str) -> PathBuf {
    node.machine.cgroup_root.join("berth-shims").join(pod)
}

/// Commands in a container: output, codes, a timeout that ends the whole tree, a missing program.
fn exec(node: &Node, made: &Made<'_>) -> Result<()> {
    let run = |command: &[&str], timeout| {
        let command = ["sh", "-c"].iter().chain(command).map(|w| (*w).to_owned()).collect();
        let container_id = made.id.clone();
        node.cri.exec_sync(proto::ExecSyncRequest { container_id, cmd: command, timeout })
    };
    let done = run(&["echo out; echo err >&2; exit 3"], 0)?;
    ensure!(
        (done.exit_code, &done.stdout[..], &done.stderr[..]) == (3, b"out\n", b"err\n"),
        "{done:?}"
    );
    // At once, over and over: no end is lost.
    for _ in 0..5 {
        let done = run(&["exit 4"], 0)?;
        ensure!(done.exit_code == 4, "{done:?}");
    }
    let group = made.cgroup();
    let slots = || kernel::cgroups_below(&group);
    let late = run(&["sleep 1000 & sleep 1000"], 1).err().context("it ended")?;
    ensure!(late.code() == Code::DeadlineExceeded, "{late}");
    eventually("its tree is gone", || {
        let pids = slots().iter().map(|slot| kernel::pids_in(slot)).collect::<Result<Vec<_>>>()?;
        Ok(pids.concat().is_empty().then_some(()))
    })?;
    ensure!(!slots().is_empty(), "it was in no cgroup of its own");
    ensure!(kernel::alive(made.init()?), "the container went with it");
    let container_id = made.id.clone();
    let request = proto::ExecSyncRequest { container_id, cmd: vec!["/no/such".into()], timeout: 0 };
    let missing = node.cri.exec_sync(request).err().context("a missing program ran")?;
    let words = missing.message().to_lowercase();
    ensure!(words.contains("no such file or directory"), "{missing}");
    Ok(())
}

fn failures(node: &mut Node, handler: &str) -> Result<()> {
    let node = &*node;
    let scene = by(node, handler, "fails")?;
    let id = scene.create("missing", &["/no/such/program"], |_| ())?;
    let error = node.start_container(&id).err().context("it started")?;
    let status = node.container(&id)?;
    ensure!((status.exit_code, &status.reason[..]) == (128, "StartError"), "{status:?}");
    for words in [error.message(), &status.message] {
        ensure!(words.contains("/no/such/program"), "{handler}: {words}");
        ensure!(words.contains(handler), "{handler}: {words}");
    }
    // The failed start left nothing, and the pod goes on.
    ensure!(!node.container_cgroup(&scene.pod, &id).exists(), "{handler}: a cgroup is left");
    let left = kernel::names_in(&node.run_dir().join("containers").join(&id).join("handler/state"));
    ensure!(left.is_empty(), "{handler}: its state is left: {left:?}");
    let (status, text) = scene.output("next", "echo fine", |_| ())?;
    ensure!(status.exit_code == 0 && text == "fine\n", "{status:?}: {text}");
    node.remove_pod(&scene.pod)?;
    let log = kernel::read(node.log_file())?;
    ensure!(!log.contains("did not delete"), "{handler} did not delete what it had not begun");
    Ok(())
}

fn recovery(node: &mut Node, handler: &str) -> Result<()> {
    let scene = by(node, handler, "stays")?;
    let script = "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let stays = scene.script("stays", script, |_| ())?;
    let ends = scene.script("ends", "while ! test -e /go/go; do sleep 0.1; done; exit 5", |c| {
        let volume = node.volume("go").unwrap_or_default();
        c.mounts = vec![bind(&volume, "/go")];
    })?;
    stays.said("up")?;
    let (init, pod) = (stays.init()?, scene.pod.clone());
    let (stays, ends) = (stays.id, ends.id);
    node.kill()?;
    // It ends while nobody is there to hear it.
    let exits = node.run_dir().join("sandboxes").join(&pod).join("exits").join(&ends);
    std::fs::write(node.volume("go")?.join("go"), "")?;
    eventually("its end is written down", || Ok(exits.exists().then_some(())))?;
    node.launch()?;
    let status = node.wait_exited(&ends)?;
    ensure!(status.exit_code == 5, "{handler}: {status:?}");
    ensure!(node.init_pid(&pod, &stays)? == init, "{handler}: another process");
    kept_by(node, handler, &stays, init)?;
    let told = proto::PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
    let told = node.cri.pod_sandbox_status(told)?.status.context("no status")?;
    ensure!(told.runtime_handler == handler, "{handler}: {}", told.runtime_handler);
    // Its handler works as before.
    let command = ["sh", "-c", "exit 6"].map(str::to_owned).to_vec();
    let request = proto::ExecSyncRequest { container_id: stays.clone(), cmd: command, timeout: 0 };
    ensure!(node.cri.exec_sync(request)?.exit_code == 6, "{handler}: exec");
    let request = proto::StopContainerRequest { container_id: stays.clone(), timeout: 60 };
    node.cri.stop_container(request)?;
    let status = node.wait_exited(&stays)?;
    ensure!(status.exit_code == 9, "{handler}: {status:?}");
    node.remove_pod(&pod)?;
    std::fs::remove_file(node.volume("go")?.join("go"))?;
    Ok(())
}

fn stop(node: &mut Node, handler: &str) -> Result<()> {
    let node = &*node;
    let before = Baseline::take(node)?;
    let scene = by(node, handler, "stop")?;
    let deaf =
        scene.script("deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done", |_| ())?;
    deaf.said("up")?;
    let init = deaf.init()?;
    let request = proto::StopContainerRequest { container_id: deaf.id.clone(), timeout: 1 };
    node.cri.stop_container(request)?;
    let status = deaf.end()?;
    ensure!(status.exit_code == 137, "{handler}: {status:?}");
    ensure!(!kernel::alive(init), "{handler}: it runs");
    // The runtime has forgotten it, and its cgroup is gone.
    let state = node.run_dir().join("containers").join(&deaf.id).join("handler/state");
    ensure!(kernel::names_in(&state).is_empty(), "{handler}: {:?}", kernel::names_in(&state));
    ensure!(!deaf.cgroup().exists(), "{handler}: its cgroup is left");
    // One that runs goes with its pod.
    let runs = scene.start("runs", PATIENT, |_| ())?;
    let words = format!("is made by the runtime handler {handler:?}");
    checkpoint::refused(node, &scene.pod, &runs.id, &words)?;
    node.remove_pod(&scene.pod)?;
    before.compare(node)
}

fn limits(node: &mut Node) -> Result<()> {
    let node = &*node;
    for handler in ["", "runc", "crun"] {
        let scene = by(node, handler, "limits")?;
        let main = scene.start("main", PATIENT, |c| {
            let limits = resources(c);
            (limits.memory_limit_in_bytes, limits.cpu_shares) = (64 << 20, 1024);
            (limits.cpu_quota, limits.cpu_period) = (20_000, 100_000);
        })?;
        let group = main.cgroup();
        let read =
            |file: &str| Ok::<_, anyhow::Error>(kernel::read(group.join(file))?.trim().to_owned());
        let expected =
            [("memory.max", "67108864"), ("cpu.weight", "100"), ("cpu.max", "20000 100000")];
        for (file, value) in expected {
            ensure!(read(file)? == value, "{handler}: {file} {}", read(file)?);
        }
        let update = proto::LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        };
        node.cri.update_container_resources(proto::UpdateContainerResourcesRequest {
            container_id: main.id.clone(),
            linux: Some(update),
            ..Default::default()
        })?;
        ensure!(read("memory.max")? == "100663296", "{handler}: {}", read("memory.max")?);
        ensure!(read("cpu.weight")? == "100", "{handler}: {}", read("cpu.weight")?);
        let request = proto::ContainerStatsRequest { container_id: main.id.clone() };
        let stats = node.cri.container_stats(request)?.stats.context("no stats")?;
        let used = stats.memory.and_then(|m| m.usage_bytes).map_or(0, |v| v.value);
        ensure!(used > 0, "{handler}: no memory is counted");
        // Memory that is not there ends it, and says so.
        let eats = scene.script("eats", "tail /dev/zero", |c| {
            resources(c).memory_limit_in_bytes = 16 << 20;
        })?;
        let status = eats.end()?;
        ensure!(status.reason == "OOMKilled" && status.exit_code == 137, "{handler}: {status:?}");
        node.remove_pod(&scene.pod)?;
    }
    Ok(())
}

fn mapped(node: &mut Node) -> Result<()> {
    let node = &*node;
    let run = |handler: &str| {
        let mut config = pod(node, "mapped");
        userns::pod_from(userns::BASE)(&mut config);
        let (config, runtime_handler) = (Some(config), handler.to_owned());
        node.cri.run_pod_sandbox(proto::RunPodSandboxRequest { config, runtime_handler })
    };
    let refused = run("runc").err().context("runc runs a pod in a user namespace")?;
    ensure!(refused.code() == Code::FailedPrecondition, "{refused}");
    for words in ["userns_options", "runc"] {
        ensure!(refused.message().contains(words), "no {words:?} in {refused}");
    }
    node.remove_pod(&run("")?.pod_sandbox_id)?;
    // An id map of a mount is berth's affair, whoever makes the container.
    for handler in ["", "runc"] {
        let volume = node.volume(&format!("mapped-{handler}"))?;
        std::os::unix::fs::chown(&volume, Some(5000), Some(6000))?;
        let scene = by(node, handler, "mapped")?;
        let (status, text) = scene.output("main", "touch /m/f; stat -c %u:%g /m /m/f", |c| {
            c.mounts = vec![proto::Mount {
                uid_mappings: userns::map(5000, 0, 10),
                gid_mappings: userns::map(6000, 0, 10),
                ..bind(&volume, "/m")
            }];
        })?;
        ensure!(status.exit_code == 0 && text == "0:0\n0:0\n", "{handler:?}: {text}");
        let about = std::fs::metadata(volume.join("f"))?;
        ensure!((about.uid(), about.gid()) == (5000, 6000), "{handler:?}: {about:?}");
        node.remove_pod(&scene.pod)?;
    }
    Ok(())
}

fn known(node: &mut Node) -> Result<()> {
    let node = &*node;
    let run = |handler: &str| {
        let request = proto::RunPodSandboxRequest {
            config: Some(pod(node, "nobody")),
            runtime_handler: handler.to_owned(),
        };
        node.cri.run_pod_sandbox(request)
    };
    let unknown = run("kata").err().context("an unknown handler was taken")?;
    ensure!(unknown.code() == Code::InvalidArgument, "{unknown}");
    ensure!(unknown.message().contains("kata"), "{unknown}");
    let absent = run("absent").err().context("a handler without a program was taken")?;
    ensure!(absent.code() == Code::FailedPrecondition, "{absent}");
    ensure!(absent.message().contains("/no/such/runtime"), "{absent}");
    let list = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
    ensure!(list.is_empty(), "{list:?}");

    let status = node.cri.status(proto::StatusRequest::default())?;
    let handlers: Vec<(&str, bool)> = status
        .runtime_handlers
        .iter()
        .map(|h| (&h.name[..], h.features.is_some_and(|f| f.recursive_read_only_mounts)))
        .collect();
    // Debian's crun is older than the verb that tells features.
    ensure!(handlers == [("", true), ("crun", false), ("runc", true)], "{handlers:?}");
    let conditions = status.status.context("no status")?.conditions;
    let bad = conditions.iter().find(|c| c.r#type == "RuntimeHandlersReady");
    let bad = bad.context("a handler without a program is not told")?;
    ensure!(!bad.status && bad.message.contains("/no/such/runtime"), "{bad:?}");
    let check = node.berth(&["check"])?;
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    ensure!(text.contains("absent") && text.contains("/no/such/runtime"), "{text}");
    ensure!(kernel::read(node.log_file())?.contains("/no/such/runtime"), "the start did not say");

    let namespaces = status.runtime_handlers.iter();
    let namespaces: Vec<(&str, bool)> =
        namespaces.map(|h| (&h.name[..], h.features.is_some_and(|f| f.user_namespaces))).collect();
    let native = node.machine.has(Need::MappedTmpfs);
    ensure!(namespaces == [("", native), ("crun", false), ("runc", false)], "{namespaces:?}");

    // Recursive read-only is there exactly where it was told to be.
    let volume = node.volume("rro")?;
    for (handler, can) in [("runc", true), ("crun", false)] {
        let scene = by(node, handler, "rro")?;
        let made = scene.create("main", PATIENT, |c| {
            let mount = bind(Path::new(&volume), "/data");
            c.mounts = vec![proto::Mount { readonly: true, recursive_read_only: true, ..mount }];
        });
        ensure!(made.is_ok() == can, "{handler}: {made:?}");
        if let Err(refused) = made {
            let begins = refused.message().starts_with("RROUnsupported");
            ensure!(begins && refused.message().contains("crun"), "{refused}");
        }
        node.remove_pod(&scene.pod)?;
    }
    Ok(())
}
