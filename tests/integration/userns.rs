//! Pods in user namespaces: what the host sees of them, what they cannot do, and what is refused.
//!
//! Every probe has its control: the same one in a pod on the node's user namespace.

use crate::checkpoint;
use crate::harness::image::BUSYBOX;
use crate::harness::machine::{Machine, Need};
use crate::harness::pod::{PATIENT, add_capabilities, container, pod, pod_namespaces, security};
use crate::harness::scene::{Made, Scene, bind};
use crate::harness::syscalls::profile;
use crate::harness::{Node, Options, Test, eventually, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::security_profile::ProfileType;
use berth::cri::proto::{self, NamespaceMode};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    use Need::{MappedTmpfs, PodNetwork};
    vec![
        shared(
            "a_pods_namespaces_belong_to_its_user_namespace",
            &[PodNetwork, MappedTmpfs],
            owners,
        ),
        shared("ids_are_shifted_on_the_host_but_for_mapped_mounts", &[MappedTmpfs], ids),
        shared("what_a_container_sees_is_its_roots", &[MappedTmpfs], inside),
        shared("its_root_cannot_do_what_the_hosts_can", &[MappedTmpfs], powerless),
        shared("pods_with_other_ids_do_not_read_each_others_files", &[MappedTmpfs], apart),
        shared("a_privileged_container_has_no_more_than_its_namespace", &[MappedTmpfs], privileged),
        shared("a_pod_on_the_hosts_network_does_not_own_it", &[MappedTmpfs], host_network),
        shared("bad_maps_are_refused_by_their_field", &[MappedTmpfs], refused),
        own("a_killed_daemon_finds_it_again", &[MappedTmpfs], options, adopted),
        own("a_daemon_with_a_niceness_makes_them_too", &[MappedTmpfs], niced, |node| nice(node)),
        own("a_node_that_cannot_map_ids_refuses_them_with_the_reason", &[], options, unmappable),
    ]
}

fn options(_: &Machine) -> Options {
    Options::default()
}

fn niced(_: &Machine) -> Options {
    Options { wrapper: ["nice", "-n", "5"].map(String::from).into(), ..Options::default() }
}

pub(crate) const RANGE: u32 = 65_536;
/// The first host id of most pods here.
pub(crate) const BASE: u32 = 10 * RANGE;

pub(crate) fn map(container_id: u32, host_id: u32, length: u32) -> Vec<proto::IdMapping> {
    vec![proto::IdMapping { host_id, container_id, length }]
}

fn ids_from(base: u32) -> proto::UserNamespace {
    proto::UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: map(0, base, RANGE),
        gids: map(0, base, RANGE),
    }
}

/// A pod whose ids begin at `base` on the host.
pub(crate) fn pod_from(base: u32) -> impl FnOnce(&mut proto::PodSandboxConfig) {
    move |config| pod_namespaces(config).userns_options = Some(ids_from(base))
}

/// A container of such a pod.
pub(crate) fn from(config: &mut proto::ContainerConfig, base: u32) {
    let options = security(config).namespace_options.get_or_insert_default();
    options.userns_options = Some(ids_from(base));
}

/// The inode of the user namespace that owns a namespace (ioctl_ns(2)).
fn owner_of(pid: i32, kind: &str) -> Result<u64> {
    const NS_GET_USERNS: nix::libc::c_ulong = 0xb701;
    let path = format!("/proc/{pid}/ns/{kind}");
    let namespace = std::fs::File::open(&path).with_context(|| path.clone())?;
    // SAFETY: the request takes no argument and returns a new descriptor or -1.
    let fd = unsafe { nix::libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    ensure!(fd >= 0, "{path}: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it, and nobody else owns it.
    let owner = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(owner.metadata()?.ino())
}

fn owners(node: &Node) -> Result<()> {
    let parameters = [("net.core.somaxconn", "77"), ("kernel.msgmax", "4321")];
    let with = |config: &mut proto::PodSandboxConfig| {
        let sysctls = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        config.linux.get_or_insert_default().sysctls = sysctls.into();
    };
    let mapped = Scene::with(node, "owners", |config| {
        with(config);
        pod_from(BASE)(config);
    })?;
    // The node's, in so many words.
    let nodes = proto::UserNamespace { mode: NamespaceMode::Node.into(), ..Default::default() };
    let plain = Scene::with(node, "owners-plain", |config| {
        with(config);
        pod_namespaces(config).userns_options = Some(nodes.clone());
    })?;
    let host = kernel::namespace(kernel::own_pid()?, "user")?;
    for (scene, base) in [(&mapped, BASE), (&plain, 0)] {
        let made = scene.start("main", PATIENT, |c| match base {
            0 => {
                let options = security(c).namespace_options.get_or_insert_default();
                options.userns_options = Some(nodes.clone());
            }
            base => from(c, base),
        })?;
        let (pause, init) = (node.pause_pid(&scene.pod)?, made.init()?);
        let user = kernel::namespace(pause, "user")?;
        ensure!((user == host) == (base == 0), "pause's user namespace at {base}");
        ensure!(kernel::namespace(init, "user")? == user, "the container's is another one");
        for (pid, kinds) in [(pause, ["net", "ipc", "uts"]), (init, ["mnt", "pid", "cgroup"])] {
            for kind in kinds {
                ensure!(owner_of(pid, kind)? == user, "{kind} at {base} is not of its owner");
            }
        }
        for (pid, what) in [(pause, "pause"), (init, "the container")] {
            let uid = kernel::status_field(pid, "Uid")?;
            ensure!(uid.split_whitespace().all(|id| id == base.to_string()), "{what}: {uid}");
            for file in ["uid_map", "gid_map"] {
                let text = kernel::read(format!("/proc/{pid}/{file}"))?;
                let words: Vec<&str> = text.split_whitespace().collect();
                let length = if base == 0 { "4294967295".to_owned() } else { RANGE.to_string() };
                ensure!(words == ["0", &base.to_string(), &length], "{what}: {file}: {text}");
            }
        }
        for (name, value) in parameters {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            let got = node.exec_ok(&made.id, &["cat", &path])?;
            ensure!(got == value, "{name} is {got} at {base}");
        }
        // Ports and pings are for everybody only where no user namespace has the say.
        for (name, plain, mapped) in [
            ("ip_unprivileged_port_start", "0", "1024"),
            ("ping_group_range", "0\t2147483647", "1\t0"),
        ] {
            let got = node.exec_ok(&made.id, &["cat", &format!("/proc/sys/net/ipv4/{name}")])?;
            let expected = if base == 0 { plain } else { mapped };
            // 65534 shows that a group is not mapped.
            let unmapped = base != 0 && name == "ping_group_range" && got == "65534\t65534";
            ensure!(got == expected || unmapped, "{name} is {got:?} at {base}");
        }
        let told = node.pod(&scene.pod)?.linux.and_then(|l| l.namespaces?.options);
        let told = told.context("no options")?.userns_options;
        ensure!(told == (base != 0).then(|| ids_from(base)), "{told:?}");
    }
    let status = node.cri.status(proto::StatusRequest::default())?;
    let handler = status.runtime_handlers.first().and_then(|h| h.features).context("no handler")?;
    ensure!(handler.user_namespaces, "the handler's feature is not told");
    ensure!(status.features.is_some_and(|f| f.user_namespaces_host_network), "not told");
    Ok(())
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    let about = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok((about.uid(), about.gid()))
}

/// A folder of the host that everybody may write to.
fn open_volume(node: &Node, name: &str) -> Result<std::path::PathBuf> {
    let folder = node.volume(name)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

fn ids(node: &Node) -> Result<()> {
    let volumes =
        ["plain", "mapped", "other"].map(|name| open_volume(node, &format!("ids-{name}")));
    let [plain, mapped, other] = volumes;
    let (plain, mapped, other) = (plain?, mapped?, other?);
    std::os::unix::fs::chown(&other, Some(5000), Some(6000))?;
    let scene = Scene::with(node, "ids", pod_from(BASE))?;
    let script = "touch /made /plain/made /mapped/made /other/made; chmod 600 /bin/busybox; \
        stat -c '%u:%g %n' /bin/busybox /made /plain/made /mapped/made /other/made; id -u";
    let mounts = vec![
        bind(&plain, "/plain"),
        proto::Mount {
            uid_mappings: map(0, BASE, RANGE),
            gid_mappings: map(0, BASE, RANGE),
            ..bind(&mapped, "/mapped")
        },
        // Other ids than the pod's: 5000 in the file system is its root.
        proto::Mount {
            uid_mappings: map(5000, BASE, 10),
            gid_mappings: map(6000, BASE, 10),
            ..bind(&other, "/other")
        },
    ];
    let created = scene.create("main", &["sh", "-c", script], |c| {
        from(c, BASE);
        c.mounts.clone_from(&mounts);
    })?;
    ensure!(node.container(&created)?.mounts == mounts, "{:?}", node.container(&created)?.mounts);
    node.start_container(&created)?;
    let status = node.wait_exited(&created)?;
    let text: Vec<String> = crate::harness::logs::read(&node.log_of("ids", "main"))?
        .into_iter()
        .map(|line| line.text)
        .collect();
    ensure!(status.exit_code == 0, "{text:?}");
    let expected = ["/bin/busybox", "/made", "/plain/made", "/mapped/made", "/other/made"]
        .map(|path| format!("0:0 {path}"));
    ensure!(text.get(..5) == Some(&expected[..]) && text[5] == "0", "{text:?}");
    let layer = node.state_dir().join("snapshots").join(&created).join("fs");
    for (path, expected) in [
        (layer.join("made"), (BASE, BASE)),
        // A file of the image that was changed.
        (layer.join("bin/busybox"), (BASE, BASE)),
        (plain.join("made"), (BASE, BASE)),
        (mapped.join("made"), (0, 0)),
        (other.join("made"), (5000, 6000)),
    ] {
        let got = owner(&path)?;
        ensure!(got == expected, "{} is of {got:?}, expected {expected:?}", path.display());
    }
    // Control: without a user namespace all is the host's root's, and a mount can be mapped, too.
    let scene = Scene::new(node, "ids-plain")?;
    let made = scene.script("main", "touch /plain/c /other/c; stat -c %u /other/c", |c| {
        let other = proto::Mount {
            uid_mappings: map(5000, 0, 10),
            gid_mappings: map(6000, 0, 10),
            ..bind(&other, "/other")
        };
        c.mounts = vec![bind(&plain, "/plain"), other];
    })?;
    ensure!(made.end()?.exit_code == 0 && made.text()? == "0\n", "{}", made.text()?);
    ensure!(owner(&plain.join("c"))? == (0, 0), "the plain volume");
    ensure!(owner(&other.join("c"))? == (5000, 6000), "the mapped volume");
    // What was seen and changed through the shifted view is what it was on disk.
    node.berth_ok(&["image", "verify", BUSYBOX]).map(drop)
}

fn inside(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "inside", pod_from(BASE))?;
    let script = "cd /; stat -c '%u:%g %n' / /proc /sys/fs/cgroup/cgroup.procs /dev /dev/null /dev/mine \
        /dev/pts /dev/shm /dev/mqueue /etc/hosts /etc/resolv.conf /etc/hostname /image /image/bin/busybox; \
        touch /dev/shm/a /etc/hosts /x && mkdir /y && echo again >/dev/stdout; \
        head -c 1 /dev/zero >/dev/null && echo zero; echo end; exec sleep 10000";
    let made = scene.script("main", script, |c| {
        from(c, BASE);
        c.mounts = vec![proto::Mount {
            image: Some(proto::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
            container_path: "/image".into(),
            readonly: true,
            ..Default::default()
        }];
        c.devices = vec![proto::Device {
            host_path: "/dev/full".into(),
            container_path: "/dev/mine".into(),
            permissions: "rw".into(),
        }];
        let context = security(c);
        context.masked_paths = vec!["/proc/version".into(), "/proc/sysvipc".into()];
        context.readonly_paths = vec!["/proc/sys".into()];
    })?;
    made.said("end")?;
    checkpoint::refused(node, &scene.pod, &made.id, "is in a user namespace")?;
    let text = made.text()?;
    let lines: Vec<&str> = text.lines().collect();
    let roots = lines.iter().take_while(|line| line.contains(" /")).copied();
    let strangers: Vec<&str> = roots.clone().filter(|line| !line.starts_with("0:0 ")).collect();
    // The kernel gives /proc to no namespace's root. The cgroup is the node's, and read-only.
    let expected = ["65534:65534 /proc", "65534:65534 /sys/fs/cgroup/cgroup.procs"];
    ensure!(strangers == expected, "{text}");
    ensure!(roots.count() == 14, "{text}");
    ensure!(lines.contains(&"again") && lines.contains(&"zero"), "{text}");
    // Commands are in it as well, with a terminal's worth of setup of their own.
    let uid_map = node.exec_ok(&made.id, &["cat", "/proc/self/uid_map"])?;
    ensure!(uid_map.split_whitespace().nth(1) == Some(&*BASE.to_string()), "{uid_map}");
    let (_, _, code) =
        node.exec(&made.id, &["sh", "-c", "echo 1 >/proc/sys/kernel/hostname"], 0)?;
    ensure!(code != 0, "a read-only path was written");
    let masked = "wc -c </proc/version; ls -A /proc/sysvipc";
    ensure!(node.exec_ok(&made.id, &["sh", "-c", masked])? == "0", "not masked");
    ensure!(node.exec_ok(&made.id, &["sh", "-c", "echo x >/dev/stderr; id -u"])? == "0", "exec");

    // Another user than root: the host's id is shifted, and its streams are its own.
    let script = "id -u; stat -c '%a %n' /dev/null /dev/zero /dev/tty; echo x >/dev/null && \
        echo more >/dev/stdout; exec sleep 10000";
    let user = scene.script("user", script, |c| {
        from(c, BASE);
        security(c).run_as_user = Some(proto::Int64Value { value: 1000 });
    })?;
    user.said("more")?;
    let text = user.text()?;
    ensure!(text == "1000\n666 /dev/null\n666 /dev/zero\n666 /dev/tty\nmore\n", "{text}");
    let uid = kernel::status_field(user.init()?, "Uid")?;
    ensure!(uid.split_whitespace().next() == Some(&*(BASE + 1000).to_string()), "{uid}");
    ensure!(node.exec_ok(&user.id, &["id", "-u"])? == "1000", "another user");
    // With a terminal and a root of its own that nobody writes to.
    let tty = scene.script("tty", "tty; touch /x; echo $?; exec sleep 10000", |c| {
        from(c, BASE);
        c.tty = true;
        security(c).readonly_rootfs = true;
    })?;
    eventually("the terminal's words", || {
        let text = tty.text()?;
        Ok((text.contains("/dev/pts/0") && text.contains("Read-only")).then_some(()))
    })
}

/// Whether a script succeeds in a container.
fn succeeds(made: &Made<'_>, script: &str) -> Result<bool> {
    Ok(made.node.exec(&made.id, &["sh", "-c", script], 0)?.2 == 0)
}

fn powerless(node: &Node) -> Result<()> {
    let volume = open_volume(node, "powerless")?;
    std::fs::write(volume.join("of-root"), "secret")?;
    std::fs::set_permissions(volume.join("of-root"), std::fs::Permissions::from_mode(0o600))?;
    let probes = [
        ("read a file of the host's root", "cat /v/of-root"),
        ("write it", "echo x >>/v/of-root"),
        ("make a device", "mknod /v/null-$$ c 1 3"),
        ("mount a file system of the node's", "mkdir -p /m && mount -t devtmpfs none /m"),
        ("give a file to the host's root", "touch /v/f && chown 70000 /v/f"),
    ];
    let mapped = Scene::with(node, "powerless", pod_from(BASE))?;
    let plain = Scene::new(node, "powerful")?;
    for (scene, base) in [(&mapped, BASE), (&plain, 0)] {
        let made = scene.start("main", PATIENT, |c| {
            c.mounts = vec![bind(&volume, "/v")];
            // AppArmor would let neither of them mount anything.
            security(c).apparmor = profile(ProfileType::Unconfined, "");
            add_capabilities(c, &["SYS_ADMIN"]);
            if base != 0 {
                from(c, base);
            }
        })?;
        for (what, script) in probes {
            let done = succeeds(&made, script)?;
            ensure!(done == (base == 0), "{what}: {done} from {base}");
        }
        // What is its own it may do in both.
        ensure!(succeeds(&made, "mkdir -p /t && mount -t tmpfs none /t")?, "tmpfs from {base}");
    }
    Ok(())
}

fn apart(node: &Node) -> Result<()> {
    let volume = open_volume(node, "apart")?;
    let start = |name: &str, base: u32| -> Result<Made<'_>> {
        let scene = Scene::with(node, name, pod_from(base))?;
        scene.start("main", PATIENT, |c| {
            from(c, base);
            c.mounts = vec![bind(&volume, "/v")];
        })
    };
    let first = start("apart-first", BASE)?;
    ensure!(succeeds(&first, "umask 077; echo mine >/v/mine")?, "it cannot write");
    let second = start("apart-second", BASE + RANGE)?;
    ensure!(!succeeds(&second, "cat /v/mine")?, "the other pod reads it");
    ensure!(!succeeds(&second, "echo x >>/v/mine")?, "and writes it");
    // Control: the same ids.
    let same = start("apart-same", BASE)?;
    ensure!(succeeds(&same, "grep -q mine /v/mine")?, "not even its own");
    Ok(())
}

fn privileged(node: &Node) -> Result<()> {
    let privileged = |config: &mut proto::PodSandboxConfig| {
        pod_from(BASE)(config);
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
    };
    let scene = Scene::with(node, "userns-privileged", privileged)?;
    let made = scene.start("main", PATIENT, |c| {
        from(c, BASE);
        security(c).privileged = true;
    })?;
    // Every capability of its own namespace.
    let caps = kernel::status_field(made.init()?, "CapEff")?;
    let last: u32 = kernel::read("/proc/sys/kernel/cap_last_cap")?.parse()?;
    ensure!(u64::from_str_radix(&caps, 16)? == (1u64 << (last + 1)) - 1, "{caps}");
    // The node's devices, as far as everybody may use them.
    let mut nodes: Vec<_> = Vec::new();
    for entry in std::fs::read_dir("/dev")?.flatten() {
        let (Ok(about), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else {
            continue;
        };
        let kind = about.file_type();
        if (kind.is_char_device() || kind.is_block_device()) && about.mode() & 0o006 == 0 {
            nodes.push(name);
        }
    }
    let closed = nodes.iter().find(|name| *name != "console").context("no closed device here")?;
    let script = format!("test -e /dev/{closed} && stat -c %u /dev/{closed}");
    let of = node.exec_ok(&made.id, &["sh", "-c", &script])?;
    ensure!(of == "65534", "/dev/{closed} is of {of}");
    let (_, words, code) =
        node.exec(&made.id, &["sh", "-c", &format!("head -c 0 </dev/{closed}")], 0)?;
    ensure!(code != 0 && words.contains("Permission denied"), "/dev/{closed}: {words}");
    // Its cgroup is its own.
    ensure!(succeeds(&made, "mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine")?, "cgroup");
    ensure!(owner(&made.cgroup())? == (BASE, BASE), "the cgroup's owner");
    // Control: that of a container which is not privileged is not.
    let plain = scene.start("plain", PATIENT, |c| from(c, BASE))?;
    ensure!(!succeeds(&plain, "mkdir /sys/fs/cgroup/mine")?, "it makes cgroups");
    ensure!(owner(&plain.cgroup())? == (0, 0), "the cgroup's owner");
    Ok(())
}

fn host_network(node: &Node) -> Result<()> {
    let on_host = |config: &mut proto::PodSandboxConfig| {
        config.hostname.clear();
        pod_namespaces(config).network = NamespaceMode::Node.into();
    };
    let mapped = Scene::with(node, "userns-host", |config| {
        on_host(config);
        pod_from(BASE)(config);
    })?;
    let plain = Scene::with(node, "userns-host-plain", on_host)?;
    for (scene, base) in [(&mapped, BASE), (&plain, 0)] {
        let made = scene.start("main", PATIENT, |c| {
            security(c).namespace_options.get_or_insert_default().network =
                NamespaceMode::Node.into();
            add_capabilities(c, &["NET_ADMIN"]);
            if base != 0 {
                from(c, base);
            }
        })?;
        let host = kernel::namespace(kernel::own_pid()?, "net")?;
        ensure!(kernel::namespace(made.init()?, "net")? == host, "another network");
        ensure!(succeeds(&made, "test -e /sys/class/net/lo/address")?, "no /sys at {base}");
        // Setting what is set already: the right is asked for, nothing changes.
        let path = "/proc/sys/net/core/somaxconn";
        let done = succeeds(&made, &format!("v=$(cat {path}) && echo $v >{path}"))?;
        ensure!(done == (base == 0), "it changes the node's network: {done} at {base}");
    }
    Ok(())
}

type Change = fn(&mut proto::NamespaceOption);

fn refused(node: &Node) -> Result<()> {
    fn user(options: &mut proto::NamespaceOption) -> &mut proto::UserNamespace {
        options.userns_options.get_or_insert_default()
    }
    let pods: [(&str, Change); 10] = [
        ("userns_options.mode", |o| user(o).mode = NamespaceMode::Container.into()),
        ("userns_options.mode", |o| user(o).mode = NamespaceMode::Target.into()),
        ("userns_options.uids", |o| user(o).mode = NamespaceMode::Node.into()),
        ("userns_options.uids", |o| user(o).uids.clear()),
        ("userns_options.gids", |o| user(o).gids.extend(map(RANGE, 1 << 30, 1))),
        ("userns_options.uids[0].length", |o| user(o).uids = map(0, BASE, 0)),
        ("userns_options.gids[0].container_id", |o| user(o).gids = map(1, BASE, RANGE)),
        ("userns_options.uids[0].host_id", |o| user(o).uids = map(0, 0, RANGE)),
        ("pid", |o| o.pid = NamespaceMode::Node.into()),
        ("ipc", |o| o.ipc = NamespaceMode::Node.into()),
    ];
    for (field, change) in pods {
        let mut config = pod(node, "refused");
        pod_from(BASE)(&mut config);
        change(pod_namespaces(&mut config));
        let error = node.run_pod(&config).err().context(field)?;
        let start = format!("config.linux.security_context.namespace_options.{field}:");
        ensure!(error.code() == Code::InvalidArgument, "{field}: {error}");
        ensure!(error.message().starts_with(&start), "{field}: {}", error.message());
    }
    let scene = Scene::with(node, "refusing", pod_from(BASE))?;
    type Container = (&'static str, fn(&mut proto::ContainerConfig));
    let containers: [Container; 6] = [
        ("userns_options", |_| ()),
        ("userns_options.gids[0].container_id", |c| {
            from(c, BASE);
            let options = security(c).namespace_options.get_or_insert_default();
            user(options).gids = map(1, BASE, RANGE);
        }),
        ("userns_options", |c| from(c, BASE + RANGE)),
        ("mounts[0].gidMappings", |c| {
            from(c, BASE);
            c.mounts = vec![proto::Mount {
                uid_mappings: map(0, BASE, 1),
                ..bind(Path::new("/tmp"), "/m")
            }];
        }),
        ("run_as_user", |c| {
            from(c, BASE);
            let value = i64::from(RANGE);
            security(c).run_as_user = Some(proto::Int64Value { value });
        }),
        ("supplemental_groups", |c| {
            from(c, BASE);
            security(c).supplemental_groups = vec![i64::from(RANGE)];
        }),
    ];
    for (n, (field, change)) in containers.into_iter().enumerate() {
        let error = scene.create(&format!("c{n}"), PATIENT, change).err().context(field)?;
        ensure!(error.code() == Code::InvalidArgument, "{field}: {error}");
        ensure!(error.message().contains(field), "{field}: {}", error.message());
    }
    // A file system whose ids cannot be mapped is an error that says so.
    let made = scene.create("proc", PATIENT, |c| {
        from(c, BASE);
        c.mounts = vec![proto::Mount {
            uid_mappings: map(0, BASE, RANGE),
            gid_mappings: map(0, BASE, RANGE),
            ..bind(Path::new("/proc/sys"), "/m")
        }];
    })?;
    let error = node.start_container(&made).err().context("an id map of proc")?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    ensure!(error.message().contains("cannot be id-mapped"), "{}", error.message());
    // Control: the same pod runs a container that fits.
    scene.start("fits", PATIENT, |c| from(c, BASE))?;
    Ok(())
}

fn adopted(node: &mut Node) -> Result<()> {
    let mut config = pod(node, "adopted");
    pod_from(BASE)(&mut config);
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.run_as_user = Some(proto::Int64Value { value: 1000 });
    context.supplemental_groups = vec![3000];
    let id = node.run_pod(&config)?;
    let (pause, user) = (node.pause_pid(&id)?, (BASE + 1000).to_string());
    let ids = kernel::status_field(pause, "Uid")?;
    ensure!(ids.split_whitespace().all(|id| id == user), "pause runs as {ids}");
    let groups = format!("{BASE} {}", BASE + 3000);
    ensure!(kernel::status_field(pause, "Groups")? == groups, "pause's groups");
    let mut first = container("first", PATIENT);
    from(&mut first, BASE);
    let made = node.launch_container(&id, &config, &first)?;
    let init = node.init_pid(&id, &made)?;
    node.kill()?;
    node.launch()?;
    ensure!(node.init_pid(&id, &made)? == init, "it was started again");
    ensure!(node.exec_ok(&made, &["id", "-u"])? == "0", "no command");
    let mut second = container("second", PATIENT);
    from(&mut second, BASE);
    let made = node.launch_container(&id, &config, &second)?;
    let user = kernel::namespace(node.init_pid(&id, &made)?, "user")?;
    ensure!(user == kernel::namespace(init, "user")?, "another user namespace");
    node.remove_pod(&id)
}

/// What `berth check` says of user namespaces.
fn checked(node: &Node) -> Result<(String, String)> {
    let output = node.berth(&["check", "--json"])?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let findings = report["findings"].as_array().context("no findings")?;
    let finding = findings.iter().find(|finding| finding["name"] == "user namespaces");
    let text = |field: &str| Some(finding?[field].as_str()?.to_owned());
    text("verdict").zip(text("found")).with_context(|| format!("nothing said: {report}"))
}

/// With its state on a file system whose ids no kernel maps.
fn unmappable(node: &mut Node) -> Result<()> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    node.kill()?;
    let state = node.state_dir();
    mount(Some("ramfs"), &state, Some("ramfs"), MsFlags::empty(), None::<&str>)?;
    node.launch()?;
    let mut config = pod(node, "unmappable");
    pod_from(BASE)(&mut config);
    let error = node.run_pod(&config).err().context("the pod runs")?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    let words = "this node cannot run pods in user namespaces: ";
    ensure!(error.message().contains(words), "{}", error.message());
    let status = node.cri.status(proto::StatusRequest::default())?;
    let handler = status.runtime_handlers.first().and_then(|h| h.features).context("no handler")?;
    ensure!(!handler.user_namespaces, "the handler's feature is told");
    ensure!(status.features.is_some_and(|f| !f.user_namespaces_host_network), "told");
    let (verdict, found) = checked(node)?;
    ensure!(verdict == "warn" && error.message().contains(&found), "checked: {verdict} {found}");
    // Control: a pod on the node's runs.
    let id = node.run_pod(&pod(node, "unmapped"))?;
    node.remove_pod(&id)?;
    node.kill()?;
    umount2(&state, MntFlags::MNT_DETACH)?;
    node.launch()?;
    // On what its state is usually on, both say what is so.
    let status = node.cri.status(proto::StatusRequest::default())?;
    let told = status.runtime_handlers.first().and_then(|h| h.features).context("no handler")?;
    let (verdict, found) = checked(node)?;
    ensure!((verdict == "ok") == told.user_namespaces, "checked: {verdict} {found}");
    Ok(())
}

/// Nobody can take a niceness off in a user namespace that is not his own.
fn nice(node: &Node) -> Result<()> {
    ensure!(kernel::niceness(node.pid()?)? > 0, "the control: the daemon has none");
    let scene = Scene::with(node, "userns-nice", pod_from(BASE))?;
    let made = scene.start("main", PATIENT, |c| from(c, BASE))?;
    ensure!(
        kernel::status_field(made.init()?, "Uid")?.starts_with(&BASE.to_string()),
        "not mapped"
    );
    ensure!(kernel::niceness(made.init()?)? == 0, "it has the daemon's niceness");
    Ok(())
}
