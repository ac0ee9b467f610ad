//! Children as they come out.

use super::process::Ended;
use super::spawn::*;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

fn output(spawn: Spawn<'_>) -> String {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let child = spawn.fd(1, write).spawn().unwrap();
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap(), Ended::Code(0));
    text
}

fn shell(script: &str) -> Spawn<'static> {
    Spawn::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin")
}

#[test]
fn what_a_child_inherits_is_set() {
    // A test process ignores SIGPIPE; block a signal, too, to see the mask reset.
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGUSR1);
    set.thread_block().unwrap();
    let text = output(
        shell("grep -E '^Sig(Blk|Ign)|^Umask' /proc/self/status; ulimit -n; pwd; ls /proc/self/fd | tr '\\n' ' '")
            .limit((libc::RLIMIT_NOFILE, 100, 100)),
    );
    set.thread_unblock().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Umask:\t0022");
    assert_eq!(lines[1], "SigBlk:\t0000000000000000");
    assert_eq!(lines[2], "SigIgn:\t0000000000000000");
    assert_eq!(lines[3], "100");
    assert_eq!(lines[4], "/");
    // 3 is the folder that ls itself has open.
    assert_eq!(lines[5].trim(), "0 1 2 3");
}

#[test]
fn descriptors_land_at_their_numbers_even_when_crossed() {
    let file = |text: &str| {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        nix::unistd::write(&write, text.as_bytes()).unwrap();
        read
    };
    let (a, b) = (file("first\n"), file("second\n"));
    // Each takes the number of the other where that is possible at all.
    let (ta, tb) = (b.as_raw_fd(), a.as_raw_fd());
    let text = output(
        shell(&format!("cat /proc/self/fd/{ta}; cat /proc/self/fd/{tb}")).fd(ta, a).fd(tb, b),
    );
    assert_eq!(text, "first\nsecond\n");
}

#[test]
fn a_missing_program_is_an_error_that_names_the_step() {
    let error = Spawn::new("/nowhere/at/all").spawn().unwrap_err();
    assert_eq!((error.step, error.errno()), (SpawnStep::Exec, libc::ENOENT));
    assert_eq!(error.to_string(), "spawn /nowhere/at/all: exec");
    // Nothing is left to reap.
    let error = shell("true").setting("/proc/self/nonsense", "1").spawn().unwrap_err();
    assert_eq!(error.to_string(), "spawn /bin/sh: write a setting /proc/self/nonsense");
}

#[test]
fn a_program_runs_from_a_sealed_memfd() {
    let memfd = crate::sys::memfd::sealed_copy(c"sh", Path::new("/bin/echo")).unwrap();
    assert_eq!(output(Spawn::file(memfd.as_fd(), "echo").arg("hello")), "hello\n");
}

#[test]
fn an_argument_with_a_nul_is_refused() {
    let error = Spawn::new("/bin/true").arg("a\0b").spawn().unwrap_err();
    assert_eq!(error.step, SpawnStep::Prepare);
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_child_starts_in_its_cgroup() {
    let Ok(root) = tempfile::tempdir_in("/sys/fs/cgroup/unified") else {
        eprintln!("skipped: no writable cgroup v2 at /sys/fs/cgroup/unified");
        return;
    };
    let dir = std::fs::File::open(root.path()).unwrap();
    let text = output(shell("grep ^0: /proc/self/cgroup").cgroup(dir.as_fd()));
    let name = root.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(text.trim(), format!("0::/{name}"));
    // A cgroup folder is removed by rmdir, never file by file.
    std::fs::remove_dir(root.keep()).unwrap();
}
