//! Exec sessions: streams, codes, terminals, and what becomes of a command when its client or its container goes.

use super::ask;
use crate::exec::with_word;
use crate::harness::channels::{Client, STDERR, STDIN, STDOUT};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Result, ensure};
use berth::cri::proto;
use std::time::Duration;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("a_command_has_its_streams_and_its_code", &[], streams),
        shared("every_version_tells_the_end_in_its_way", &[], versions),
        shared("a_terminal_is_one_stream_with_a_size", &[], terminal),
        shared("a_command_is_who_the_container_is", &[], identity),
        shared("a_command_ends_with_its_client_and_all_it_started", &[], lost_client),
        shared("the_loss_of_a_client_is_not_the_end_of_its_input", &[], no_end),
        shared("a_command_ends_with_its_container", &[], container_ends),
        shared("a_child_in_the_background_goes_on", &[], background),
    ]
}

const V5: &str = "v5.channel.k8s.io";

fn streams(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-exec")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "ioe", "cat; echo errors >&2; exit 7")?;
    let mut client = Client::connect(node, &url, V5)?;
    client.send(STDIN, b"first ")?;
    client.until(STDOUT, "first ")?;
    client.send(STDIN, b"second")?;
    client.close(STDIN)?;
    ensure!(client.code()? == 7);
    ensure!(client.text(STDOUT) == "first second", "{}", client.text(STDOUT));
    ensure!(client.text(STDERR) == "errors\n", "{}", client.text(STDERR));
    // What is not asked for is not sent, and holds nothing up.
    let url = ask::exec(node, &made.id, "e", "cat; head -c 300000 /dev/zero; echo errors >&2")?;
    let mut client = Client::connect(node, &url, V5)?;
    ensure!(client.code()? == 0);
    ensure!(client.got(STDOUT).is_empty() && client.text(STDERR) == "errors\n");
    // A command that cannot be executed says so.
    let mut request = proto::ExecRequest {
        container_id: made.id.clone(),
        cmd: vec!["no-such-program".into()],
        stdout: true,
        ..Default::default()
    };
    let mut client = Client::connect(node, &node.cri.exec(request.clone())?.url, V5)?;
    let told = client.end()?;
    ensure!(told.contains("InternalError") && told.contains("no such file or directory"), "{told}");
    // Signals are codes as in a shell.
    request.cmd = ["sh", "-c", "kill -KILL $$"].map(String::from).to_vec();
    ensure!(Client::connect(node, &node.cri.exec(request)?.url, V5)?.code()? == 137);
    Ok(())
}

fn versions(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-versions")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let names = [
        ("v5.channel.k8s.io", true),
        ("v4.channel.k8s.io", true),
        ("v3.channel.k8s.io", false),
        ("v2.channel.k8s.io", false),
        ("channel.k8s.io", false),
        ("", false),
        ("v4.base64.channel.k8s.io", true),
        ("base64.channel.k8s.io", false),
    ];
    for (name, as_status) in names {
        let url = ask::exec(node, &made.id, "ioe", "read line; echo \"$line\"; exit 3")?;
        let mut client = Client::connect(node, &url, name)?;
        client.send(STDIN, b"hello\n")?;
        let end = client.end()?;
        ensure!(client.text(STDOUT) == "hello\n", "{name}: {}", client.text(STDOUT));
        if as_status {
            ensure!(crate::harness::channels::code(&end)? == 3, "{name}: {end}");
        } else {
            ensure!(end == "command terminated with exit code 3", "{name}: {end}");
        }
        // Success: a Status, or nothing.
        let url = ask::exec(node, &made.id, "o", "true")?;
        let end = Client::connect(node, &url, name)?.end()?;
        ensure!(end.is_empty() != as_status, "{name}: {end}");
    }
    Ok(())
}

fn terminal(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-tty")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let script = "stty size; trap 'stty size' WINCH; test -t 0 && test -t 2 && echo both >&2; \
        while ! read line; do :; done; echo \"got $line\"; exit 5";
    let url = ask::exec(node, &made.id, "iot", script)?;
    let mut client = Client::connect(node, &url, V5)?;
    client.resize(132, 43)?;
    client.until(STDOUT, "43 132\r\n")?;
    client.until(STDOUT, "both\r\n")?;
    client.resize(80, 24)?;
    client.until(STDOUT, "24 80\r\n")?;
    client.send(STDIN, b"typed\n")?;
    ensure!(client.code()? == 5);
    ensure!(client.text(STDOUT).ends_with("got typed\r\n"), "{:?}", client.text(STDOUT));
    ensure!(client.got(STDERR).is_empty());
    // Ctrl-C is the terminal's to make a signal of.
    let url = ask::exec(node, &made.id, "iot", "echo ready; exec sleep 100000")?;
    let mut client = Client::connect(node, &url, V5)?;
    client.until(STDOUT, "ready")?;
    client.send(STDIN, &[3])?;
    ensure!(client.code()? == 130);
    Ok(())
}

fn identity(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-user")?;
    let made = scene.start("main", pod::PATIENT, |config| {
        config.working_dir = "/www".into();
        config.envs = vec![proto::KeyValue { key: "MINE".into(), value: b"yes".to_vec() }];
        pod::security(config).run_as_username = "web".into();
    })?;
    let script = "echo $(id -u) $PWD $MINE; readlink /proc/self/ns/mnt; cat /proc/self/cgroup";
    let url = ask::exec(node, &made.id, "o", script)?;
    let mut client = Client::connect(node, &url, V5)?;
    ensure!(client.code()? == 0);
    let text = client.text(STDOUT);
    let namespace = format!("mnt:[{}]", kernel::namespace(made.init()?, "mnt")?);
    ensure!(text.starts_with(&format!("1000 /www yes\n{namespace}\n")), "{text}");
    // A cgroup of its own below the container's.
    ensure!(text.lines().any(|l| l.starts_with("0::/x")), "{text}");
    Ok(())
}

fn lost_client(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-lost")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let running = |word: &str, count: usize| {
        eventually(&format!("{count} with {word}"), || {
            let pids = with_word(&made, word);
            Ok((pids.len() == count).then_some(()))
        })
    };
    let stays = ask::exec(node, &made.id, "o", "exec sleep 72001")?;
    let stays = Client::connect(node, &stays, V5)?;
    running("72001", 1)?;
    // It reads none of its input, of which there is more than berth keeps, so that the connection is read no
    // more: the end of it is noticed all the same.
    for (word, fill) in [("72002", 0), ("72003", 17 * (32 << 10))] {
        let script = format!("sleep {word} & setsid sleep {word} & wait");
        let url = ask::exec(node, &made.id, "io", &script)?;
        let mut client = Client::connect(node, &url, V5)?;
        running(word, 2)?;
        for _ in 0..fill / (32 << 10) {
            client.send(STDIN, &[7; 32 << 10])?;
        }
        drop(client);
        running(word, 0)?;
    }
    ensure!(with_word(&made, "72001").len() == 1, "another one was hit");
    drop(stays);
    running("72001", 0)?;
    ensure!(kernel::alive(made.init()?), "the container was hit");
    Ok(())
}

fn no_end(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-no-end")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let script = |number: u32| format!("cat >/dev/null; exec touch /tmp/{number}");
    let ended = |number: u32| {
        eventually("the command has ended", || {
            Ok(with_word(&made, &script(number)).is_empty().then_some(()))
        })
    };
    for number in 0..20 {
        let url = ask::exec(node, &made.id, "io", &script(number))?;
        let mut client = Client::connect(node, &url, V5)?;
        client.send(STDIN, b"half of")?;
        // Gone without a word, or with a farewell: neither is the end of stdin.
        if number % 2 == 0 {
            client.bid_farewell()?;
        }
        drop(client);
        ended(number)?;
    }
    // The control: who has said all has.
    let url = ask::exec(node, &made.id, "io", &script(99))?;
    let mut client = Client::connect(node, &url, V5)?;
    client.close(STDIN)?;
    ensure!(client.code()? == 0);
    let made_files = node.exec_ok(&made.id, &["ls", "/tmp"])?;
    ensure!(made_files == "99", "taken for the end: {made_files}");
    Ok(())
}

fn container_ends(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-stopped")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "o", "echo ready; exec sleep 72004")?;
    let mut client = Client::connect(node, &url, V5)?;
    client.until(STDOUT, "ready")?;
    // A URL that is used after the container has ended.
    let late = ask::exec(node, &made.id, "o", "true")?;
    node.stop_container(&made.id, Duration::from_secs(50))?;
    ensure!(client.code()? == 137);
    let told = Client::connect(node, &late, V5)?.end()?;
    ensure!(told.contains("InternalError") && told.contains("not running"), "{told}");
    Ok(())
}

fn background(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-background")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    // It holds the streams of the command open.
    for (streams, script) in
        [("o", "sleep 72005 & echo done"), ("ot", "trap '' HUP; sleep 72005 & echo done")]
    {
        let url = ask::exec(node, &made.id, streams, script)?;
        let mut client = Client::connect(node, &url, V5)?;
        ensure!(client.code()? == 0);
        ensure!(client.text(STDOUT).trim_end() == "done", "{}", client.text(STDOUT));
    }
    let left = with_word(&made, "72005");
    ensure!(left.len() == 2, "{left:?} go on");
    node.stop_container(&made.id, Duration::from_secs(50))?;
    ensure!(left.iter().all(|pid| !kernel::alive(*pid)), "they outlived the container");
    Ok(())
}
