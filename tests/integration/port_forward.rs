//! `berth port-forward`: ports of this machine that lead into a pod.

use crate::harness::image::PAGE;
use crate::harness::netns::page;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, eventually, pod, poll, shared};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("many_connections_are_forwarded_at_once", &[], many),
        shared("each_direction_of_a_connection_ends_for_itself", &[], half_closed),
        shared("what_goes_wrong_is_told_and_ends_one_connection", &[], wrong),
        shared("forwarding_ends_with_the_pod", &[], pod_gone),
    ]
}

/// A forwarding command.
struct Forwarding {
    child: Child,
    /// What it listens at: address and port.
    at: Vec<(String, u16)>,
    errors: Arc<Mutex<String>>,
}

impl Forwarding {
    /// Begins, and waits until it listens at so many addresses.
    fn begin(node: &Node, arguments: &[&str], listening: usize) -> Result<Self> {
        let mut command = node.command(&[&["port-forward"], arguments].concat())?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let err = BufReader::new(child.stderr.take().context("no errors")?);
        let errors = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&errors);
        std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                *told.lock().unwrap_or_else(PoisonError::into_inner) += &(line + "\n");
            }
        });
        let mut made = Self { child, at: Vec::new(), errors };
        for line in out.lines().take(listening) {
            let line = line?;
            let told =
                line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(" -> "));
            let (local, _) = told.with_context(|| format!("it says {line:?}"))?;
            let (address, port) = local.rsplit_once(':').context("no port")?;
            let address = address.trim_matches(['[', ']']).to_owned();
            made.at.push((address, port.parse()?));
        }
        ensure!(made.at.len() == listening, "it listens at {:?}: {}", made.at, made.told());
        Ok(made)
    }

    fn told(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn connect(&self, index: usize) -> Result<TcpStream> {
        let (address, port) = self.at.get(index).context("no such address")?;
        let stream = TcpStream::connect((address.as_str(), *port))?;
        stream.set_read_timeout(Some(poll::DEADLINE))?;
        stream.set_write_timeout(Some(poll::DEADLINE))?;
        Ok(stream)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        eventually("the forwarding ends", || Ok(child.try_wait()?))
    }

    /// SIGTERM, which is a good end.
    fn finish(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.end()?;
        ensure!(status.code() == Some(0), "{status}: {}", self.told());
        for (address, port) in &self.at {
            ensure!(TcpStream::connect((address.as_str(), *port)).is_err(), "{address} is open");
        }
        Ok(())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The loopback addresses of this machine: one or two.
fn loopbacks() -> usize {
    1 + usize::from(TcpListener::bind("[::1]:0").is_ok())
}

/// Answers the page at one port and what it is told at another, and says when it listens at both.
const SERVES: &str = "httpd -p 8071 -h /www; nc -ll -p 8072 -e cat & \
    until [ $(netstat -ltn | grep -c ':807[12] ') = 2 ]; do sleep 0.05; done; echo ready; wait";

fn many(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward-many")?;
    let made = scene.script("main", SERVES, as_is)?;
    made.said("ready")?;
    let forwarding = Forwarding::begin(node, &[&scene.pod, ":8071", ":8072"], 2 * loopbacks())?;
    for (address, port) in &forwarding.at[..loopbacks()] {
        let answer = page(address, *port)?;
        ensure!(answer == PAGE, "{address}: {answer:?}");
    }
    // All are open at once, and each hears what it said itself.
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut stream = forwarding.connect(loopbacks())?;
        stream.write_all(format!("number {number}\n").as_bytes())?;
        streams.push(stream);
    }
    for (number, stream) in streams.iter().enumerate().rev() {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        ensure!(line == format!("number {number}\n"), "{number} hears {line:?}");
    }
    // Both ways at once, more than any buffer holds.
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
    let stream = forwarding.connect(loopbacks())?;
    let mut reader = stream.try_clone()?;
    let heard = std::thread::scope(|scope| {
        let said = scope.spawn(|| {
            (&stream).write_all(&bytes)?;
            stream.shutdown(Shutdown::Write)
        });
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard)?;
        said.join().unwrap()?;
        Ok::<_, std::io::Error>(heard)
    })?;
    ensure!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
    ensure!(forwarding.told().is_empty(), "{}", forwarding.told());
    drop(streams);
    forwarding.finish()
}

fn half_closed(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward-half")?;
    // One that answers when it has heard all, one that says all and hears on.
    let script = "nc -ll -p 8073 -e sh -c 'n=$(wc -c); echo heard $n' & \
        echo hello | nc -l -p 8074 | wc -c & \
        until [ $(netstat -ltn | grep -c ':807[34] ') = 2 ]; do sleep 0.05; done; echo ready; wait";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let forwarding =
        Forwarding::begin(node, &["--address", "127.0.0.1", &scene.pod, ":8073", ":8074"], 2)?;
    ensure!(forwarding.at.iter().all(|(address, _)| address == "127.0.0.1"), "{:?}", forwarding.at);
    let mut stream = forwarding.connect(0)?;
    stream.write_all(&[b'x'; 100_000])?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "heard 100000\n", "{answer:?}: {}", forwarding.told());

    let mut stream = forwarding.connect(1)?;
    answer.clear();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "hello\n", "{answer:?}: {}", forwarding.told());
    // What is said after the other side's end.
    stream.write_all(b"12345")?;
    stream.shutdown(Shutdown::Write)?;
    made.said("5")?;
    forwarding.finish()
}

fn wrong(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward-wrong")?;
    let made = scene.script("main", SERVES, as_is)?;
    made.said("ready")?;
    let forwarding =
        Forwarding::begin(node, &["--address", "127.0.0.1", &scene.pod, ":8079", ":8071"], 2)?;
    let mut text = String::new();
    // Its end may be a reset.
    forwarding.connect(0)?.read_to_string(&mut text).ok();
    ensure!(text.is_empty(), "{text:?}");
    eventually("the error is told", || {
        let told = forwarding.told();
        Ok((told.contains("8079") && told.contains("refused")).then_some(()))
    })
    .with_context(|| forwarding.told())?;
    let told = forwarding.told();
    ensure!(told.lines().count() == 1 && told.starts_with("berth: forward 127.0.0.1:"), "{told}");
    // The others go on.
    let (address, port) = &forwarding.at[1];
    ensure!(page(address, *port)? == PAGE, "the page");

    // A port that is taken is an error, and so is a pod that is none.
    let taken = forwarding.at[1].1.to_string();
    let refused = node.berth(&["port-forward", &scene.pod, &format!("{taken}:8071")])?;
    let errors = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && errors.contains(&taken), "{errors}");
    for (arguments, code) in [(["nobody", "80"], 3), ([scene.pod.as_str(), "eighty"], 2)] {
        let refused = node.berth(&[&["port-forward"][..], &arguments].concat())?;
        ensure!(refused.status.code() == Some(code), "{arguments:?}: {refused:?}");
    }
    forwarding.finish()
}

fn pod_gone(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward-gone")?;
    scene.start("main", pod::PATIENT, as_is)?;
    let mut forwarding =
        Forwarding::begin(node, &["--address", "127.0.0.1", &scene.pod, ":8071"], 1)?;
    node.remove_pod(&scene.pod)?;
    // It is noticed when somebody connects.
    forwarding.connect(0)?;
    let status = forwarding.end()?;
    ensure!(status.code() == Some(3), "{status}: {}", forwarding.told());
    let told = forwarding.told();
    ensure!(told.contains("does not exist"), "{told}");
    Ok(())
}
