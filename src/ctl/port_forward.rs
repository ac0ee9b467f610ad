//! `berth port-forward`: ports of this machine that lead to ports of a pod.
//!
//! Each connection asks the daemon for a stream of its own. What goes wrong with one is told and ends
//! that one; the command ends by a signal, or with the pod.

use super::commands::PortForwardArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::format::short_id;
use super::resolve::Inventory;
use super::stream::Trust;
use super::stream::forward::forward;
use super::stream::signals::Ends;
use crate::cri::proto as cri;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Code;

/// Where connections are accepted unless the caller says otherwise.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// How many free ports are tried: one may be free at one address and not at the other.
const TRIES: u32 = 16;
/// How long nothing is accepted when there are no descriptors left for it.
const PAUSE: Duration = Duration::from_millis(100);

/// A local port and the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// `None`: one that is free.
    pub local: Option<NonZeroU16>,
    /// In the pod.
    pub remote: NonZeroU16,
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| "a port is a number up to 65535");
        let (local, remote) = match text.split_once(':') {
            Some(("", remote)) => (0, number(remote)?),
            Some((local, remote)) => (number(local)?, number(remote)?),
            None => (number(text)?, number(text)?),
        };
        let remote = NonZeroU16::new(remote).ok_or("a pod has no port 0")?;
        Ok(Self { local: NonZeroU16::new(local), remote })
    }
}

/// A connection that came in.
struct Accepted {
    stream: TcpStream,
    local: SocketAddr,
    remote: NonZeroU16,
}

/// A connection that failed.
struct Failed {
    local: SocketAddr,
    remote: NonZeroU16,
    error: CtlError,
}

/// Whose ports, and how they are reached.
#[derive(Clone)]
struct Pod {
    id: String,
    daemon: Daemon,
    trust: Trust,
}

/// Forwards until a signal, which is success, or until the pod is gone.
pub(super) async fn port_forward(
    args: &PortForwardArgs,
    daemon: &Daemon,
    trust: &Trust,
    console: &mut Console,
) -> Result<u8, CtlError> {
    let all = Inventory::read(daemon).await?;
    let id = all.pod(&args.pod)?.id.clone();
    let pod = Pod { id, daemon: daemon.clone(), trust: trust.clone() };
    // A pod that nothing can be forwarded to is told before anybody connects. Nobody uses this stream.
    for ports in &args.ports {
        pod.ask(ports.remote).await?;
    }
    let mut ends = Ends::watch().map_err(CtlError::file("wait for", "signals"))?;
    let (sender, mut accepted) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for ports in &args.ports {
        for listener in listen(&args.address, *ports).await? {
            let local = listener.local_addr().map_err(CtlError::file("listen at", "a port"))?;
            console.line(&format!("Forwarding from {local} -> {}", ports.remote))?;
            accepting.spawn(accept(listener, ports.remote, sender.clone()));
        }
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = accepted.recv() => {
                connections.spawn(serve(connection, pod.clone()));
            }
            ended = next(&mut connections) => {
                let Err(Failed { local, remote, error }) = ended else { continue };
                if is_gone(&error) {
                    return Err(error);
                }
                console.note(&format!("berth: forward {local} -> {remote}: {}", error.line()));
            }
            _ = ends.next() => return Ok(0),
        }
    }
}

async fn next(connections: &mut JoinSet<Result<(), Failed>>) -> Result<(), Failed> {
    match connections.join_next().await {
        Some(Ok(ended)) => ended,
        // A panic tells about itself.
        Some(Err(_)) => Ok(()),
        None => pending().await,
    }
}

impl Pod {
    /// Where a stream to a port is, once.
    async fn ask(&self, port: NonZeroU16) -> Result<String, CtlError> {
        let port = vec![port.get().into()];
        let request = cri::PortForwardRequest { pod_sandbox_id: self.id.clone(), port };
        let answer = self.daemon.runtime.clone().port_forward(request).await;
        Ok(answer.map_err(CtlError::rpc("forward", self.subject()))?.into_inner().url)
    }

    fn subject(&self) -> String {
        format!("to pod {}", short_id(&self.id))
    }

    async fn forward(&self, port: NonZeroU16, stream: TcpStream) -> Result<(), CtlError> {
        let url = self.ask(port).await?;
        let forwarded = forward(&url, &self.trust, port.get(), stream).await;
        forwarded.map_err(CtlError::stream("forward", self.subject()))
    }
}

async fn serve(connection: Accepted, pod: Pod) -> Result<(), Failed> {
    let Accepted { stream, local, remote } = connection;
    pod.forward(remote, stream).await.map_err(|error| Failed { local, remote, error })
}

/// Whether no connection will ever succeed again: what has been stopped is not started again.
fn is_gone(error: &CtlError) -> bool {
    let ever = |code| matches!(code, Code::NotFound | Code::FailedPrecondition);
    matches!(error, CtlError::Rpc { status, .. } if ever(status.code()))
}

/// Accepts for ever.
async fn accept(listener: TcpListener, remote: NonZeroU16, accepted: mpsc::Sender<Accepted>) {
    loop {
        let connection = listener.accept().await;
        // The one that is connected to, where it listens at all addresses.
        let at = |stream: &TcpStream| stream.local_addr();
        match connection.and_then(|(stream, _)| at(&stream).map(|local| (stream, local))) {
            Ok((stream, local)) => {
                if accepted.send(Accepted { stream, local, remote }).await.is_err() {
                    return;
                }
            }
            // Of one connection that has gone meanwhile, or of too many: the next one may be had.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Listens at each address; without one, at the loopback addresses that this machine has.
async fn listen(addresses: &[IpAddr], ports: Ports) -> Result<Vec<TcpListener>, CtlError> {
    let (all, must) = if addresses.is_empty() { (&LOOPBACK[..], false) } else { (addresses, true) };
    let mut tries = TRIES;
    loop {
        match listen_at_all(all, ports.local, must).await {
            Err((_, error))
                if ports.local.is_none()
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tries > 0 =>
            {
                tries -= 1;
            }
            done => {
                return done.map_err(|(at, error)| CtlError::file("listen at", at)(error));
            }
        }
    }
}

/// Listens at one port of all addresses. `must`: none of them may be missing.
async fn listen_at_all(
    addresses: &[IpAddr],
    port: Option<NonZeroU16>,
    must: bool,
) -> Result<Vec<TcpListener>, (String, io::Error)> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    let mut port = port.map_or(0, NonZeroU16::get);
    for address in addresses {
        let at = SocketAddr::new(*address, port);
        match TcpListener::bind(at).await {
            Ok(listener) => {
                if let Ok(bound) = listener.local_addr() {
                    port = bound.port();
                }
                listeners.push(listener);
            }
            Err(error) if !must && is_missing(&error) => missing = Some((at.to_string(), error)),
            Err(error) => return Err((at.to_string(), error)),
        }
    }
    match missing {
        Some(missing) if listeners.is_empty() => Err(missing),
        _ => Ok(listeners),
    }
}

/// Whether this machine does not have an address, or not its family.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_number_or_two() {
        let ports = |local, remote| {
            Ok(Ports { local: NonZeroU16::new(local), remote: NonZeroU16::new(remote).unwrap() })
        };
        const NUMBER: &str = "a port is a number up to 65535";
        for (text, expected) in [
            ("80", ports(80, 80)),
            ("8080:80", ports(8080, 80)),
            (":80", ports(0, 80)),
            ("0:80", ports(0, 80)),
            ("80:", Err(NUMBER)),
            ("", Err(NUMBER)),
            ("a:80", Err(NUMBER)),
            ("65536", Err(NUMBER)),
            ("1:2:3", Err(NUMBER)),
            ("80:0", Err("a pod has no port 0")),
        ] {
            assert_eq!(text.parse::<Ports>(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_free_port_is_the_same_at_all_addresses() {
        let ports: Ports = ":80".parse().unwrap();
        let listeners = listen(&[], ports).await.unwrap();
        let local: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        assert_eq!(local[0].ip(), LOOPBACK[0]);
        assert!(local.iter().all(|at| at.port() == local[0].port() && at.port() != 0), "{local:?}");
        // What is taken, or is not there, is an error where it was asked for.
        let taken = Ports { local: NonZeroU16::new(local[0].port()), ..ports };
        let error = listen(&[], taken).await.unwrap_err().line();
        assert!(error.contains(&local[0].to_string()), "{error}");
        listen(&["192.0.2.1".parse().unwrap()], ports).await.unwrap_err();
    }
}
