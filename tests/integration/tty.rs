//! A container with a terminal.

use crate::harness::scene::{Scene, as_is, bind};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_terminal_is_one_stream_in_the_log", &[], one_stream),
        shared("the_terminal_is_the_console_and_the_sessions", &[], console),
        shared("a_terminal_has_a_name_in_its_own_container", &[], name),
        shared("a_container_without_terminals_refuses_a_command_with_one", &[], no_devpts),
    ]
}

pub(crate) fn with_tty(config: &mut proto::ContainerConfig) {
    config.tty = true;
}

pub(crate) const SPEAKS: &str = "echo out; echo err >&2; for n in 0 1 2; do test -t $n && echo $n; done; \
    echo TERM=$TERM; printf end";

fn one_stream(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "tty-stream")?;
    let made = scene.script("main", SPEAKS, with_tty)?;
    let status = made.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    let lines = made.lines()?;
    ensure!(lines.iter().all(|line| line.stream == "stdout"), "{lines:?}");
    // A terminal ends its lines so.
    ensure!(made.text()? == "out\r\nerr\r\n0\r\n1\r\n2\r\nTERM=xterm\r\nend", "{:?}", made.text()?);
    // The control: without a terminal there are two streams and no \r.
    let made = scene.script("control", SPEAKS, as_is)?;
    made.end()?;
    let lines = made.lines()?;
    let of = |stream: &str| -> Vec<&str> {
        lines.iter().filter(|l| l.stream == stream).map(|l| l.text.as_str()).collect()
    };
    ensure!(of("stdout") == ["out", "TERM=", "end"], "{lines:?}");
    ensure!(of("stderr") == ["err"], "{lines:?}");
    Ok(())
}

fn console(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "tty-console")?;
    let made = scene.start("main", &["sleep", "100000"], with_tty)?;
    let init = made.init()?;
    let mounts = kernel::mounts(&init.to_string())?;
    let at = mounts.iter().find(|m| m.point == "/dev/console").context("no console is mounted")?;
    ensure!(at.kind == "devpts", "{at:?}");
    ensure!(node.exec_ok(&made.id, &["sh", "-c", "test -c /dev/console && echo yes"])? == "yes");
    let terminal = controlling(init)?;
    ensure!((terminal >> 8) & 0xfff == 136, "its controlling terminal is {terminal:#x}");
    let open = kernel::descriptors(init)?;
    ensure!(open.len() == 3 && open.iter().all(|to| to == &open[0]), "{open:?}");
    // What is written to the console is in the log.
    node.exec_ok(&made.id, &["sh", "-c", "echo to the console >/dev/console"])?;
    made.said("to the console")?;

    let control = scene.start("control", &["sleep", "100000"], as_is)?;
    let init = control.init()?;
    let mounts = kernel::mounts(&init.to_string())?;
    ensure!(!mounts.iter().any(|m| m.point == "/dev/console"), "a console without a terminal");
    ensure!(controlling(init)? == 0, "a terminal without being asked");
    Ok(())
}

/// The controlling terminal of a process, field 7 of stat: a device of major 136 is a
/// pseudo-terminal, 0 is none.
pub(crate) fn controlling(pid: i32) -> Result<u32> {
    let stat = kernel::read(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(") ").context("no name")?.1;
    Ok(rest.split(' ').nth(4).context("a short line")?.parse()?)
}

/// Its name and what it is, as `tty` and `ls` say.
pub(crate) const NAMES: &str =
    "tty && stat -c '%A %u %g %n' $(tty) && ls -l $(tty) >/dev/null && echo found";

/// Runs a command with a terminal; what it wrote.
pub(crate) fn with_terminal(node: &Node, id: &str, command: &[&str]) -> Result<String> {
    let output = node.berth(&[&["exec", "-t", id], command].concat())?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}: {out} {err}", output.status);
    Ok(out.replace('\r', ""))
}

fn name(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "tty-name")?;
    let first = scene.script("first", &format!("{NAMES}; sleep 100000"), |config| {
        with_tty(config);
        pod::security(config).run_as_user = Some(proto::Int64Value { value: 1000 });
    })?;
    first.said("found")?;
    let text = first.text()?.replace('\r', "");
    ensure!(text == "/dev/pts/0\ncrw--w---- 1000 5 /dev/pts/0\nfound\n", "{text:?}");
    // The next one of the same container, as long as the first is open.
    let text = with_terminal(node, &first.id, &["sh", "-c", NAMES])?;
    ensure!(text == "/dev/pts/1\ncrw--w---- 1000 5 /dev/pts/1\nfound\n", "{text:?}");
    // A container without one of its own has them all the same, and its own.
    let plain = scene.start("plain", pod::PATIENT, as_is)?;
    let text = with_terminal(node, &plain.id, &["sh", "-c", NAMES])?;
    ensure!(text == "/dev/pts/0\ncrw--w---- 0 5 /dev/pts/0\nfound\n", "{text:?}");
    // Neither is one of the shim's or the host's.
    let shim = kernel::mounts(&node.shim_pid(&scene.pod)?.to_string())?;
    ensure!(!shim.iter().any(|m| m.kind == "devpts"), "{shim:?}");
    Ok(())
}

fn no_devpts(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "tty-none")?;
    let empty = node.volume("no-devpts")?;
    let covered = |config: &mut proto::ContainerConfig| {
        config.mounts = vec![bind(&empty, "/dev/pts")];
    };
    let made = scene.start("main", pod::PATIENT, covered)?;
    let output = node.berth(&["exec", "-t", &made.id, "true"])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(125) && told.contains("/dev/pts/ptmx"), "{output:?}");
    let id = scene.create("terminal", pod::PATIENT, |config| {
        covered(config);
        with_tty(config);
    })?;
    let status = node.start_container(&id).err().context("it started without a terminal")?;
    ensure!(status.message().contains("/dev/pts/ptmx"), "{status}");
    // Control: without a terminal the same container runs commands.
    ensure!(node.exec_ok(&made.id, &["echo", "out"])? == "out");
    Ok(())
}
