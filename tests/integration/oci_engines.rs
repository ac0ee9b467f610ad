//! `berth-oci` in the place of runc, below the engines of others: Debian's containerd and podman.
//! Their programs are unpacked, not installed; each has folders of its own.

use crate::harness::image::{BUSYBOX, write_busybox};
use crate::harness::machine::Need;
use crate::harness::oci::{Runtime, script, text};
use crate::harness::{Node, Test, eventually, kernel, poll, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("containerd_runs_containers_by_it", &[Need::Engines], containerd),
        shared("podman_runs_containers_by_it", &[Need::Engines], podman),
    ]
}

/// What the engines are told to run: the program itself; where the machine lacks controllers, a script that
/// names it the configuration that does without.
fn runtime_of(node: &Node, oci: &Runtime<'_>) -> Result<PathBuf> {
    if node.machine.has(Need::Controllers) {
        return Ok(oci.program());
    }
    let path = oci.path("runtime");
    let (program, config) = (oci.program(), node.config_file());
    let line = format!("exec {} --config {} \"$@\"", text(&program)?, text(&config)?);
    script(&path, &line)?;
    Ok(path)
}

/// The folder of the engines' programs, and PATH with it.
fn programs(node: &Node) -> Result<(PathBuf, String)> {
    let peers = node.machine.peers.clone().context("no engines")?;
    let bin = peers.join("usr/bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    Ok((bin, path))
}

/// Ends containerd when it goes.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn told(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}: {}{}", output.status, part(&output.stdout), part(&output.stderr))
}

fn containerd(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "containerd")?;
    let (bin, path) = programs(node)?;
    let socket = oci.path("c.sock");
    let config = oci.path("containerd.toml");
    fs::write(
        &config,
        format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n",
            oci.path("c-root"),
            oci.path("c-state"),
        ),
    )?;
    let log = fs::File::create(oci.path("containerd.log"))?;
    let daemon = Daemon(
        Command::new(bin.join("containerd"))
            .arg("--config")
            .arg(&config)
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start containerd")?,
    );
    let ctr = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(bin.join("ctr"));
        command.arg("--address").arg(&socket).args(["--namespace", "test"]).args(arguments);
        command.env("PATH", &path).stdin(Stdio::null());
        command.output().context("run ctr")
    };
    let ctr_ok = |arguments: &[&str]| -> Result<String> {
        let output = ctr(arguments)?;
        ensure!(output.status.success(), "ctr {arguments:?}: {}", told(&output));
        Ok(String::from_utf8(output.stdout)?)
    };
    eventually("containerd answers", || ctr_ok(&["version"]).map(Some))?;
    let archive = oci.path("busybox.tar");
    write_busybox(&archive)?;
    ctr_ok(&["images", "import", "--snapshotter", "native", text(&archive)?])?;
    let (program, root) = (runtime_of(node, &oci)?, oci.path("runc"));
    let run_by = |program: &Path, flags: &[&str], id: &str, command: &[&str]| -> Result<Output> {
        let fixed = [
            "run",
            "--snapshotter",
            "native",
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            text(program)?,
            "--runc-root",
            text(&root)?,
        ];
        ctr(&[&fixed[..], flags, &[BUSYBOX, id], command].concat())
    };
    let run = |flags: &[&str], id: &str, command: &[&str]| run_by(&program, flags, id, command);

    // Nothing else runs in its place.
    let nobody = run_by(Path::new("/no/such/runtime"), &["--rm"], "nobody", &["true"])?;
    ensure!(!nobody.status.success(), "{}", told(&nobody));
    ensure!(told(&nobody).contains("/no/such/runtime"), "{}", told(&nobody));

    let once = run(&["--rm"], "once", &["sh", "-c", "echo hello; echo err >&2; exit 7"])?;
    ensure!(once.status.code() == Some(7), "{}", told(&once));
    ensure!(once.stdout == b"hello\n" && once.stderr == b"err\n", "{}", told(&once));
    // Its words for a start that fails are the runtime's, from the log.
    let missing = run(&["--rm"], "missing", &["/no/such/program"])?;
    let words = told(&missing);
    ensure!(!missing.status.success(), "{words}");
    ensure!(
        words.contains("exec: no such file or directory: \\\"/no/such/program\\\"")
            || words.contains("exec: no such file or directory: \"/no/such/program\""),
        "{words}"
    );

    let script = "trap 'exit 9' TERM; while :; do sleep 0.1; done";
    let detached = run(&["--detach", "--seccomp"], "long", &["sh", "-c", script])?;
    ensure!(detached.status.success(), "{}", told(&detached));
    // It is this runtime that keeps it.
    let record = kernel::read(root.join("test/long/state.json"))?;
    ensure!(record.starts_with("berth 1 "), "{record}");
    let status = |id: &str| -> Result<String> {
        let list = ctr_ok(&["tasks", "ls"])?;
        let line = list.lines().find(|line| line.starts_with(id)).context("no task")?;
        Ok(line.split_whitespace().nth(2).unwrap_or_default().to_owned())
    };
    ensure!(status("long")? == "RUNNING", "{}", status("long")?);
    let list = ctr_ok(&["tasks", "ls"])?;
    let pid: i32 = list
        .lines()
        .find(|line| line.starts_with("long"))
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no pid")?
        .parse()?;
    ensure!(kernel::cgroup_of(pid)? == "/test/long", "{}", kernel::cgroup_of(pid)?);
    let own = kernel::read(root.join("test/long/state.json"))?;
    ensure!(own.contains(&format!("\"pid\":{pid}")), "another process: {own}");
    ensure!(kernel::status_field(pid, "Seccomp")? == "2", "its profile is not enforced");
    let exec = ctr(&["tasks", "exec", "--exec-id", "e1", "long", "sh", "-c", "echo in; exit 3"])?;
    ensure!((exec.status.code(), &exec.stdout[..]) == (Some(3), b"in\n"), "{}", told(&exec));
    ctr_ok(&["tasks", "pause", "long"])?;
    ensure!(status("long")? == "PAUSED", "{}", status("long")?);
    ctr_ok(&["tasks", "resume", "long"])?;
    ensure!(status("long")? == "RUNNING", "{}", status("long")?);
    ensure!(ctr_ok(&["tasks", "ps", "long"])?.contains(&pid.to_string()), "not in ps");
    if node.machine.has(Need::Controllers) {
        ensure!(ctr_ok(&["tasks", "metrics", "long"])?.contains("pids.current"), "no metrics");
    }
    ctr_ok(&["tasks", "kill", "--signal", "SIGTERM", "long"])?;
    eventually("it has ended", || Ok((status("long")? == "STOPPED").then_some(())))?;
    // The client tells the code in words.
    let removed = told(&ctr(&["tasks", "rm", "long"])?);
    ensure!(removed.contains("exit code 9"), "{removed}");
    ctr_ok(&["containers", "rm", "long"])?;
    ensure!(kernel::names_in(&root.join("test")).is_empty(), "a folder is left");
    ensure!(!oci.cgroup("/test").exists(), "a cgroup is left");
    drop(daemon);
    Ok(())
}

/// Runs a command that waits until an orphan of its own, its monitor, has been reaped.
fn patiently(oci: &Runtime<'_>, command: &mut Command) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    while child.try_wait()?.is_none() {
        oci.reap_orphans(Some(child.id()));
        poll::pause(Duration::from_millis(20));
    }
    Ok(child.wait_with_output()?)
}

fn podman(node: &Node) -> Result<()> {
    // Its run folder may have no more than 50 bytes.
    let oci = Runtime::new(node, "p")?;
    let (bin, path) = programs(node)?;
    let libraries = bin.with_file_name("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    // The monitor runs podman again when a container has ended, and needs its libraries for that.
    let monitor = oci.path("conmon");
    let (own, folder) = (bin.join("conmon"), text(&libraries)?);
    script(&monitor, &format!("LD_LIBRARY_PATH={folder} exec {} \"$@\"", text(&own)?))?;
    let config = oci.path("containers.conf");
    fs::write(
        &config,
        "[engine]\nevents_logger = \"file\"\n[network]\nnetwork_backend = \"cni\"\n",
    )?;
    let storage = oci.path("storage.conf");
    fs::write(
        &storage,
        format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            oci.path("p-root"),
            oci.path("r"),
        ),
    )?;
    let (program, root) = (runtime_of(node, &oci)?, oci.path("kept"));
    let podman_by = |program: &Path, arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(bin.join("podman"));
        command
            .arg("--root")
            .arg(oci.path("p-root"))
            .arg("--runroot")
            .arg(oci.path("r"))
            .arg("--tmpdir")
            .arg(oci.path("p-tmp"))
            .arg("--conmon")
            .arg(&monitor)
            .arg("--runtime")
            .arg(program)
            .arg(format!("--runtime-flag=root={}", root.display()))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(arguments)
            .env("PATH", &path)
            .env("LD_LIBRARY_PATH", &libraries)
            .env("CONTAINERS_CONF", &config)
            .env("CONTAINERS_STORAGE_CONF", &storage)
            .env("HOME", oci.path(""))
            .stdin(Stdio::null());
        patiently(&oci, &mut command).context("run podman")
    };
    let podman = |arguments: &[&str]| podman_by(&program, arguments);
    let ok = |arguments: &[&str]| -> Result<String> {
        let output = podman(arguments)?;
        ensure!(output.status.success(), "podman {arguments:?}: {}", told(&output));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    let bundle = oci.bundle("b", "", |_| ())?;
    let rootfs = bundle.join("rootfs");
    for folder in ["etc", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(rootfs.join(folder))?;
    }
    let run = |flags: &[&str], command: &[&str]| -> Result<Output> {
        let fixed = ["run", "--network", "none"];
        podman(&[&fixed[..], flags, &["--rootfs", text(&rootfs)?], command].concat())
    };
    // Nothing else runs in its place.
    let fixed = ["run", "--rm", "--network", "none", "--rootfs", text(&rootfs)?, "true"];
    let nobody = podman_by(Path::new("/no/such/runtime"), &fixed)?;
    ensure!(!nobody.status.success(), "{}", told(&nobody));
    ensure!(told(&nobody).contains("/no/such/runtime"), "{}", told(&nobody));

    let once = run(&["--rm"], &["sh", "-c", "echo hello; id -u; exit 7"])?;
    ensure!((once.status.code(), &once.stdout[..]) == (Some(7), b"hello\n0\n"), "{}", told(&once));
    let missing = run(&["--rm"], &["/no/such/program"])?;
    ensure!(missing.status.code() == Some(127), "{}", told(&missing));
    let terminal = run(&["--rm", "--tty"], &["sh", "-c", "tty; test -t 1 && echo terminal"])?;
    let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
    ensure!(terminal.status.success() && shown.contains("terminal"), "{}", told(&terminal));

    let script = "trap 'exit 9' TERM; while :; do sleep 0.1; done";
    let limits: &[&str] = match node.machine.has(Need::Controllers) {
        true => &["--memory", "64m", "--pids-limit", "50"],
        false => &["--pids-limit", "0"],
    };
    let flags = [&["--detach", "--name", "long"], limits].concat();
    let long = run(&flags, &["sh", "-c", script])?;
    ensure!(long.status.success(), "{}", told(&long));
    let inspected: Value = serde_json::from_str(&ok(&["inspect", "long"])?)?;
    let pid = i32::try_from(inspected[0]["State"]["Pid"].as_i64().context("no pid")?)?;
    ensure!(inspected[0]["OCIRuntime"] == text(&program)?, "{}", inspected[0]["OCIRuntime"]);
    let id = inspected[0]["Id"].as_str().context("no id")?;
    // It is this runtime that keeps it.
    let record = kernel::read(root.join(id).join("state.json"))?;
    ensure!(record.starts_with("berth 1 "), "{record}");
    ensure!(record.contains(&format!("\"pid\":{pid}")), "another process: {record}");
    if node.machine.has(Need::Controllers) {
        let group = oci.cgroup(&kernel::cgroup_of(pid)?);
        ensure!(kernel::read(group.join("memory.max"))?.trim() == "67108864", "memory");
        ensure!(kernel::read(group.join("pids.max"))?.trim() == "50", "pids");
    }
    ensure!(kernel::status_field(pid, "Seccomp")? == "2", "its default profile is not enforced");
    ensure!(ok(&["exec", "long", "sh", "-c", "echo in"])? == "in", "exec");
    let code = podman(&["exec", "long", "sh", "-c", "exit 3"])?;
    ensure!(code.status.code() == Some(3), "{}", told(&code));
    ok(&["pause", "long"])?;
    ensure!(ok(&["inspect", "-f", "{{.State.Status}}", "long"])? == "paused", "not paused");
    ok(&["unpause", "long"])?;
    ensure!(ok(&["top", "long"])?.lines().count() >= 2, "top");
    ok(&["stop", "--time", "30", "long"])?;
    ensure!(ok(&["inspect", "-f", "{{.State.ExitCode}}", "long"])? == "9", "another exit code");
    ok(&["rm", "long"])?;
    let left = ok(&["ps", "--all", "--quiet"])?;
    ensure!(left.is_empty(), "{left}");
    // Its own.
    kernel::remove_cgroup(&oci.cgroup("/libpod_parent"));
    fs::remove_file("/dev/shm/libpod_lock").ok();
    Ok(())
}
