//! `berth-oci` by hand: what fails leaves nothing, and what is not done is refused.

use crate::harness::oci::{Runtime, SLEEPS, script, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_create_that_fails_leaves_nothing", &[], failing_create),
        shared("what_a_killed_create_leaves_is_removed_by_force", &[], killed_create),
        shared("a_failing_start_stops_the_container", &[], failing_start),
        shared("what_is_not_done_is_refused_by_name", &[], refused),
    ]
}

fn failing_create(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "failing")?;
    let poststop = oci.path("poststop");
    let fails = oci.path("fails");
    script(&fails, "echo it went wrong; exit 9")?;
    script(&oci.path("stop-hook"), &format!("cat >{}", text(&poststop)?))?;
    let stop_hook = json!([{ "path": oci.path("stop-hook"), "env": ["PATH=/bin:/usr/bin"] }]);
    type Case = (&'static str, fn(&mut Value, &Path), &'static str);
    let cases: [Case; 7] = [
        ("program", |c, _| c["process"]["args"] = json!(["nope"]), "no such file or directory"),
        (
            "cwd",
            |c, _| {
                c["process"]["cwd"] = json!("/bin/busybox");
            },
            "working directory",
        ),
        ("runtime", |c, p| c["hooks"]["createRuntime"] = json!([{ "path": p }]), "it went wrong"),
        ("inside", |c, p| c["hooks"]["createContainer"] = json!([{ "path": p }]), "it went wrong"),
        (
            "mount",
            |c, _| {
                c["mounts"][0]["type"] = json!("nopefs");
            },
            "nopefs",
        ),
        (
            "option",
            |c, _| {
                c["mounts"][1]["options"] = json!(["size=nonsense"]);
            },
            "size",
        ),
        (
            "process",
            |c, _| {
                c.as_object_mut().map(|c| c.remove("process"));
            },
            "process is missing",
        ),
    ];
    for (id, change, told) in cases {
        fs::remove_file(&poststop).ok();
        let bundle = oci.bundle(id, SLEEPS, |config| {
            config["hooks"] = json!({ "poststop": stop_hook });
            change(config, &fails);
        })?;
        let message = oci.fails(&["create", "-b", text(&bundle)?, id])?;
        ensure!(message.contains(told), "{id}: {message}");
        oci.nothing_of(id, &format!("/berth-oci/{id}"))?;
        // Where a process was made, the hooks at the end have something to end.
        let had_process = !matches!(id, "mount" | "process");
        ensure!(poststop.exists() == had_process, "{id}: poststop {}", poststop.exists());
    }
    ensure!(kernel::names_in(&oci.path("root")).is_empty(), "folders are left");
    // Control: the same bundle without the fault.
    let bundle = oci.bundle("fine", SLEEPS, |_| ())?;
    oci.create("fine", &bundle)?;
    oci.ok(&["delete", "fine"])?;
    oci.nothing_of("fine", "/berth-oci/fine")
}

/// A process that nobody else ends, whatever becomes of the test.
pub(crate) struct KilledAtLast(pub(crate) i32);

impl Drop for KilledAtLast {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
    }
}

fn killed_create(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "killed")?;
    let begun = oci.path("begun");
    script(&oci.path("hook"), &format!("echo $$ >{}; exec sleep 100000", text(&begun)?))?;
    let bundle = oci.bundle("b", SLEEPS, |config| {
        config["hooks"] =
            json!({ "createRuntime": [{ "path": oci.path("hook"), "env": ["PATH=/bin:/usr/bin"] }] });
    })?;
    let mut create = oci
        .command(&["create", "-b", text(&bundle)?, "c1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let hook: i32 = eventually("the hook runs", || {
        Ok(fs::read_to_string(&begun).ok().and_then(|text| text.trim().parse().ok()))
    })?;
    let _hook = KilledAtLast(hook);
    ensure!(oci.status("c1")? == "creating", "{}", oci.status("c1")?);
    let process = oci.pid("c1")?;
    create.kill()?;
    create.wait()?;
    // Its process does not wait for a byte that never comes.
    eventually("the process ends", || Ok((!kernel::alive(process)).then_some(())))?;
    ensure!(oci.cgroup("/berth-oci/c1").exists(), "the control: there is something to remove");
    oci.ok(&["delete", "--force", "c1"])?;
    oci.nothing_of("c1", "/berth-oci/c1")?;
    // A folder without a record: killed even earlier.
    fs::create_dir(oci.path("root/c2"))?;
    ensure!(oci.fails(&["delete", "c2"])?.contains("does not exist"), "deleted without force");
    oci.ok(&["delete", "--force", "c2"])?;
    ensure!(!oci.path("root/c2").exists(), "the folder is left");
    // The id is free again.
    let fine = oci.bundle("fine", SLEEPS, |_| ())?;
    oci.create("c1", &fine)?;
    oci.ok(&["delete", "c1"])?;
    Ok(())
}

fn failing_start(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "start")?;
    let bundle = oci.bundle("hook", SLEEPS, |config| {
        config["hooks"] = json!({ "startContainer": [{ "path": "/bin/false" }] });
    })?;
    oci.create("hook", &bundle)?;
    let told = oci.fails(&["start", "hook"])?;
    ensure!(told.contains("startContainer") && told.contains("/bin/false"), "{told}");
    oci.becomes("hook", "stopped")?;
    oci.ok(&["delete", "hook"])?;
    oci.nothing_of("hook", "/berth-oci/hook")?;
    // A file that is there and cannot be executed is found by execve alone.
    let bundle = oci.bundle("format", SLEEPS, |config| {
        config["process"]["args"] = json!(["/bin/text"]);
    })?;
    let path = bundle.join("rootfs/bin/text");
    script(&path, "")?;
    fs::write(&path, "no program")?;
    oci.create("format", &bundle)?;
    let told = oci.fails(&["start", "format"])?;
    ensure!(told.contains("exec format error"), "{told}");
    oci.becomes("format", "stopped")?;
    // Killed before its start: nothing can be started any more.
    let bundle = oci.bundle("killed", SLEEPS, |_| ())?;
    oci.create("killed", &bundle)?;
    oci.ok(&["kill", "killed", "KILL"])?;
    oci.becomes("killed", "stopped")?;
    ensure!(oci.fails(&["start", "killed"])?.contains("stopped"), "started");
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "refused")?;
    let bundle = oci.bundle("b", SLEEPS, |_| ())?;
    let b = text(&bundle)?;
    for (arguments, told) in [
        (&["create", "--no-pivot", "-b", b, "c1"][..], "--no-pivot"),
        (&["--rootless", "true", "create", "-b", b, "c1"][..], "--rootless"),
        (&["create", "-b", b, "a/b"][..], "container id"),
        (&["create", "-b", "/nonexistent", "c1"][..], "/nonexistent"),
        (&["start", "c1"][..], "does not exist"),
    ] {
        let message = oci.fails(arguments)?;
        ensure!(message.contains(told), "{arguments:?}: {message}");
    }
    // Where systemd is, oci_command_systemd asks it.
    let bus = "/run/dbus/system_bus_socket";
    if !Path::new(bus).exists() {
        let message = oci.fails(&["--systemd-cgroup", "create", "-b", b, "c1"])?;
        for words in ["--systemd-cgroup", "berth-oci-c1.scope", bus] {
            ensure!(message.contains(words), "no {words:?} in {message}");
        }
        oci.nothing_of("c1", "/system.slice/berth-oci-c1.scope")?;
    }
    type Field = (&'static str, fn(&mut Value));
    let fields: [Field; 4] = [
        ("time namespace", |c| {
            let list = c["linux"]["namespaces"].as_array_mut();
            list.into_iter().for_each(|list| list.push(json!({ "type": "time" })));
        }),
        ("intelRdt", |c| c["linux"]["intelRdt"] = json!({ "closID": "x" })),
        ("memory.swappiness", |c| {
            c["linux"]["resources"] = json!({ "memory": { "swappiness": 1 } });
        }),
        ("hooks.poststop", |c| c["hooks"] = json!({ "poststop": [{ "path": "relative" }] })),
    ];
    for (n, (field, change)) in fields.into_iter().enumerate() {
        let bundle = oci.bundle(&format!("f{n}"), SLEEPS, change)?;
        let message = oci.fails(&["create", "-b", text(&bundle)?, "c1"])?;
        ensure!(message.contains(field), "{field}: {message}");
        oci.nothing_of("c1", "/berth-oci/c1")?;
    }
    let features: Value = serde_json::from_str(&oci.ok(&["features"])?)?;
    ensure!(features["ociVersionMax"] == "1.2.0", "{features}");
    // The same as a subcommand of berth.
    let output = node.berth(&["oci", "--root", text(&oci.path("root"))?, "state", "nope"])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && told.contains("does not exist"), "{told}");
    Ok(())
}
