//! The executor on the real kernel, as root, natively.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;
use serde_json::json;

use super::executor_fixture::{alone, cgroup_root, container, lonely, open, read_report, shell};
use super::prepare::{PodContext, prepare};
use super::{PodHandles, Report, Stdio, spawn_init};
use crate::sys::mount::{self, Propagation, Reach};
use crate::sys::path::c_path;
use crate::sys::process::{self, InitPid};

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
        let mut spec = container(
            "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; busybox tty; echo $(busybox stty size); \
             echo x > /dev/tty; echo y > /dev/console; busybox stat -c %u /dev/console; \
             busybox stat -c '%n %u %g' $(busybox tty)",
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
        let (come, go) = crate::sys::socket::pair().unwrap();
        let stdio = Stdio::Terminal(go);
        let spawned =
            spawn_init(&world.proof, &prepared.plan, prepared.fds, stdio, &handles).unwrap();
        assert_eq!(read_report(&spawned), Report::Ready);
        let master = crate::oci::take_terminal(come.as_fd()).unwrap();
        nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut out = String::new();
        let mut buffer = [0u8; 512];
        // The master reads EIO when the last slave is closed.
        while let Ok(n @ 1..) = nix::unistd::read(&master, &mut buffer) {
            out.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        let expected = "all\r\n/dev/pts/0\r\n33 99\r\nx\r\ny\r\n1000\r\n/dev/pts/0 1000 5\r\n";
        assert_eq!(out, expected);
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
