//! Connections into a pod: what PortForward dials.

use super::error::EngineError;
use super::open::Engine;
use super::sandboxes::subject;
use crate::blocking;
use crate::error::{AtStep as _, ErrorKind, StepFailed};
use crate::sandbox::netns;
use crate::sandbox::object::Sandbox;
use crate::sys;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// How long one address of the pod may take to answer. It is its loopback: nothing is slow there but a full backlog.
const WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Whether PortForward can be asked of a pod.
    ///
    /// # Errors
    /// NotFound; Precondition when it is not READY.
    pub fn forwards(&self, sandbox: &str) -> Result<(), EngineError> {
        self.ready()?;
        self.running_pod(sandbox).map(drop)
    }

    /// Connects to a port of a pod's localhost, by IPv4, else by IPv6.
    ///
    /// # Errors
    /// NotFound; Precondition when the pod is not READY; Unavailable when nothing accepts at the port.
    pub async fn dial(&self, sandbox: &str, port: u16) -> Result<TcpStream, EngineError> {
        self.ready()?;
        let (sandbox, namespace) = self.running_pod(sandbox)?;
        let failed = |f| EngineError::step("PortForward", &subject(&sandbox.config()), f);
        let mut refused = None;
        let addresses = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        for address in addresses {
            match connect(&namespace, address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused.get_or_insert(error),
            };
        }
        let error = refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        Err(failed(StepFailed {
            step: "connect to the pod's localhost",
            kind: ErrorKind::Unavailable,
            source: format!("port {port}: {error}").into(),
        }))
    }

    fn running_pod(&self, id: &str) -> Result<(Arc<Sandbox>, Arc<OwnedFd>), EngineError> {
        let sandbox = self.known_sandbox(id)?;
        super::sandboxes::settled(&sandbox)?;
        let subject = subject(&sandbox.config());
        let not_running = || EngineError::Precondition(format!("{subject} is not running"));
        let pause =
            sandbox.record().pause.filter(|_| sandbox.is_ready()).ok_or_else(not_running)?;
        let namespace = netns::open(&pause)
            .at("open the pod's network namespace")
            .map_err(|f| EngineError::step("PortForward", &subject, f))?;
        Ok((sandbox, Arc::new(namespace)))
    }
}

async fn connect(namespace: &Arc<OwnedFd>, address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let namespace = Arc::clone(namespace);
    // Where a socket is made is where it is connected, whoever connects it.
    let made = blocking::run("make a socket in the pod", move || {
        sys::netns::inside(namespace.as_fd(), || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socket(family, SockType::Stream, flags, None)
        })
    });
    let made = made.await.map_err(io::Error::other)??.map_err(io::Error::from)?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(made));
    let stream = tokio::time::timeout(WITHIN, socket.connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
