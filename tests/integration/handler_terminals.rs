//! Terminals that runtimes of the host make: as those of the native executor.

use crate::handlers::{CRUN, NEEDS, by, kept_by, options};
use crate::harness::pod::{PATIENT, security};
use crate::harness::scene::as_is;
use crate::harness::{Node, Test, eventually, kernel, own};
use crate::tty::{NAMES, SPEAKS, controlling, with_terminal, with_tty};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("runcs_terminals_are_as_the_native_ones", NEEDS, options, |node| same(node, "runc")),
        own("cruns_terminals_are_as_the_native_ones", CRUN, options, |node| same(node, "crun")),
        own("runcs_terminals_outlive_the_daemon", NEEDS, options, |node| stays(node, "runc")),
        own("cruns_terminals_outlive_the_daemon", CRUN, options, |node| stays(node, "crun")),
    ]
}

fn same(node: &mut Node, other: &'static str) -> Result<()> {
    let node = &*node;
    let mut said = Vec::new();
    for handler in ["", other] {
        let scene = by(node, handler, "terminal")?;
        let made = scene.script("speaks", &format!("{SPEAKS}; exit 7"), with_tty)?;
        let status = made.end()?;
        ensure!(status.exit_code == 7 && status.reason == "Error", "{handler}: {status:?}");
        ensure!(
            made.lines()?.iter().all(|l| l.stream == "stdout"),
            "{handler}: {:?}",
            made.lines()?
        );
        let mut all = vec![made.text()?];
        ensure!(all[0].starts_with("out\r\nerr\r\n0\r\n1\r\n2\r\nTERM=xterm\r\n"), "{all:?}");

        // More than a pty holds, and nobody lost a byte of it.
        let made = scene.script("much", "seq 1 2000", with_tty)?;
        ensure!(made.end()?.exit_code == 0, "{handler}");
        let expected: String = (1..=2000).map(|n| format!("{n}\r\n")).collect();
        ensure!(made.text()? == expected, "{handler}: lines are missing");

        let main = scene.script("main", &format!("{NAMES}; sleep 100000"), |config| {
            with_tty(config);
            security(config).run_as_user = Some(proto::Int64Value { value: 1000 });
        })?;
        main.said("found")?;
        all.push(main.text()?);
        let init = main.init()?;
        kept_by(node, handler, &main.id, init)?;
        let terminal = controlling(init)?;
        ensure!((terminal >> 8) & 0xfff == 136, "{handler}: the terminal is {terminal:#x}");
        let open = kernel::descriptors(init)?;
        ensure!(open.len() == 3 && open.iter().all(|to| *to == open[0]), "{handler}: {open:?}");
        let mounts = kernel::mounts(&init.to_string())?;
        let at = mounts.iter().find(|m| m.point == "/dev/console").context("no console")?;
        ensure!(at.kind == "devpts", "{handler}: {at:?}");
        node.exec_ok(&main.id, &["sh", "-c", "echo to the console >/dev/console"])?;
        main.said("to the console")?;
        // A command's, beside the container's.
        all.push(with_terminal(node, &main.id, &["sh", "-c", NAMES])?);
        let speaks = with_terminal(node, &main.id, &["sh", "-c", SPEAKS])?;
        ensure!(speaks == "out\nerr\n0\n1\n2\nTERM=xterm\nend", "{handler}: {speaks:?}");
        let code = node.berth(&["exec", "-t", &main.id, "sh", "-c", "exit 5"])?.status.code();
        ensure!(code == Some(5), "{handler}: {code:?}");
        let absent = node.berth(&["exec", "-t", &main.id, "/no/such"])?;
        let words = String::from_utf8_lossy(&absent.stderr).to_lowercase();
        ensure!(words.contains("no such file"), "{handler}: {words}");

        // Control: one without a terminal, and a command with one in it.
        let plain = scene.start("plain", PATIENT, as_is)?;
        ensure!(controlling(plain.init()?)? == 0, "{handler}: a terminal without being asked");
        let none = node.exec_ok(&plain.id, &["sh", "-c", "test -t 1 || echo none"])?;
        ensure!(none == "none", "{handler}: {none}");
        all.push(with_terminal(node, &plain.id, &["sh", "-c", NAMES])?);
        // No socket and no file of a command stays.
        if !handler.is_empty() {
            for id in [&main.id, &plain.id] {
                let folder = node.run_dir().join("containers").join(id).join("handler");
                let mut names = kernel::names_in(&folder);
                names.retain(|name| name.contains("console") || name.contains('-'));
                ensure!(names.is_empty(), "{handler}: {names:?}");
            }
        }
        node.remove_pod(&scene.pod)?;
        said.push(all);
    }
    ensure!(said[0] == said[1], "{other} differs:\n{:?}\n{:?}", said[0], said[1]);
    Ok(())
}

fn stays(node: &mut Node, handler: &str) -> Result<()> {
    let scene = by(node, handler, "stays")?;
    let script = "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let made = scene.script("main", script, with_tty)?;
    made.said("up")?;
    let (id, log, init, pod) = (made.id.clone(), made.log.clone(), made.init()?, scene.pod.clone());
    node.kill()?;
    // Written while nobody is there.
    let console = format!("/proc/{init}/root/dev/console");
    std::fs::write(console, "while away\n")?;
    eventually("the shim logs it", || {
        Ok(kernel::read(&log)?.contains("while away").then_some(()))
    })?;
    node.launch()?;
    ensure!(node.init_pid(&pod, &id)? == init, "{handler}: another process");
    let text = with_terminal(node, &id, &["sh", "-c", "tty"])?;
    ensure!(text == "/dev/pts/1\n", "{handler}: {text:?}");
    let request = proto::StopContainerRequest { container_id: id.clone(), timeout: 60 };
    node.cri.stop_container(request)?;
    let status = node.wait_exited(&id)?;
    ensure!(status.exit_code == 9, "{handler}: {status:?}");
    ensure!(kernel::read(&log)?.contains("bye"), "{handler}: its last words are missing");
    node.remove_pod(&pod)
}
