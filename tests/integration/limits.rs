//! Requests and limits as files of the kernel.

use crate::harness::machine::{Machine, Need};
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::time::Duration;

const NEEDS: &[Need] = &[Need::Controllers];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("limits_are_files_of_the_kernel", NEEDS, files),
        shared("a_setting_that_the_kernel_does_not_know_is_an_error", NEEDS, unknown_setting),
        shared("an_update_changes_the_files_in_place", NEEDS, update),
        shared("a_cpuset_is_where_a_process_may_run", NEEDS, cpuset),
        own("a_class_of_block_io_is_what_the_configuration_says", NEEDS, with_class, block_io),
    ]
}

fn limit(made: &Made<'_>, file: &str) -> Result<String> {
    kernel::read(made.cgroup().join(file))
}

fn sleeper<'a>(
    scene: &Scene<'a>,
    name: &str,
    change: impl FnOnce(&mut proto::LinuxContainerResources),
) -> Result<Made<'a>> {
    scene.start(name, &["sleep", "100000"], |c| change(pod::resources(c)))
}

fn unified(r: &mut proto::LinuxContainerResources, name: &str, value: &str) {
    r.unified.insert(name.into(), value.into());
}

type Change = fn(&mut proto::LinuxContainerResources);
/// Files and what they hold.
type Files<'a> = &'a [(&'a str, &'a str)];

fn files(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "limit-files")?;
    let rows: [(&str, Change, Files<'_>); 12] = [
        (
            "nothing-asked",
            |_| {},
            &[
                ("cpu.weight", "100"),
                ("cpu.max", "max 100000"),
                ("memory.max", "max"),
                ("pids.max", "max"),
                ("memory.high", "max"),
                ("memory.oom.group", "0"),
            ],
        ),
        ("fewest-shares", |r| r.cpu_shares = 2, &[("cpu.weight", "1")]),
        ("shares", |r| r.cpu_shares = 512, &[("cpu.weight", "59")]),
        ("usual-shares", |r| r.cpu_shares = 1024, &[("cpu.weight", "100")]),
        ("most-shares", |r| r.cpu_shares = 262_144, &[("cpu.weight", "10000")]),
        ("quota", |r| r.cpu_quota = 20_000, &[("cpu.max", "20000 100000")]),
        (
            "quota-and-period",
            |r| (r.cpu_quota, r.cpu_period) = (5_000, 10_000),
            &[("cpu.max", "5000 10000")],
        ),
        // A limit of memory alone means no swap.
        ("memory", |r| r.memory_limit_in_bytes = 64 << 20, &[("memory.max", "67108864")]),
        ("cpuset", |r| r.cpuset_cpus = "0".into(), &[("cpuset.cpus", "0")]),
        ("mems", |r| r.cpuset_mems = "0".into(), &[("cpuset.mems", "0")]),
        (
            "unified",
            |r| {
                unified(r, "pids.max", "77");
                unified(r, "memory.high", "33554432");
                unified(r, "memory.min", "1048576");
                unified(r, "memory.oom.group", "1");
            },
            &[
                ("pids.max", "77"),
                ("memory.high", "33554432"),
                ("memory.min", "1048576"),
                ("memory.oom.group", "1"),
            ],
        ),
        // The last word is unified's.
        (
            "unified-wins",
            |r| {
                r.cpu_shares = 512;
                unified(r, "cpu.weight", "7");
            },
            &[("cpu.weight", "7")],
        ),
    ];
    for (name, change, expected) in rows {
        let made = sleeper(&scene, name, change).with_context(|| name.to_owned())?;
        for (file, value) in expected {
            let found = limit(&made, file)?;
            ensure!(found == *value, "{name}: {file} is {found:?} instead of {value:?}");
        }
    }
    // Where there is swap, none of it is for a container with a memory limit alone.
    let swap = sleeper(&scene, "swap", |r| r.memory_limit_in_bytes = 64 << 20)?;
    if swap.cgroup().join("memory.swap.max").exists() {
        ensure!(limit(&swap, "memory.swap.max")? == "0", "{}", limit(&swap, "memory.swap.max")?);
        let more = sleeper(&scene, "more-swap", |r| {
            r.memory_limit_in_bytes = 64 << 20;
            r.memory_swap_limit_in_bytes = 96 << 20;
        })?;
        ensure!(limit(&more, "memory.swap.max")? == "33554432", "both together are 96 MiB");
    }
    // The container sees its own.
    let seen = node.exec_ok(&swap.id, &["cat", "/sys/fs/cgroup/memory.max"])?;
    ensure!(seen == "67108864", "{seen}");
    Ok(())
}

fn unknown_setting(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "limit-unknown")?;
    let rows: [(&str, &str, &str); 3] = [
        ("no-such-file", "memory.no_such", "1"),
        ("no-such-controller", "magic.max", "1"),
        ("bad-value", "pids.max", "many"),
    ];
    for (name, key, value) in rows {
        let error = sleeper(&scene, name, |r| unified(r, key, value))
            .err()
            .with_context(|| format!("{name} starts"))?;
        ensure!(format!("{error:#}").contains(key), "{name}: {key} is not named: {error:#}");
    }
    // Pages of a size that the kernel has not; a kubelet sends a zero for sizes that nobody asks for.
    let pages = |bytes| vec![proto::HugepageLimit { page_size: "3MB".into(), limit: bytes }];
    let error = sleeper(&scene, "no-such-pages", |r| r.hugepage_limits = pages(3 << 20))
        .err()
        .context("it starts with pages of 3 MB")?;
    ensure!(format!("{error:#}").contains("hugetlb.3MB.max"), "{error:#}");
    sleeper(&scene, "none-of-these-pages", |r| r.hugepage_limits = pages(0))?;
    sleeper(&scene, "control", |r| unified(r, "pids.max", "100")).map(drop)
}

fn change(
    node: &Node,
    id: &str,
    linux: proto::LinuxContainerResources,
) -> Result<(), tonic::Status> {
    let request = proto::UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(linux),
        ..Default::default()
    };
    node.cri.update_container_resources(request).map(drop)
}

fn update(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "limit-update")?;
    let made = sleeper(&scene, "main", |r| {
        (r.cpu_shares, r.memory_limit_in_bytes) = (512, 64 << 20);
    })?;
    let init = made.init()?;
    let asks = proto::LinuxContainerResources {
        memory_limit_in_bytes: 128 << 20,
        cpu_quota: 30_000,
        ..Default::default()
    };
    change(node, &made.id, asks)?;
    for (file, expected) in
        [("memory.max", "134217728"), ("cpu.max", "30000 100000"), ("cpu.weight", "59")]
    {
        ensure!(limit(&made, file)? == expected, "{file}: {}", limit(&made, file)?);
    }
    let told = made.status()?.resources.unwrap_or_default().linux.unwrap_or_default();
    ensure!((told.memory_limit_in_bytes, told.cpu_shares) == (128 << 20, 512), "{told:?} is told");
    let refused =
        proto::LinuxContainerResources { memory_limit_in_bytes: -7, ..Default::default() };
    let error = change(node, &made.id, refused).err().context("a negative limit")?;
    ensure!(error.code() == tonic::Code::InvalidArgument, "{error}");
    ensure!(limit(&made, "memory.max")? == "134217728", "a refused update had an effect");
    ensure!(made.init()? == init, "it was restarted");
    // One that cannot be recorded is taken back.
    std::fs::write(node.path("fail-plan.refuse"), "record.json 1\n")?;
    let asks = proto::LinuxContainerResources {
        memory_limit_in_bytes: 256 << 20,
        cpu_quota: 50_000,
        ..Default::default()
    };
    let refused = change(node, &made.id, asks);
    std::fs::remove_file(node.path("fail-plan.refuse"))?;
    let error = refused.err().context("it was recorded")?;
    ensure!(error.message().contains("record"), "{error}");
    for (file, expected) in [("memory.max", "134217728"), ("cpu.max", "30000 100000")] {
        ensure!(limit(&made, file)? == expected, "{file}: {}", limit(&made, file)?);
    }
    // Before its start, too.
    let id = scene.create("created", &["sleep", "100000"], as_is)?;
    let asks = proto::LinuxContainerResources { cpu_shares: 2, ..Default::default() };
    change(node, &id, asks)?;
    node.start_container(&id)?;
    let weight = kernel::read(node.container_cgroup(&scene.pod, &id).join("cpu.weight"))?;
    ensure!(weight == "1", "{weight}");
    // And not after its end.
    node.stop_container(&made.id, Duration::ZERO)?;
    let asks = proto::LinuxContainerResources { cpu_shares: 2, ..Default::default() };
    let error = change(node, &made.id, asks).err().context("it has ended")?;
    ensure!(error.code() == tonic::Code::FailedPrecondition, "{error}");
    Ok(())
}

fn cpuset(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "cpuset")?;
    let made = sleeper(&scene, "main", |r| r.cpuset_cpus = "1".into())?;
    let allowed = |made: &Made<'_>| kernel::status_field(made.init()?, "Cpus_allowed_list");
    ensure!(allowed(&made)? == "1", "{}", allowed(&made)?);
    let command = node.exec_ok(&made.id, &["grep", "Cpus_allowed_list", "/proc/self/status"])?;
    ensure!(command == "Cpus_allowed_list:\t1", "a command: {command}");
    let control = sleeper(&scene, "control", |_| {})?;
    ensure!(allowed(&control)? != "1", "one CPU without being asked");
    Ok(())
}

fn with_class(_: &Machine) -> Options {
    let config = "[blockio.slow]\nmax = [\"/dev/loop7 rbps=1048576 wiops=120\", \"7:6 wbps=4096\"]\n\
        [blockio.gone]\nmax = [\"/dev/no-such rbps=1\"]\n";
    Options { config: config.into(), ..Options::default() }
}

fn block_io(node: &mut Node) -> Result<()> {
    let of_pod = |config: &mut proto::PodSandboxConfig| {
        let key = "blockio.resources.beta.kubernetes.io/container.main";
        config.annotations.insert(key.into(), "slow".into());
    };
    let own = |c: &mut proto::ContainerConfig, name: &str| {
        c.annotations.insert("io.kubernetes.cri.blockio-class".into(), name.into());
    };
    let expected = [
        "7:6 rbps=max wbps=4096 riops=max wiops=max",
        "7:7 rbps=1048576 wbps=max riops=max wiops=120",
    ];
    let lines = |made: &Made<'_>| -> Result<Vec<String>> {
        let text = limit(made, "io.max")?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let scene = Scene::with(node, "block-io", of_pod)?;
    let main = scene.start("main", &["sleep", "100000"], as_is)?;
    ensure!(lines(&main)? == expected, "{:?}", lines(&main)?);
    // Another container of the pod has no class, unless it says so.
    let control = scene.start("control", &["sleep", "100000"], as_is)?;
    ensure!(lines(&control)?.is_empty(), "{:?}", lines(&control)?);
    let named = scene.start("named", &["sleep", "100000"], |c| own(c, "slow"))?;
    ensure!(lines(&named)? == expected, "{:?}", lines(&named)?);
    // What the request itself says of the file stays.
    let unified = scene.start("unified", &["sleep", "100000"], |c| {
        own(c, "slow");
        unified(pod::resources(c), "io.max", "7:5 wiops=9");
    })?;
    let lines = lines(&unified)?;
    ensure!(lines == ["7:5 rbps=max wbps=max riops=max wiops=9"], "{lines:?}");
    let gone = scene.create("gone", &["true"], |c| own(c, "gone")).err().context("no device")?;
    let named = gone.message().contains("/dev/no-such");
    ensure!(gone.code() == tonic::Code::FailedPrecondition && named, "{gone}");
    Ok(())
}
