//! Runtimes of the host that do not do what they are asked for.

use crate::handlers::{NEEDS, by, near, peers};
use crate::harness::machine::Machine;
use crate::harness::oci::{script, text};
use crate::harness::pod::PATIENT;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use crate::tty::with_tty;
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_terminal_that_never_comes_fails_one_start_alone", &[], mute, no_terminal),
        own("what_a_runtime_does_not_delete_is_told", NEEDS, stubborn, not_deleted),
    ]
}

fn base() -> PathBuf {
    std::env::var_os("BERTH_TEST_ROOT").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A handler that is a script. Its words: --root 2, --log 4, --log-format 6, verb 7, --bundle 9.
fn handler(name: &str, text: &str) -> Options {
    let path = base().join(format!("{name}-{}", std::process::id()));
    // A script that could not be written shows as a handler without a program.
    script(&path, text).ok();
    Options { config: format!("[runtimes.{name}]\npath = {path:?}\n"), ..Options::default() }
}

/// What it makes has no terminal, and `create` takes as long as nobody makes a file.
fn mute(_: &Machine) -> Options {
    let text = "case $7 in create) ;; *) exit 0 ;; esac\n\
        sleep 100000 & echo $! >\"$9/pid\"; echo $! >\"$9/made\"\n\
        while ! test -e \"$9/go\"; do sleep 0.05; done";
    handler("mute", text)
}

fn no_terminal(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = by(node, "mute", "mute")?;
    let id = scene.create("main", PATIENT, with_tty)?;
    let bundle = node.run_dir().join("containers").join(&id).join("handler");
    let (error, made) = std::thread::scope(|scope| -> Result<_> {
        let starting = scope.spawn(|| node.start_container(&id));
        let made = eventually("the runtime is at work", || {
            Ok(std::fs::read_to_string(bundle.join("made")).ok())
        })?;
        // Meanwhile others start and end, with terminals too.
        let other = Scene::new(node, "other")?;
        let (status, said) = other.output("quick", "test -t 0 && echo yes", with_tty)?;
        ensure!((status.exit_code, &said[..]) == (0, "yes\r\n"), "{status:?}: {said}");
        ensure!(!starting.is_finished(), "the start did not wait for its runtime");
        std::fs::write(bundle.join("go"), "")?;
        let started = starting.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        Ok((started.err().context("it started")?, made))
    })?;
    for words in ["create", "--console-socket", "none was sent"] {
        ensure!(error.message().contains(words), "no {words:?} in {error}");
    }
    let status = node.container(&id)?;
    ensure!((status.exit_code, &status.reason[..]) == (128, "StartError"), "{status:?}");
    // What it made has gone, and its socket.
    let made: i32 = made.trim().parse()?;
    eventually("what was made is gone", || Ok((!kernel::alive(made)).then_some(())))?;
    ensure!(!bundle.join("console").exists(), "the socket is left");
    node.remove_pod(&scene.pod)
}

/// runc, which forgets nothing in a pod whose name says so.
fn stubborn(machine: &Machine) -> Options {
    let runc = near(&peers(machine).join("usr/bin/runc")).unwrap_or_default();
    let runc = text(&runc).unwrap_or_default().to_owned();
    let say = "printf '{\"level\":\"error\",\"msg\":\"no mood to forget\"}\\n' >\"$4\"; exit 3";
    handler(
        "stubborn",
        &format!(
            "case $7 in delete) test -e \"$2/stubborn\" && {{ {say}; }} ;; esac\nexec {runc} \"$@\""
        ),
    )
}

fn not_deleted(node: &mut Node) -> Result<()> {
    let node = &*node;
    let told = |id: &str, words: &str| -> Result<Vec<String>> {
        let log = kernel::read(node.log_file())?;
        let ours = |line: &&str| line.contains(id) && line.contains(words);
        Ok(log.lines().filter(ours).map(str::to_owned).collect())
    };
    const NOT_DELETED: &str = "did not delete its container";
    const LEFT: &str = "removing what the runtime left";
    let scene = by(node, "stubborn", "stubborn")?;
    // Control: a runtime that forgets is not worth a word.
    let willing = scene.script("willing", "exit 4", as_is)?;
    ensure!(willing.end()?.exit_code == 4, "it did not run");
    let container = |made: &str| node.run_dir().join("containers").join(made).join("handler/state");
    ensure!(kernel::names_in(&container(&willing.id)).is_empty(), "its state is left");

    let main = scene.start("main", PATIENT, as_is)?;
    std::fs::write(container(&main.id).join("stubborn"), "")?;
    let request =
        berth::cri::proto::StopContainerRequest { container_id: main.id.clone(), timeout: 0 };
    node.cri.stop_container(request)?;
    ensure!(main.end()?.exit_code == 137, "its end was lost");
    let lines = eventually("the daemon tells it", || {
        let lines = told(&main.id, NOT_DELETED)?;
        Ok((!lines.is_empty()).then_some(lines))
    })?;
    let line = lines.first().context("no line")?;
    let program = format!("stubborn-{} delete", std::process::id());
    for words in ["ERROR", "stubborn-stubborn", "main", &program, "no mood to forget"] {
        ensure!(line.contains(words), "no {words:?} in {line}");
    }
    ensure!(lines.len() == 1, "told more than once: {lines:?}");
    // Its removal says what was left, and leaves nothing.
    ensure!(container(&main.id).join(&main.id).exists(), "the state is gone");
    node.remove_pod(&scene.pod)?;
    ensure!(told(&main.id, LEFT)?.len() == 1, "the removal said nothing");
    for made in [&main, &willing] {
        ensure!(!node.run_dir().join("containers").join(&made.id).exists(), "its folder is left");
        ensure!(!made.cgroup().exists(), "its cgroup is left");
    }
    for words in [NOT_DELETED, LEFT] {
        let control = told(&willing.id, words)?;
        ensure!(control.is_empty(), "{control:?}");
    }
    Ok(())
}
