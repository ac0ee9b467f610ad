//! Whom a process runs as, and what it may do.

use crate::harness::machine::Need;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("user_and_groups_are_those_of_the_request_and_the_image", &[], users),
        shared("capabilities_are_exactly_those_asked_for", &[], capabilities),
        shared(
            "all_capabilities_are_every_one_of_the_kernels",
            &[Need::Resources],
            all_capabilities,
        ),
        shared("a_dropped_capability_is_missing_when_it_is_needed", &[], enforced),
        shared("no_new_privs_is_set_when_it_is_asked_for", &[], no_new_privs),
        shared("a_privileged_container_has_everything", &[Need::Resources], privileged),
        shared(
            "a_container_may_be_privileged_once_its_pod_is_said_to_be",
            &[Need::Resources],
            privileged_later,
        ),
        shared("privileged_needs_a_privileged_pod", &[], not_privileged),
        shared("oom_score_adj_is_the_requests", &[], oom_score),
    ]
}

type Change = fn(&mut proto::LinuxContainerSecurityContext);

fn uid(value: i64) -> Option<proto::Int64Value> {
    Some(proto::Int64Value { value })
}

fn users(node: &Node) -> Result<()> {
    const STRICT: proto::SupplementalGroupsPolicy = proto::SupplementalGroupsPolicy::Strict;
    let scene = Scene::new(node, "users")?;
    // The image: web is 1000:1000 and a member of 2000.
    let rows: [(&str, Change, u32, u32, &str); 9] = [
        ("the-images", |_| {}, 0, 0, "0"),
        ("uid", |s| s.run_as_user = uid(1000), 1000, 1000, "1000 2000"),
        ("name", |s| s.run_as_username = "web".into(), 1000, 1000, "1000 2000"),
        ("not-in-passwd", |s| s.run_as_user = uid(4242), 4242, 0, "0"),
        (
            "group",
            |s| {
                s.run_as_user = uid(4242);
                s.run_as_group = uid(3000);
            },
            4242,
            3000,
            "3000",
        ),
        (
            "merge",
            |s| {
                s.run_as_user = uid(1000);
                s.supplemental_groups = vec![5000, 2000];
            },
            1000,
            1000,
            "1000 2000 5000",
        ),
        (
            "strict",
            |s| {
                s.run_as_user = uid(1000);
                s.supplemental_groups = vec![5000];
                s.supplemental_groups_policy = STRICT.into();
            },
            1000,
            1000,
            "1000 5000",
        ),
        (
            "strict-without-groups",
            |s| {
                s.run_as_username = "web".into();
                s.supplemental_groups_policy = STRICT.into();
            },
            1000,
            1000,
            "1000",
        ),
        (
            "name-and-group",
            |s| {
                s.run_as_username = "web".into();
                s.run_as_group = uid(7);
            },
            1000,
            7,
            "7 2000",
        ),
    ];
    for (name, change, uid, gid, groups) in rows {
        let made = scene
            .start(name, &["sleep", "100000"], |c| change(pod::security(c)))
            .with_context(|| name.to_owned())?;
        let init = made.init()?;
        let field = |field: &str| kernel::status_field(init, field);
        ensure!(
            field("Uid")? == [uid; 4].map(|n| n.to_string()).join("\t"),
            "{name}: {:?}",
            field("Uid")
        );
        ensure!(
            field("Gid")? == [gid; 4].map(|n| n.to_string()).join("\t"),
            "{name}: {:?}",
            field("Gid")
        );
        ensure!(field("Groups")? == groups, "{name}: groups {:?}, not {groups:?}", field("Groups"));
        // A command in it is the same user.
        let found = node.exec_ok(&made.id, &["sh", "-c", "echo $(id -u):$(id -g)"])?;
        ensure!(found == format!("{uid}:{gid}"), "{name}: a command is {found}");
        let told = made.status()?.user.unwrap_or_default().linux.context("no user is told")?;
        ensure!((told.uid, told.gid) == (uid.into(), gid.into()), "{name}: {told:?} is told");
        let told = told.supplemental_groups.iter().map(i64::to_string).collect::<Vec<_>>();
        ensure!(told.join(" ") == groups, "{name}: the groups {told:?} are told");
    }
    Ok(())
}

/// A bit mask of capabilities as the kernel prints it.
fn capability_sets(pid: i32) -> Result<[u64; 5]> {
    let mut sets = [0; 5];
    let names = ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"];
    for (set, name) in sets.iter_mut().zip(names) {
        *set = u64::from_str_radix(&kernel::status_field(pid, name)?, 16)?;
    }
    Ok(sets)
}

/// The fourteen of a container that asks for nothing.
const DEFAULT: u64 = 0xa804_25fb;
/// Every one of this kernel's.
const ALL: u64 = (1 << 41) - 1;
const CHOWN: u64 = 1 << 0;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_RESOURCE: u64 = 1 << 24;

fn asks(
    security: &mut proto::LinuxContainerSecurityContext,
    add: &[&str],
    drop: &[&str],
    ambient: &[&str],
) {
    let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    security.capabilities = Some(proto::Capability {
        add_capabilities: own(add),
        drop_capabilities: own(drop),
        add_ambient_capabilities: own(ambient),
    });
}

fn capabilities(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "capabilities")?;
    // Where berth itself lacks that one, ALL without it is still what it says.
    let few = ALL & !SYS_RESOURCE;
    let rows: [(&str, Change, [u64; 5]); 8] = [
        ("add-all-but", |s| asks(s, &["ALL"], &["SYS_RESOURCE"], &[]), [few, few, few, 0, 0]),
        ("default", |_| {}, [DEFAULT, DEFAULT, DEFAULT, 0, 0]),
        ("drop-all", |s| asks(s, &[], &["ALL"], &[]), [0; 5]),
        ("drop-all-but", |s| asks(s, &["CHOWN"], &["ALL"], &[]), [CHOWN, CHOWN, CHOWN, 0, 0]),
        (
            "drop",
            |s| asks(s, &[], &["NET_RAW"], &[]),
            [DEFAULT & !NET_RAW, DEFAULT & !NET_RAW, DEFAULT & !NET_RAW, 0, 0],
        ),
        (
            "add",
            |s| asks(s, &["NET_ADMIN"], &[], &[]),
            [DEFAULT | NET_ADMIN, DEFAULT | NET_ADMIN, DEFAULT | NET_ADMIN, 0, 0],
        ),
        // Another user than root has what is ambient.
        ("user", |s| s.run_as_user = uid(1000), [0, 0, DEFAULT, 0, 0]),
        (
            "ambient",
            |s| {
                s.run_as_user = uid(1000);
                asks(s, &[], &["ALL"], &["NET_ADMIN"]);
            },
            [NET_ADMIN; 5],
        ),
    ];
    check_capabilities(&scene, &rows)
}

fn all_capabilities(node: &Node) -> Result<()> {
    let all: Change = |s| asks(s, &["ALL"], &[], &[]);
    let scene = Scene::new(node, "all-capabilities")?;
    check_capabilities(&scene, &[("add-all", all, [ALL, ALL, ALL, 0, 0])])
}

fn check_capabilities(scene: &Scene<'_>, rows: &[(&str, Change, [u64; 5])]) -> Result<()> {
    for &(name, change, expected) in rows {
        let made = scene.start(name, &["sleep", "100000"], |c| change(pod::security(c)))?;
        let found = capability_sets(made.init()?)?;
        ensure!(found == expected, "{name}: {found:x?} instead of {expected:x?}");
        let own = scene.node.exec_ok(&made.id, &["grep", "CapEff", "/proc/self/status"])?;
        let expected = format!("CapEff:\t{:016x}", expected[0]);
        ensure!(own == expected, "{name}: a command has {own:?} instead of {expected:?}");
    }
    Ok(())
}

fn enforced(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "enforced")?;
    let probe = "touch /tmp/x; chown 1000 /tmp/x 2>/dev/null && echo may || echo must not";
    let drop = |c: &mut proto::ContainerConfig| asks(pod::security(c), &[], &["CHOWN"], &[]);
    ensure!(scene.output("dropped", probe, drop)?.1 == "must not\n");
    ensure!(scene.output("control", probe, as_is)?.1 == "may\n");
    Ok(())
}

fn no_new_privs(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "no-new-privs")?;
    for (name, asked, expected) in [("set", true, "1"), ("control", false, "0")] {
        let made = scene.start(name, &["sleep", "100000"], |c| {
            pod::security(c).no_new_privs = asked;
        })?;
        let found = kernel::status_field(made.init()?, "NoNewPrivs")?;
        ensure!(found == expected, "{name}: {found}");
        let own = node.exec_ok(&made.id, &["grep", "NoNewPrivs", "/proc/self/status"])?;
        ensure!(own == format!("NoNewPrivs:\t{expected}"), "{name}: a command has {own:?}");
    }
    Ok(())
}

fn privileged_pod(config: &mut proto::PodSandboxConfig) {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
}

fn privileged(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "privileged", privileged_pod)?;
    let probe = "touch /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null && echo may || echo no";
    let made = scene.start("main", &["sleep", "100000"], |c| {
        pod::security(c).privileged = true;
    })?;
    let found = capability_sets(made.init()?)?;
    ensure!(found[..3] == [ALL; 3], "{found:x?}");
    let (out, ..) = node.exec(&made.id, &["sh", "-c", probe], 0)?;
    ensure!(out == "may\n", "/sys is read-only");
    // The control: another container of the same pod.
    let control = scene.start("control", &["sleep", "100000"], as_is)?;
    ensure!(capability_sets(control.init()?)?[0] == DEFAULT, "the other one is privileged");
    let (out, ..) = node.exec(&control.id, &["sh", "-c", probe], 0)?;
    ensure!(out == "no\n", "/sys can be written");
    Ok(())
}

fn not_privileged(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "not-privileged")?;
    let error = scene
        .create("main", &["true"], |c| pod::security(c).privileged = true)
        .err()
        .context("it is created")?;
    ensure!(error.code() == tonic::Code::InvalidArgument, "{error}");
    ensure!(error.message().contains("the sandbox is not privileged"), "{error}");
    Ok(())
}

/// A kubelet calls a pod privileged when one of its containers is, and a debug container is added to
/// a pod that runs.
fn privileged_later(node: &Node) -> Result<()> {
    let mut scene = Scene::new(node, "debugged")?;
    let asks = |c: &mut proto::ContainerConfig| pod::security(c).privileged = true;
    let early = scene.create("early", &["true"], asks).err().context("it is created")?;
    ensure!(early.code() == tonic::Code::InvalidArgument, "{early}");
    privileged_pod(&mut scene.config);
    let made = scene.start("debugger", &["sleep", "100000"], asks)?;
    let control = scene.start("control", &["sleep", "100000"], as_is)?;
    for (made, capabilities, option) in [(&made, ALL, "rw"), (&control, DEFAULT, "ro")] {
        let found = capability_sets(made.init()?)?;
        ensure!(found[..3] == [capabilities; 3], "{found:x?} instead of {capabilities:x}");
        let sys = made.mount_at("/sys")?.context("no /sys")?;
        ensure!(sys.options.split(',').any(|o| o == option), "not {option}: {sys:?}");
    }
    Ok(())
}

fn oom_score(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "oom-score")?;
    for (name, score) in [("high", 1000), ("middle", 500), ("control", 0)] {
        let made = scene.start(name, &["sleep", "100000"], |c| {
            pod::resources(c).oom_score_adj = score;
        })?;
        let found = kernel::read(format!("/proc/{}/oom_score_adj", made.init()?))?;
        ensure!(found == score.to_string(), "{name}: {found}");
        let own = node.exec_ok(&made.id, &["cat", "/proc/self/oom_score_adj"])?;
        ensure!(own == score.to_string(), "{name}: a command has {own}");
    }
    Ok(())
}
