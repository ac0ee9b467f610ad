//! The HTTP API of the kubelet half, as curl sees it.

use super::node::Node;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// The media type, with its parameters.
    pub(crate) kind: String,
    pub(crate) text: String,
}

impl Answer {
    /// Its JSON.
    ///
    /// # Errors
    /// It is none, or has another code than 200.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!(self.code == 200 && self.kind == "application/json", "{self:?}");
        serde_json::from_str(&self.text).with_context(|| format!("{self:?}"))
    }

    /// Its text.
    ///
    /// # Errors
    /// It has another code than 200.
    pub(crate) fn ok(self) -> Result<String> {
        ensure!(self.code == 200, "{self:?}");
        Ok(self.text)
    }
}

/// A way to ask.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// What goes before each path.
    base: String,
    options: Vec<String>,
}

impl Http {
    /// Over the node's unix socket.
    pub(crate) fn of(node: &Node) -> Self {
        let socket = node.run_dir().join("kubelet.sock").to_string_lossy().into_owned();
        Self { base: "http://node".to_owned(), options: vec!["--unix-socket".to_owned(), socket] }
    }

    /// Over TLS, as whom the options of curl make one.
    pub(crate) fn over_tls(node: &Node, port: u16, options: &[&str]) -> Self {
        let authority = own_certificate(node).to_string_lossy().into_owned();
        let mut all = vec!["--cacert".to_owned(), authority];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        Self { base: format!("https://127.0.0.1:{port}"), options: all }
    }

    /// A call of curl, not yet run.
    pub(crate) fn command(&self, method: &str, path: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--no-buffer", "--max-time", "60"])
            .args(&self.options)
            .args(["--request", method])
            .arg(format!("{}{path}", self.base))
            .stdin(Stdio::null());
        command
    }

    /// Asks.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Result<Answer> {
        let mut command = self.command(method, path);
        command.args(["--write-out", "\n%{http_code} %{content_type}"]);
        let output = command.output().context("run curl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{method} {path}: {}", errors.trim());
        let all = String::from_utf8(output.stdout)?;
        let (text, last) = all.rsplit_once('\n').context("no last line")?;
        let (code, kind) = last.split_once(' ').context("no code")?;
        Ok(Answer { code: code.parse()?, kind: kind.to_owned(), text: text.to_owned() })
    }

    /// GET.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path)
    }
}

/// The certificate that the node has signed itself.
pub(crate) fn own_certificate(node: &Node) -> std::path::PathBuf {
    node.state_dir().join("kubelet/pki/kubelet.crt")
}

/// A TCP port behind which the node's unix socket is, for clients that know no other; to the end of the test program.
///
/// # Errors
/// There is no port.
pub(crate) fn port_of_socket(node: &Node) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let socket = node.run_dir().join("kubelet.sock");
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = UnixStream::connect(&socket) else { return };
            std::thread::spawn(move || pass(near, far));
        }
    });
    Ok(port)
}

/// Passes bytes on in both directions, and their ends.
fn pass(near: TcpStream, far: UnixStream) -> Result<()> {
    let (mut from_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
    let there = std::thread::spawn(move || {
        copy(&mut from_near, &mut to_far);
        to_far.shutdown(std::net::Shutdown::Write).ok();
    });
    let (mut from_far, mut to_near) = (far, near);
    copy(&mut from_far, &mut to_near);
    to_near.shutdown(std::net::Shutdown::Write).ok();
    there.join().ok();
    Ok(())
}

/// At once: nothing waits for a full block.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut block = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut block) {
        if to.write_all(&block[..count]).is_err() {
            return;
        }
    }
}
