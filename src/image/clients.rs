//! Clients of registries, kept for a while: a new one reads every root certificate of the machine,
//! which takes longer than a small pull.

use super::error::ImageError;
use super::registry::failed;
use crate::blocking;
use crate::lock::lock;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a registry may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client is used: changed root certificates count after that time at the latest.
const LIFETIME: Duration = Duration::from_secs(600);
/// How many are kept.
const KEPT: usize = 16;

/// Whom a client speaks to, and as whom. A client keeps tokens, so two credentials never share one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) registry: String,
    /// Without TLS.
    pub(super) plain: bool,
    pub(super) auth: RegistryAuth,
}

/// The clients that are kept, the oldest first.
#[derive(Default)]
pub(super) struct Clients(Mutex<Vec<(Peer, Instant, Client)>>);

impl Clients {
    /// A client for `peer`: the kept one, or a new one.
    ///
    /// # Errors
    /// [`ImageError::Registry`] when none can be set up.
    pub(super) async fn client(self: &Arc<Self>, peer: Peer) -> Result<Client, ImageError> {
        if let Some(client) = self.kept(&peer) {
            return Ok(client);
        }
        let plain = peer.plain;
        let made = blocking::run("read the root certificates", move || make(plain)).await?;
        let client = made.map_err(|e| failed("set up a client for", &peer.registry, e))?;
        let mut kept = lock(&self.0);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((peer, Instant::now(), client.clone()));
        Ok(client)
    }

    fn kept(&self, peer: &Peer) -> Option<Client> {
        let mut kept = lock(&self.0);
        kept.retain(|(_, made, _)| made.elapsed() < LIFETIME);
        kept.iter().find(|(of, ..)| of == peer).map(|(.., client)| client.clone())
    }
}

fn make(plain: bool) -> Result<Client, oci_client::errors::OciDistributionError> {
    // The second call finds the provider installed: that is success.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::try_from(ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("berth/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(registry: &str, plain: bool, auth: RegistryAuth) -> Peer {
        Peer { registry: registry.into(), plain, auth }
    }

    #[tokio::test]
    async fn a_client_is_kept_for_one_registry_and_one_credential_and_not_for_ever() {
        let clients = Arc::new(Clients::default());
        let of = |name: &str| RegistryAuth::Basic(name.into(), "p".into());
        let first = peer("r.test", false, of("a"));
        clients.client(first.clone()).await.unwrap();
        assert!(clients.kept(&first).is_some());
        for other in [
            peer("r.test", false, of("b")),
            peer("r.test", false, RegistryAuth::Anonymous),
            peer("r.test", true, of("a")),
            peer("q.test", false, of("a")),
        ] {
            assert!(clients.kept(&other).is_none());
        }
        if let Some(old) = Instant::now().checked_sub(LIFETIME) {
            clients.0.lock().unwrap()[0].1 = old;
            assert!(clients.kept(&first).is_none());
        }
    }

    #[tokio::test]
    async fn no_more_than_a_few_clients_are_kept_and_the_oldest_goes() {
        let clients = Arc::new(Clients::default());
        let all: Vec<Peer> = (0..=KEPT)
            .map(|n| peer(&format!("r{n}.test"), true, RegistryAuth::Anonymous))
            .collect();
        for peer in &all {
            clients.client(peer.clone()).await.unwrap();
        }
        assert!(clients.kept(&all[0]).is_none());
        assert!(clients.kept(&all[1]).is_some() && clients.kept(&all[KEPT]).is_some());
    }
}
