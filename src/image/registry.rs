//! A repository of a registry, by the distribution protocol.
//!
//! oci-client speaks it; what comes back is verified here and in `intake`, never believed.

use super::clients::{Clients, Peer};
use super::content::verify;
use super::digest::Digest;
use super::error::ImageError;
use super::info::Auth;
use super::manifest::{MANIFEST_TYPES, MAX_DOCUMENT};
use super::reference::Reference;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use oci_client::Reference as Target;
use oci_client::client::{BlobResponse, Client, SizedStream};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use std::io;
use std::sync::Arc;
use tokio_util::bytes::Bytes;

/// How often a broken-off blob is asked for again where it broke off.
const RESUMES: u32 = 3;

/// One repository, with credentials.
pub(super) struct Repository {
    client: Client,
    target: Target,
    name: String,
    auth: RegistryAuth,
}

impl Repository {
    /// The repository of `reference`. Hosts in `plain_http` and this machine itself are spoken to
    /// without TLS.
    pub(super) async fn open(
        reference: &Reference,
        auth: Option<&Auth>,
        plain_http: &[String],
        clients: &Arc<Clients>,
    ) -> Result<Self, ImageError> {
        let (registry, repository) =
            (reference.registry().to_owned(), reference.repository().to_owned());
        let auth = match auth {
            Some(auth) => registry_auth(auth, reference)?,
            None => RegistryAuth::Anonymous,
        };
        let peer = Peer {
            plain: is_plain(&registry, plain_http),
            registry: registry.clone(),
            auth: auth.clone(),
        };
        let client = clients.client(peer).await?;
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Target::with_digest(registry, repository, digest.to_string()),
            (None, tag) => {
                Target::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
            }
        };
        Ok(Self { client, target, name: reference.name(), auth })
    }

    /// The manifest or index that the reference names, and its digest.
    pub(super) async fn top(&self) -> Result<(Vec<u8>, Digest), ImageError> {
        let bytes = self.raw_manifest(&self.target).await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = self.target.digest()
            && wanted != digest.to_string()
        {
            return Err(ImageError::Mismatch {
                subject: format!("manifest {}", self.target),
                expected: wanted.to_owned(),
                found: digest.to_string(),
            });
        }
        Ok((bytes, digest))
    }

    /// A manifest by digest.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let target = self.target.clone_with_digest(digest.to_string());
        let bytes = self.raw_manifest(&target).await?;
        verify(&format!("manifest {}@{digest}", self.name), &bytes, digest)?;
        Ok(bytes)
    }

    async fn raw_manifest(&self, target: &Target) -> Result<Vec<u8>, ImageError> {
        let (bytes, _) = self
            .client
            .pull_manifest_raw(target, &self.auth, &MANIFEST_TYPES)
            .await
            .map_err(|e| failed("fetch the manifest of", &target.to_string(), e))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            let reason = format!("the manifest has {} bytes; at most {MAX_DOCUMENT}", bytes.len());
            return Err(ImageError::manifest(target.to_string(), reason));
        }
        Ok(bytes.to_vec())
    }

    /// A small blob, whole and verified.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let subject = format!("{}@{digest}", self.name);
        let mut stream = self.stream(digest, 0).await?.stream;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|e| broken("fetch", &subject, e))?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > MAX_DOCUMENT {
                let reason = format!("more than {MAX_DOCUMENT} bytes");
                return Err(ImageError::manifest(subject, reason));
            }
        }
        verify(&format!("blob {subject}"), &bytes, digest)?;
        Ok(bytes)
    }

    /// Sends a blob's bytes to `sink`, which verifies them. A connection that breaks is made anew
    /// where it broke. Ends quietly when nobody takes the bytes any more.
    pub(super) async fn pump(
        &self,
        digest: &Digest,
        size: u64,
        sink: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<(), ImageError> {
        let subject = format!("{}@{digest}", self.name);
        let (mut sent, mut resumes) = (0u64, 0u32);
        loop {
            let error = match self.pump_from(digest, &mut sent, &sink).await {
                // All bytes are out, or nobody takes them: what they are worth is judged there.
                _ if sent >= size || sink.is_closed() => return Ok(()),
                Ok(()) => io::Error::from(io::ErrorKind::UnexpectedEof),
                Err(Broken::Stream(error)) => error,
                Err(Broken::Refused(error)) => return Err(error),
            };
            resumes += 1;
            if resumes > RESUMES {
                return Err(broken("fetch", &subject, error));
            }
            tracing::debug!(blob = subject, sent, %error, "blob broke off; resuming");
        }
    }

    async fn pump_from(
        &self,
        digest: &Digest,
        sent: &mut u64,
        sink: &tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<(), Broken> {
        let Part { mut stream, skip } =
            self.stream(digest, *sent).await.map_err(Broken::Refused)?;
        let mut skip = skip;
        while let Some(chunk) = stream.next().await {
            let mut chunk = chunk.map_err(Broken::Stream)?;
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= skipped as u64;
            let chunk = chunk.split_off(skipped);
            let n = chunk.len() as u64;
            if n > 0 && sink.send(chunk).await.is_err() {
                return Ok(());
            }
            *sent += n;
        }
        Ok(())
    }

    async fn stream(&self, digest: &Digest, from: u64) -> Result<Part, ImageError> {
        let text = digest.to_string();
        let response =
            self.client.pull_blob_stream_partial(&self.target, text.as_str(), from, None).await;
        let response =
            response.map_err(|e| failed("fetch", &format!("{}@{digest}", self.name), e))?;
        let (SizedStream { stream, .. }, skip) = match response {
            // The registry does not know ranges: what is here already comes again.
            BlobResponse::Full(stream) => (stream, from),
            BlobResponse::Partial(stream) => (stream, 0),
        };
        Ok(Part { stream: stream.boxed(), skip })
    }
}

/// A blob from some byte on.
struct Part {
    stream: BoxStream<'static, io::Result<Bytes>>,
    /// Bytes to leave out at the front.
    skip: u64,
}

/// Why a blob stopped.
enum Broken {
    /// The connection; worth another try.
    Stream(io::Error),
    /// The registry's answer.
    Refused(ImageError),
}

pub(super) fn failed(
    operation: &'static str,
    subject: &str,
    source: OciDistributionError,
) -> ImageError {
    ImageError::Registry { operation, subject: subject.to_owned(), source: Box::new(source) }
}

fn broken(operation: &'static str, subject: &str, source: io::Error) -> ImageError {
    failed(operation, subject, OciDistributionError::IoError(source))
}

/// Whether a host is spoken to over plain HTTP: listed, or this machine itself.
fn is_plain(registry: &str, listed: &[String]) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    };
    let loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || listed.iter().any(|entry| entry == registry || entry == host)
}

/// The first of the given credentials, in CRI's order; none when they are for another registry.
fn registry_auth(auth: &Auth, reference: &Reference) -> Result<RegistryAuth, ImageError> {
    if !is_for(&auth.server_address, reference.registry()) {
        return Ok(RegistryAuth::Anonymous);
    }
    let refuse = |reason: &str| {
        ImageError::manifest(format!("credentials for {}", reference.registry()), reason)
    };
    if !auth.username.is_empty() {
        return Ok(RegistryAuth::Basic(auth.username.clone(), auth.password.clone()));
    }
    if !auth.identity_token.is_empty() {
        return Err(refuse("identity tokens are not supported yet"));
    }
    if !auth.auth.is_empty() {
        let bytes = decode_base64(&auth.auth).ok_or_else(|| refuse("auth is not base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("auth is not UTF-8"))?;
        let (user, password) =
            text.split_once(':').ok_or_else(|| refuse("auth is not user:password"))?;
        let password = password.trim_end_matches('\0');
        return Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()));
    }
    if !auth.registry_token.is_empty() {
        return Ok(RegistryAuth::Bearer(auth.registry_token.clone()));
    }
    Ok(RegistryAuth::Anonymous)
}

/// Whether a server address (a host, or an URL as docker writes it) is that registry.
fn is_for(server: &str, registry: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    server.is_empty() || host == registry
}

/// RFC 4648, padding optional.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.trim().trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_listed_hosts_are_spoken_to_in_the_clear() {
        let listed = ["plain.test".to_owned(), "other.test:81".to_owned()];
        for (registry, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("plain.test", true),
            ("plain.test:5000", true),
            ("other.test:81", true),
            ("other.test", false),
            ("localhost.evil.test", false),
            ("docker.io", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_plain(registry, &listed), plain, "{registry}");
        }
    }

    #[test]
    fn credentials_go_in_order_and_only_to_their_registry() {
        let reference = Reference::parse("q.test/a").unwrap();
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());
        let given = Auth {
            username: "u".into(),
            password: "p".into(),
            auth: "eDp5".into(),
            registry_token: "t".into(),
            ..Auth::default()
        };
        let choose = |auth: &Auth| registry_auth(auth, &reference).unwrap();
        assert_eq!(choose(&given), basic("u", "p"));
        let encoded = Auth { username: String::new(), ..given.clone() };
        assert_eq!(choose(&encoded), basic("x", "y"));
        let token = Auth { auth: String::new(), ..encoded };
        assert_eq!(choose(&token), RegistryAuth::Bearer("t".into()));
        let elsewhere = Auth { server_address: "https://r.test/v1/".into(), ..given.clone() };
        assert_eq!(choose(&elsewhere), RegistryAuth::Anonymous);
        let here = Auth { server_address: "https://q.test".into(), ..given };
        assert_eq!(choose(&here), basic("u", "p"));
    }

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YWI", b"ab"),
            ("YWJj", b"abc"),
            ("_-8=", b"\xff\xef"),
        ] {
            assert_eq!(decode_base64(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(decode_base64("a b"), None);
    }
}
