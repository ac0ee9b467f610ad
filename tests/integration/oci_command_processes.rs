//! `berth-oci` by hand: further processes, terminals, descriptors.

use crate::harness::oci::{Runtime, SLEEPS, text};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_command_runs_in_a_container", &[], exec),
        shared("a_terminal_is_sent_to_the_console_socket", &[], terminal),
        shared("descriptors_are_handed_on_when_asked", &[], preserved),
    ]
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
