//! TLS to the daemon's streaming server, where its configuration names a certificate.
//!
//! That certificate is believed, whoever has signed it, for whatever name and time: it is the file that the daemon
//! shows, read here from the same configuration. Nothing else is believed.

use super::error::StreamError;
use crate::small_file;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom an https URL of the daemon's is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    certificate: Option<PathBuf>,
}

impl Trust {
    /// Who has the key to the first certificate of this file, PEM.
    pub fn of_certificate(file: Option<PathBuf>) -> Self {
        Self { certificate: file }
    }

    /// Reads the certificate and shakes hands.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, StreamError> {
        let file = self.certificate.as_ref();
        let file = file.ok_or(StreamError::Url("it is https, and no certificate is configured"))?;
        let failed = StreamError::local("read the certificate of the daemon's configuration");
        let certificate = small_file::read(file).and_then(|pem| {
            CertificateDer::from_pem_slice(&pem).map_err(|e| io::Error::other(e.to_string()))
        });
        let certificate = certificate.map_err(failed)?;
        let failed = StreamError::local("shake hands with the daemon");
        let shake = async {
            let host = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = connector(certificate).map_err(io::Error::other)?;
            connector.connect(host, stream).await
        };
        shake.await.map_err(failed)
    }
}

fn connector(certificate: CertificateDer<'static>) -> Result<TlsConnector, Error> {
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { certificate, algorithms }))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Believes one certificate. That its key is there, too, is checked as ever.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
