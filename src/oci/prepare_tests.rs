//! What a spec becomes, and what in it is refused.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;
use crate::sys::mount::attr;

fn spec() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "rootfs" },
        "linux": { "namespaces": [{ "type": "mount" }, { "type": "pid" }] },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = spec();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { &mut spec } else { spec.pointer_mut(parent).unwrap() };
    parent[name] = value;
    spec
}

fn lonely() -> PodContext {
    PodContext {
        pause: None,
        privileges: Enforce::Required,
        target: None,
        new_userns: NewUserns::Fork,
        volumes: Volumes::default(),
        hooks: None,
    }
}

/// Any descriptor: nothing looks at it.
fn any_fd() -> OwnedFd {
    nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty()).unwrap()
}

fn planned(spec: Value) -> Result<Prepared, OciError> {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    prepare(&spec, any_fd(), &lonely())
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let mount = |extra: Value| {
        let mut mount = json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs" });
        for (name, value) in extra.as_object().unwrap() {
            mount[name] = value.clone();
        }
        json!([mount])
    };
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    let hook = json!([{ "path": "/bin/true" }]);
    let namespaces = |extra: Value| json!([{ "type": "mount" }, extra]);
    let rows = [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/hooks", json!({ "prestart": hook }), "hooks.prestart"),
        ("/hooks", json!({ "createRuntime": hook }), "hooks.createRuntime"),
        ("/hooks", json!({ "createContainer": hook }), "hooks.createContainer"),
        ("/hooks", json!({ "startContainer": hook }), "hooks.startContainer"),
        ("/hooks", json!({ "poststart": hook }), "hooks.poststart"),
        ("/hooks", json!({ "poststop": hook }), "hooks.poststop"),
        ("/hostname", json!("name"), "hostname"),
        ("/domainname", json!("name"), "domainname"),
        ("/linux/uidMappings", map, "linux.uidMappings"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY"),
        ("/linux/mountLabel", json!("label"), "linux.mountLabel"),
        ("/linux/intelRdt", json!({ "closID": "a" }), "linux.intelRdt"),
        ("/linux/rootfsPropagation", json!("unbindable"), "linux.rootfsPropagation"),
        ("/linux/rootfsPropagation", json!("odd"), "linux.rootfsPropagation"),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 1 } }), "linux.timeOffsets"),
        ("/linux/namespaces", namespaces(json!({ "type": "user" })), "linux.uidMappings"),
        ("/linux/namespaces", namespaces(json!({ "type": "time" })), "time namespace"),
        ("/linux/namespaces", namespaces(json!({ "type": "mount" })), "linux.namespaces"),
        ("/linux/namespaces", json!([]), "mount namespace"),
        ("/linux/namespaces", json!([{ "type": "mount", "path": "/x" }]), "mount namespace"),
        ("/linux/sysctl", json!({ "vm.swappiness": "1" }), "linux.sysctl"),
        ("/linux/sysctl", json!({ "net.core.somaxconn": "1" }), "linux.sysctl"),
        ("/linux/sysctl", json!({ "net/../vm/x": "1" }), "linux.sysctl"),
        ("/linux/maskedPaths", json!(["relative"]), "linux.maskedPaths"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "a" }]), "linux.devices"),
        ("/linux/devices", json!([{ "path": "x", "type": "c" }]), "linux.devices"),
        ("/process/selinuxLabel", json!("label"), "process.selinuxLabel"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args"),
        ("/process/args", json!(["a\0b"]), "process.args"),
        ("/process/env", json!(["novalue"]), "process.env"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/execCPUAffinity", json!({ "initial": "0" }), "process.execCPUAffinity"),
        ("/process/scheduler", json!({ "policy": "SCHED_ISO" }), "process.scheduler"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "ioPriority"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 }]),
            "process.rlimits",
        ),
        ("/process/capabilities", json!({ "effective": ["CAP_KILL"] }), "KILL"),
        (
            "/process/capabilities",
            json!({ "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"] }),
            "capabilities.ambient",
        ),
        ("/mounts", mount(json!({ "type": "nfs" })), "nfs"),
        ("/mounts", mount(json!({ "destination": "/" })), "mounts.destination"),
        ("/mounts", mount(json!({ "destination": "m" })), "mounts.destination"),
        ("/mounts", mount(json!({ "options": ["tmpcopyup"] })), "tmpcopyup"),
        ("/mounts", mount(json!({ "options": ["rshared"] })), "propagation"),
        ("/mounts", mount(json!({ "type": "bind", "options": ["size=1"] })), "size"),
        ("/mounts", mount(json!({ "type": "bind" })), "mounts.source"),
    ];
    for (pointer, value, named) in rows {
        let row = format!("{pointer} {value}");
        let error = planned(with(pointer, value)).map(|p| p.plan).expect_err(&row);
        let text = crate::error::chain(&error);
        assert!(text.contains(named), "{row}: {text}");
    }
    assert!(planned(spec()).is_ok());
}

#[test]
fn a_bind_mount_that_cannot_be_opened_names_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
    let mounts = json!([{ "destination": "/inside", "type": "bind",
        "source": dir.path().join("loop"), "options": ["rbind"] }]);
    let error = planned(with("/mounts", mounts)).unwrap_err();
    let text = crate::error::chain(&error);
    assert!(text.contains("/loop") && text.contains("/inside"), "{text}");
    assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
}

/// In a user namespace of a process of ours: it exists, whatever the maps say.
fn in_userns(maps: Value) -> Value {
    let mut spec = with(
        "/linux/namespaces",
        json!([{ "type": "mount" }, { "type": "user", "path": "/proc/self/ns/user" }]),
    );
    spec["linux"]["uidMappings"] = maps.clone();
    spec["linux"]["gidMappings"] = maps;
    spec
}

#[test]
fn a_user_namespace_is_joined_and_told_to_newer_executors_alone() {
    let map = json!([{ "containerID": 0, "hostID": 70_000, "size": 10 }]);
    let mut spec = in_userns(map.clone());
    spec["mounts"] = json!([{ "destination": "/sys", "type": "sysfs", "source": "sysfs" }]);
    let made = planned(spec.clone()).unwrap();
    assert_eq!(made.plan.level, WITH_USERNS);
    assert_eq!(made.plan.user.unwrap().uids[0].host, 70_000);
    // Not the owner of the network: sysfs is bound.
    assert!(matches!(made.plan.mounts[0].source, Some(mount_plan::Source::Fd(_))));
    let plain = planned(super::tests::spec()).unwrap();
    assert_eq!((plain.plan.level, plain.plan.user), (1, None));

    let told = |change: fn(&mut Value)| {
        let mut spec = spec.clone();
        change(&mut spec);
        crate::error::chain(&planned(spec).map(|p| p.plan).unwrap_err())
    };
    type Row = (fn(&mut Value), &'static str);
    let rows: [Row; 7] = [
        (|s| s["process"]["user"]["uid"] = json!(10), "process.user.uid"),
        (|s| s["process"]["user"]["gid"] = json!(10), "process.user.gid"),
        (|s| s["process"]["user"]["additionalGids"] = json!([1, 10]), "process.user.gid"),
        (|s| s["linux"]["uidMappings"] = json!([]), "linux.uidMappings is missing"),
        (|s| s["linux"]["gidMappings"][0]["containerID"] = json!(1), "is not mapped"),
        (|s| s["linux"]["gidMappings"][0]["size"] = json!(0), "has the size 0"),
        (|s| s["mounts"][0]["options"] = json!(["idmap"]), "an id map of the new file system"),
    ];
    for (change, words) in rows {
        let text = told(change);
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn hooks_need_a_newer_executor_and_a_user_namespace_the_newest() {
    let home = HookHome { id: "i".into(), bundle: "/b".into(), rootfs: "/b/rootfs".into() };
    let pod = PodContext { hooks: Some(home), ..lonely() };
    let told = |mut spec: Value, moment: &str| {
        spec["hooks"] = json!({ moment: [{ "path": "/bin/true" }] });
        let made = prepare(&serde_json::from_value(spec).unwrap(), any_fd(), &pod);
        made.map(|made| made.plan.level)
    };
    let mapped = in_userns(json!([{ "containerID": 0, "hostID": 70_000, "size": 10 }]));
    assert_eq!(told(super::tests::spec(), "startContainer").unwrap(), 2);
    assert_eq!(told(mapped.clone(), "startContainer").unwrap(), 3);
    // They could not find the root file system.
    let error = told(mapped, "createContainer").unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Unimplemented);
    assert!(error.to_string().contains("createContainer hooks"), "{error}");
}

#[test]
fn namespaces_of_the_pod_are_named_and_others_opened() {
    let me = InitPid::of(std::process::id().cast_signed()).unwrap();
    let pod = PodContext { pause: Some(InitPid { pid: 77, ..me.clone() }), ..lonely() };
    let listed = json!([
        { "type": "mount" },
        { "type": "network", "path": "/proc/77/ns/net" },
        { "type": "ipc", "path": "/proc/self/ns/ipc" },
        { "type": "pid", "path": format!("/proc/{}/ns/pid", me.pid) },
    ]);
    let spec: Spec = serde_json::from_value(with("/linux/namespaces", listed)).unwrap();
    let pod = PodContext { target: Some(me), ..pod };
    let prepared = prepare(&spec, any_fd(), &pod).unwrap();
    let sources: Vec<_> = prepared.plan.namespaces.iter().map(|n| n.source).collect();
    use namespace_plan::Source::{Fd, Fresh, Pause};
    assert_eq!(sources, [Fresh(true), Pause(true), Fd(1), Fd(2)].map(Some));
    assert_eq!(prepared.fds.len(), 3);

    let gone = json!([{ "type": "mount" }, { "type": "ipc", "path": "/proc/0/ns/ipc" }]);
    let error = planned(with("/linux/namespaces", gone)).unwrap_err();
    assert!(error.to_string().contains("/proc/0/ns/ipc"), "{error}");
}

#[test]
fn devices_are_the_defaults_and_the_specs() {
    let given = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "gid": 9 },
        { "path": "/dev//null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
    ]);
    let plan = planned(with("/linux/devices", given.clone())).unwrap().plan;
    assert!(plan.device_links);
    let fuse = plan.devices.iter().find(|d| d.path == "/dev/fuse").unwrap();
    assert_eq!((fuse.mode, fuse.major, fuse.minor, fuse.gid), (libc::S_IFCHR | 0o660, 10, 229, 9));
    let nulls: Vec<_> = plan.devices.iter().filter(|d| d.path == "/dev/null").collect();
    assert_eq!(nulls.len(), 1);
    assert_eq!(nulls[0].mode & 0o777, 0o600);
    assert_eq!(plan.devices.len(), 7);

    let mut bound = with("/linux/devices", given);
    bound["mounts"] = json!([{ "destination": "/dev", "type": "bind", "source": "/dev" }]);
    let plan = planned(bound).unwrap().plan;
    assert!(plan.devices.is_empty() && !plan.device_links);
}

#[test]
fn nothing_of_the_process_is_left_to_chance() {
    let process = planned(spec()).unwrap().plan.process;
    assert_eq!(process.umask, 0o022);
    assert_eq!((process.oom_score_adj, process.io_priority, process.personality), (0, 0, 0));
    assert_eq!(process.capabilities, crate::shim::wire::CapabilityPlan::default());
    let resources: Vec<u32> = process.limits.iter().map(|l| l.resource).collect();
    assert_eq!(resources, (0..libc::RLIMIT_RTTIME + 1).collect::<Vec<_>>());
    assert!(process.limits.iter().all(|l| l.soft <= l.hard));
}

#[test]
fn a_file_system_keeps_its_options_and_attributes_apart() {
    let mounts = json!([{ "destination": "/m", "type": "tmpfs", "source": "mine",
        "options": ["nosuid", "ro", "size=64k"] }]);
    let plan = planned(with("/mounts", mounts)).unwrap().plan;
    let mount = &plan.mounts[0];
    assert_eq!(mount.attributes, Some(attr::NOSUID | attr::RDONLY));
    let Some(mount_plan::Source::Filesystem(fs)) = &mount.source else { panic!("{mount:?}") };
    let options: Vec<_> =
        fs.options.iter().map(|o| (o.name.as_str(), o.value.as_deref())).collect();
    assert_eq!(options, [("source", Some("mine")), ("size", Some("64k"))]);
}
