//! `berth-oci` by hand: the lifecycle of a container without a daemon.

use crate::harness::machine::Need;
use crate::harness::oci::{Runtime, script, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_container_is_created_started_killed_and_deleted", &[], life),
        shared("the_cgroup_is_where_the_bundle_says", &[], cgroups),
        shared("a_command_runs_in_a_container", &[], exec),
        shared("a_terminal_is_sent_to_the_console_socket", &[], terminal),
        shared("a_paused_container_stands_still", &[], paused),
        shared("hooks_run_in_order_in_their_namespaces", &[], hooks),
        shared("a_create_that_fails_leaves_nothing", &[], failing_create),
        shared("what_a_killed_create_leaves_is_removed_by_force", &[], killed_create),
        shared("signals_reach_one_process_or_all", &[], signals),
        shared("a_failing_start_stops_the_container", &[], failing_start),
        shared("limits_are_set_and_changed", &[Need::Controllers], limits),
        shared("descriptors_are_handed_on_when_asked", &[], preserved),
        shared("the_hosts_program_is_out_of_reach", &[], out_of_reach),
        shared("run_waits_and_cleans_up", &[], run),
        shared("a_user_namespace_is_made_or_joined", &[], user_namespace),
        shared("what_is_not_done_is_refused_by_name", &[], refused),
    ]
}

/// This process.
fn this() -> Result<i32> {
    Ok(i32::try_from(std::process::id())?)
}

const SLEEPS: &str = "exec sleep 100000";

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
        let (own, ours) = (kernel::namespace(pid, kind)?, kernel::namespace(this()?, kind)?);
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

fn exec(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "exec")?;
    oci.running("c1", SLEEPS)?;
    let pid = oci.pid("c1")?;
    let seen = oci.ok(&[
        "exec",
        "--env",
        "A=b c",
        "--cwd",
        "/tmp",
        "--user",
        "7:8",
        "c1",
        "sh",
        "-c",
        "echo $A $OF_CONTAINER; pwd; id; readlink /proc/self/ns/mnt",
    ])?;
    let namespace = kernel::namespace(pid, "mnt")?;
    ensure!(seen == format!("b c yes\n/tmp\nuid=7 gid=8\nmnt:[{namespace}]\n"), "{seen}");
    let code = oci.call(&["exec", "c1", "sh", "-c", "echo err >&2; exit 42"])?;
    ensure!((code.code, code.err.as_str()) == (Some(42), "err\n"), "{code:?}");
    let missing = oci.fails(&["exec", "c1", "/no/such/program"])?;
    ensure!(missing.contains("no such file or directory"), "{missing}");

    let process = oci.path("process.json");
    let whole = json!({
        "args": ["sh", "-c", "echo $ONLY:$OF_CONTAINER; exec sleep 100000"], "cwd": "/",
        "env": ["PATH=/bin", "ONLY=this"], "user": { "uid": 0, "gid": 0 },
    });
    fs::write(&process, whole.to_string())?;
    let pid_file = oci.path("exec-pid");
    let begun = oci.done(&[
        "exec",
        "--process",
        text(&process)?,
        "--detach",
        "--pid-file",
        text(&pid_file)?,
        "c1",
    ])?;
    oci.says(&begun.out_file, "this:\n")?;
    let further: i32 = fs::read_to_string(&pid_file)?.parse()?;
    ensure!(kernel::cgroup_of(further)? == kernel::cgroup_of(pid)?, "in another cgroup");
    ensure!(kernel::namespace(further, "pid")? == kernel::namespace(pid, "pid")?, "outside");
    ensure!(kernel::status_field(further, "Seccomp").is_ok(), "it is gone");
    let listed: Vec<i32> = serde_json::from_str(&oci.ok(&["ps", "--format", "json", "c1"])?)?;
    ensure!(listed.contains(&pid) && listed.contains(&further) && listed.len() == 2, "{listed:?}");
    let table = oci.ok(&["ps", "c1"])?;
    ensure!(table.lines().count() == 3, "{table}");
    // The whole process says what it may do: nothing.
    let sets = kernel::status_field(further, "CapEff")?;
    ensure!(u64::from_str_radix(&sets, 16)? == 0, "{sets}");
    oci.ok(&["delete", "--force", "c1"])?;
    ensure!(!kernel::alive(further), "a further process outlives its container");
    oci.nothing_of("c1", "/berth-oci/c1")
}

/// What a console socket gets.
fn take_master(listener: &UnixListener) -> Result<fs::File> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (stream, _) = listener.accept()?;
    let mut bytes = [0u8; 64];
    let mut part = [std::io::IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 2]);
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut part, Some(&mut control), MsgFlags::empty())?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            let fd = *fds.first().context("no descriptor")?;
            // SAFETY: the kernel has just made it for this process.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into());
        }
    }
    anyhow::bail!("a message without a descriptor")
}

/// Reads until `end` has come.
fn read_until(master: &mut fs::File, end: &str) -> Result<String> {
    let mut text = String::new();
    let mut bytes = [0u8; 256];
    while !text.contains(end) {
        let n = master.read(&mut bytes).with_context(|| format!("after {text:?}"))?;
        text.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    Ok(text)
}

fn terminal(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "tty")?;
    let script = "tty; stty size; test -c /dev/console && echo console; read line; echo got $line; \
        exec sleep 100000";
    let bundle = oci.bundle("b", script, |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "width": 99, "height": 33 });
    })?;
    let alone = oci.fails(&["create", "-b", text(&bundle)?, "c1"])?;
    ensure!(alone.contains("--console-socket"), "{alone}");
    let socket = oci.path("console.sock");
    let nobody =
        oci.fails(&["create", "-b", text(&bundle)?, "--console-socket", text(&socket)?, "c1"])?;
    ensure!(nobody.contains("console.sock"), "{nobody}");
    oci.nothing_of("c1", "/berth-oci/c1")?;

    let listener = UnixListener::bind(&socket)?;
    oci.ok(&["create", "-b", text(&bundle)?, "--console-socket", text(&socket)?, "c1"])?;
    let mut master = take_master(&listener)?;
    oci.ok(&["start", "c1"])?;
    let text_seen = read_until(&mut master, "console\r\n")?;
    ensure!(text_seen == "/dev/pts/0\r\n33 99\r\nconsole\r\n", "{text_seen:?}");
    master.write_all(b"words\n")?;
    read_until(&mut master, "got words\r\n")?;

    oci.ok(&[
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        text(&socket)?,
        "c1",
        "sh",
        "-c",
        "tty; echo end; sleep 1",
    ])?;
    let mut second = take_master(&listener)?;
    ensure!(read_until(&mut second, "end\r\n")? == "/dev/pts/1\r\nend\r\n", "another terminal");
    // In the foreground, without a socket, it is shown on the caller's own.
    let shown = oci.call(&["exec", "--tty", "c1", "sh", "-c", "tty; test -t 0; exit 4"])?;
    ensure!(shown.code == Some(4) && shown.out.starts_with("/dev/pts/"), "{shown:?}");
    let plain = oci.fails(&["exec", "--console-socket", text(&socket)?, "c1", "true"])?;
    ensure!(plain.contains("--tty"), "{plain}");
    oci.ok(&["delete", "--force", "c1"])?;
    Ok(())
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

/// A hook that writes down its name, its mount namespace, and what it is told.
fn noting(dir: &Path, name: &str, log: &str) -> Result<Value> {
    let path = dir.join(name);
    script(
        &path,
        &format!(
            "state=$(cat); s=${{state#*'\"status\":\"'}}; p=${{state#*'\"pid\":'}}\n\
             echo \"$0 $1 $NAME ${{s%%'\"'*}} ${{p%%,*}} $(readlink /proc/self/ns/mnt)\" >>{log}"
        ),
    )?;
    Ok(
        json!({ "path": path, "args": [name, "argument"], "env": [format!("NAME={name}"), "PATH=/bin:/usr/bin"] }),
    )
}

fn hooks(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "hooks")?;
    let rootfs = oci.path("b/rootfs");
    let log = oci.path("b/rootfs/hooks.log");
    let scripts = oci.path("scripts");
    fs::create_dir_all(&scripts)?;
    let mut hooks = serde_json::Map::new();
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks.insert(name.into(), json!([noting(&scripts, name, text(&log)?)?]));
    }
    // By the container's own path, with the container's own shell.
    let inside = noting(&scripts, "startContainer", "/hooks.log")?;
    let mut inside = inside;
    inside["path"] = json!("/startContainer");
    hooks.insert("startContainer".into(), json!([inside]));
    // What is mounted in the container is there for the hook before the pivot, at the host's path.
    let sees = scripts.join("sees");
    script(
        &sees,
        &format!("test -e {}/proc/self/status && echo sees >>{}", text(&rootfs)?, text(&log)?),
    )?;
    hooks["createContainer"].as_array_mut().context("a list")?.push(json!({ "path": sees }));
    let bundle = oci.bundle("b", "echo program >>/hooks.log; exec sleep 100000", |config| {
        config["hooks"] = Value::Object(hooks);
    })?;
    fs::copy(scripts.join("startContainer"), rootfs.join("startContainer"))?;

    let host = kernel::namespace(this()?, "mnt")?;
    let read = || fs::read_to_string(&log).unwrap_or_default();
    oci.create("c1", &bundle)?;
    let pid = oci.pid("c1")?;
    let own = kernel::namespace(pid, "mnt")?;
    let line = |name: &str, status: &str, pid: i32, ns: u64| {
        format!("{}/{name} argument {name} {status} {pid} mnt:[{ns}]\n", scripts.display())
    };
    let mut expected = line("prestart", "creating", pid, host)
        + &line("createRuntime", "creating", pid, host)
        + &line("createContainer", "creating", pid, own)
        + "sees\n";
    ensure!(read() == expected, "after create:\n{}expected:\n{expected}", read());
    oci.ok(&["start", "c1"])?;
    let start = format!("/startContainer argument startContainer created {pid} mnt:[{own}]\n");
    eventually("the program begins", || Ok(read().contains("program\n").then_some(())))?;
    // The program and the hook after its start do not wait for one another.
    let mut rest: Vec<String> = read()
        .strip_prefix(&expected)
        .context("other hooks first")?
        .lines()
        .map(|l| format!("{l}\n"))
        .collect();
    ensure!(rest.first() == Some(&start), "{rest:?}, expected {start}");
    rest.remove(0);
    rest.sort();
    ensure!(rest == [line("poststart", "running", pid, host), "program\n".into()], "{rest:?}");
    expected = read();
    oci.ok(&["delete", "--force", "c1"])?;
    ensure!(read() == expected.clone() + &line("poststop", "stopped", 0, host), "{}", read());
    oci.nothing_of("c1", "/berth-oci/c1")
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
struct KilledAtLast(i32);

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

fn preserved(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "fds")?;
    let secret = oci.path("secret");
    fs::write(&secret, "handed on\n")?;
    // Descriptors 3 and 4 are open for whoever is called.
    let open = format!("exec 3<{0} 4<{0}; exec \"$@\"", text(&secret)?);
    let with_open = |arguments: &[&str]| {
        let plain = oci.command(arguments);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", &open, "sh"]).arg(plain.get_program()).args(plain.get_args());
        shell.stdin(Stdio::null());
        oci.finish(shell)
    };
    let script = "cat <&3; ls /proc/self/fd | wc -l; exec sleep 100000";
    let bundle = oci.bundle("b", script, |_| ())?;
    let b = text(&bundle)?;
    for (id, arguments, expected) in [
        // 0, 1, 2, one of ls itself, and what was handed on.
        ("with", &["create", "--preserve-fds", "1", "-b", b, "with"][..], "handed on\n5\n"),
        ("none", &["create", "-b", b, "none"][..], "4\n"),
    ] {
        let created = with_open(arguments)?;
        ensure!(created.code == Some(0), "{created:?}");
        oci.ok(&["start", id])?;
        oci.says(&created.out_file, expected)?;
    }
    let run = with_open(&["exec", "--preserve-fds", "2", "with", "cat", "/dev/fd/4"])?;
    ensure!(run.out == "handed on\n", "{run:?}");
    let run = with_open(&["exec", "with", "cat", "/dev/fd/4"])?;
    ensure!(run.code != Some(0) && run.out.is_empty(), "{run:?}");
    let missing = oci.call(&["exec", "--preserve-fds", "9", "with", "true"])?;
    ensure!(missing.err.contains("descriptor"), "{missing:?}");
    Ok(())
}

/// CVE-2019-5736: the program of a container's first process, before its execve, is the runtime.
/// Who holds on to it can open it for writing once it does not run any more.
fn out_of_reach(node: &Node) -> Result<()> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let oci = Runtime::new(node, "reach")?;
    let bundle = oci.bundle("b", SLEEPS, |_| ())?;
    // A program that nobody else runs.
    let program = oci.path("own/berth-oci");
    fs::create_dir(oci.path("own"))?;
    fs::copy(oci.program(), &program)?;
    let usual = oci.command(&["create", "-b", text(&bundle)?, "c1"]);
    let mut create = std::process::Command::new(&program);
    create.args(usual.get_args()).stdin(Stdio::null());
    let created = oci.finish(create)?;
    ensure!(created.code == Some(0), "{created:?}");
    let pid = oci.pid("c1")?;
    let exe = format!("/proc/{pid}/exe");
    ensure!(fs::metadata(&exe)?.len() == fs::metadata(&program)?.len(), "another program");
    let hold = |path: &str| open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let (held, control) = (hold(&exe)?, hold(text(&program)?)?);
    // Nothing of how it is done is in any mount table.
    for mount in kernel::mounts("self")?.iter().chain(&kernel::mounts(&pid.to_string())?) {
        ensure!(mount.point != text(&program)?, "{mount:?}");
    }
    oci.ok(&["delete", "--force", "c1"])?;
    let write = |fd: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::OpenOptions::new().write(true).open(path).map_err(|e| e.raw_os_error())
    };
    // As long as its last process is there, nobody can write it: ETXTBSY.
    eventually("it does not run any more", || Ok(write(&control).is_ok().then_some(())))?;
    let refused = write(&held).err();
    ensure!(refused == Some(Some(nix::errno::Errno::EROFS as i32)), "{refused:?}");
    Ok(())
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

/// Adds a user namespace whose ids begin at 200000 on the host.
fn mapped(config: &mut Value, path: Option<&str>) {
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    let namespace = match path {
        None => json!({ "type": "user" }),
        Some(path) => json!({ "type": "user", "path": path }),
    };
    let list = config["linux"]["namespaces"].as_array_mut();
    list.into_iter().for_each(|list| list.push(namespace.clone()));
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn user_namespace(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "userns")?;
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; echo x >/dev/null && echo null; \
        mkdir /made && stat -c %u /made /dev/null; echo again >>/dev/stdout; exec sleep 100000";
    let made = |name: &str, path: Option<&str>| -> Result<i32> {
        let bundle = oci.bundle(name, script, |config| mapped(config, path))?;
        // Whose the root file system is, is the engine's business.
        let rootfs = bundle.join("rootfs");
        let owner = std::process::Command::new("chown")
            .args(["-hR", "200000:200000", text(&rootfs)?])
            .status()?;
        ensure!(owner.success(), "chown");
        let created = oci.create(name, &bundle)?;
        oci.ok(&["start", name])?;
        oci.says(&created.out_file, "0\n 0 200000 1000\nnull\n0\n0\nagain\n")?;
        let about = fs::metadata(rootfs.join("made"))?;
        ensure!(std::os::unix::fs::MetadataExt::uid(&about) == 200_000, "another owner");
        ensure!(oci.ok(&["exec", name, "id", "-u"])? == "0\n", "exec");
        oci.pid(name)
    };
    let first = made("first", None)?;
    let host = kernel::namespace(this()?, "user")?;
    let user = kernel::namespace(first, "user")?;
    ensure!(user != host, "the host's");
    ensure!(kernel::status_field(first, "Uid")?.starts_with("200000"), "another user");
    let second = made("second", Some(&format!("/proc/{first}/ns/user")))?;
    ensure!(kernel::namespace(second, "user")? == user, "not joined");
    // Control: without it, the host's.
    oci.running("plain", SLEEPS)?;
    ensure!(kernel::namespace(oci.pid("plain")?, "user")? == host, "not the host's");
    type Field = (&'static str, fn(&mut Value));
    let fields: [Field; 3] = [
        ("linux.uidMappings", |c| {
            mapped(c, None);
            c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
        }),
        ("linux.gidMappings", |c| {
            mapped(c, None);
            c["linux"]["gidMappings"] = json!([{ "containerID": 1, "hostID": 2, "size": 3 }]);
        }),
        ("process.user.uid", |c| {
            mapped(c, None);
            c["process"]["user"]["uid"] = json!(1000);
        }),
    ];
    for (n, (field, change)) in fields.into_iter().enumerate() {
        let bundle = oci.bundle(&format!("u{n}"), SLEEPS, change)?;
        let message = oci.fails(&["create", "-b", text(&bundle)?, "c1"])?;
        ensure!(message.contains(field), "{field}: {message}");
    }
    for id in ["first", "second", "plain"] {
        oci.ok(&["delete", "--force", id])?;
    }
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "refused")?;
    let bundle = oci.bundle("b", SLEEPS, |_| ())?;
    let b = text(&bundle)?;
    for (arguments, told) in [
        (&["create", "--no-pivot", "-b", b, "c1"][..], "--no-pivot"),
        (&["--rootless", "true", "create", "-b", b, "c1"][..], "--rootless"),
        (&["--systemd-cgroup", "create", "-b", b, "c1"][..], "systemd"),
        (&["create", "-b", b, "a/b"][..], "container id"),
        (&["create", "-b", "/nonexistent", "c1"][..], "/nonexistent"),
        (&["start", "c1"][..], "does not exist"),
    ] {
        let message = oci.fails(arguments)?;
        ensure!(message.contains(told), "{arguments:?}: {message}");
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
