//! A repository of a registry: its hosts, asked in order.

use super::super::digest::Digest;
use super::super::error::ImageError;
use super::super::info::Auth;
use super::super::manifest::{MANIFEST_TYPES, MAX_DOCUMENT};
use super::super::reference::Reference;
use super::access::{Access, Identity};
use super::clients::Peer;
use super::endpoint::{Ask, Endpoint, host_of};
use super::error::RegistryError;
use super::hosts::{Candidate, Tls};
use super::retry::{backoff, chance};
use crate::error::ErrorKind;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::Sender;
use tokio_util::bytes::Bytes;

/// How often one host is asked for the rest of a blob without having sent a good part of it.
const RESUMES: u32 = 4;
/// Silence counts for so many breaks: each is a long wait.
const SILENCE: u32 = 2;
/// A part that is worth yet another try.
const GOOD_PART: u64 = 1 << 20;

/// Which hosts sent a blob, by their number.
#[derive(Debug, Default)]
pub(in crate::image) struct Senders {
    /// In the latest attempt.
    latest: BTreeSet<usize>,
    /// What they sent was damaged.
    distrusted: BTreeSet<usize>,
}

/// What a host is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// What a tag stands for.
    Tag,
    /// Something by its digest.
    Content,
}

/// One repository, with credentials.
#[derive(Debug)]
pub(in crate::image) struct Repository {
    endpoints: Vec<Endpoint>,
    reference: Reference,
}

impl Repository {
    /// The repository of `reference`, with credentials that came with the request.
    ///
    /// # Errors
    /// A `hosts.toml`, certificates or credentials that cannot be used. Nobody was asked yet.
    pub(in crate::image) async fn open(
        reference: &Reference,
        auth: Option<&Auth>,
        access: &Arc<Access>,
    ) -> Result<Self, ImageError> {
        let mut endpoints = Vec::new();
        for candidate in access.candidates(reference.registry()).await? {
            endpoints.push(endpoint(reference, auth, access, candidate).await?);
        }
        Ok(Self { endpoints, reference: reference.clone() })
    }

    /// The manifest or index that the reference names, and its digest.
    pub(in crate::image) async fn top(&self) -> Result<(Vec<u8>, Digest), ImageError> {
        let reference = &self.reference;
        if let Some(digest) = reference.digest() {
            return Ok((self.manifest(digest).await?, digest.clone()));
        }
        let path = format!("manifests/{}", reference.tag().unwrap_or("latest"));
        let subject = reference.to_string();
        let bytes = self.document(&subject, &path, None).await?;
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// A manifest by digest.
    pub(in crate::image) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        self.document(&self.named(digest), &format!("manifests/{digest}"), Some(digest)).await
    }

    /// The manifest or index of a tag of this repository; `None`: there is none.
    pub(in crate::image) async fn tagged(&self, tag: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let subject = format!("{}:{tag}", self.reference.name());
        there(self.document(&subject, &format!("manifests/{tag}"), None).await)
    }

    /// The index of what refers to a manifest; `None`: the registry does not tell.
    pub(in crate::image) async fn referrers(
        &self,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        let subject = format!("what refers to {}", self.named(digest));
        there(self.document(&subject, &format!("referrers/{digest}"), None).await)
    }

    /// A small blob, whole and verified.
    pub(in crate::image) async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        self.document(&self.named(digest), &format!("blobs/{digest}"), Some(digest)).await
    }

    fn named(&self, digest: &Digest) -> String {
        self.reference.with_digest(digest)
    }

    /// The hosts that may be asked `what`, with their number: in their order, but those that failed before last.
    fn candidates(&self, what: What) -> Vec<(usize, &Endpoint)> {
        let fit = self.endpoints.iter().enumerate().filter(|(_, endpoint)| match what {
            What::Tag => endpoint.resolve,
            What::Content => endpoint.pull,
        });
        let mut fit: Vec<_> = fit.collect();
        fit.sort_by_key(|(_, endpoint)| endpoint.down.load(Ordering::Relaxed));
        fit
    }

    /// A document from the first host that has it.
    async fn document(
        &self,
        subject: &str,
        path: &str,
        digest: Option<&Digest>,
    ) -> Result<Vec<u8>, ImageError> {
        let mut failures = Vec::new();
        let what = if digest.is_some() { What::Content } else { What::Tag };
        for (number, endpoint) in self.candidates(what) {
            match document_of(endpoint, path, digest).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {
                    let reason = format!("{} sends more than {MAX_DOCUMENT} bytes", endpoint.host);
                    return Err(ImageError::manifest(subject, reason));
                }
                Err(error) => note(&mut failures, (number, error), subject),
            }
        }
        Err(self.failed(subject, failures))
    }

    /// Sends a blob's bytes to `sink`, which verifies them. A connection that breaks is made anew
    /// where it broke, with the next host in the end. Ends quietly when nobody takes the bytes any more. Who sent
    /// them is noted in `senders`.
    pub(in crate::image) async fn pump(
        &self,
        digest: &Digest,
        size: u64,
        sink: Sender<Bytes>,
        senders: &mut Senders,
    ) -> Result<(), ImageError> {
        let subject = self.named(digest);
        let path = format!("blobs/{digest}");
        let (mut sent, mut failures) = (0, Vec::new());
        for (number, endpoint) in self.candidates(What::Content) {
            if senders.distrusted.contains(&number) {
                continue;
            }
            let mut breaks = 0;
            loop {
                let before = sent;
                let pumped = pump_from(endpoint, &path, &mut sent, &sink).await;
                if sent > before {
                    senders.latest.insert(number);
                }
                let broken = match pumped {
                    // All bytes are out, or nobody takes them: what they are worth is judged there.
                    _ if sent >= size || sink.is_closed() => return Ok(()),
                    Ok(()) => {
                        let reason = format!("the blob ended after {sent} of {size} bytes");
                        RegistryError::protocol(&endpoint.host, reason)
                    }
                    Err(Broken::Stream(error)) => error,
                    Err(Broken::Refused(error)) => {
                        note(&mut failures, (number, error), &subject);
                        break;
                    }
                };
                let silent = matches!(broken, RegistryError::Silent { .. });
                let weight = if silent { SILENCE } else { 1 };
                breaks = if sent - before >= GOOD_PART { weight } else { breaks + weight };
                if breaks > RESUMES {
                    note(&mut failures, (number, broken), &subject);
                    break;
                }
                let reason = crate::error::chain(&broken);
                tracing::debug!(blob = subject, sent, reason, "blob broke off; resuming");
                tokio::time::sleep(backoff(breaks, chance())).await;
            }
        }
        Err(self.failed(&subject, failures))
    }

    /// The hosts that sent the latest blob.
    pub(in crate::image) fn names(&self, senders: &Senders) -> String {
        let hosts = senders.latest.iter().filter_map(|number| self.endpoints.get(*number));
        hosts.map(|endpoint| endpoint.host.as_str()).collect::<Vec<_>>().join(" and ")
    }

    /// What came was damaged: those that sent it are not asked for it again. Whether there are others.
    pub(in crate::image) fn has_others(&self, senders: &mut Senders) -> bool {
        let progress = !senders.latest.is_empty();
        senders.distrusted.append(&mut senders.latest);
        let others = self.candidates(What::Content);
        progress && others.iter().any(|(number, _)| !senders.distrusted.contains(number))
    }

    /// Every host failed.
    fn failed(&self, subject: &str, mut failures: Vec<(usize, RegistryError)>) -> ImageError {
        failures.sort_by_key(|(number, _)| *number);
        let mut failures: Vec<_> = failures.into_iter().map(|(_, error)| error).collect();
        let error = match (failures.pop(), failures.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                failures.push(last);
                RegistryError::All(failures)
            }
            (None, _) => {
                let reason = "no host of its hosts.toml may be asked for this";
                RegistryError::protocol(self.reference.registry(), reason)
            }
        };
        ImageError::registry("fetch", subject, error)
    }
}

/// Nothing instead of an error that says so.
fn there(found: Result<Vec<u8>, ImageError>) -> Result<Option<Vec<u8>>, ImageError> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Notes why a host failed. Those that are asked later may still have it.
fn note(
    failures: &mut Vec<(usize, RegistryError)>,
    failure: (usize, RegistryError),
    subject: &str,
) {
    tracing::debug!(subject, reason = crate::error::chain(&failure.1), "host failed");
    failures.push(failure);
}

/// A document from one host, verified; `None`: too large.
async fn document_of(
    endpoint: &Endpoint,
    path: &str,
    digest: Option<&Digest>,
) -> Result<Option<Vec<u8>>, RegistryError> {
    let accept = if path.starts_with("blobs/") { String::new() } else { MANIFEST_TYPES.join(", ") };
    let mut tries = 0;
    let bytes = loop {
        let body = endpoint.get(Ask { path, accept: &accept, from: 0 }).await?;
        match body.whole(MAX_DOCUMENT).await {
            Ok(Some(bytes)) => break bytes,
            Ok(None) => return Ok(None),
            Err(error) if tries >= RESUMES => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(backoff(tries, chance())).await;
    };
    let Some(digest) = digest else { return Ok(Some(bytes)) };
    let found = Digest::of(&bytes);
    if found == *digest {
        return Ok(Some(bytes));
    }
    let (host, subject) = (endpoint.host.clone(), path.replacen('/', " ", 1));
    Err(RegistryError::Damaged { host, subject, expected: digest.clone(), found })
}

/// Why a blob stopped.
enum Broken {
    /// The connection; worth another try.
    Stream(RegistryError),
    /// The host's answer.
    Refused(RegistryError),
}

async fn pump_from(
    endpoint: &Endpoint,
    path: &str,
    sent: &mut u64,
    sink: &Sender<Bytes>,
) -> Result<(), Broken> {
    let ask = Ask { path, accept: "", from: *sent };
    let mut body = endpoint.get(ask).await.map_err(|error| match error {
        // It has sent a part of it before.
        RegistryError::Silent { .. } if *sent > 0 => Broken::Stream(error),
        error => Broken::Refused(error),
    })?;
    while let Some(chunk) = body.next().await.map_err(Broken::Stream)? {
        let n = chunk.len() as u64;
        if sink.send(chunk).await.is_err() {
            return Ok(());
        }
        *sent += n;
    }
    Ok(())
}

/// A host that can be asked.
async fn endpoint(
    reference: &Reference,
    auth: Option<&Auth>,
    access: &Arc<Access>,
    candidate: Candidate,
) -> Result<Endpoint, ImageError> {
    let Candidate { url, is_registry, tls, settings } = candidate;
    let (registry, repository) = (reference.registry(), reference.repository());
    let host = host_of(&url);
    let of = (host.as_str(), is_registry.then_some(registry));
    let identity = Identity::choose(access, auth, of, repository)
        .map_err(|e| ImageError::registry("log in to", &host, e))?;
    let peer = Peer { tls, connect: settings.dial_timeout };
    // Whom this host points to is trusted by the same authorities, and must prove who it is.
    let tls = Tls { ca: peer.tls.ca.clone(), ..Tls::default() };
    let elsewhere = Peer { tls, ..peer.clone() };
    let mut base = url;
    base.set_path(&format!("{}/{repository}", base.path().trim_end_matches('/')));
    let own = host == registry || (registry == "docker.io" && host == "registry-1.docker.io");
    Ok(Endpoint {
        client: access.clients.client(peer, &host).await?,
        elsewhere: access.clients.client(elsewhere, &host).await?,
        namespace: (!own).then(|| registry.to_owned()),
        repository: repository.to_owned(),
        headers: settings.headers,
        identity,
        silence: access.silence,
        resolve: settings.resolve,
        pull: settings.pull,
        down: false.into(),
        session: None.into(),
        base,
        host,
    })
}
