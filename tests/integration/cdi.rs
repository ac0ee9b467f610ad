//! Devices by CDI names: what the specifications in the node's folders say is what a container has.

use crate::harness::machine::Machine;
use crate::harness::machine::Need::MappedTmpfs;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod};
use crate::userns;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_device_brings_what_its_specification_says", &[], options, brings),
        own("a_device_that_cannot_be_had_is_named", &[], options, refused),
        own("hooks_run_at_their_moments_in_their_namespaces", &[], options, hooks),
        own("a_hook_that_fails_ends_the_start", &[], options, failing_hooks),
        own("devices_and_hooks_are_had_in_a_user_namespace", &[MappedTmpfs], options, mapped),
        own("a_hook_of_a_killed_daemon_ends", &[], options, orphaned_hook),
    ]
}

/// A test is given its options before its folder: the folders are those of this process.
fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("berth-cdi-{}", std::process::id())).join(name)
}

fn options(_: &Machine) -> Options {
    let config = format!("\n[cdi]\ndirs = [{:?}, {:?}]\n", folder("etc"), folder("run"));
    Options { config, ..Options::default() }
}

/// The folders of specifications, as long as this lives.
struct Folders;

impl Folders {
    fn make() -> Result<Self> {
        for name in ["etc", "run"] {
            std::fs::create_dir_all(folder(name))?;
        }
        Ok(Self)
    }

    fn write(&self, name: &str, spec: &Value) -> Result<()> {
        let text = match name.ends_with(".yaml") {
            true => serde_yaml_ng::to_string(spec)?,
            false => spec.to_string(),
        };
        Ok(std::fs::write(folder(name), text)?)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        std::fs::remove_dir_all(folder("")).ok();
    }
}

fn spec(kind: &str, devices: &[(&str, Value)], edits: &Value) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|(name, edits)| json!({ "name": name, "containerEdits": edits }))
        .collect();
    json!({ "cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": edits })
}

fn by_field(c: &mut proto::ContainerConfig, names: &[&str]) {
    c.cdi_devices = names.iter().map(|&name| proto::CdiDevice { name: name.into() }).collect();
}

/// What a container with and one without the devices have; the kernel's log stands for a device
/// that is denied otherwise.
const PROBE: &str = "echo env=$GPU,$COMMON,$OVER; id -G; stat -c '%F %t:%T %u' /dev/gpu0 2>/dev/null; \
    cat /opt/driver/lib 2>/dev/null; (: >>/opt/driver/lib) 2>/dev/null || echo sealed; \
    mknod /tmp/probe c 1 11; (: >>/tmp/probe) 2>/dev/null && echo may write || echo must not write";

fn brings(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let driver = node.volume("cdi-driver")?;
    std::fs::write(driver.join("lib"), "a library\n")?;
    let device = json!({ "path": "/dev/gpu0", "hostPath": "/dev/kmsg", "permissions": "rw" });
    let zero = json!({ "env": ["GPU=zero"], "deviceNodes": [device] });
    let mount = json!({
        "hostPath": driver, "containerPath": "/opt/driver", "options": ["ro", "nosuid", "rbind"],
    });
    let common = json!({ "env": ["COMMON=yes"], "mounts": [mount], "additionalGids": [4321] });
    folders.write("etc/vendor.yaml", &spec("vendor.test/gpu", &[("0", zero)], &common))?;
    // The second folder goes before the first.
    for (file, value) in [("etc/over.json", "first"), ("run/over.json", "second")] {
        let edits = json!({ "env": [format!("OVER={value}")] });
        folders.write(file, &spec("vendor.test/over", &[("x", edits)], &json!({})))?;
    }
    let scene = Scene::new(node, "cdi")?;
    let names = ["vendor.test/gpu=0", "vendor.test/over=x"];
    let expected = "env=zero,yes,second\n0 4321\ncharacter special file 1:b 0\na library\nsealed\n\
        may write\n";
    let text = scene.output("field", PROBE, |c| by_field(c, &names))?.1;
    ensure!(text == expected, "{text:?}");
    let annotated = |c: &mut proto::ContainerConfig| {
        c.annotations.insert("cdi.k8s.io/plugin_gpu".into(), names.join(","));
        // Named twice, given once.
        by_field(c, &names[..1]);
    };
    let text = scene.output("annotation", PROBE, annotated)?.1;
    ensure!(text == expected, "{text:?}");
    // A process that is not root may use its device.
    let text = scene
        .output("user", "stat -c %u:%g /dev/gpu0; : >>/dev/gpu0 && echo may write", |c| {
            by_field(c, &names);
            let security = pod::security(c);
            security.run_as_user = Some(proto::Int64Value { value: 1000 });
            security.run_as_group = Some(proto::Int64Value { value: 1000 });
        })?
        .1;
    ensure!(text == "1000:1000\nmay write\n", "{text:?}");
    let text = scene.output("control", PROBE, as_is)?.1;
    ensure!(text == "env=,,\n0\nsealed\nmust not write\n", "{text:?}");
    Ok(())
}

fn refused(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let good = |name: &'static str| (name, json!({ "env": ["A=b"] }));
    folders.write("etc/a.json", &spec("v.test/c", &[good("twice"), good("fine")], &json!({})))?;
    folders.write("etc/b.json", &spec("v.test/c", &[good("twice")], &json!({})))?;
    let nodes = json!({ "deviceNodes": [{ "path": "/dev/no-such-device" }] });
    let library = json!({ "mounts": [{ "hostPath": "/no/such/lib", "containerPath": "/lib/x" }] });
    let rdt = json!({ "intelRdt": { "closID": "x" } });
    let devices = [("node", nodes), ("library", library), ("rdt", rdt)];
    folders.write("etc/bad.json", &spec("v.test/bad", &devices, &json!({})))?;
    std::fs::write(folder("run/broken.yaml"), "kind: [")?;
    let scene = Scene::new(node, "cdi-refused")?;
    let rows: [(&str, Code, &[&str]); 7] = [
        ("v.test/c=none", Code::FailedPrecondition, &["v.test/c=none", "broken.yaml"]),
        ("v.test/c=twice", Code::FailedPrecondition, &["v.test/c=twice", "a.json", "b.json"]),
        ("v.test/bad=node", Code::FailedPrecondition, &["v.test/bad=node", "/dev/no-such-device"]),
        ("v.test/bad=library", Code::FailedPrecondition, &["v.test/bad=library", "/no/such/lib"]),
        ("v.test/bad=rdt", Code::Unimplemented, &["v.test/bad=rdt", "intelRdt"]),
        ("gpu0", Code::InvalidArgument, &["CDI_devices[0]", "gpu0"]),
        ("v.test/c=", Code::InvalidArgument, &["CDI_devices[0]", "v.test/c="]),
    ];
    for (name, code, words) in rows {
        let error = scene
            .create("main", pod::PATIENT, |c| by_field(c, &[name]))
            .err()
            .with_context(|| format!("{name}: created"))?;
        ensure!(error.code() == code, "{name}: {error:?}");
        ensure!(words.iter().all(|word| error.message().contains(word)), "{name}: {error}");
    }
    let error = scene
        .create("main", pod::PATIENT, |c| {
            c.annotations.insert("cdi.k8s.io/x".into(), "v.test/c=fine,nonsense".into());
        })
        .err()
        .context("nonsense is a device")?;
    ensure!(
        error.code() == Code::InvalidArgument && error.message().contains("nonsense"),
        "{error}"
    );
    let library = PathBuf::from("/no/such/lib");
    ensure!(!library.exists(), "a missing library was made up");
    scene.create("main", pod::PATIENT, |c| by_field(c, &["v.test/c=fine"])).context("control")?;
    Ok(())
}

fn hook(name: &str, script: &str) -> Value {
    let env = ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"];
    json!({ "hookName": name, "path": "/bin/sh", "args": ["sh", "-c", script], "env": env })
}

/// Writes a device of hooks; its name.
fn hooked(folders: &Folders, name: &str, hooks: &[Value]) -> Result<String> {
    let device = (name, json!({ "hooks": hooks }));
    folders.write(&format!("etc/{name}.json"), &spec("hook.test/dev", &[device], &json!({})))?;
    Ok(format!("hook.test/dev={name}"))
}

fn mount_namespace(pid: i32) -> Result<String> {
    Ok(std::fs::read_link(format!("/proc/{pid}/ns/mnt"))?.to_string_lossy().into_owned())
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hooks(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let folder = node.volume("cdi-hooks")?;
    let told = folder.join("told");
    // The moment, the state's status, its own mount namespace, that of the state's pid.
    let tell = |name: &str, file: &str| {
        format!(
            "s=$(cat); f() {{ echo \"$s\" | sed \"s/.*\\\"$1\\\":\\\"*\\([a-z0-9]*\\).*/\\1/\"; }}; \
             echo {name} $(f status) $(readlink /proc/self/ns/mnt) \
             $(readlink /proc/$(f pid)/ns/mnt) >>{file}"
        )
    };
    let outside = told.to_string_lossy().into_owned();
    let create_container = format!(
        "{}; grep -q '\"path\": *\"rootfs\"' config.json && echo by a hook >rootfs/made",
        tell("createContainer", &outside)
    );
    let all = [
        hook("createRuntime", &tell("createRuntime", &outside)),
        hook("createContainer", &create_container),
        hook("startContainer", "echo startContainer $(pwd) $(cat /made) >>/hooks/told"),
        hook("poststart", &tell("poststart", &outside)),
        hook("poststop", &tell("poststop", &outside)),
    ];
    let name = hooked(&folders, "all", &all)?;
    let scene = Scene::new(node, "cdi-hooks")?;
    let mount = crate::harness::scene::bind(&folder, "/hooks");
    let made = scene.start("main", pod::PATIENT, |c| {
        by_field(c, &[&name]);
        c.mounts = vec![mount.clone()];
        pod::security(c).readonly_rootfs = true;
    })?;
    let control = scene.start("control", pod::PATIENT, |c| {
        c.mounts = vec![mount.clone()];
        pod::security(c).readonly_rootfs = true;
    })?;
    ensure!(node.exec_ok(&made.id, &["cat", "/made"])? == "by a hook");
    let (_, _, code) = node.exec(&control.id, &["cat", "/made"], 0)?;
    ensure!(code != 0, "the control has what the hook made");
    let (_, _, code) = node.exec(&made.id, &["touch", "/probe"], 0)?;
    ensure!(code != 0, "the root is writable");
    let (daemon, inside) = (mount_namespace(node.pid()?)?, mount_namespace(made.init()?)?);
    let expected = [
        format!("createRuntime creating {daemon} {inside}"),
        format!("createContainer creating {inside} {inside}"),
        "startContainer / by a hook".to_owned(),
        format!("poststart running {daemon} {inside}"),
    ];
    ensure!(lines(&told) == expected, "{:?} instead of {expected:?}", lines(&told));
    // Nothing of the host's tree is left in the container.
    let points = |made: &crate::harness::scene::Made<'_>| -> Result<Vec<String>> {
        let all = kernel::mounts(&made.init()?.to_string())?;
        let line = |m: kernel::Mount| format!("{} {} {}", m.kind, m.point, m.options);
        let mut lines: Vec<String> = all.into_iter().map(line).collect();
        lines.sort();
        Ok(lines)
    };
    let (with, without) = (points(&made)?, points(&control)?);
    ensure!(with == without, "{with:?} instead of {without:?}");
    ensure!(node.exec_ok(&made.id, &["ls", "/dev/shm"])?.is_empty(), "its /dev/shm");
    let stop = proto::StopContainerRequest { container_id: made.id.clone(), timeout: 5 };
    node.cri.stop_container(stop)?;
    eventually("poststop ran", || {
        let last = lines(&told).pop().unwrap_or_default();
        Ok(last.starts_with(&format!("poststop stopped {daemon}")).then_some(()))
    })?;
    node.remove_all()?;
    ensure!(lines(&told).len() == 5, "a hook ran twice: {:?}", lines(&told));
    Ok(())
}

fn failing_hooks(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let folder = node.volume("cdi-failing")?;
    let scene = Scene::new(node, "cdi-failing")?;
    for moment in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let ended = folder.join(moment);
        let all = [
            hook(moment, "echo no such luck >&2; exit 3"),
            hook("poststop", &format!("echo ended >{}", ended.display())),
        ];
        let name = hooked(&folders, &moment.to_lowercase(), &all)?;
        let id = scene.create(moment, pod::PATIENT, |c| by_field(c, &[&name]))?;
        let error =
            node.start_container(&id).err().with_context(|| format!("{moment}: started"))?;
        for words in [moment, "ended with 3", "no such luck"] {
            ensure!(error.message().contains(words), "{moment}: no {words:?} in {error}");
        }
        let told = node.container(&id)?;
        ensure!(told.exit_code == 128 && told.reason == "StartError", "{moment}: {told:?}");
        ensure!(lines(&ended) == ["ended"], "{moment}: poststop did not run");
    }
    let fine = hooked(&folders, "fine", &[hook("createRuntime", "exit 0")])?;
    scene.start("control", pod::PATIENT, |c| by_field(c, &[&fine])).map(drop)
}

fn mapped(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let folder = node.volume("cdi-mapped")?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    std::fs::write(folder.join("lib"), "a library\n")?;
    let outside = folder.join("outside");
    let tell = |name: &str, file: &str| {
        hook(name, &format!("read a b c </proc/self/uid_map; echo {name} $a $b >>{file}"))
    };
    let told = outside.to_string_lossy();
    let edits = json!({
        "env": ["GPU=mapped"],
        "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/kmsg", "permissions": "rw" }],
        "mounts": [{
            "hostPath": folder, "containerPath": "/opt/driver", "options": ["rw", "rbind"],
        }],
        "hooks": [
            tell("createRuntime", &told),
            tell("startContainer", "/opt/driver/inside"),
            tell("poststart", &told),
            tell("poststop", &told),
        ],
    });
    folders.write("etc/mapped.json", &spec("v.test/mapped", &[("x", edits)], &json!({})))?;
    let inner = hooked(&folders, "inner", &[hook("createContainer", "exit 0")])?;
    let base = userns::BASE;
    let scene = Scene::with(node, "cdi-mapped", userns::pod_from(base))?;
    let probe = "echo $GPU; stat -c '%F %t:%T %u:%g' /dev/gpu0; : >>/dev/gpu0 && echo may write; \
        cat /opt/driver/lib; mknod /n c 1 11 || echo cannot make nodes";
    let made = scene.script("main", probe, |c| {
        userns::from(c, base);
        by_field(c, &["v.test/mapped=x"]);
    })?;
    ensure!(made.end()?.exit_code == 0, "{}", made.text()?);
    let text = crate::harness::logs::stream(&crate::harness::logs::read(&made.log)?, "stdout");
    let expected = "mapped\ncharacter special file 1:b 0:0\nmay write\na library\n\
        cannot make nodes\n";
    ensure!(text == expected, "{text:?}");
    eventually("poststop ran", || Ok((lines(&outside).len() == 3).then_some(())))?;
    let expected = ["createRuntime 0 0", "poststart 0 0", "poststop 0 0"];
    ensure!(lines(&outside) == expected, "{:?}", lines(&outside));
    let inside = folder.join("inside");
    ensure!(lines(&inside) == [format!("startContainer 0 {base}")], "{:?}", lines(&inside));
    ensure!(std::fs::metadata(&inside)?.uid() == base, "the hook inside is the node's root's");
    // In the host's tree, but without the host's root: refused, and not without a pod of that kind.
    let id = scene.create("inner", pod::PATIENT, |c| {
        userns::from(c, base);
        by_field(c, &[&inner]);
    })?;
    let error = node.start_container(&id).err().context("createContainer hooks")?;
    let words = "createContainer hooks in a user namespace";
    ensure!(error.message().contains(words), "{error}");
    let plain = Scene::new(node, "cdi-plain")?;
    plain.start("inner", pod::PATIENT, |c| by_field(c, &[&inner])).map(drop)
}

fn orphaned_hook(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let told = node.volume("cdi-orphan")?.join("pid");
    // Only the first time.
    let file = told.display();
    let script = format!("test -e {file} && exit 0; echo $$ >{file}; exec sleep 100000");
    let name = hooked(&folders, "hangs", &[hook("createRuntime", &script)])?;
    let id = {
        let scene = Scene::new(node, "cdi-orphan")?;
        scene.create("main", pod::PATIENT, |c| by_field(c, &[&name]))?
    };
    let pid: i32 = std::thread::scope(|threads| {
        let shared = &*node;
        let start = threads.spawn(|| shared.start_container(&id));
        let pid =
            eventually("the hook runs", || Ok(lines(&told).first().and_then(|l| l.parse().ok())));
        // The daemon dies in the middle of it.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(shared.pid()?),
            nix::sys::signal::SIGKILL,
        )?;
        ensure!(start.join().is_ok_and(|answer| answer.is_err()), "the start was answered");
        pid
    })?;
    node.kill().ok();
    node.launch()?;
    eventually("the hook has ended", || Ok((!kernel::alive(pid)).then_some(())))?;
    // The start is undone, and can be done.
    let state = node.container(&id)?.state();
    ensure!(state == proto::ContainerState::ContainerCreated, "{state:?}");
    node.start_container(&id)?;
    node.exec_ok(&id, &["true"])?;
    node.remove_all()
}
