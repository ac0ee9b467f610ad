//! SELinux: which label processes and files have, what the policy then forbids, what is refused.
//!
//! The kernel is asked, under a policy of a few types (`tests/vm/selinux.sh`): `container_t` may use
//! `container_file_t`, whose categories it has all; `host_file_t`, which everything on a tmpfs of the
//! host is, it may not.

use crate::bad_input;
use crate::checkpoint;
use crate::harness::image::BUSYBOX;
use crate::harness::machine::{Machine, Need};
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces, security};
use crate::harness::scene::{Made, Scene, as_is, bind};
use crate::harness::{Node, Options, Test, kernel, own, shared};
use crate::{handlers, userns};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::Path;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("processes_and_files_of_a_pod_have_its_label", NEEDS, labelled, |node| labels(node)),
        own("a_request_names_parts_of_a_label", NEEDS, labelled, |node| named(node)),
        own("the_policy_keeps_pods_apart", NEEDS, labelled, |node| apart(node)),
        own("a_volume_gets_the_label_of_its_pod", NEEDS, labelled, |node| volumes(node)),
        own("a_pods_label_outlives_the_daemon", NEEDS, labelled, restart),
        own("a_pod_in_a_user_namespace_has_its_label", MAPPED, labelled, |node| mapped(node)),
        own("runc_gives_the_same_label", ENGINES, engines, |node| handled(node, "runc")),
        own("crun_gives_the_same_label", ENGINES, engines, |node| handled(node, "crun")),
        shared("a_label_where_they_are_off_is_refused_by_its_field", &[], refused),
    ]
}

const NEEDS: &[Need] = &[Need::Selinux];
const MAPPED: &[Need] = &[Need::Selinux, Need::MappedTmpfs];
const ENGINES: &[Need] = &[Need::Selinux, Need::Engines];
const ON: &str = "[selinux]\nenabled = true\n";

fn labelled(_: &Machine) -> Options {
    Options { config: ON.to_owned(), ..Options::default() }
}

/// With both engines as runtime handlers, which a machine without them does not come to.
fn engines(machine: &Machine) -> Options {
    let handlers = handlers::options(machine);
    Options { config: format!("{ON}{}", handlers.config), ..handlers }
}

/// What the kernel says of a process.
fn label_of(pid: i32) -> Result<String> {
    let text = kernel::read(format!("/proc/{pid}/attr/current"))?;
    Ok(text.trim_end_matches(['\n', '\0']).to_owned())
}

/// What the kernel says of a file.
fn label_on(path: &Path) -> Result<String> {
    let value = xattr::get(path, "security.selinux")?;
    let value = value.with_context(|| format!("{} has no label", path.display()))?;
    Ok(String::from_utf8(value)?.trim_end_matches('\0').to_owned())
}

fn level(label: &str) -> &str {
    label.splitn(4, ':').nth(3).unwrap_or_default()
}

fn asks(typ: &str, level: &str) -> Option<proto::SeLinuxOption> {
    let [user, role, r#type, level] = ["system_u", "system_r", typ, level].map(ToOwned::to_owned);
    Some(proto::SeLinuxOption { user, role, r#type, level })
}

fn pod_security(config: &mut proto::PodSandboxConfig) -> &mut proto::LinuxSandboxSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn relabelled(host: &Path, at: &str) -> proto::Mount {
    proto::Mount { selinux_relabel: true, ..bind(host, at) }
}

/// The label of a container's process, whose type and level are these.
fn ensure_label(made: &Made<'_>, typ: &str, level: &str) -> Result<()> {
    let expected = format!("system_u:system_r:{typ}:{level}");
    let found = label_of(made.init()?)?;
    ensure!(found == expected, "{found} instead of {expected}");
    let own = made.node.exec_ok(&made.id, &["cat", "/proc/self/attr/current"])?;
    let own = own.trim_end_matches(['\n', '\0']);
    ensure!(own == expected, "a command has {own} instead of {expected}");
    Ok(())
}

/// `cN,cM`, each below 1024 and the smaller first.
fn ensure_pair(level: &str) -> Result<()> {
    let pair = level.strip_prefix("s0:c").and_then(|rest| rest.split_once(",c"));
    let (one, other) = pair.with_context(|| format!("{level:?} is no pair"))?;
    let (one, other): (u32, u32) = (one.parse()?, other.parse()?);
    ensure!(one < other && other < 1024, "{level}");
    Ok(())
}

fn labels(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "labels", |config| {
        pod_security(config).privileged = true;
        pod_namespaces(config).pid = proto::NamespaceMode::Pod.into();
    })?;
    let shared_pids = |c: &mut proto::ContainerConfig| {
        let options = security(c).namespace_options.get_or_insert_default();
        options.pid = proto::NamespaceMode::Pod.into();
    };
    let one = scene.start("one", PATIENT, |c| {
        shared_pids(c);
        c.mounts = vec![proto::Mount {
            container_path: "/image".into(),
            image: Some(proto::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
            readonly: true,
            ..Default::default()
        }];
        security(c).masked_paths = vec!["/proc/kcore".into(), "/proc/irq".into()];
    })?;
    let pair = level(&label_of(one.init()?)?).to_owned();
    ensure_pair(&pair)?;
    ensure_label(&one, "container_t", &pair)?;
    checkpoint::refused(node, &scene.pod, &one.id, "has an SELinux label")?;
    let restore = proto::RestorePodRequest {
        checkpoint_path: node.volume("checkpoint")?.to_string_lossy().into_owned(),
        config: Some(pod(node, "restored")),
        container_configs: vec![container("main", PATIENT)],
        ..Default::default()
    };
    let error = node.cri.restore_pod(restore).err().context("a pod of nothing")?;
    ensure!(error.message().contains("pods have SELinux labels on this node"), "{error}");
    // Another container of the pod has the same, with no_new_privs, too, and a privileged one its own.
    let two = scene.start("two", PATIENT, |c| security(c).no_new_privs = true)?;
    ensure_label(&two, "container_t", &pair)?;
    let privileged = scene.start("privileged", PATIENT, |c| security(c).privileged = true)?;
    ensure_label(&privileged, "spc_t", "s0")?;
    // The shim is the host's; pause is the pod's.
    let shim: i32 = kernel::status_field(one.init()?, "PPid")?.trim().parse()?;
    let (found, daemons) = (label_of(shim)?, label_of(node.pid()?)?);
    ensure!(found == daemons, "the shim has {found}, the daemon {daemons}");
    let record = kernel::read(node.run_dir().join(format!("sandboxes/{}/record.json", scene.pod)))?;
    let record = record.lines().nth(1).context("no record")?;
    let record: serde_json::Value = serde_json::from_str(record)?;
    let pause = i32::try_from(record["pause"]["pid"].as_i64().context("no pause")?)?;
    let found = label_of(pause)?;
    ensure!(found == format!("system_u:system_r:container_t:{pair}"), "pause has {found}");
    // Each file system that is the container's own, by the kernel's list.
    let context = format!("context=\"system_u:object_r:container_file_t:{pair}\"");
    for point in ["/", "/dev", "/dev/shm", "/dev/pts", "/image"] {
        let mount = one.mount_at(point)?.with_context(|| format!("no mount at {point}"))?;
        let options = mount.super_options;
        ensure!(options.contains(&context), "{point}: {options} without {context}");
    }
    for point in ["/proc", "/sys"] {
        let mount = one.mount_at(point)?.with_context(|| format!("no mount at {point}"))?;
        ensure!(!mount.super_options.contains("context="), "{point}: {}", mount.super_options);
    }
    let files = node.run_dir().join("sandboxes").join(&scene.pod);
    for name in ["hosts", "resolv.conf", "hostname"] {
        let found = label_on(&files.join(name))?;
        ensure!(found == format!("system_u:object_r:container_file_t:{pair}"), "{name}: {found}");
    }
    // What is masked reads as empty, which its label must allow; and all the rest works.
    let script = "cat /etc/hosts >/dev/null && echo a >/etc/hosts && echo b >/dev/shm/b && \
                  echo c >/c && cat /proc/kcore && ls /dev/mqueue && ls /proc/irq && echo done";
    let out = node.exec_ok(&one.id, &["sh", "-c", script])?;
    ensure!(out.trim() == "done", "{out:?}");
    // Another pod has another pair; one of the host's namespaces has one like every other.
    let host = Scene::with(node, "labels-host", |config| {
        pod_namespaces(config).pid = proto::NamespaceMode::Node.into();
        pod_namespaces(config).ipc = proto::NamespaceMode::Node.into();
    })?;
    let other = host.start("one", PATIENT, |c| {
        let options = security(c).namespace_options.get_or_insert_default();
        options.pid = proto::NamespaceMode::Node.into();
        options.ipc = proto::NamespaceMode::Node.into();
    })?;
    let other_pair = level(&label_of(other.init()?)?).to_owned();
    ensure_pair(&other_pair)?;
    ensure!(other_pair != pair, "both pods have {pair}");
    ensure_label(&other, "container_t", &other_pair)
}

fn named(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "named", |config| {
        pod_security(config).selinux_options = asks("", "s0:c7,c9");
    })?;
    let rows = [
        ("nothing", None, "container_t", "s0:c7,c9"),
        ("type", asks("spc_t", ""), "spc_t", "s0:c7,c9"),
        ("level", asks("", "s0:c5,c6"), "container_t", "s0:c5,c6"),
    ];
    for (name, asked, typ, level) in rows {
        let made = scene.start(name, PATIENT, |c| security(c).selinux_options = asked.clone())?;
        ensure_label(&made, typ, level).with_context(|| name.to_owned())?;
        let root = made.mount_at("/")?.context("no root")?.super_options;
        let context = format!("system_u:object_r:container_file_t:{level}\"");
        ensure!(root.contains(&context), "{name}: {root}");
    }
    // What the policy does not know is refused by its field, and nothing is left.
    for (name, asked) in [("type", asks("no_such_t", "")), ("level", asks("", "s9:c1"))] {
        let words = ["config.linux.security_context.selinux_options", "policy does not know"];
        let answer =
            scene.create("refused", &["true"], |c| security(c).selinux_options = asked.clone());
        bad_input::refused(name, answer, Code::InvalidArgument, &words)?;
        let mut config = pod(node, "named-refused");
        pod_security(&mut config).selinux_options = asked;
        bad_input::refused(name, node.run_pod(&config), Code::InvalidArgument, &words)?;
    }
    Ok(())
}

/// A volume is on a tmpfs of the host, whose files no container may use.
fn apart(node: &Node) -> Result<()> {
    let volume = node.volume("apart")?;
    std::fs::write(volume.join("file"), "text")?;
    let (one, two) = (Scene::new(node, "apart-one")?, Scene::new(node, "apart-two")?);
    let read = |made: &Made<'_>| -> Result<bool> {
        let (out, err, code) = node.exec(&made.id, &["cat", "/volume/file"], 0)?;
        let denied = format!("{out}{err}").contains("Permission denied");
        ensure!(denied != (code == 0), "neither read nor denied: {out}{err}");
        Ok(code == 0)
    };
    let plain = |c: &mut proto::ContainerConfig| c.mounts = vec![bind(&volume, "/volume")];
    let own = |c: &mut proto::ContainerConfig| c.mounts = vec![relabelled(&volume, "/volume")];
    let unlabelled = one.start("unlabelled", PATIENT, plain)?;
    ensure!(!read(&unlabelled)?, "a file of the host is read");
    let mine = one.start("mine", PATIENT, own)?;
    ensure!(read(&mine)?, "the pod that it was labelled for cannot read it");
    let foreign = two.start("foreign", PATIENT, plain)?;
    ensure!(!read(&foreign)?, "another pod reads it");
    // The control: it is the label that forbids it, not the mount or the mode.
    let spc = two.start("spc", PATIENT, |c| {
        plain(c);
        security(c).selinux_options = asks("spc_t", "");
    })?;
    ensure!(read(&spc)?, "what is not confined cannot read it");
    // The last pod that mounts it has it.
    let taken = two.start("taken", PATIENT, own)?;
    ensure!(read(&taken)? && read(&foreign)? && !read(&mine)?, "it did not change hands");
    Ok(())
}

fn volumes(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "volumes")?;
    let (volume, beside) = (node.volume("labelled")?, node.volume("beside")?);
    std::fs::create_dir_all(volume.join("a/b"))?;
    std::fs::write(volume.join("a/b/file"), "text")?;
    std::fs::write(beside.join("file"), "text")?;
    std::os::unix::fs::symlink(beside.join("file"), volume.join("link"))?;
    let before = label_on(&beside.join("file"))?;
    let made = scene.start("main", PATIENT, |c| {
        c.mounts = vec![relabelled(&volume, "/volume"), bind(&beside, "/beside")];
    })?;
    let pair = level(&label_of(made.init()?)?).to_owned();
    for name in ["", "a", "a/b", "a/b/file", "link"] {
        let found = label_on(&volume.join(name))?;
        ensure!(found == format!("system_u:object_r:container_file_t:{pair}"), "{name}: {found}");
    }
    for path in [beside.join("file"), beside] {
        let after = label_on(&path)?;
        ensure!(after == before, "{}: {after}, it was {before}", path.display());
    }
    for path in ["/", "/etc", "/usr", "/home"].map(Path::new) {
        let answer =
            scene.create("refused", &["true"], |c| c.mounts = vec![relabelled(path, "/volume")]);
        let words = ["selinux_relabel", "folder of the system"];
        bad_input::refused("system", answer, Code::InvalidArgument, &words)?;
        // The control: it may be mounted as it is.
        let name = format!("control{}", path.display()).replace('/', "-");
        scene.create(&name, &["true"], |c| c.mounts = vec![bind(path, "/volume")])?;
    }
    let answer = scene.create("state", &["true"], |c| {
        c.mounts = vec![relabelled(&node.state_dir(), "/volume")];
    });
    bad_input::refused("state", answer, Code::InvalidArgument, &["selinux_relabel"])?;
    Ok(())
}

fn restart(node: &mut Node) -> Result<()> {
    let config = pod(node, "restart");
    let id = node.run_pod(&config)?;
    let start =
        |node: &Node, name: &str| node.launch_container(&id, &config, &container(name, PATIENT));
    let before = start(node, "before")?;
    let label = label_of(node.init_pid(&id, &before)?)?;
    ensure_pair(level(&label))?;
    node.kill()?;
    node.launch()?;
    let after = start(node, "after")?;
    for made in [&before, &after] {
        let found = label_of(node.init_pid(&id, made)?)?;
        ensure!(found == label, "{found} instead of {label}");
    }
    Ok(())
}

/// Its files are of mapped ids and its namespaces its own; its label is as any pod's.
fn mapped(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "mapped", userns::pod_from(userns::BASE))?;
    let volume = node.volume("mapped")?;
    let made = scene.start("main", PATIENT, |c| {
        userns::from(c, userns::BASE);
        c.mounts = vec![relabelled(&volume, "/volume")];
    })?;
    let pair = level(&label_of(made.init()?)?).to_owned();
    ensure_pair(&pair)?;
    ensure_label(&made, "container_t", &pair)?;
    let found = label_of(node.pause_pid(&scene.pod)?)?;
    ensure!(found == format!("system_u:system_r:container_t:{pair}"), "pause has {found}");
    let context = format!("context=\"system_u:object_r:container_file_t:{pair}\"");
    for point in ["/", "/dev", "/dev/shm", "/dev/pts"] {
        let options = made.mount_at(point)?.with_context(|| format!("no {point}"))?.super_options;
        ensure!(options.contains(&context), "{point}: {options} without {context}");
    }
    let found = label_on(&volume)?;
    ensure!(found == format!("system_u:object_r:container_file_t:{pair}"), "the volume: {found}");
    let script = "cat /etc/hosts >/dev/null && echo b >/dev/shm/b && echo c >/c && \
                  cat /volume/* >/dev/null; echo done";
    let out = node.exec_ok(&made.id, &["sh", "-c", script])?;
    ensure!(out.trim() == "done", "{out:?}");
    Ok(())
}

fn handled(node: &Node, handler: &str) -> Result<()> {
    let config = pod(node, "handled");
    let request = proto::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let id = node.cri.run_pod_sandbox(request)?.pod_sandbox_id;
    let scene = Scene { node, config, pod: id };
    let made = scene.start("main", PATIENT, as_is)?;
    let pair = level(&label_of(made.init()?)?).to_owned();
    ensure_pair(&pair)?;
    ensure_label(&made, "container_t", &pair)?;
    let context = format!("context=\"system_u:object_r:container_file_t:{pair}\"");
    for point in ["/", "/dev", "/dev/shm"] {
        let options = made.mount_at(point)?.context("no mount")?.super_options;
        ensure!(options.contains(&context), "{point}: {options}");
    }
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    let words = ["config.linux.security_context.selinux_options", "off on this node"];
    let mut config = pod(node, "selinux-refused");
    pod_security(&mut config).selinux_options = asks("spc_t", "s0:c1,c2");
    bad_input::refused("pod", node.run_pod(&config), Code::FailedPrecondition, &words)?;
    bad_input::nothing_listed(node)?;
    let scene = Scene::new(node, "selinux-off")?;
    let answer =
        scene.create("main", &["true"], |c| security(c).selinux_options = asks("spc_t", "s0"));
    bad_input::refused("container", answer, Code::FailedPrecondition, &words)?;
    bad_input::no_containers(node)?;
    // The control: options that name nothing ask for nothing, and a relabel is what kubelets always ask
    // for.
    let volume = node.volume("selinux-off")?;
    let made = scene.start("control", PATIENT, |c| {
        security(c).selinux_options = Some(proto::SeLinuxOption::default());
        c.mounts = vec![relabelled(&volume, "/volume")];
    })?;
    made.init().map(drop)
}
