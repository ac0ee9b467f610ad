//! Containers and commands under a real shim: logs, ends, terminals, adoption.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::config::Enforce;
use berth::ids::{ContainerId, random_hex};
use berth::oci::{NewUserns, PodContext, Prepared, prepare, prepare_exec};
use berth::shim::ExitRecord;
use berth::shim::client::{ContainerIo, ExecIo, ShimError, ShimEvent};
use berth::sys::mount::{self, Reach};
use berth::sys::path::c_path;
use berth::sys::pipe;
use berth::sys::process::{self, InitPid};
use nix::fcntl::AT_FDCWD;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::world::{Pod, SOON, binaries, private_kib, stage};

/// A container of a pod.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    log: PathBuf,
    root: tempfile::TempDir,
    spec: Value,
}

fn process(script: &str, tty: bool) -> Value {
    json!({
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "terminal": tty,
        "user": { "uid": 0, "gid": 0 },
    })
}

fn context() -> PodContext {
    PodContext {
        pause: None,
        privileges: Enforce::BestEffort,
        target: None,
        new_userns: NewUserns::Fork,
        volumes: Default::default(),
        hooks: None,
    }
}

impl Container {
    pub(crate) fn new(script: &str) -> Self {
        Self::with_terminal(script, false)
    }

    pub(crate) fn with_terminal(script: &str, tty: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "cat", "sleep", "seq", "stty", "tty", "setsid", "yes", "head", "wc"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": process(script, tty),
            "root": { "path": "rootfs", "readonly": false },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "linux": { "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "cgroup" }, { "type": "ipc" },
            ] },
        });
        let id = ContainerId::parse(&random_hex().unwrap()).unwrap();
        Self { id, log: root.path().join("0.log"), root, spec }
    }

    fn prepared(&self) -> Prepared {
        let spec = serde_json::from_value(self.spec.clone()).unwrap();
        let root = c_path(self.root.path()).unwrap();
        let rootfs = mount::clone_tree(AT_FDCWD, &root, Reach::One).unwrap();
        prepare(&spec, rootfs, &context()).unwrap()
    }

    fn open_log(&self) -> OwnedFd {
        File::options().create(true).append(true).open(&self.log).unwrap().into()
    }

    pub(crate) fn io(&self, tty: bool) -> ContainerIo {
        ContainerIo { tty, stdin: false, log: Some(self.open_log()) }
    }

    pub(crate) async fn start(&self, pod: &Pod) -> InitPid {
        self.try_start(pod, self.io(false)).await.unwrap()
    }

    pub(crate) async fn try_start(&self, pod: &Pod, io: ContainerIo) -> Result<InitPid, ShimError> {
        let cgroup = pod.cgroup("container");
        let begun = pod.shim.start_container(&self.id, self.prepared(), io, cgroup, SOON).await;
        begun.map(|begun| begun.process)
    }

    /// The log without its times.
    pub(crate) fn text(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.split_inclusive('\n').map(|l| l.get(31..).unwrap_or(l)).collect()
    }

    /// Waits until the log contains `text`.
    pub(crate) async fn wait_for(&self, text: &str) {
        let seen = async {
            while !self.text().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(SOON, seen).await.is_ok(), "no {text:?} in {:?}", self.text());
    }

    async fn exec(&self, pod: &Pod, name: &str, script: &str, io: ExecIo) -> ExecStarted {
        let spec = serde_json::from_value(self.spec.clone()).unwrap();
        let tty = matches!(io, ExecIo::Tty);
        let process = serde_json::from_value(process(script, tty)).unwrap();
        let plan = prepare_exec(&spec, &process, &context()).unwrap();
        pod.shim.exec(&self.id, name, plan, io, pod.cgroup("container")).await
    }
}

type ExecStarted = Result<(InitPid, Option<OwnedFd>), ShimError>;

impl Pod {
    pub(crate) async fn exit_of(&mut self, container: &Container) -> (u64, ExitRecord) {
        match self.event().await {
            ShimEvent::ContainerExited { seq, id, exit } if id == container.id => (seq, exit),
            other => panic!("{other:?}"),
        }
    }

    fn exit_file(&self, container: &Container) -> Option<ExitRecord> {
        let path = self.layout.exits(&self.id).join(container.id.as_str());
        ExitRecord::load(&path).unwrap()
    }
}

#[tokio::test]
async fn a_container_logs_and_ends_and_its_record_is_there_before_the_event() {
    let mut pod = Pod::start().await;
    let container = Container::new("echo out; echo err >&2; printf unfinished; exit 7");
    let init = container.start(&pod).await;
    assert!(init.start_time > 0);
    let (seq, exit) = pod.exit_of(&container).await;
    assert_eq!((exit.exit_code, exit.signal), (7, None));
    let mut lines: Vec<String> = container.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P unfinished"]);
    assert_eq!(pod.exit_file(&container), Some(exit.clone()));
    // A daemon that was killed before it recorded the end is told again.
    let adopted = pod.adopt().await;
    let [held] = &adopted.containers[..] else { panic!("{adopted:?}") };
    assert_eq!((&held.id, &held.process, &held.exit), (&container.id, &None, &Some(exit.clone())));
    assert_eq!(pod.exit_of(&container).await, (seq, exit));
    pod.shim.ack(seq).await.unwrap();
    pod.shim.forget_container(&container.id).await.unwrap();
    assert_eq!(pod.exit_file(&container), None);
    assert!(pod.adopt().await.containers.is_empty());
    pod.end().await;
}

#[tokio::test]
async fn a_container_survives_the_connection_and_loses_no_byte_meanwhile() {
    let mut pod = Pod::start().await;
    let container = Container::new("seq 1 50000; cat");
    let io = ContainerIo { stdin: true, ..container.io(false) };
    let init = container.try_start(&pod, io).await.unwrap();
    let adopted = pod.adopt().await;
    let [held] = &adopted.containers[..] else { panic!("{adopted:?}") };
    assert_eq!((&held.id, &held.process, &held.exit), (&container.id, &Some(init.clone()), &None));
    container.wait_for("stdout F 50000\n").await;
    let expected: String = (1..=50_000).map(|n| format!("stdout F {n}\n")).collect();
    assert_eq!(container.text(), expected);
    assert!(matches!(
        pod.shim.forget_container(&container.id).await,
        Err(ShimError::Step { errno: libc::EBUSY, .. })
    ));
    process::kill(init.pidfd().unwrap().unwrap().as_fd()).unwrap();
    let (_, exit) = pod.exit_of(&container).await;
    assert_eq!((exit.exit_code, exit.signal, exit.is_oom()), (137, Some(9), false));
    pod.end().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failed_start_and_no_container() {
    let mut pod = Pod::start().await;
    let mut container = Container::new("");
    container.spec["process"]["args"] = json!(["/no/such/program"]);
    let error = container.try_start(&pod, container.io(false)).await.unwrap_err();
    let ShimError::Step { step, errno, message } = &error else { panic!("{error:?}") };
    assert_eq!((step.as_str(), *errno), ("exec", libc::ENOENT), "{message}");
    assert!(error.to_string().contains("no such file or directory"), "{error}");
    assert!(pod.adopt().await.containers.is_empty());
    // The same id may be tried again.
    container.spec["process"] = process("exit 0", false);
    container.start(&pod).await;
    assert_eq!(pod.exit_of(&container).await.1.exit_code, 0);
    pod.end().await;
}

#[tokio::test]
async fn a_container_that_is_known_is_not_started_twice() {
    let pod = Pod::start().await;
    let container = Container::new("sleep 1000");
    container.start(&pod).await;
    let error = container.try_start(&pod, container.io(false)).await.unwrap_err();
    assert!(matches!(error, ShimError::Step { errno: libc::EEXIST, .. }), "{error}");
    pod.end().await;
}

#[tokio::test]
async fn output_goes_to_the_new_file_after_a_reopen_and_none_is_lost() {
    let mut pod = Pod::start().await;
    let container = Container::new("seq 1 300000");
    container.start(&pod).await;
    let rotated = container.root.path().join("0.log.1");
    container.wait_for("stdout F 1\n").await;
    fs::rename(&container.log, &rotated).unwrap();
    pod.shim.reopen_log(&container.id, container.open_log()).await.unwrap();
    pod.exit_of(&container).await;
    let whole =
        fs::read_to_string(&rotated).unwrap() + &fs::read_to_string(&container.log).unwrap();
    let numbers: Vec<u32> =
        whole.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=300_000));
    pod.end().await;
}

#[tokio::test]
async fn the_end_is_told_although_a_process_in_the_background_holds_the_output() {
    let mut pod = Pod::start().await;
    let container = Container::new("exit 3");
    let mut spec = container.spec.clone();
    // In the host's pid namespace what is left behind lives on.
    spec["linux"]["namespaces"] = json!([{ "type": "mount" }]);
    spec["process"] =
        process("(while :; do echo noise; sleep 0.01; done) & echo main; exit 3", false);
    let container = Container { spec, ..container };
    container.start(&pod).await;
    let (_, exit) = pod.exit_of(&container).await;
    assert_eq!(exit.exit_code, 3);
    assert!(container.text().contains("stdout F main\n"));
    // It goes on being logged.
    let before = container.text().len();
    let grows = async {
        while container.text().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, grows).await.unwrap();
    fs::write(pod.cgroup.join("container/cgroup.kill"), "1").unwrap();
    pod.end().await;
}

#[tokio::test]
async fn a_container_never_blocks_on_a_full_log_and_the_loss_is_told() {
    let mut pod = Pod::start().await;
    let container = Container::new("yes 12345678 | head -n 100000; exit 4");
    let full = File::options().write(true).open("/dev/full").unwrap().into();
    let io = ContainerIo { log: Some(full), ..ContainerIo::default() };
    container.try_start(&pod, io).await.unwrap();
    match pod.event().await {
        ShimEvent::LogLost { bytes: 900_000, errno: libc::ENOSPC, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(pod.exit_of(&container).await.1.exit_code, 4);
    pod.end().await;
}

#[tokio::test]
async fn a_command_has_its_own_pipes_and_its_end_is_told() {
    let mut pod = Pod::start().await;
    let container = Container::new("sleep 1000");
    container.start(&pod).await;
    let (out, stdout) = pipe::pipe().unwrap();
    let (stdin, input) = pipe::stdin_pipe().unwrap();
    let io = ExecIo::Pipes { stdin: Some(stdin), stdout: Some(stdout), stderr: None };
    let script = "read x; echo got $x; cat /proc/1/comm; exit 9";
    let (init, terminal) = container.exec(&pod, "e1", script, io).await.unwrap();
    assert!(init.alive() && terminal.is_none());
    File::from(input).write_all(b"this\n").unwrap();
    match pod.event().await {
        ShimEvent::ExecExited { exec_id, code: 9, container: id, .. } => {
            assert_eq!((exec_id.as_str(), id), ("e1", container.id.clone()));
        }
        other => panic!("{other:?}"),
    }
    let mut text = String::new();
    File::from(out).read_to_string(&mut text).unwrap();
    assert_eq!(text, "got this\nsleep\n");
    let missing = container.exec(&pod, "e2", "", ExecIo::Tty).await;
    missing.unwrap();
    pod.end().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_and_no_event() {
    let mut pod = Pod::start().await;
    let container = Container::new("sleep 1000");
    container.start(&pod).await;
    let spec = serde_json::from_value(container.spec.clone()).unwrap();
    let mut missing = process("", false);
    missing["args"] = json!(["nothing"]);
    let process = serde_json::from_value(missing).unwrap();
    let plan = prepare_exec(&spec, &process, &context()).unwrap();
    let io = ExecIo::Pipes { stdin: None, stdout: None, stderr: None };
    let error =
        pod.shim.exec(&container.id, "e", plan, io, pod.cgroup("container")).await.unwrap_err();
    assert!(matches!(error, ShimError::Step { errno: libc::ENOENT, .. }), "{error}");
    let silent = timeout(Duration::from_millis(200), pod.events.recv()).await;
    assert!(silent.is_err(), "{silent:?}");
    pod.end().await;
}

#[tokio::test]
async fn a_terminal_is_one_and_can_be_resized() {
    let mut pod = Pod::start().await;
    // The trap first: what the test waits for says that it is there.
    let script = "trap 'stty size; exit 5' WINCH; test -t 0 && test -t 1 && echo is a terminal; \
                  while :; do sleep 0.05; done";
    let container = Container::with_terminal(script, true);
    container.try_start(&pod, container.io(true)).await.unwrap();
    container.wait_for("stdout F is a terminal\r\n").await;
    pod.shim.resize(&container.id, None, 101, 33).await.unwrap();
    assert_eq!(pod.exit_of(&container).await.1.exit_code, 5);
    assert!(container.text().contains("stdout F 33 101\r\n"), "{}", container.text());
    pod.end().await;
}

#[tokio::test]
async fn a_command_with_a_terminal_hands_its_master_over() {
    let mut pod = Pod::start().await;
    let container = Container::new("sleep 1000");
    container.start(&pod).await;
    let script = "test -t 0 && read x && echo got $x && stty size";
    let (_, master) = container.exec(&pod, "t", script, ExecIo::Tty).await.unwrap();
    let master = master.unwrap();
    pod.shim.resize(&container.id, Some("t"), 70, 20).await.unwrap();
    nix::unistd::write(&master, b"that\n").unwrap();
    match pod.event().await {
        ShimEvent::ExecExited { code: 0, .. } => {}
        other => panic!("{other:?}"),
    }
    // EIO is the end: nobody has the other side open any more.
    let (mut text, mut buffer) = (String::new(), [0u8; 1000]);
    while let Ok(n) = nix::unistd::read(&master, &mut buffer) {
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    assert!(text.contains("got that\r\n20 70\r\n"), "{text:?}");
    pod.end().await;
}

#[tokio::test]
async fn a_start_that_hangs_ends_at_its_deadline() {
    // A fifo as program: opening it for exec waits for nothing, so a start cannot be made to hang
    // from outside; a frozen cgroup holds any process.
    let pod = Pod::start().await;
    let container = Container::new("exit 0");
    fs::write(pod.cgroup.join("container/cgroup.freeze"), "1").unwrap();
    let cgroup = pod.cgroup("container");
    let limit = Duration::from_millis(200);
    let started = pod.shim.start_container(
        &container.id,
        container.prepared(),
        container.io(false),
        cgroup,
        limit,
    );
    let error = timeout(SOON, started).await.unwrap().unwrap_err();
    assert!(matches!(error, ShimError::Step { errno: libc::ETIMEDOUT, .. }), "{error}");
    fs::write(pod.cgroup.join("container/cgroup.freeze"), "0").unwrap();
    pod.end().await;
}

#[tokio::test]
async fn a_shutdown_kills_what_runs_and_leaves_the_records() {
    let pod = Pod::start().await;
    let container = Container::new("sleep 1000");
    let init = container.start(&pod).await;
    let folder = pod.layout.exits(&pod.id);
    pod.shim.shutdown().await.unwrap();
    assert!(!init.alive());
    let record = ExitRecord::load(&Path::new(&folder).join(container.id.as_str())).unwrap();
    assert_eq!(record.unwrap().exit_code, 137);
}

#[tokio::test]
async fn the_memory_of_a_burst_of_output_is_given_back() {
    if stage().is_none() {
        eprintln!("skipped: BERTH_STAGE names no programs as they are shipped");
        return;
    }
    // Two of the same programs, as on a node: the pages of code that both have used are shared then.
    let programs = binaries();
    let (mut pod, mut other) = (Pod::start_from(&programs).await, Pod::start_from(&programs).await);
    let small = Container::new("echo a line of output");
    small.start(&other).await;
    other.exit_of(&small).await;
    let container = Container::new("cat /big; cat /big");
    fs::write(container.root.path().join("big"), "a line of output\n".repeat(500_000)).unwrap();
    container.start(&pod).await;
    pod.exit_of(&container).await;
    assert_eq!(container.text().matches("stdout F a line of output\n").count(), 1_000_000);
    let (shim, at_once) = (pod.process.pid, private_kib(pod.process.pid));
    let small = async {
        while private_kib(shim) > 128 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(SOON, small).await.is_ok(), "{at_once} KiB, then {} KiB", private_kib(shim));
    pod.end().await;
    other.end().await;
}
