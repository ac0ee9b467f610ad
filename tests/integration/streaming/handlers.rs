//! Sessions in a container that a runtime of the host made.

use super::ask;
use crate::handlers::{NEEDS, by, options};
use crate::harness::channels::{Client, STDERR, STDIN, STDOUT};
use crate::harness::pod::PATIENT;
use crate::harness::scene::as_is;
use crate::harness::{Node, Test, own};
use anyhow::{Result, ensure};

pub(super) fn tests() -> Vec<Test> {
    vec![own("runcs_containers_have_sessions_as_the_native_ones", NEEDS, options, sessions)]
}

const V5: &str = "v5.channel.k8s.io";

fn sessions(node: &mut Node) -> Result<()> {
    let node = &*node;
    for handler in ["", "runc"] {
        let scene = by(node, handler, "stream")?;
        let made = scene.start("main", PATIENT, as_is)?;
        let url = ask::exec(node, &made.id, "ioe", "cat; echo errors >&2; exit 7")?;
        let mut client = Client::connect(node, &url, V5)?;
        client.send(STDIN, b"hello")?;
        client.close(STDIN)?;
        ensure!(client.code()? == 7, "{handler}");
        ensure!(client.text(STDOUT) == "hello" && client.text(STDERR) == "errors\n", "{handler}");
        let url = ask::exec(node, &made.id, "iot", "read line; stty size; exit 5")?;
        let mut client = Client::connect(node, &url, V5)?;
        client.resize(132, 43)?;
        client.send(STDIN, b"go\n")?;
        ensure!(client.code()? == 5, "{handler}");
        ensure!(client.text(STDOUT).contains("43 132"), "{handler}: {}", client.text(STDOUT));
        let script = "while read line; do echo \"out $line\"; test \"$line\" = end && exit 9; done";
        let made = scene.script("talks", script, |config| config.stdin = true)?;
        for line in ["one", "end"] {
            let mut client = Client::connect(node, &ask::attach(node, &made.id, "io")?, V5)?;
            client.send(STDIN, format!("{line}\n").as_bytes())?;
            client.until(STDOUT, &format!("out {line}\n"))?;
        }
        ensure!(made.end()?.exit_code == 9, "{handler}");
    }
    Ok(())
}
