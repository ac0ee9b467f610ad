//! The executor on the real kernel, as root, natively.
//!
//! A clone needs a process with one thread, and the tests make mount namespaces: each test runs
//! this test binary again with only itself in it, forks, and works in the fork, in a mount
//! namespace of its own.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag};
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

use super::prepare::{PodContext, prepare, prepare_exec};
use super::{PodHandles, Report, Spawned, Stdio, StepError, parse_report, spawn_exec, spawn_init};
use crate::config::Enforce;
use crate::sys::mount::{self, Propagation, Reach};
use crate::sys::path::c_path;
use crate::sys::process::{self, InitPid, SingleThreaded};

const ALONE: &str = "BERTH_TEST_ALONE";

/// Runs `body` in a process of its own; cleans up whatever it left.
fn alone(name: &str, body: impl FnOnce(&World)) {
    let cgroup = |id: u32| cgroup_root().join(format!("berth-oci-{name}-{id}"));
    if std::env::var(ALONE).as_deref() == Ok(name) {
        in_a_fork(|| {
            let proof = SingleThreaded::prove().unwrap();
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount::set_propagation(c"/", Propagation::Private, Reach::Tree).unwrap();
            let dir = PathBuf::from(std::env::var("BERTH_TEST_DIR").unwrap());
            let id = std::env::var("BERTH_TEST_ID").unwrap().parse().unwrap();
            body(&World { proof, dir, cgroup: cgroup(id) });
        });
        return;
    }
    assert!(nix::unistd::geteuid().is_root(), "the executor's tests need root");
    let dir = tempfile::tempdir().unwrap();
    let cgroup = cgroup(std::process::id());
    fs::create_dir(&cgroup).unwrap();
    fs::create_dir(cgroup.join("x0")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("oci::executor_tests::{name}"), "--exact", "--test-threads=1"])
        .arg("--nocapture")
        .env(ALONE, name)
        .env("BERTH_TEST_DIR", dir.path())
        .env("BERTH_TEST_ID", std::process::id().to_string())
        .output()
        .unwrap();
    fs::write(cgroup.join("cgroup.kill"), "1").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    for cgroup in [cgroup.join("x0"), cgroup] {
        while fs::remove_dir(&cgroup).is_err() {
            assert!(Instant::now() < deadline, "{} stays busy", cgroup.display());
            std::thread::yield_now();
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// libtest runs even a lone test beside its main thread: a fork has one thread for certain.
#[expect(unsafe_code, clippy::disallowed_methods, reason = "the only other thread just waits")]
fn in_a_fork(body: impl FnOnce()) {
    // SAFETY: the other thread of this process waits for this one and holds no lock; the C
    // library's fork keeps its own usable.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            crate::sys::clone::exit(i32::from(done.is_err()))
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}

fn cgroup_root() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() { unified.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

struct World {
    proof: SingleThreaded,
    dir: PathBuf,
    cgroup: PathBuf,
}

struct Ended {
    report: Report,
    out: String,
    code: Option<i32>,
}

impl Ended {
    fn failure(self) -> StepError {
        let Report::Failed(error) = self.report else { panic!("not failed: {}", self.out) };
        error
    }

    fn line(&self, start: &str) -> &str {
        let found = self.out.lines().find_map(|l| l.strip_prefix(start));
        found.unwrap_or_else(|| panic!("no line {start}: {}", self.out)).trim()
    }
}

struct Running {
    spawned: Spawned,
    out: OwnedFd,
}

impl Running {
    fn finish(self) -> Ended {
        let mut out = String::new();
        fs::File::from(self.out).read_to_string(&mut out).unwrap();
        let report = read_report(&self.spawned);
        let code = process::wait_pidfd(self.spawned.pidfd.as_fd()).unwrap().exit_code();
        Ended { report, out, code: Some(code) }
    }
}

fn read_report(spawned: &Spawned) -> Report {
    nix::fcntl::fcntl(&spawned.report, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut bytes = Vec::new();
    fs::File::from(spawned.report.try_clone().unwrap()).read_to_end(&mut bytes).unwrap();
    parse_report(&bytes)
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

fn stdio() -> (Stdio, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let stderr = writer.try_clone().unwrap();
    (Stdio { stdin: None, stdout: writer, stderr, terminal: None }, reader)
}

impl World {
    /// A root with busybox, fresh.
    fn rootfs(&self) -> PathBuf {
        let root = self.dir.join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "ls", "sleep", "id", "true"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        root
    }

    fn detached(&self, path: &Path) -> OwnedFd {
        mount::clone_tree(AT_FDCWD, &c_path(path).unwrap(), Reach::One).unwrap()
    }

    /// A cgroup without limits beside the test's own.
    fn beside(&self) -> OwnedFd {
        open(&cgroup_root())
    }

    fn start(&self, spec: &Value, root: &Path, pod: &PodContext) -> Result<Running, StepError> {
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        let prepared = prepare(&spec, self.detached(root), pod)
            .unwrap_or_else(|e| panic!("{}", crate::error::chain(&e)));
        let (cgroup, beside) = (open(&self.cgroup), self.beside());
        let pause = pod.pause.as_ref().map(|p| p.pidfd().unwrap().unwrap());
        let handles = PodHandles {
            pause_pidfd: pause.as_ref().map(AsFd::as_fd),
            shm: Some(c"/dev/shm"),
            cgroup: cgroup.as_fd(),
            fallback_cgroup: beside.as_fd(),
        };
        let (stdio, out) = stdio();
        let spawned = spawn_init(&self.proof, &prepared.plan, prepared.fds, stdio, &handles)?;
        Ok(Running { spawned, out })
    }

    fn run(&self, spec: &Value) -> Ended {
        let root = self.rootfs();
        self.start(spec, &root, &lonely()).unwrap().finish()
    }

    fn exec(&self, spec: &Value, process: &Value, init: &Running) -> Result<Running, StepError> {
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        let process: Process = serde_json::from_value(process.clone()).unwrap();
        let plan = prepare_exec(&spec, &process, &lonely()).unwrap();
        let (slot, fallback) = (open(&self.cgroup.join("x0")), self.beside());
        let handles = PodHandles {
            pause_pidfd: None,
            shm: None,
            cgroup: slot.as_fd(),
            fallback_cgroup: fallback.as_fd(),
        };
        let (stdio, out) = stdio();
        let init = init.spawned.pidfd.as_fd();
        let spawned = spawn_exec(&self.proof, &plan, init, stdio, &handles)?;
        Ok(Running { spawned, out })
    }
}

fn lonely() -> PodContext {
    PodContext { pause: None, privileges: Enforce::BestEffort, target: None }
}

fn shell(script: &str) -> Value {
    let caps = json!(["CAP_KILL", "CAP_CHOWN"]);
    json!({
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin", "A=b c"],
        "cwd": "/made/here",
        "user": { "uid": 0, "gid": 0, "additionalGids": [7, 8] },
        "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        "noNewPrivileges": true,
        "oomScoreAdj": 321,
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }],
    })
}

fn container(script: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": shell(script),
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" },
                { "type": "cgroup" }, { "type": "network" },
            ],
            "sysctl": { "kernel.shm_rmid_forced": "1", "net.core.somaxconn": "77" },
            "maskedPaths": ["/proc/version", "/sys/firmware", "/proc/acpi", "/not/there"],
            "readonlyPaths": ["/proc/sys", "/not/there"],
        },
    })
}

#[test]
fn everything_inherited_is_set() {
    alone("everything_inherited_is_set", |world| {
        // Odd values in the parent, which must not show.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o77));
        crate::sys::prctl::set_personality(0x0004_0000).unwrap();
        let spec = container(
            "cat /proc/self/status /proc/self/limits; echo oom $(cat /proc/self/oom_score_adj); \
             echo persona $(cat /proc/self/personality); echo cwd $PWD; echo env $A; \
             echo slack $(cat /proc/self/timerslack_ns); ls -l /proc/self/fd; \
             read -r pid rest < /proc/self/stat; echo pid $$; echo host $(busybox hostname); \
             echo somax $(cat /proc/sys/net/core/somaxconn); echo session $rest",
        );
        let ended = world.run(&spec);
        assert_eq!((&ended.report, ended.code), (&Report::Ready, Some(0)), "{}", ended.out);
        let table = [
            ("Umask:", "0022"),
            ("Groups:", "7 8"),
            ("NoNewPrivs:", "1"),
            ("SigBlk:", "0000000000000000"),
            ("SigIgn:", "0000000000000000"),
            ("CapInh:", "0000000000000000"),
            ("CapPrm:", "0000000000000021"),
            ("CapEff:", "0000000000000021"),
            ("CapBnd:", "0000000000000021"),
            ("CapAmb:", "0000000000000000"),
            ("Seccomp:", "0"),
            ("oom", "321"),
            ("persona", "00000000"),
            ("cwd", "/made/here"),
            ("env", "b c"),
            ("slack", "50000"),
            ("pid", "1"),
            ("host", "inside"),
            ("somax", "77"),
            ("Max open files", "100                  200                  files"),
            ("Max stack size", "8388608              unlimited            bytes"),
            ("Max nice priority", "0                    0"),
        ];
        for (start, value) in table {
            assert_eq!(ended.line(start), value, "{start}");
        }
        // The one that ls itself reads is gone when it asks where that leads.
        assert_eq!(ended.out.matches(" -> ").count(), 3, "{}", ended.out);
    });
}

#[test]
fn the_root_holds_what_the_spec_says_and_nothing_of_the_host() {
    alone("the_root_holds_what_the_spec_says_and_nothing_of_the_host", |world| {
        let data = world.dir.join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("hello"), "from the host").unwrap();
        let mut spec = container(
            "cat /proc/self/mountinfo; ls -l /dev; echo masked $(busybox wc -c < /proc/version); \
             echo firmware $(ls /sys/firmware | busybox wc -l); \
             echo data $(cat /data/hello); echo file $(cat /etc/one); \
             (echo x > /data/x) 2>&1; (echo x > /x) 2>&1; (echo 1 > /proc/sys/net/core/somaxconn) \
             2>&1; echo shm $(busybox stat -f -c %T /dev/shm); echo x > /new/made || echo bad; \
             echo cgroup $(cat /proc/self/cgroup | busybox tail -n1)",
        );
        let missing = world.dir.join("missing/source");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.extend([
            json!({ "destination": "/data", "type": "bind", "source": data,
                    "options": ["rbind", "rprivate", "ro"] }),
            json!({ "destination": "/etc/one", "source": data.join("hello"),
                    "options": ["bind", "nosuid"] }),
            json!({ "destination": "/new", "type": "bind", "source": missing,
                    "options": ["rbind"] }),
            json!({ "destination": "/dev/shm", "type": "bind", "source": "berth:shm",
                    "options": ["rbind", "nosuid"] }),
        ]);
        let ended = world.run(&spec);
        assert_eq!(ended.code, Some(0), "{}", ended.out);
        let points: Vec<&str> = ended
            .out
            .lines()
            .filter(|l| l.contains(" - "))
            .filter_map(|l| l.split(' ').nth(4))
            .collect();
        let expected = [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/sys/fs/cgroup",
            "/data",
            "/etc/one",
            "/new",
            "/dev/shm",
            "/proc/sys",
            "/proc/version",
            "/sys/firmware",
        ];
        for point in &points {
            // /proc/acpi exists on some kernels only.
            assert!(expected.contains(point) || *point == "/proc/acpi", "{point}: {}", ended.out);
        }
        for point in expected.iter().filter(|p| Path::new(p).exists() || p.starts_with("/dev")) {
            assert!(points.contains(point), "{point} is missing: {}", ended.out);
        }
        assert_eq!(ended.line("masked"), "0");
        assert_eq!(ended.line("firmware"), "0");
        assert_eq!(ended.line("data"), "from the host");
        assert_eq!(ended.line("file"), "from the host");
        assert_eq!(ended.line("shm"), "tmpfs");
        assert_eq!(ended.line("cgroup"), "0::/");
        assert_eq!(ended.out.matches("Read-only file system").count(), 3, "{}", ended.out);
        assert!(missing.join("made").exists());
        for node in ["1,   3", "1,   5", "1,   7", "1,   8", "1,   9", "5,   0"] {
            assert!(ended.out.contains(node), "{node}: {}", ended.out);
        }
        for link in ["ptmx -> pts/ptmx", "fd -> /proc/self/fd", "stderr -> /proc/self/fd/2"] {
            assert!(ended.out.contains(link), "{link}: {}", ended.out);
        }
    });
}

#[test]
fn a_hostile_image_cannot_lead_a_mount_or_the_working_directory_out() {
    alone("a_hostile_image_cannot_lead_a_mount_or_the_working_directory_out", |world| {
        let root = world.rootfs();
        symlink("/berth-oci-escape", root.join("data")).unwrap();
        symlink("../../../../tmp", root.join("up")).unwrap();
        let mut spec = container("echo ok $(ls -d /berth-oci-escape/sub) $(ls -d /tmp/sub)");
        let tmpfs = |at| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs" });
        spec["mounts"].as_array_mut().unwrap().extend([tmpfs("/data/sub"), tmpfs("/up/sub")]);
        let ended = world.start(&spec, &root, &lonely()).unwrap().finish();
        assert_eq!(ended.line("ok"), "/berth-oci-escape/sub /tmp/sub");
        assert!(!Path::new("/berth-oci-escape").exists());
        assert!(root.join("berth-oci-escape/sub").is_dir());

        // A directory of the host kept open by the parent: not reachable by number.
        let mut spec = container("echo out");
        let keep = open(&world.dir);
        let number = crate::sys::fds::number(keep.as_fd());
        spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let error = world.start(&spec, &root, &lonely()).unwrap().finish().failure();
        assert!(error.to_string().contains("working directory"), "{error}");
        for number in 3..20 {
            spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
            let ended = world.start(&spec, &root, &lonely()).unwrap().finish();
            assert!(!ended.out.contains("out"), "fd {number} led out");
            ended.failure();
        }

        fs::remove_dir(root.join("proc")).unwrap();
        symlink("/tmp", root.join("proc")).unwrap();
        let spec = container("echo ok");
        let error = world.start(&spec, &root, &lonely()).unwrap().finish().failure();
        assert_eq!((error.step, error.errno), (super::Step::Mount, libc::ELOOP));
    });
}

#[test]
fn a_command_that_cannot_run_is_told_in_words() {
    alone("a_command_that_cannot_run_is_told_in_words", |world| {
        let root = world.rootfs();
        fs::write(root.join("etc/plain"), "no program").unwrap();
        fs::write(root.join("bin/script"), "#!/no/such/interpreter\n").unwrap();
        fs::write(root.join("bin/text"), "neither\n").unwrap();
        for name in ["bin/script", "bin/text"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(root.join(name), mode).unwrap();
        }
        let table = [
            ("nope", "exec: no such file or directory: \"nope\" in the container's PATH"),
            ("/nope", "exec: no such file or directory: \"/nope\""),
            ("/etc/plain", "exec: permission denied: \"/etc/plain\""),
            ("script", "exec: no such file or directory: the interpreter of \"/bin/script\""),
            ("text", "exec: exec format error: \"/bin/text\""),
            ("/etc", "exec: permission denied: \"/etc\""),
        ];
        for (command, words) in table {
            let mut spec = container("");
            spec["process"]["args"] = json!([command]);
            let ended = world.start(&spec, &root, &lonely()).unwrap().finish();
            assert_eq!(ended.failure().to_string(), words);
        }
        let mut spec = container("");
        spec["process"]["args"] = json!(["true"]);
        let ended = world.start(&spec, &root, &lonely()).unwrap().finish();
        assert_eq!((ended.report, ended.code), (Report::Ready, Some(0)));
    });
}

#[test]
fn another_user_has_no_capabilities_and_can_open_its_output() {
    alone("another_user_has_no_capabilities_and_can_open_its_output", |world| {
        let script = "cat /proc/self/status; echo again > /dev/stdout; cat /dev/stdin; id";
        let mut spec = container(script);
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "umask": 0o27 });
        let ended = world.run(&spec);
        assert_eq!(ended.code, Some(0), "{}", ended.out);
        assert_eq!(ended.line("Uid:"), "1000\t1000\t1000\t1000");
        assert_eq!(ended.line("Gid:"), "1001\t1001\t1001\t1001");
        assert_eq!(ended.line("Groups:"), "");
        assert_eq!(ended.line("CapEff:"), "0000000000000000");
        assert_eq!(ended.line("CapBnd:"), "0000000000000021");
        assert_eq!(ended.line("Umask:"), "0027");
        assert_eq!(ended.line("again"), "");

        let caps = json!(["CAP_KILL"]);
        let all = ["bounding", "effective", "permitted", "inheritable", "ambient"];
        spec["process"]["capabilities"] =
            all.into_iter().map(|set| (set.to_owned(), caps.clone())).collect();
        fs::remove_dir_all(world.dir.join("rootfs")).unwrap();
        let ended = world.run(&spec);
        assert_eq!(ended.line("CapEff:"), "0000000000000020");
        assert_eq!(ended.line("CapAmb:"), "0000000000000020");
    });
}

#[test]
fn exec_joins_the_container_as_a_child_of_the_caller() {
    alone("exec_joins_the_container_as_a_child_of_the_caller", |world| {
        let root = world.rootfs();
        let spec = container("echo up; exec sleep 1000");
        let init = world.start(&spec, &root, &lonely()).unwrap();
        assert_eq!(read_report(&init.spawned), Report::Ready);
        let mut process = shell(
            "cat /proc/self/status; for n in mnt pid net ipc uts cgroup; do \
             echo ns $n $(busybox readlink /proc/self/ns/$n) $(busybox readlink /proc/1/ns/$n); \
             done; echo cgroup $(cat /proc/self/cgroup | busybox tail -n1); ls /proc/self/fd; \
             echo root $(ls /); exit 3",
        );
        let exec = world.exec(&spec, &process, &init).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/status", exec.spawned.pid)).unwrap();
        let parent = format!("PPid:\t{}\n", std::process::id());
        assert!(stat.contains(&parent), "{stat}");
        let ended = exec.finish();
        assert_eq!((&ended.report, ended.code), (&Report::Ready, Some(3)), "{}", ended.out);
        let namespaces: Vec<&str> =
            ended.out.lines().filter_map(|l| l.strip_prefix("ns ")).collect();
        assert_eq!(namespaces.len(), 6, "{}", ended.out);
        for line in namespaces {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], words[2], "{line}");
        }
        assert_eq!(ended.line("cgroup"), "0::/x0");
        assert_eq!(ended.line("CapEff:"), "0000000000000021");
        assert_eq!(ended.line("NoNewPrivs:"), "1");

        process["args"] = json!(["nope"]);
        let error = world.exec(&spec, &process, &init).unwrap().finish().failure();
        assert!(error.to_string().contains("\"nope\" in the container's PATH"), "{error}");
        process["args"] = json!(["true"]);
        process["cwd"] = json!("/missing");
        let error = world.exec(&spec, &process, &init).unwrap().finish().failure();
        assert_eq!((error.step, error.errno), (super::Step::Cwd, libc::ENOENT));

        process::kill(init.spawned.pidfd.as_fd()).unwrap();
        process::wait_pidfd(init.spawned.pidfd.as_fd()).unwrap();
        process["cwd"] = json!("/");
        let error = world.exec(&spec, &process, &init).err().unwrap();
        assert_eq!((error.step, error.errno), (super::Step::Namespaces, libc::ESRCH));
    });
}

#[test]
fn the_pods_namespaces_are_joined_also_its_pid_namespace() {
    alone("the_pods_namespaces_are_joined_also_its_pid_namespace", |world| {
        let root = world.rootfs();
        let pause = world.start(&container("exec sleep 1000"), &root, &lonely()).unwrap();
        assert_eq!(read_report(&pause.spawned), Report::Ready);
        let pid = pause.spawned.pid;
        let pod = PodContext { pause: Some(InitPid::of(pid).unwrap()), ..lonely() };
        let mut spec = container(
            "echo pid $$; for n in pid net ipc uts mnt; do echo $n $(busybox readlink \
             /proc/self/ns/$n); done; echo first $(cat /proc/1/cmdline | busybox tr '\\0' ' ')",
        );
        for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = match namespace["type"].as_str().unwrap() {
                "network" => "net",
                "mount" | "cgroup" => continue,
                same => same,
            };
            namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
        }
        let running = world.start(&spec, &root, &pod).unwrap();
        let child = running.spawned.pid;
        assert!(process::open_pidfd(child).is_ok());
        let ended = running.finish();
        assert_eq!((&ended.report, ended.code), (&Report::Ready, Some(0)), "{}", ended.out);
        assert_ne!(ended.line("pid"), "1");
        assert_eq!(ended.line("first"), "sleep 1000");
        for kind in ["pid", "net", "ipc", "uts"] {
            let of_pause = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            let start = format!("{kind} ");
            let mut lines = ended.out.lines().filter_map(|l| l.strip_prefix(start.as_str()));
            assert_eq!(lines.next_back(), of_pause.to_str(), "{kind}");
        }
        let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
        assert_ne!(Some(ended.line("mnt")), own.to_str());
    });
}

#[test]
fn propagation_is_checked_at_the_source_and_works() {
    alone("propagation_is_checked_at_the_source_and_works", |world| {
        let root = world.rootfs();
        let private = world.dir.join("private");
        let shared = world.dir.join("shared");
        for dir in [&private, &shared] {
            fs::create_dir(dir).unwrap();
        }
        let at = c_path(&shared).unwrap();
        mount::mount(c"tmpfs", &at, c"tmpfs", 0, "").unwrap();
        mount::set_propagation(&at, Propagation::Shared, Reach::One).unwrap();
        fs::create_dir(shared.join("late")).unwrap();
        let bind = |source: &Path, how: &str| {
            json!({ "destination": "/v", "type": "bind", "source": source,
                    "options": ["rbind", how] })
        };
        for how in ["rslave", "rshared"] {
            let mut spec = container("true");
            spec["mounts"].as_array_mut().unwrap().push(bind(&private, how));
            let spec: Spec = serde_json::from_value(spec).unwrap();
            let error = prepare(&spec, world.detached(&root), &lonely()).unwrap_err();
            assert!(error.to_string().contains("shared"), "{error}");
        }
        let script = "echo up; until [ -e /v/late/file ]; do busybox usleep 10000; done; echo seen";
        let mut spec = container(script);
        spec["mounts"].as_array_mut().unwrap().push(bind(&shared, "rslave"));
        let running = world.start(&spec, &root, &lonely()).unwrap();
        assert_eq!(read_report(&running.spawned), Report::Ready);
        let late = c_path(&shared.join("late")).unwrap();
        mount::mount(c"tmpfs", &late, c"tmpfs", 0, "").unwrap();
        fs::write(shared.join("late/file"), "").unwrap();
        let ended = running.finish();
        assert_eq!(ended.line("seen"), "");
    });
}

#[test]
fn a_terminal_becomes_the_controlling_one_and_the_console() {
    alone("a_terminal_becomes_the_controlling_one_and_the_console", |world| {
        let root = world.rootfs();
        let pts = world.dir.join("pts");
        fs::create_dir(&pts).unwrap();
        mount::mount(c"devpts", &c_path(&pts).unwrap(), c"devpts", 0, "newinstance,ptmxmode=0666")
            .unwrap();
        let pty = crate::sys::terminal::open(&c_path(&pts.join("ptmx")).unwrap()).unwrap();
        let (master, slave) = (pty.master, pty.slave);
        nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut spec = container(
            "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; busybox tty; echo $(busybox stty size); \
             echo x > /dev/tty; echo y > /dev/console; busybox stat -c %u /dev/console",
        );
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        spec["process"]["consoleSize"] = json!({ "width": 99, "height": 33 });
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let prepared = prepare(&spec, world.detached(&root), &lonely()).unwrap();
        let cgroup = open(&world.cgroup);
        let handles = PodHandles {
            pause_pidfd: None,
            shm: None,
            cgroup: cgroup.as_fd(),
            fallback_cgroup: cgroup.as_fd(),
        };
        let copy = || slave.try_clone().unwrap();
        let stdio =
            Stdio { stdin: Some(copy()), stdout: copy(), stderr: copy(), terminal: Some(slave) };
        let spawned =
            spawn_init(&world.proof, &prepared.plan, prepared.fds, stdio, &handles).unwrap();
        let mut out = String::new();
        let mut buffer = [0u8; 512];
        // The master reads EIO when the last slave is closed.
        while let Ok(n @ 1..) = nix::unistd::read(&master, &mut buffer) {
            out.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        assert_eq!(read_report(&spawned), Report::Ready, "{out}");
        assert_eq!(out, "all\r\n/dev/console\r\n33 99\r\nx\r\ny\r\n1000\r\n");
        process::wait_pidfd(spawned.pidfd.as_fd()).unwrap();
    });
}

#[test]
#[expect(clippy::print_stderr, reason = "a skip is told")]
fn a_cgroup_without_room_is_joined_from_beside() {
    if !fs::read_to_string(cgroup_root().join("cgroup.controllers")).unwrap().contains("pids") {
        eprintln!("skipped: no pids controller in cgroup v2");
        return;
    }
    fs::write(cgroup_root().join("cgroup.subtree_control"), "+pids").unwrap();
    alone("a_cgroup_without_room_is_joined_from_beside", |world| {
        let root = world.rootfs();
        let spec = container("exec sleep 1000");
        fs::write(world.cgroup.join("pids.max"), "0").unwrap();
        let init = world.start(&spec, &root, &lonely()).unwrap();
        assert_eq!(read_report(&init.spawned), Report::Ready);
        let inside = fs::read_to_string(world.cgroup.join("cgroup.procs")).unwrap();
        assert_eq!(inside.trim(), init.spawned.pid.to_string());
        let mut process = shell("");
        process["args"] = json!(["cat", "/proc/self/cgroup"]);
        let ended = world.exec(&spec, &process, &init).unwrap().finish();
        assert_eq!((&ended.report, ended.line("0::")), (&Report::Ready, "/x0"), "{}", ended.out);
        // The control: there was no room.
        let events = fs::read_to_string(world.cgroup.join("pids.events")).unwrap();
        assert!(!events.starts_with("max 0\n"), "{events}");
    });
}
