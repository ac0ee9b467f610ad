//! One attempt of a probe: which of the four checks it is, and how often it is tried.

use super::outcome::{Answer, CheckError};
use super::spec::{Check, Probe};
use super::{exec, grpc, http, tcp, tls};
use crate::cri::client::Cri;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// How often that is tried which cannot be.
const TRIES: usize = 3;

/// What all probes and hooks of a node share.
pub struct Checker {
    cri: Arc<dyn Cri>,
    tls: TlsConnector,
}

/// TLS cannot be had from the cryptography of this build.
#[derive(Debug, thiserror::Error)]
#[error("set up TLS for probes")]
pub struct NoTls(#[from] rustls::Error);

impl Checker {
    /// Checks of containers of this runtime.
    ///
    /// # Errors
    /// TLS cannot be had: a defect of the build.
    pub fn new(cri: Arc<dyn Cri>) -> Result<Self, NoTls> {
        Ok(Self { cri, tls: tls::connector()? })
    }

    pub(super) fn cri(&self) -> &dyn Cri {
        &*self.cri
    }

    pub(super) fn tls(&self) -> &TlsConnector {
        &self.tls
    }

    /// Makes the check of `probe` on a container; what cannot be tried is tried again, at once.
    pub(super) async fn attempt(
        &self,
        probe: &Probe,
        container_id: &str,
        address: Option<IpAddr>,
    ) -> Answer {
        // What a manifest has wrong is wrong the next time, too.
        let check = probe.check.as_ref().map_err(|e| CheckError::Spec(e.clone()))?;
        let mut answer = Err(CheckError::NoAddress);
        for _ in 0..TRIES {
            answer = self.once(check, container_id, address, probe.timing.timeout).await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    async fn once(
        &self,
        check: &Check,
        container_id: &str,
        address: Option<IpAddr>,
        limit: Duration,
    ) -> Answer {
        match check {
            Check::Exec { command } => {
                exec::attempt(self.cri(), container_id, command, limit).await
            }
            Check::Http(get) => http::attempt(get, address, self.tls(), limit).await,
            Check::Tcp { host, port } => {
                let pod = || address.map(|address| address.to_string());
                let host = host.clone().or_else(pod).ok_or(CheckError::NoAddress)?;
                Ok(tcp::attempt(&host, *port, limit).await)
            }
            Check::Grpc { port, service } => {
                let address = address.ok_or(CheckError::NoAddress)?;
                Ok(grpc::attempt(address, *port, service, limit).await)
            }
        }
    }
}
