//! Device nodes, and which devices a container may use.

use crate::harness::machine::Need;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("dev_holds_the_default_nodes_and_nothing_else", &[], default_nodes),
        shared("a_device_that_was_not_asked_for_is_denied", &[], denied),
        shared("a_device_has_the_permissions_that_were_asked_for", &[], permissions),
        shared("a_folder_of_devices_is_walked", &[], folder),
        shared("a_device_that_does_not_exist_is_named", &[], missing),
        shared("a_privileged_container_has_the_hosts_devices", &[Need::Resources], privileged),
    ]
}

fn default_nodes(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "dev-nodes")?;
    let script = "cd /dev; stat -c '%n %F %t:%T %a' *; for l in fd stdin stdout stderr ptmx; \
        do echo $l $(readlink $l); done; for d in null zero full random urandom tty; \
        do head -c 1 $d >/dev/null 2>&1; echo $d $?; done; echo x >null && echo written";
    let text = scene.output("main", script, as_is)?.1;
    let found: Vec<&str> = text.lines().collect();
    let character = "character special file";
    let expected = [
        "fd symbolic link 0:0 777".to_owned(),
        format!("full {character} 1:7 666"),
        "mqueue directory 0:0 1777".into(),
        format!("null {character} 1:3 666"),
        "ptmx symbolic link 0:0 777".into(),
        "pts directory 0:0 755".into(),
        format!("random {character} 1:8 666"),
        "shm directory 0:0 1777".into(),
        "stderr symbolic link 0:0 777".into(),
        "stdin symbolic link 0:0 777".into(),
        "stdout symbolic link 0:0 777".into(),
        format!("tty {character} 5:0 666"),
        format!("urandom {character} 1:9 666"),
        format!("zero {character} 1:5 666"),
        "fd /proc/self/fd".into(),
        "stdin /proc/self/fd/0".into(),
        "stdout /proc/self/fd/1".into(),
        "stderr /proc/self/fd/2".into(),
        "ptmx pts/ptmx".into(),
        "null 0".into(),
        "zero 0".into(),
        "full 0".into(),
        "random 0".into(),
        "urandom 0".into(),
        // Allowed, but there is no terminal.
        "tty 1".into(),
        "written".into(),
    ];
    for (line, found) in expected.iter().zip(&found) {
        ensure!(found == line, "{found:?} instead of {line:?} in {text}");
    }
    ensure!(found.len() == expected.len(), "{text}");
    Ok(())
}

/// Tries the kernel's log, which writing to needs no capability for: opened to read, to write.
const PROBE: &str = "mknod /tmp/probe c 1 11 && echo made; \
    (: >>/tmp/probe) 2>/dev/null && echo may write || echo must not write";

fn denied(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "dev-denied")?;
    let text = scene.output("main", PROBE, as_is)?.1;
    ensure!(text == "made\nmust not write\n", "{text:?}");
    // The control: the same probe with the device in the request.
    let text = scene.output("control", PROBE, |c| c.devices = vec![kmsg("rwm")])?.1;
    ensure!(text == "made\nmay write\n", "{text:?}");
    Ok(())
}

fn kmsg(permissions: &str) -> proto::Device {
    proto::Device {
        host_path: "/dev/kmsg".into(),
        container_path: "/dev/my-kmsg".into(),
        permissions: permissions.into(),
    }
}

fn permissions(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "dev-permissions")?;
    let read = "(: </tmp/probe) 2>/dev/null && echo may read || echo must not read";
    let script = format!("stat -c '%F %t:%T' /dev/my-kmsg; {PROBE}; {read}");
    let node_line = "character special file 1:b\nmade\n";
    let rows = [
        ("r", "must not write\nmay read\n"),
        ("w", "may write\nmust not read\n"),
        ("m", "must not write\nmust not read\n"),
        ("rw", "may write\nmay read\n"),
    ];
    for (permissions, answer) in rows {
        let asks = |c: &mut proto::ContainerConfig| {
            c.devices = vec![kmsg(permissions)];
            // The kernel wants it of a reader, whatever the cgroup says.
            pod::add_capabilities(c, &["SYSLOG"]);
        };
        let text = scene.output(permissions, &script, asks)?.1;
        ensure!(text == format!("{node_line}{answer}"), "{permissions}: {text:?}");
    }
    Ok(())
}

/// Makes the node of the kernel's log.
fn make_node(path: &std::path::Path) -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let number = makedev(1, 11);
    Ok(mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), number)?)
}

fn folder(node: &Node) -> Result<()> {
    let host = node.volume("dev-folder")?;
    std::fs::create_dir_all(host.join("deep/er"))?;
    make_node(&host.join("one"))?;
    make_node(&host.join("deep/er/two"))?;
    std::fs::write(host.join("no-device"), "")?;
    std::os::unix::fs::symlink("one", host.join("link"))?;
    let device = |permissions: &str| proto::Device {
        host_path: host.to_string_lossy().into_owned(),
        container_path: "/dev/all".into(),
        permissions: permissions.into(),
    };
    let scene = Scene::new(node, "dev-folder")?;
    let script = format!("cd /dev/all && find . -type c | sort; ls -A; {PROBE}");
    let nodes = "./deep/er/two\n./one\ndeep\none\nmade\n";
    for (permissions, answer) in [("rw", "may write\n"), ("r", "must not write\n")] {
        let asks = |c: &mut proto::ContainerConfig| c.devices = vec![device(permissions)];
        let text = scene.output(permissions, &script, asks)?.1;
        ensure!(text == format!("{nodes}{answer}"), "{permissions}: {text:?}");
    }
    Ok(())
}

fn missing(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "dev-missing")?;
    for path in ["/dev/no-such-device", "/etc/passwd"] {
        let error = scene
            .create("main", &["true"], |c| {
                c.devices = vec![proto::Device { host_path: path.into(), ..kmsg("rw") }];
            })
            .err()
            .with_context(|| format!("{path} is a device"))?;
        ensure!(error.message().contains(path), "{path} is not named: {error}");
    }
    scene.create("main", &["true"], as_is)?;
    Ok(())
}

fn privileged(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "dev-privileged", |config| {
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
    })?;
    let script = format!("test -c /dev/kmsg && echo there; {PROBE}");
    let asks = |c: &mut proto::ContainerConfig| pod::security(c).privileged = true;
    let text = scene.output("main", &script, asks)?.1;
    ensure!(text == "there\nmade\nmay write\n", "{text:?}");
    let text = scene.output("control", &script, as_is)?.1;
    ensure!(text == "made\nmust not write\n", "{text:?}");
    Ok(())
}
