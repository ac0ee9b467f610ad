//! `berth-oci --systemd-cgroup`, where systemd is the first process: what it makes is asked of systemd and of
//! the kernel.

use crate::harness::machine::{Machine, Need};
use crate::harness::node::systemctl;
use crate::harness::oci::{Runtime, SLEEPS, script, text};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use crate::oci_command_failures::KilledAtLast;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_container_is_a_scope_with_its_limits", &[Need::Systemd], unit, limits),
        own("a_scope_goes_with_its_container", &[Need::Systemd], unit, ends),
        own("a_create_that_is_killed_leaves_no_scope", &[Need::Systemd], unit, killed),
    ]
}

fn unit(_: &Machine) -> Options {
    Options { unit: true, ..Options::default() }
}

const SLICE: &str = "berthtest-oci.slice";
const FLAG: &str = "--systemd-cgroup";

fn asked(config: &mut Value, name: &str) {
    config["linux"]["cgroupsPath"] = json!(format!("{SLICE}:berth:{name}"));
    config["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 50 }, "devices": [{ "allow": false, "access": "rwm" }],
    });
}

fn scope_name(name: &str) -> String {
    format!("berth-{name}.scope")
}

fn group(name: &str) -> String {
    format!("/berthtest.slice/{SLICE}/{}", scope_name(name))
}

fn property(unit: &str, key: &str) -> Result<String> {
    systemctl(&["show", "--value", "-p", key, unit])
}

/// Neither systemd nor the kernel has the unit, and there is no folder.
fn nothing_of(oci: &Runtime<'_>, id: &str, cgroup: &str) -> Result<()> {
    let unit = cgroup.rsplit('/').next().unwrap_or_default();
    let state = property(unit, "LoadState")?;
    ensure!(state == "not-found", "{unit} is {state}");
    oci.nothing_of(id, cgroup)
}

/// A device that is allowed, one that is not.
const PROBE: &str = "[ -e /tmp/kmsg ] || mknod /tmp/kmsg c 1 11; (: >>/tmp/kmsg) 2>/dev/null && echo kmsg; \
    head -c 1 /dev/urandom >/dev/null && echo random";

fn limits(node: &mut Node) -> Result<()> {
    let oci = Runtime::new(node, "scope-limits")?;
    let bundle = oci.bundle("c1", SLEEPS, |config| {
        asked(config, "c1");
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_MKNOD", "CAP_KILL"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"],
        });
    })?;
    oci.ok(&[FLAG, "create", "-b", text(&bundle)?, "c1"])?;
    let (pid, scope) = (oci.pid("c1")?, scope_name("c1"));
    ensure!(kernel::cgroup_of(pid)? == group("c1"), "it is in {}", kernel::cgroup_of(pid)?);
    let folder = oci.cgroup(&group("c1"));
    ensure!(kernel::pids_in(&folder)? == [pid], "{:?}", kernel::pids_in(&folder)?);
    oci.ok(&["start", "c1"])?;
    let holds = |after: &str, memory: &str| -> Result<()> {
        for (key, expected) in [
            ("ControlGroup", group("c1").as_str()),
            ("Slice", SLICE),
            ("ActiveState", "active"),
            ("Delegate", "yes"),
            ("MemoryMax", memory),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("TasksMax", "50"),
        ] {
            let found = property(&scope, key)?;
            ensure!(found == expected, "after {after}: {key} is {found:?}, not {expected:?}");
        }
        for (file, expected) in
            [("memory.max", memory), ("cpu.max", "50000 100000"), ("pids.max", "50")]
        {
            let found = kernel::read(folder.join(file))?;
            ensure!(found.trim() == expected, "after {after}: {file} is {found}, not {expected}");
        }
        let found = oci.ok(&["exec", "c1", "sh", "-c", PROBE])?;
        ensure!(found == "random\n", "after {after}: {found:?}");
        Ok(())
    };
    holds("create", "67108864")?;
    systemctl(&["daemon-reload"])?;
    holds("daemon-reload", "67108864")?;
    // systemd sets all that it knows of memory again: an update that it was not told of would be lost.
    oci.ok(&["update", "--memory", "134217728", "c1"])?;
    systemctl(&["set-property", "--runtime", &scope, "MemoryHigh=120M"])?;
    systemctl(&["daemon-reload"])?;
    holds("update", "134217728")?;
    // A refused value changes nothing.
    oci.fails(&["update", "--memory", "1", "c1"])?;
    holds("a refused update", "134217728")?;
    oci.ok(&["pause", "c1"])?;
    ensure!(oci.status("c1")? == "paused", "{}", oci.status("c1")?);
    oci.ok(&["resume", "c1"])?;
    // Commands are in the scope as well.
    oci.ok(&["exec", "--detach", "c1", "sleep", "100000"])?;
    ensure!(kernel::pids_in(&folder)?.len() > 1, "the command is elsewhere");
    // A unit of its name is not taken by a second one, which leaves nothing.
    let second = oci.fails(&[FLAG, "create", "-b", text(&bundle)?, "second"])?;
    ensure!(second.contains(&scope), "{second}");
    ensure!(oci.pid("c1")? == pid && oci.status("c1")? == "running", "the first one is gone");
    oci.ok(&["delete", "--force", "c1"])?;
    nothing_of(&oci, "c1", &group("c1"))?;
    nothing_of(&oci, "second", &group("c1"))
}

fn killed(node: &mut Node) -> Result<()> {
    let oci = Runtime::new(node, "scope-killed")?;
    let begun = oci.path("begun");
    script(&oci.path("hook"), &format!("echo $$ >{}; exec sleep 100000", text(&begun)?))?;
    let bundle = oci.bundle("c7", SLEEPS, |config| {
        asked(config, "c7");
        config["hooks"] =
            json!({ "createRuntime": [{ "path": oci.path("hook"), "env": ["PATH=/bin:/usr/bin"] }] });
    })?;
    let mut create = oci
        .command(&[FLAG, "create", "-b", text(&bundle)?, "c7"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let hook: i32 = eventually("the hook runs", || {
        Ok(std::fs::read_to_string(&begun).ok().and_then(|text| text.trim().parse().ok()))
    })?;
    let _hook = KilledAtLast(hook);
    let active = property(&scope_name("c7"), "ActiveState")?;
    ensure!(active == "active", "the control: the scope is {active}");
    create.kill()?;
    create.wait()?;
    eventually("the scope ends by itself", || {
        let state = property(&scope_name("c7"), "LoadState")?;
        Ok((state == "not-found").then_some(()))
    })?;
    oci.ok(&["delete", "--force", "c7"])?;
    nothing_of(&oci, "c7", &group("c7"))
}

fn ends(node: &mut Node) -> Result<()> {
    let oci = Runtime::new(node, "scope-ends")?;
    // One that ends by itself, and begins anew under its name.
    let bundle = oci.bundle("c2", "exit 5", |config| asked(config, "c2"))?;
    for _ in 0..2 {
        oci.ok(&[FLAG, "create", "-b", text(&bundle)?, "c2"])?;
        oci.ok(&["start", "c2"])?;
        oci.becomes("c2", "stopped")?;
        oci.ok(&["delete", "c2"])?;
        nothing_of(&oci, "c2", &group("c2"))?;
    }
    // One in the foreground, with its code.
    let run = oci.call(&[FLAG, "run", "-b", text(&bundle)?, "c2"])?;
    ensure!(run.code == Some(5), "{run:?}");
    nothing_of(&oci, "c2", &group("c2"))?;
    // What cannot be created is not left.
    let missing = oci.bundle("c3", "", |config| {
        asked(config, "c3");
        config["process"]["args"] = json!(["/no/such/program"]);
    })?;
    oci.fails(&[FLAG, "create", "-b", text(&missing)?, "c3"])?;
    nothing_of(&oci, "c3", &group("c3"))?;
    // A limit that the kernel refuses.
    let refused = oci.bundle("c4", SLEEPS, |config| {
        asked(config, "c4");
        config["linux"]["resources"]["cpu"]["quota"] = json!(1);
    })?;
    oci.fails(&[FLAG, "create", "-b", text(&refused)?, "c4"])?;
    eventually("its scope is gone", || Ok(nothing_of(&oci, "c4", &group("c4")).ok()))?;
    // Without a path: below system.slice, by the id.
    let plain = oci.bundle("c5", SLEEPS, |_| ())?;
    oci.ok(&[FLAG, "create", "-b", text(&plain)?, "c5"])?;
    let found = kernel::cgroup_of(oci.pid("c5")?)?;
    ensure!(found == "/system.slice/berth-oci-c5.scope", "it is in {found}");
    oci.ok(&["start", "c5"])?;
    oci.ok(&["kill", "c5", "KILL"])?;
    oci.becomes("c5", "stopped")?;
    oci.ok(&["delete", "c5"])?;
    nothing_of(&oci, "c5", &found)?;
    // The control: without the flag it is no unit's.
    let flagless = oci.bundle("c6", SLEEPS, |_| ())?;
    oci.create("c6", &flagless)?;
    let found = kernel::cgroup_of(oci.pid("c6")?)?;
    ensure!(found == "/berth-oci/c6", "it is in {found}");
    oci.ok(&["delete", "--force", "c6"])?;
    systemctl(&["stop", SLICE]).context("stop the tests' slice")?;
    Ok(())
}
