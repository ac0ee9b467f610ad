//! From a manifest to a visible image: every layer fetched and unpacked once, several at a time,
//! committed bottom-up, then the record.
//!
//! The same for a registry and for an archive. Two operations that need the same layer above the
//! same layers share the work: the second waits for the first, and takes over if that one fails.

use super::archive::Archive;
use super::content::{Ingest, verify};
use super::digest::Digest;
use super::error::ImageError;
use super::info::{ImageInfo, Phase};
use super::intake::{CancelOnDrop, Cancelled, Expected, Intake, take_in};
use super::layers::{Layer, Part};
use super::manifest::{
    Descriptor, Document, MAX_DOCUMENT, Manifest, Platform, choose, parse_config, parse_document,
};
use super::progress::{LayerProgress, Listeners};
use super::registry::{Repository, Senders};
use super::store::{NewImage, Store};
use super::tree::Tree;
use super::unpack::{Limits, UnpackError, Unpacked};
use crate::blocking;
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use crate::sys::heap;
use futures::StreamExt as _;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;
use tokio_util::bytes::{Buf as _, Bytes};

/// As deep as indexes point to indexes.
const MAX_INDEX_DEPTH: u32 = 3;
/// Chunks between the network and the unpacking thread: up to some hundred KiB each, of every layer at once.
const CHUNKS: usize = 4;

/// Where content comes from.
pub(super) enum Source {
    Registry(Box<Repository>),
    Archive(Arc<Archive>),
}

impl Source {
    /// A manifest or index, verified.
    pub(super) async fn manifest(&self, entry: &Descriptor) -> Result<Vec<u8>, ImageError> {
        match self {
            Self::Registry(repository) => repository.manifest(&entry.digest).await,
            Self::Archive(_) => self.blob(entry).await,
        }
    }

    pub(super) async fn blob(&self, entry: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if entry.size > MAX_DOCUMENT {
            let reason = format!("{} bytes; at most {MAX_DOCUMENT}", entry.size);
            return Err(ImageError::manifest(entry.digest.to_string(), reason));
        }
        match self {
            Self::Registry(repository) => repository.blob(&entry.digest).await,
            Self::Archive(archive) => {
                let (archive, name) = (Arc::clone(archive), blob_path(&entry.digest));
                let bytes =
                    blocking::run("read a document", move || archive.required(&name)).await??;
                verify(&format!("blob {}", entry.digest), &bytes, &entry.digest)?;
                Ok(bytes)
            }
        }
    }
}

/// Where an OCI layout keeps a blob.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A layer to fetch.
#[derive(Clone, Debug)]
pub(super) struct PlannedLayer {
    /// The file in an archive; a registry goes by the digest.
    pub(super) path: String,
    pub(super) expected: Expected,
}

/// Everything about an image but its layers' content.
#[derive(Debug)]
pub(super) struct Plan {
    /// What progress events call it.
    pub(super) name: String,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) spec: super::info::ImageSpec,
    /// Lowest first.
    pub(super) layers: Vec<PlannedLayer>,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    /// Whether it brings back what an image that is here lost.
    pub(super) mends: bool,
}

/// Follows a document through indexes to this machine's manifest, and fetches its config.
pub(super) async fn plan(
    source: &Source,
    name: &str,
    document: Vec<u8>,
) -> Result<Plan, ImageError> {
    let (bytes, manifest) = follow(source, name, document).await?;
    let config = source.blob(&manifest.config).await?;
    planned(name, bytes, &manifest, config)
}

/// Follows a document through indexes to this machine's manifest.
pub(super) async fn follow(
    source: &Source,
    name: &str,
    document: Vec<u8>,
) -> Result<(Vec<u8>, Manifest), ImageError> {
    let host = Platform::host();
    let mut bytes = document;
    let mut depth = 0;
    loop {
        match parse_document(name, &bytes)? {
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
            Document::Index(_) if depth == MAX_INDEX_DEPTH => {
                return Err(ImageError::manifest(name, "indexes point to indexes without an end"));
            }
            Document::Index(entries) => {
                bytes = source.manifest(choose(name, &entries, &host)?).await?;
                depth += 1;
            }
        }
    }
}

/// What is to be fetched for a manifest and its config.
pub(super) fn planned(
    name: &str,
    bytes: Vec<u8>,
    manifest: &Manifest,
    config: Vec<u8>,
) -> Result<Plan, ImageError> {
    let parsed = parse_config(name, &config, manifest.layers.len(), &Platform::host())?;
    let layers = manifest.layers.iter().zip(parsed.diff_ids).map(|(layer, diff_id)| PlannedLayer {
        path: blob_path(&layer.digest),
        expected: Expected {
            name: layer.digest.to_string(),
            digest: Some(layer.digest.clone()),
            size: layer.size,
            diff_id,
        },
    });
    Ok(Plan {
        name: name.to_owned(),
        layers: layers.collect(),
        config,
        manifest: Some(bytes),
        spec: parsed.spec,
        tags: Vec::new(),
        digests: Vec::new(),
        mends: false,
    })
}

/// Turns plans into images.
#[derive(Debug)]
pub(super) struct Assembler {
    store: Arc<Store>,
    config: ImageConfig,
    /// By chain id: who works on that layer. Chains are ordered, so waiting cannot go in circles.
    busy: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// A layer that is ready to be committed, or is so already.
enum Fetched {
    Present(Arc<Layer>),
    Unpacked(Box<Ready>),
}

struct Ready {
    part: Part,
    unpacked: Unpacked,
    kept: Option<Ingest>,
    expected: Expected,
    chain_id: Digest,
    progress: LayerProgress,
    /// Held until the layer is committed.
    turn: OwnedMutexGuard<()>,
}

impl Assembler {
    /// The signature policy.
    pub(super) fn policy(&self) -> Option<&std::path::Path> {
        self.config.policy.as_deref()
    }

    pub(super) fn new(store: Arc<Store>, config: ImageConfig) -> Self {
        Self { store, config, busy: Mutex::new(HashMap::new()) }
    }

    /// Makes the image of a plan visible. When it fails for good nothing of it is left. Dropped
    /// half-way, or without an answer of its source, layers that were committed by then stay until
    /// the next collection: it may go on.
    pub(super) async fn assemble(
        &self,
        source: &Source,
        plan: Plan,
        listeners: &Listeners,
    ) -> Result<ImageInfo, ImageError> {
        let assembled = self.assemble_all(source, plan, listeners).await;
        let store = Arc::clone(&self.store);
        let failed = assembled.as_ref().is_err_and(|error| error.kind() != ErrorKind::Unavailable);
        blocking::run("collect layers", move || {
            if failed {
                store.collect();
            }
            heap::trim();
        })
        .await?;
        assembled
    }

    async fn assemble_all(
        &self,
        source: &Source,
        plan: Plan,
        listeners: &Listeners,
    ) -> Result<ImageInfo, ImageError> {
        let mut chain: Option<Digest> = None;
        let mut jobs = Vec::new();
        for layer in &plan.layers {
            let expected = &layer.expected;
            let chain_id = expected.diff_id.chain(chain.as_ref());
            chain = Some(chain_id.clone());
            let progress = LayerProgress::new(listeners, &plan.name, &expected.name, expected.size);
            progress.tell(Phase::Waiting, 0);
            jobs.push(self.fetch(source, layer, chain_id, progress));
        }
        let mut ready = futures::stream::iter(jobs).buffered(self.config.parallel_layers.max(1));
        let mut layers: Vec<Arc<Layer>> = Vec::new();
        let mut kept = Vec::new();
        while let Some(fetched) = ready.next().await {
            let layer = match fetched? {
                Fetched::Present(layer) => layer,
                Fetched::Unpacked(ready) => self.commit(*ready, &layers, &mut kept).await?,
            };
            layers.push(layer);
        }
        drop(ready);
        let new = NewImage {
            config: plan.config,
            manifest: plan.manifest,
            spec: plan.spec,
            layers,
            kept,
            tags: plan.tags,
            digests: plan.digests,
            pulled: matches!(source, Source::Registry(_)),
            mends: plan.mends,
        };
        let store = Arc::clone(&self.store);
        let info = blocking::run("write an image record", move || store.commit(new)).await??;
        listeners.image(&plan.name, Phase::Complete);
        Ok(info)
    }

    async fn commit(
        &self,
        ready: Ready,
        below: &[Arc<Layer>],
        kept: &mut Vec<(Digest, Ingest)>,
    ) -> Result<Arc<Layer>, ImageError> {
        let Ready { part, unpacked, kept: blob, expected, chain_id, progress, turn } = ready;
        let (store, below) = (Arc::clone(&self.store), below.to_vec());
        let layer = blocking::run("commit a layer", move || {
            store.layers.commit(part, unpacked, &below, &chain_id)
        })
        .await??;
        drop(turn);
        if let (Some(blob), Some(digest)) = (blob, expected.digest) {
            kept.push((digest, blob));
        }
        progress.end(Phase::Done);
        Ok(layer)
    }

    async fn fetch(
        &self,
        source: &Source,
        layer: &PlannedLayer,
        chain_id: Digest,
        progress: LayerProgress,
    ) -> Result<Fetched, ImageError> {
        let turn = self.turn(&chain_id).await;
        let expected = layer.expected.clone();
        if let Some(layer) = self.store.layers.find(&expected.diff_id, &chain_id) {
            progress.end(Phase::Present);
            return Ok(Fetched::Present(layer));
        }
        progress.tell(Phase::Unpacking, 0);
        let cancelled = Cancelled::default();
        let _guard: CancelOnDrop = cancelled.on_drop();
        let work = Work {
            store: Arc::clone(&self.store),
            expected: expected.clone(),
            limits: Limits {
                bytes: self.config.max_layer_bytes,
                entries: self.config.max_layer_entries,
            },
            keep: self.config.keep_blobs && expected.digest.is_some(),
            progress: progress.clone(),
            cancelled,
        };
        let (part, unpacked, kept) = match source {
            Source::Archive(archive) => {
                let (archive, path) = (Arc::clone(archive), layer.path.clone());
                blocking::run("unpack a layer", move || {
                    let (reader, _) = archive.file(&path)?.ok_or_else(|| {
                        ImageError::manifest(archive.name(), format!("{path} is missing"))
                    })?;
                    work.run(reader)
                })
                .await??
            }
            Source::Registry(repository) => from_registry(repository, work).await?,
        };
        let ready = Ready { part, unpacked, kept, expected, chain_id, progress, turn };
        Ok(Fetched::Unpacked(Box::new(ready)))
    }

    /// Waits until nobody else works on this layer.
    async fn turn(&self, chain_id: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| lock.strong_count() > 0);
            let known = busy.get(chain_id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                busy.insert(chain_id.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

/// Fetches and unpacks a layer; one that is damaged is asked of the hosts that have not sent it yet.
async fn from_registry(repository: &Repository, work: Work) -> Result<Intaken, ImageError> {
    let expected = &work.expected;
    let digest = expected
        .digest
        .as_ref()
        .ok_or_else(|| ImageError::manifest(expected.name.clone(), "a layer without a digest"))?;
    let mut senders = Senders::default();
    loop {
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS);
        let reader = ChannelReader { receiver, chunk: Bytes::new() };
        let pump = repository.pump(digest, expected.size, sender, &mut senders);
        let this = work.clone();
        let unpack = blocking::run("unpack a layer", move || this.run(reader));
        let (pumped, unpacked) = tokio::join!(pump, unpack);
        // The stream's failure is the cause of the archive's.
        pumped?;
        match unpacked? {
            Err(ImageError::Mismatch { subject, expected, found }) => {
                let from = repository.names(&senders);
                if repository.has_others(&mut senders) {
                    tracing::warn!(layer = %digest, from, "damaged layer; asking another host");
                    continue;
                }
                let subject = format!("{subject} from {from}");
                return Err(ImageError::Mismatch { subject, expected, found });
            }
            done => return done,
        }
    }
}

/// A layer's folder, what is in it, and its blob if that is kept.
type Intaken = (Part, Unpacked, Option<Ingest>);

/// What a blocking thread needs to unpack a layer.
#[derive(Clone)]
struct Work {
    store: Arc<Store>,
    expected: Expected,
    limits: Limits,
    keep: bool,
    progress: LayerProgress,
    cancelled: Cancelled,
}

impl Work {
    fn run(self, reader: impl Read) -> Result<Intaken, ImageError> {
        let part = self.store.layers.begin()?;
        let tree = Tree::open(&part.root()).map_err(|source| ImageError::Unpack {
            layer: self.expected.name.clone(),
            source: UnpackError::Entry { operation: "open", entry: String::new(), source },
        })?;
        let recorder = part.recorder()?;
        let keep = if self.keep { Some(self.store.content.begin()?) } else { None };
        let intake = Intake::new(reader, self.expected.size, keep, self.progress, self.cancelled);
        let (unpacked, kept) = take_in(intake, &self.expected, &tree, self.limits, recorder)?;
        Ok((part, unpacked, kept))
    }
}

/// Chunks from the network, read on a blocking thread.
struct ChannelReader {
    receiver: tokio::sync::mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len());
        if let Some(target) = buffer.get_mut(..n) {
            self.chunk.copy_to_slice(target);
        }
        Ok(n)
    }
}
