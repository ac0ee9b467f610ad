//! Attach sessions: several clients beside each other, what ends them, and that the container does not notice.

use super::ask;
use crate::harness::channels::{Client, STDERR, STDIN, STDOUT};
use crate::harness::scene::{Made, Scene};
use crate::harness::{Node, Options, Test, eventually, kernel, own, shared};
use anyhow::{Result, ensure};
use berth::cri::proto;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("clients_hear_from_now_on_and_talk_side_by_side", &[], clients),
        shared("the_keys_leave_a_terminal_as_it_is", &[], keys),
        shared("stdin_once_ends_with_its_client", &[], once),
        shared("a_client_that_does_not_listen_is_left_behind", &[], behind),
        own("a_container_does_not_notice_that_its_clients_lose_berth", &[], options, restart),
    ]
}

const V5: &str = "v5.channel.k8s.io";
/// Answers each line on both streams, until `end`.
const ECHOES: &str = "echo before; while read line; do echo \"out $line\"; echo \"err $line\" >&2; \
    test \"$line\" = end && exit 9; done; echo closed; exec sleep 100000";

fn with_stdin(config: &mut proto::ContainerConfig) {
    config.stdin = true;
}

fn echoes<'a>(scene: &Scene<'a>) -> Result<Made<'a>> {
    let made = scene.script("main", ECHOES, with_stdin)?;
    made.said("before")?;
    Ok(made)
}

fn clients(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "attach-clients")?;
    let made = echoes(&scene)?;
    let mut first = Client::connect(node, &ask::attach(node, &made.id, "ioe")?, V5)?;
    let mut second = Client::connect(node, &ask::attach(node, &made.id, "ioe")?, V5)?;
    let mut errors = Client::connect(node, &ask::attach(node, &made.id, "e")?, V5)?;
    // The empty message of each: it is attached.
    for client in [&mut first, &mut second, &mut errors] {
        client.next()?;
    }
    attached(node, &made, &mut second)?;
    first.send(STDIN, b"one\n")?;
    for client in [&mut first, &mut second] {
        client.until(STDOUT, "out one\n")?;
        client.until(STDERR, "err one\n")?;
    }
    second.send(STDIN, b"two\n")?;
    first.until(STDOUT, "out two\n")?;
    errors.until(STDERR, "err two\n")?;
    ensure!(!first.text(STDOUT).contains("before"), "it heard what was said before it came");
    // One leaves, by its end of input or by going away; the others and the container stay.
    second.close(STDIN)?;
    ensure!(second.code()? == 0);
    drop(errors);
    first.send(STDIN, b"three\n")?;
    first.until(STDOUT, "out three\n")?;
    made.said("out three")?;
    ensure!(!made.text()?.contains("closed"), "its input was closed");
    first.send(STDIN, b"end\n")?;
    // The code is what ContainerStatus tells.
    ensure!(first.code()? == 0);
    ensure!(first.text(STDOUT).ends_with("out end\n"), "{}", first.text(STDOUT));
    ensure!(made.end()?.exit_code == 9);
    Ok(())
}

/// Waits until a client hears the container: the session begins a moment after its upgrade.
fn attached(_: &Node, _: &Made<'_>, client: &mut Client<'_>) -> Result<()> {
    client.send(STDIN, b"hello\n")?;
    client.until(STDOUT, "out hello\n")
}

fn keys(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "attach-keys")?;
    let made =
        scene.script("main", "while read line; do echo \"got $line\"; done; echo closed", |c| {
            c.stdin = true;
            c.tty = true;
        })?;
    let mut client = Client::connect(node, &ask::attach(node, &made.id, "iot")?, V5)?;
    client.send(STDIN, b"one\x10x\x7f\n")?;
    // The beginning of the keys reaches the terminal when something else follows; there it is echoed as ^P.
    client.until(STDOUT, "got one")?;
    ensure!(client.text(STDOUT).contains("^P"), "{:?}", client.text(STDOUT));
    client.resize(100, 30)?;
    eventually("the terminal has the size", || {
        let text = node.exec_ok(&made.id, &["sh", "-c", "stty size </proc/1/fd/0"])?;
        Ok((text == "30 100").then_some(()))
    })?;
    client.send(STDIN, b"\x10\x11")?;
    ensure!(client.code()? == 0, "detached");
    let mut again = Client::connect(node, &ask::attach(node, &made.id, "iot")?, V5)?;
    again.send(STDIN, b"two\n")?;
    again.until(STDOUT, "got two")?;
    drop(again);
    let last = Client::connect(node, &ask::attach(node, &made.id, "o")?, V5)?;
    drop(last);
    ensure!(!made.text()?.contains("closed") && kernel::alive(made.init()?));
    Ok(())
}

fn once(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "attach-once")?;
    let made = scene.script("main", "cat; echo closed; exec sleep 100000", |config| {
        config.stdin = true;
        config.stdin_once = true;
    })?;
    // One that does not talk ends nothing.
    drop(Client::connect(node, &ask::attach(node, &made.id, "o")?, V5)?);
    let mut client = Client::connect(node, &ask::attach(node, &made.id, "io")?, V5)?;
    client.send(STDIN, b"all\n")?;
    client.until(STDOUT, "all\n")?;
    ensure!(!made.text()?.contains("closed"));
    client.close(STDIN)?;
    made.said("closed")?;
    // The control: without it the input stays open; `clients` above asks for that, too.
    let made = scene.script("other", "cat; echo closed; exec sleep 100000", with_stdin)?;
    let mut client = Client::connect(node, &ask::attach(node, &made.id, "io")?, V5)?;
    client.send(STDIN, b"all\n")?;
    client.until(STDOUT, "all\n")?;
    client.close(STDIN)?;
    ensure!(client.code()? == 0);
    let mut client = Client::connect(node, &ask::attach(node, &made.id, "io")?, V5)?;
    client.send(STDIN, b"more\n")?;
    client.until(STDOUT, "more\n")?;
    ensure!(!made.text()?.contains("closed"));
    Ok(())
}

fn behind(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "attach-behind")?;
    let made = scene.script(
        "main",
        "read line; head -c 50000000 /dev/zero; echo; echo over",
        with_stdin,
    )?;
    let mut deaf = Client::connect(node, &ask::attach(node, &made.id, "o")?, V5)?;
    let mut talks = Client::connect(node, &ask::attach(node, &made.id, "i")?, V5)?;
    deaf.next()?;
    talks.send(STDIN, b"go\n")?;
    // It says all it has to say though one client does not listen.
    ensure!(made.end()?.exit_code == 0);
    let told = deaf.end()?;
    ensure!(told.contains("InternalError") && told.contains("detached"), "{told}");
    ensure!(deaf.got(STDOUT).len() < 50_000_000);
    Ok(())
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

fn restart(node: &mut Node) -> Result<()> {
    let (pod, id, init, log);
    {
        let scene = Scene::new(node, "attach-restart")?;
        let made = echoes(&scene)?;
        (pod, id, init, log) = (made.pod.clone(), made.id.clone(), made.init()?, made.log.clone());
        let mut client = Client::connect(node, &ask::attach(node, &id, "ioe")?, V5)?;
        client.send(STDIN, b"one\n")?;
        client.until(STDOUT, "out one\n")?;
    }
    for kill in [true, false] {
        {
            let mut client = Client::connect(node, &ask::attach(node, &id, "ioe")?, V5)?;
            client.send(STDIN, b"again\n")?;
            client.until(STDOUT, "out again\n")?;
        }
        if kill {
            node.kill()?;
        } else {
            node.stop()?;
        }
        node.launch()?;
        ensure!(node.init_pid(&pod, &id)? == init && kernel::alive(init), "it was touched");
    }
    let mut client = Client::connect(node, &ask::attach(node, &id, "ioe")?, V5)?;
    client.send(STDIN, b"end\n")?;
    client.until(STDOUT, "out end\n")?;
    ensure!(node.wait_exited(&id)?.exit_code == 9);
    let text: String =
        crate::harness::logs::read(&log)?.into_iter().map(|l| l.text + "\n").collect();
    ensure!(!text.contains("closed"), "its input was closed: {text}");
    Ok(())
}
