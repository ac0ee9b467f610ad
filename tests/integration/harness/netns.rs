//! Network namespaces for the network tests: a pod's, and a neighbour of the node's own.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

/// How long an answer may take that is expected.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for one that is not.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A network namespace that lives at least as long as this.
pub(crate) struct Netns(File);

impl Netns {
    /// That of a process.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        Ok(Self(File::open(&path).with_context(|| format!("open {path}"))?))
    }

    /// A new one.
    fn new() -> Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").context("open the new namespace")
        });
        made.join().unwrap().map(Self)
    }

    /// Does something in it, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).context("setns")?;
                Ok(work())
            });
            thread.join().unwrap()
        })
    }
}

/// A machine beside the node: 192.0.2.2 and 2001:db8::2, where the node is 192.0.2.1 and
/// 2001:db8::1.
pub(crate) struct Neighbour {
    netns: Netns,
    link: String,
}

impl Neighbour {
    pub(crate) fn new() -> Result<Self> {
        let made = Self { netns: Netns::new()?, link: format!("out{}", std::process::id()) };
        let (link, pid, fd) = (&made.link, std::process::id(), made.netns.0.as_raw_fd());
        sh(&format!(
            "ip link add {link} type veth peer name out1 netns /proc/{pid}/fd/{fd}
             ip addr add 192.0.2.1/24 dev {link}; ip -6 addr add 2001:db8::1/64 dev {link} nodad
             ip link set {link} up"
        ))?;
        made.inside(|| {
            sh("ip addr add 192.0.2.2/24 dev out1; ip -6 addr add 2001:db8::2/64 dev out1 nodad
                ip link set lo up; ip link set out1 up")
        })??;
        Ok(made)
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns.inside(work)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", &self.link]).output().ok();
    }
}

/// Runs lines of shell where the calling thread is; what they print.
pub(crate) fn sh(lines: &str) -> Result<String> {
    let output = Command::new("sh").args(["-ec", lines]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{lines}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks a web server for its page.
pub(crate) fn page(address: &str, port: u16) -> Result<String> {
    let page = get(address, port, PATIENCE).with_context(|| format!("{address} port {port}"))?;
    match page.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{address} port {port} answered {page:?}"),
    }
}

/// Whether nobody answers there.
pub(crate) fn silent(address: &str, port: u16) -> bool {
    get(address, port, IMPATIENCE).is_err()
}

fn get(address: &str, port: u16, patience: Duration) -> Result<String, io::Error> {
    let address: IpAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
