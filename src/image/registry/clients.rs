//! HTTP clients, kept for a while: a new one reads every root certificate of the machine, which takes longer
//! than a small pull.
//!
//! Redirects are not followed here but in `endpoint`.

use super::super::error::ImageError;
use super::error::RegistryError;
use super::hosts::Tls;
use super::proxies::Proxies;
use crate::blocking;
use crate::lock::lock;
use reqwest::{Certificate, Client, Identity};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client is used: changed root certificates count after that time at the latest.
const LIFETIME: Duration = Duration::from_secs(600);
/// How many are kept.
const KEPT: usize = 16;

/// What makes two clients the same. Connections hold no credentials, only certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Whom to trust, and as whom.
    pub(super) tls: Tls,
    /// How long a connection may take.
    pub(super) connect: Option<Duration>,
}

/// The clients that are kept.
#[derive(Debug, Default)]
pub(super) struct Clients {
    proxies: Proxies,
    /// The oldest first.
    kept: Mutex<Vec<(Peer, Instant, Client)>>,
}

impl Clients {
    /// None yet; they will go through these proxies.
    pub(super) fn new(proxies: Proxies) -> Self {
        Self { proxies, kept: Mutex::default() }
    }

    /// A client for `peer`: the kept one, or a new one.
    ///
    /// # Errors
    /// [`RegistryError::Connection`] when none can be set up for `host`.
    pub(super) async fn client(
        self: &Arc<Self>,
        peer: Peer,
        host: &str,
    ) -> Result<Client, ImageError> {
        if let Some(client) = self.kept(&peer) {
            return Ok(client);
        }
        let (of, clients) = (peer.clone(), Arc::clone(self));
        let made = blocking::run("read the root certificates", move || make(&of, &clients.proxies));
        let made = made.await?;
        let client = made.map_err(|error| {
            let source = RegistryError::connection(host, error);
            ImageError::registry("set up a client for", host, source)
        })?;
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((peer, Instant::now(), client.clone()));
        Ok(client)
    }

    fn kept(&self, peer: &Peer) -> Option<Client> {
        let mut kept = lock(&self.kept);
        kept.retain(|(_, made, _)| made.elapsed() < LIFETIME);
        kept.iter().find(|(of, ..)| of == peer).map(|(.., client)| client.clone())
    }
}

fn make(peer: &Peer, proxies: &Proxies) -> reqwest::Result<Client> {
    // The second call finds the provider installed: that is success.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = proxies
        .apply(Client::builder())?
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(peer.connect.unwrap_or(CONNECT_TIMEOUT))
        .tls_danger_accept_invalid_certs(peer.tls.skip_verify);
    if !peer.tls.ca.is_empty() {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&peer.tls.ca)?);
    }
    if let Some(pem) = &peer.tls.identity {
        builder = builder.identity(Identity::from_pem(pem)?);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seconds: u64) -> Peer {
        let connect = Some(Duration::from_secs(seconds));
        Peer { tls: Tls::default(), connect }
    }

    #[tokio::test]
    async fn a_client_is_kept_for_one_peer_and_not_for_ever() {
        let clients = Arc::new(Clients::default());
        clients.client(peer(1), "r.test").await.unwrap();
        assert!(clients.kept(&peer(1)).is_some());
        for other in [
            peer(2),
            Peer { tls: Tls { skip_verify: true, ..Tls::default() }, ..peer(1) },
            Peer { tls: Tls { identity: Some(vec![1]), ..Tls::default() }, ..peer(1) },
        ] {
            assert!(clients.kept(&other).is_none());
        }
        if let Some(old) = Instant::now().checked_sub(LIFETIME) {
            clients.kept.lock().unwrap()[0].1 = old;
            assert!(clients.kept(&peer(1)).is_none());
        }
    }

    #[tokio::test]
    async fn no_more_than_a_few_clients_are_kept_and_the_oldest_goes() {
        let clients = Arc::new(Clients::default());
        let all: Vec<Peer> = (1..=KEPT as u64 + 1).map(peer).collect();
        for peer in &all {
            clients.client(peer.clone(), "r.test").await.unwrap();
        }
        assert!(clients.kept(&all[0]).is_none());
        assert!(clients.kept(&all[1]).is_some() && clients.kept(&all[KEPT]).is_some());
    }
}
