//! `berth-oci` by hand: the lifecycle of a container without a daemon.

use crate::harness::machine::Need;
use crate::harness::oci::{Runtime, SLEEPS, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_container_is_created_started_killed_and_deleted", &[], life),
        shared("the_cgroup_is_where_the_bundle_says", &[], cgroups),
        shared("a_paused_container_stands_still", &[], paused),
        shared("signals_reach_one_process_or_all", &[], signals),
        shared("limits_are_set_and_changed", &[Need::Controllers], limits),
        shared("run_waits_and_cleans_up", &[], run),
    ]
}

fn life(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "life")?;
    let script = "trap 'exit 3' TERM; echo begun; while :; do sleep 1; done";
    let bundle = oci.bundle("b", script, |config| {
        config["annotations"] = json!({ "who": "test" });
        config["hostname"] = json!("inside");
    })?;
    let pid_file = oci.path("pid");
    let created =
        oci.done(&["create", "-b", text(&bundle)?, "--pid-file", text(&pid_file)?, "c1"])?;
    let state = oci.state("c1")?;
    let pid = oci.pid("c1")?;
    ensure!(state["status"] == "created" && state["id"] == "c1", "{state}");
    ensure!(state["annotations"]["who"] == "test" && state["ociVersion"] == "1.2.0", "{state}");
    ensure!(state["bundle"] == text(&bundle)?, "{state}");
    ensure!(fs::read_to_string(&pid_file)? == pid.to_string(), "another pid in the file");
    // Its process is there, in its namespaces and in its cgroup; its program is not.
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let (own, ours) =
            (kernel::namespace(pid, kind)?, kernel::namespace(kernel::own_pid()?, kind)?);
        ensure!(own != ours, "the {kind} namespace is the host's");
    }
    ensure!(kernel::cgroup_of(pid)?.ends_with("/berth-oci/c1"), "{}", kernel::cgroup_of(pid)?);
    ensure!(kernel::read(format!("/proc/{pid}/comm"))?.trim() != "sh", "the program runs");
    ensure!(created.out.is_empty(), "{created:?}");
    // Who asks does not start it.
    ensure!(oci.status("c1")? == "created" && oci.status("c1")? == "created", "not created");
    let taken = oci.fails(&["create", "-b", text(&bundle)?, "c1"])?;
    ensure!(taken.contains("exists already"), "{taken}");

    oci.ok(&["start", "c1"])?;
    ensure!(oci.status("c1")? == "running" && oci.pid("c1")? == pid, "not running");
    oci.says(&created.out_file, "begun\n")?;
    ensure!(kernel::read(format!("/proc/{pid}/comm"))?.trim() == "sh", "another program");
    ensure!(oci.ok(&["exec", "c1", "hostname"])? == "inside\n", "another host name");
    let twice = oci.fails(&["start", "c1"])?;
    ensure!(twice.contains("running"), "{twice}");
    let early = oci.fails(&["delete", "c1"])?;
    ensure!(early.contains("running") && kernel::alive(pid), "{early}");

    oci.ok(&["kill", "c1", "SIGTERM"])?;
    oci.becomes("c1", "stopped")?;
    ensure!(oci.state("c1")?["pid"] == 0, "a pid of a stopped container");
    let late = oci.fails(&["kill", "c1"])?;
    ensure!(late.contains("container not running"), "{late}");
    let late = oci.fails(&["exec", "c1", "true"])?;
    ensure!(late.contains("container not running"), "{late}");
    oci.ok(&["delete", "c1"])?;
    oci.nothing_of("c1", "/berth-oci/c1")?;
    let gone = oci.fails(&["state", "c1"])?;
    ensure!(gone.contains("does not exist"), "{gone}");
    ensure!(oci.fails(&["delete", "c1"])?.contains("does not exist"), "deleted twice");
    oci.ok(&["delete", "--force", "c1"])?;
    Ok(())
}

fn cgroups(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "cgroups")?;
    for (id, path, expected) in [
        ("absolute", "/berth-oci-test/deep/er", "/berth-oci-test/deep/er"),
        ("relative", "mine", "/berth-oci/mine"),
    ] {
        let bundle =
            oci.bundle(id, SLEEPS, |config| config["linux"]["cgroupsPath"] = json!(path))?;
        oci.create(id, &bundle)?;
        let cgroup = kernel::cgroup_of(oci.pid(id)?)?;
        ensure!(cgroup.ends_with(expected), "{path}: {cgroup}");
        // Two containers in one cgroup would be killed together.
        let second = oci.fails(&["create", "-b", text(&bundle)?, "second"])?;
        ensure!(second.contains("in use"), "{second}");
        ensure!(oci.status(id)? == "created", "the first one is gone");
        oci.ok(&["delete", "--force", id])?;
        oci.nothing_of(id, expected)?;
    }
    ensure!(!oci.cgroup("/berth-oci-test").exists(), "the cgroups above are left");
    let bundle = oci.bundle("units", SLEEPS, |config| {
        config["linux"]["cgroupsPath"] = json!("system.slice:berth:c1");
    })?;
    let units = oci.fails(&["create", "-b", text(&bundle)?, "units"])?;
    ensure!(units.contains("cgroupsPath") && units.contains("systemd"), "{units}");
    oci.nothing_of("units", "/berth-oci/units")
}

fn paused(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "pause")?;
    let begun = oci.running("c1", "while :; do echo x; usleep 10000; done")?;
    let size = || Ok::<u64, anyhow::Error>(fs::metadata(&begun.out_file)?.len());
    eventually("it writes", || Ok((size()? > 10).then_some(())))?;
    oci.ok(&["pause", "c1"])?;
    ensure!(oci.status("c1")? == "paused", "{}", oci.status("c1")?);
    let freezer = oci.cgroup("/berth-oci/c1/cgroup.freeze");
    ensure!(kernel::read(&freezer)?.trim() == "1", "not frozen");
    let before = size()?;
    crate::harness::poll::pause(std::time::Duration::from_millis(300));
    ensure!(size()? == before, "it writes while it is paused");
    let refused = oci.fails(&["exec", "c1", "true"])?;
    ensure!(refused.contains("paused"), "{refused}");
    ensure!(oci.fails(&["pause", "c1"])?.contains("paused"), "paused twice");
    oci.ok(&["resume", "c1"])?;
    eventually("it writes again", || Ok((size()? > before).then_some(())))?;
    ensure!(oci.status("c1")? == "running", "not running");
    ensure!(oci.fails(&["resume", "c1"])?.contains("running"), "resumed twice");
    // A paused container can be killed and removed.
    oci.ok(&["pause", "c1"])?;
    oci.ok(&["kill", "c1", "KILL"])?;
    oci.becomes("c1", "stopped")?;
    oci.ok(&["delete", "c1"])?;
    oci.nothing_of("c1", "/berth-oci/c1")
}

fn signals(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "signals")?;
    let script = "trap 'echo first' USR1; (trap 'echo second' USR1; echo ready; \
        while :; do sleep 0.1; done) & while :; do sleep 0.1; done";
    let begun = oci.running("c1", script)?;
    oci.says(&begun.out_file, "ready\n")?;
    oci.ok(&["kill", "c1", "USR1"])?;
    oci.says(&begun.out_file, "ready\nfirst\n")?;
    oci.ok(&["kill", "--all", "c1", "10"])?;
    eventually("both say so", || {
        let text = fs::read_to_string(&begun.out_file)?;
        Ok((text.matches("first").count() >= 2 && text.contains("second")).then_some(()))
    })?;
    oci.ok(&["kill", "c1", "0"])?;
    ensure!(oci.fails(&["kill", "c1", "NOPE"])?.contains("NOPE"), "an unknown signal");
    oci.ok(&["kill", "--all", "c1", "SIGKILL"])?;
    oci.becomes("c1", "stopped")?;
    oci.ok(&["delete", "c1"])?;

    // In the host's pid namespace nobody dies with the first process: KILL is for all of them.
    let bundle = oci.bundle("c2", "sleep 100000 & exec sleep 100000", |config| {
        let list = config["linux"]["namespaces"].as_array_mut();
        list.into_iter().for_each(|list| list.retain(|n| n["type"] != "pid"));
    })?;
    oci.create("c2", &bundle)?;
    oci.ok(&["start", "c2"])?;
    let group = oci.cgroup("/berth-oci/c2");
    eventually("two processes", || Ok((kernel::pids_in(&group)?.len() == 2).then_some(())))?;
    oci.ok(&["kill", "c2", "KILL"])?;
    eventually("none is left", || Ok(kernel::pids_in(&group)?.is_empty().then_some(())))?;
    oci.ok(&["delete", "c2"])?;
    oci.nothing_of("c2", "/berth-oci/c2")
}

fn limits(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "limits")?;
    let bundle = oci.bundle("b", SLEEPS, |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 67108864, "reservation": 1048576 },
            "cpu": { "shares": 1024, "quota": 50000, "period": 100000 },
            "pids": { "limit": 32 },
            "unified": { "memory.high": "60000000" },
        });
    })?;
    oci.create("c1", &bundle)?;
    oci.ok(&["start", "c1"])?;
    let file = |name: &str| kernel::read(oci.cgroup("/berth-oci/c1").join(name));
    let now = |name: &str| file(name).map(|text| text.trim().to_owned());
    ensure!(now("memory.max")? == "67108864" && now("memory.low")? == "1048576", "memory");
    ensure!(now("cpu.max")? == "50000 100000" && now("cpu.weight")? == "100", "cpu");
    ensure!(
        now("pids.max")? == "32" && now("memory.high")? == "59998208",
        "{}",
        now("memory.high")?
    );
    let resources = oci.path("resources.json");
    fs::write(&resources, json!({ "memory": { "limit": 134217728 } }).to_string())?;
    oci.ok(&["update", "--resources", text(&resources)?, "c1"])?;
    ensure!(now("memory.max")? == "134217728" && now("pids.max")? == "32", "after the update");
    let mut update = oci.command(&["update", "--resources", "-", "c1"]);
    update.stdin(fs::File::open(&{
        fs::write(&resources, json!({ "pids": { "limit": 64 } }).to_string())?;
        resources.clone()
    })?);
    let outcome = oci.finish(update)?;
    ensure!(outcome.code == Some(0) && now("pids.max")? == "64", "{outcome:?}");
    oci.ok(&["update", "--cpu-quota", "-1", "--memory", "268435456", "c1"])?;
    ensure!(now("cpu.max")? == "max 100000" && now("memory.max")? == "268435456", "options");
    let refused = oci.fails(&["update", "--cpu-period", "7", "c1"])?;
    ensure!(refused.contains("CPU period") && now("cpu.max")? == "max 100000", "{refused}");
    let event: Value = serde_json::from_str(&oci.ok(&["events", "--stats", "c1"])?)?;
    ensure!(event["type"] == "stats" && event["id"] == "c1", "{event}");
    ensure!(event["data"]["memory"]["usage"]["limit"] == 268_435_456u64, "{event}");
    ensure!(event["data"]["pids"]["limit"] == 64, "{event}");
    // The devices that the bundle does not name are out of reach.
    let denied = oci.call(&["exec", "c1", "sh", "-c", "mknod /tmp/k c 1 11; cat /tmp/k"])?;
    ensure!(denied.code != Some(0) && !denied.err.is_empty(), "{denied:?}");
    ensure!(oci.ok(&["exec", "c1", "sh", "-c", "echo x >/dev/null; echo y"])? == "y\n", "null");
    oci.ok(&["delete", "--force", "c1"])?;
    oci.nothing_of("c1", "/berth-oci/c1")
}

fn run(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "run")?;
    let bundle = oci.bundle("b", "echo out; exit 5", |_| ())?;
    let outcome = oci.call(&["run", "-b", text(&bundle)?, "c1"])?;
    ensure!((outcome.code, outcome.out.as_str()) == (Some(5), "out\n"), "{outcome:?}");
    oci.nothing_of("c1", "/berth-oci/c1")?;
    // A signal for who waits is one for the container.
    let bundle = oci.bundle("s", "trap 'exit 6' TERM; while :; do sleep 0.1; done", |_| ())?;
    let mut waiting = oci
        .command(&["run", "-b", text(&bundle)?, "c2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    oci.becomes("c2", "running")?;
    let shell = oci.pid("c2")?;
    eventually("its trap is set", || {
        let caught = u64::from_str_radix(&kernel::status_field(shell, "SigCgt")?, 16)?;
        Ok((caught & (1 << 14) != 0).then_some(()))
    })?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(waiting.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    ensure!(waiting.wait()?.code() == Some(6), "another code");
    oci.nothing_of("c2", "/berth-oci/c2")?;
    let bundle = oci.bundle("d", SLEEPS, |_| ())?;
    oci.ok(&["run", "--detach", "-b", text(&bundle)?, "c3"])?;
    ensure!(oci.status("c3")? == "running", "not running");
    ensure!(oci.ok(&["list", "-q"])? == "c3\n", "another list");
    oci.ok(&["delete", "--force", "c3"])?;
    Ok(())
}
