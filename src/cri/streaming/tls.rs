//! The certificate of the streaming server.

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
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

/// Accepts TLS 1.2 and 1.3 with a chain of certificates and its key, both PEM.
///
/// # Errors
/// A file that cannot be read or has none, or a key that is not the certificate's.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let failed = |operation, path: &Path, source: Box<dyn std::error::Error + Send + Sync>| {
        TlsError { operation, path: path.to_owned(), source }
    };
    let read = |path: &Path| {
        let certificates = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
        match certificates.is_empty() {
            true => Err("there is no certificate in it".into()),
            false => Ok(certificates),
        }
    };
    let chain = read(certificate).map_err(|e| failed("read the certificate", certificate, e))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| failed("read the private key", key, Box::new(e)))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| failed("use the private key", key, Box::new(e)))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
