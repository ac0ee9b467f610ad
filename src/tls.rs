//! TLS of the servers of this process: certificates and keys from PEM files, and whose clients' certificates count.

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct TlsError {
    operation: &'static str,
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Cause) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError { operation, path, source }
}

/// Whose certificates a client may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients<'a> {
    /// Nobody's: none is asked for.
    None,
    /// Those that an authority of this file (PEM) has signed. A client may come without; one that shows another
    /// is cut off.
    SignedBy(&'a Path),
}

/// Accepts TLS 1.2 and 1.3 with a chain of certificates and its key, both PEM. Blocking.
///
/// # Errors
/// A file that cannot be read or has none, or a key that is not the certificate's.
pub fn acceptor(
    certificate: &Path,
    key: &Path,
    clients: Clients<'_>,
) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(certificate).map_err(failed("read the certificate", certificate))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| failed("read the private key", key)(Box::new(e)))?;
    let verifier = match clients {
        Clients::None => WebPkiClientVerifier::no_client_auth(),
        Clients::SignedBy(file) => {
            verifier(file).map_err(failed("read the authorities of clients", file))?
        }
    };
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config.with_client_cert_verifier(verifier).with_single_cert(chain, private)
        })
        .map_err(|e| failed("use the private key", key)(Box::new(e)))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let all = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err("there is no certificate in it".into()) } else { Ok(all) }
}

fn verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, Cause> {
    let mut roots = RootCertStore::empty();
    for root in certificates(file)? {
        roots.add(root)?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(verifier.allow_unauthenticated().build()?)
}
