//! The command line at a terminal: `berth exec -it` and `berth attach`, with a person's keys.

use crate::exec::with_word;
use crate::harness::image::PAGE;
use crate::harness::pty::{CTRL_C, CTRL_D, DETACH, Terminal};
use crate::harness::registry::Authority;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod, shared};
use crate::tty::with_tty;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_shell_is_talked_to_at_a_terminal", &[], shell),
        shared("the_size_is_there_before_the_command_looks", &[], first_size),
        shared("a_stopped_command_gives_the_terminal_back", &[], stopped),
        shared("the_mode_comes_back_by_any_signal", &[], signals),
        shared("the_mode_comes_back_by_errors_and_with_the_container", &[], errors),
        own("the_mode_comes_back_when_the_daemon_is_killed", &[], options, daemon_killed),
        shared("a_reader_that_does_not_read_holds_no_end_up", &[], blocked_reader),
        shared("ignored_signals_stay_ignored", &[], ignored),
        shared("who_detaches_leaves_the_container_as_it_is", &[], detach),
        shared("attach_without_a_terminal_keeps_streams_apart", &[], plain_attach),
        shared("what_cannot_be_attached_to_is_told", &[], no_attach),
        own("a_stream_by_tls_is_believed_by_its_certificate", &[], options, tls),
        own("a_lost_daemon_ends_attach_and_not_the_container", &[], options, attach_lost),
    ]
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

fn runs<'a>(node: &'a Node, name: &str) -> Result<Made<'a>> {
    Scene::new(node, name)?.start("main", pod::PATIENT, as_is)
}

/// A shell in a container, at a terminal, that has said its prompt.
fn prompt(node: &Node, id: &str) -> Result<Terminal> {
    let mut terminal = Terminal::berth(node, &["exec", "-it", id, "sh"])?;
    terminal.sees("# ")?;
    terminal.becomes_raw()?;
    Ok(terminal)
}

/// Whatever the shells started has ended.
fn no_shell(made: &Made<'_>) -> Result<()> {
    let init = made.init()?;
    eventually("the command has ended", || {
        let shells = with_word(made, "sh").into_iter().filter(|pid| *pid != init);
        Ok((shells.count() == 0).then_some(()))
    })
}

fn shell(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-shell")?;
    let mut terminal = prompt(node, &made.id)?;
    // What is typed is shown, too: what is looked for is only in the answer.
    terminal.keys("echo $((6*7))-$(tty)\r")?;
    terminal.sees("42-/dev/pts/0")?;
    terminal.keys("stty size\r")?;
    terminal.sees("24 80\r\n")?;
    terminal.resize(100, 40)?;
    let wait = "until [ \"$(stty size)\" = '40 100' ]; do sleep 0.05; done; echo re''sized\r";
    terminal.keys(wait)?;
    terminal.sees("resized")?;

    terminal.keys("sleep 71003; echo $((100+30)) $?\r")?;
    let slept = eventually("the command runs", || {
        Ok(with_word(&made, "71003").into_iter().find(|pid| *pid != terminal.pid()))
    })?;
    terminal.keys(CTRL_C)?;
    eventually("the command is interrupted", || Ok((!kernel::alive(slept)).then_some(())))?;
    terminal.keys("echo st''ill\r")?;
    terminal.sees("still")?;
    ensure!(kernel::alive(terminal.pid()), "the keys reached berth");
    terminal.keys("exit 42\r")?;
    terminal.ends_with(42)?;
    no_shell(&made)?;

    // The end of input, by the keys for it.
    let mut terminal = prompt(node, &made.id)?;
    terminal.keys(CTRL_D)?;
    terminal.ends_with(0)?;
    // Not a byte is another one: what a terminal would change on its way goes through.
    let mut terminal = Terminal::berth(
        node,
        &["exec", "-it", &made.id, "sh", "-c", "stty raw -echo; echo go; head -c 6 | od -An -tx1"],
    )?;
    terminal.sees("go")?;
    terminal.becomes_raw()?;
    terminal.keys(b"\x03\x1a\x1c\r\n\x7f")?;
    terminal.sees("03 1a 1c 0d 0a 7f")?;
    terminal.ends_with(0)
}

fn first_size(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-size")?;
    for _ in 0..5 {
        let mut terminal = Terminal::berth(node, &["exec", "-it", &made.id, "stty", "size"])?;
        terminal.ends_with(0)?;
        terminal.sees("24 80")?;
    }
    Ok(())
}

fn stopped(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-stop")?;
    let mut terminal = prompt(node, &made.id)?;
    terminal.signal(Signal::SIGTSTP)?;
    terminal.is_stopped()?;
    ensure!(terminal.is_as_before()?, "a shell would find the terminal raw");
    // Of this it is not told while it is stopped.
    terminal.resize(90, 30)?;
    terminal.signal(Signal::SIGCONT)?;
    terminal.becomes_raw()?;
    terminal.keys("until [ \"$(stty size)\" = '30 90' ]; do sleep 0.05; done; exit 6\r")?;
    terminal.ends_with(6)
}

fn signals(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-signals")?;
    for (signal, code) in [
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
        (Signal::SIGQUIT, 131),
        (Signal::SIGTERM, 143),
    ] {
        let mut terminal = prompt(node, &made.id)?;
        terminal.signal(signal)?;
        terminal.ends_with(code).with_context(|| format!("{signal}"))?;
        no_shell(&made)?;
    }
    Ok(())
}

fn errors(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "terminal-errors")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let mut terminal = Terminal::berth(node, &["exec", "-it", &made.id, "/no/such/program"])?;
    terminal.ends_with(125)?;
    terminal.sees("/no/such/program")?;
    ensure!(terminal.text().contains("berth: run command in"), "{:?}", terminal.text());
    // A line of its own, as on a sane terminal.
    ensure!(terminal.text().ends_with("\r\n"), "{:?}", terminal.text());
    let mut terminal = prompt(node, &made.id)?;
    node.stop_container(&made.id, Duration::from_secs(50))?;
    let status = terminal.end()?;
    ensure!(matches!(status.code(), Some(125 | 129 | 137 | 143)), "{status}");
    ensure!(terminal.is_as_before()?, "the mode");
    Ok(())
}

fn daemon_killed(node: &mut Node) -> Result<()> {
    let (_, id) = node.patient_pod("terminal-lost")?;
    let mut terminal = prompt(node, &id)?;
    node.kill()?;
    terminal.ends_with(125)?;
    terminal.sees("the connection to the daemon was lost")
}

fn blocked_reader(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-blocked")?;
    let mut command = node.command(&["exec", &made.id, "yes", "71004"])?;
    let mut yes = Running(command.stdout(Stdio::piped()).spawn()?);
    let mut first = String::new();
    BufReader::new(yes.0.stdout.as_mut().context("no output")?).read_line(&mut first)?;
    ensure!(first == "71004\n", "{first:?}");
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(yes.0.id())?), Signal::SIGTERM)?;
    let status = eventually("it ends, though nobody reads", || Ok(yes.0.try_wait()?))?;
    ensure!(status.code() == Some(143), "{status}");
    eventually("the command has ended", || Ok(with_word(&made, "71004").is_empty().then_some(())))
}

fn ignored(node: &Node) -> Result<()> {
    let made = runs(node, "terminal-ignored")?;
    let inner = node.command(&["exec", &made.id, "sleep", "71005"])?;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(inner.get_program());
    let mut running = Running(command.args(inner.get_args()).stdin(Stdio::null()).spawn()?);
    let pid = Pid::from_raw(i32::try_from(running.0.id())?);
    let command =
        eventually("the command runs", || Ok(with_word(&made, "71005").first().copied()))?;
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        nix::sys::signal::kill(pid, signal)?;
    }
    let status = eventually("it ends", || Ok(running.0.try_wait()?))?;
    ensure!(status.code() == Some(143), "an ignored signal has ended it: {status}");
    eventually("the command ends with it", || Ok((!kernel::alive(command)).then_some(())))
}

fn with_stdin(config: &mut proto::ContainerConfig) {
    config.stdin = true;
}

fn detach(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "terminal-attach")?;
    let made = scene.start("main", &["sh"], |config| {
        with_tty(config);
        with_stdin(config);
    })?;
    let init = made.init()?;
    let mut terminal = Terminal::berth(node, &["attach", &made.id])?;
    terminal.becomes_raw()?;
    terminal.keys("one=1$((1+1)); echo said-$one\r")?;
    terminal.sees("said-12")?;
    terminal.keys(DETACH)?;
    terminal.ends_with(0)?;
    terminal.sees("detached")?;
    ensure!(made.init()? == init, "the container has ended");

    // The same shell, whose input is still open.
    let mut terminal = Terminal::berth(node, &["attach", &made.id])?;
    terminal.becomes_raw()?;
    terminal.resize(70, 20)?;
    terminal
        .keys("until [ \"$(stty size)\" = '20 70' ]; do sleep 0.05; done; echo again-$one\r")?;
    terminal.sees("again-12")?;
    // A signal ends this side alone.
    terminal.signal(Signal::SIGTERM)?;
    terminal.ends_with(143)?;
    ensure!(made.init()? == init, "the container has ended with its client");

    let mut terminal = Terminal::berth(node, &["attach", &made.id])?;
    terminal.becomes_raw()?;
    terminal.keys("exit $one\r")?;
    terminal.ends_with(12)?;
    ensure!(made.end()?.exit_code == 12, "the container's own code");
    Ok(())
}

/// Ends the command with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

const READS: &str = "while read line; do echo \"out $line\"; echo \"err $line\" >&2; done; exit 3";

fn plain_attach(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "plain-attach")?;
    let talk = |id: &str, options: &[&str]| -> Result<Running> {
        let mut command = node.command(&[&["attach", id], options].concat())?;
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Running(command.spawn()?))
    };
    let made = scene.script("stays", READS, with_stdin)?;
    let mut first = talk(&made.id, &[])?;
    first.0.stdin.as_mut().context("no stdin")?.write_all(b"one\n")?;
    let mut out = BufReader::new(first.0.stdout.take().context("no output")?);
    let mut err = BufReader::new(first.0.stderr.take().context("no errors")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    err.read_line(&mut line)?;
    ensure!(line == "out one\nerr one\n", "{line:?}");
    // A listener alone: its own input says nothing.
    let mut listener = talk(&made.id, &["--no-stdin"])?;
    listener.0.stdin.take().context("no stdin")?.write_all(b"nobody\n")?;
    let mut heard = BufReader::new(listener.0.stdout.take().context("no output")?);
    // Kept: a listener whose output nobody takes ends.
    let hears = std::thread::spawn(move || heard.read_line(&mut String::new()).map(|_| heard));
    eventually("the listener hears", || {
        first.0.stdin.as_mut().context("no stdin")?.write_all(b"more\n")?;
        Ok(hears.is_finished().then_some(()))
    })?;
    // The end of what this client says is not the end of the container's input.
    drop(first.0.stdin.take());
    let status = eventually("the client has said all", || Ok(first.0.try_wait()?))?;
    let last = err.lines().map_while(Result::ok).last();
    ensure!(status.code() == Some(0), "{status}: {last:?}");
    ensure!(last.as_deref() == Some("detached"), "{last:?}");
    ensure!(kernel::alive(made.init()?), "the container has ended");
    ensure!(!made.text()?.contains("nobody"), "{}", made.text()?);
    node.stop_container(&made.id, Duration::from_secs(0))?;
    let status = eventually("the listener hears the end", || Ok(listener.0.try_wait()?))?;
    drop(hears.join());
    ensure!(status.code() == Some(137), "{status}");

    // Where the container's input is its first client's alone, it ends with that.
    let made = scene.script("ends", READS, |config| {
        with_stdin(config);
        config.stdin_once = true;
    })?;
    let mut client = talk(&made.id, &[])?;
    let mut stdin = client.0.stdin.take().context("no stdin")?;
    stdin.write_all(b"last\n")?;
    made.said("out last")?;
    drop(stdin);
    let status = eventually("the container has ended", || Ok(client.0.try_wait()?))?;
    ensure!(status.code() == Some(3), "{status}");
    Ok(())
}

fn no_attach(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "no-attach")?;
    let ended = scene.script("ended", "exit 4", as_is)?;
    ended.end()?;
    for (name, words) in [(ended.id.as_str(), "not running"), ("nobody", "does not exist")] {
        let output = node.berth(&["attach", name])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(125), "{name}: {}: {errors}", output.status);
        ensure!(errors.starts_with("berth: ") && errors.contains(words), "{name}: {errors}");
    }
    // A container without input is listened to, at a terminal, too, which keeps its mode.
    let made = scene.script("speaks", &format!("printf '{PAGE}'; {}", pod::PATIENT[2]), as_is)?;
    let mut terminal = Terminal::berth(node, &["attach", &made.id])?;
    eventually("somebody listens", || {
        // The shim takes a pipe for the client; ask it by what it hears.
        node.exec_ok(&made.id, &["sh", "-c", "echo heard >/proc/1/fd/1"])?;
        Ok(terminal.text().contains("heard").then_some(()))
    })?;
    ensure!(terminal.is_as_before()?, "raw without a reason");
    terminal.keys(CTRL_C)?;
    terminal.ends_with(130)?;
    ensure!(kernel::alive(made.init()?), "the container has ended");
    Ok(())
}

fn attach_lost(node: &mut Node) -> Result<()> {
    let (pod, id) = {
        let scene = Scene::new(node, "attach-lost")?;
        let made = scene.start("main", &["sh"], |config| {
            with_tty(config);
            with_stdin(config);
        })?;
        (made.pod.clone(), made.id.clone())
    };
    let init = node.init_pid(&pod, &id)?;
    let mut terminal = Terminal::berth(node, &["attach", &id])?;
    terminal.becomes_raw()?;
    node.kill()?;
    terminal.ends_with(125)?;
    node.launch()?;
    ensure!(node.init_pid(&pod, &id)? == init, "the container has ended");
    let mut terminal = Terminal::berth(node, &["attach", &id])?;
    terminal.becomes_raw()?;
    terminal.keys("exit 8\r")?;
    terminal.ends_with(8)
}

fn tls(node: &mut Node) -> Result<()> {
    let authority = Authority::make(&node.path("tls"))?;
    let (certificate, key) = authority.issue("node", "basicConstraints=CA:FALSE")?;
    let (other, _) = authority.issue("other", "basicConstraints=CA:FALSE")?;
    let plain = std::fs::read_to_string(node.config_file())?;
    let with = |certificate: &Path| {
        format!("{plain}\n[streaming]\ntls_cert = {certificate:?}\ntls_key = {key:?}\n")
    };
    node.stop()?;
    std::fs::write(node.config_file(), with(&certificate))?;
    node.launch()?;
    let (pod, id) = node.patient_pod("terminal-tls")?;
    let mut terminal = prompt(node, &id)?;
    terminal.keys("exit 11\r")?;
    terminal.ends_with(11)?;
    // The control: who has read another certificate believes nobody.
    for (text, words) in [
        (with(&other), "shake hands with the daemon"),
        (with(Path::new("/no/such.pem")), "read the certificate"),
        (plain.clone(), "no certificate is configured"),
    ] {
        let file = node.path("other.toml");
        std::fs::write(&file, text)?;
        for arguments in [&["exec", id.as_str(), "true"][..], &["attach", id.as_str()]] {
            let output = std::process::Command::new(crate::harness::node::binary()?)
                .arg("--config")
                .arg(&file)
                .args(arguments)
                .output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(125), "{arguments:?}: {}", output.status);
            ensure!(errors.contains(words) && !errors.contains("/exec/"), "{errors}");
        }
    }
    node.remove_pod(&pod)?;
    node.stop()?;
    std::fs::write(node.config_file(), plain)?;
    node.launch()
}
