//! Pods and objects that are given over the control socket, and kept until they are taken back.
//!
//! What is applied is checked as a whole first; nothing of it counts when anything in it is wrong.

use super::local_files::{LocalFiles, text};
use super::read::{Reader, Text};
use super::update::{FileStatus, Source, Update};
use crate::blocking::{self, BlockingError};
use crate::error::{ErrorKind, chain};
use crate::kubelet::api::{Decoded, Object, decode};
use crate::kubelet::objects::DEFAULT_NAMESPACE;
use crate::store::StoreError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};

/// What can be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A Service.
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Service => "Service",
        })
    }
}

/// Why something was not applied or deleted.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The folder cannot be used.
    #[error("use {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is wrong in what is to be applied.
    #[error("{origin} is not as it must be: {}", problems.join("; "))]
    Invalid {
        /// The object.
        origin: String,
        /// All that is wrong in it.
        problems: Vec<String>,
    },
    /// There is no such object.
    #[error("{kind} {namespace}/{name} was not applied here")]
    NotFound {
        /// What it would be.
        kind: Kind,
        /// Where it would be.
        namespace: String,
        /// As it was asked for.
        name: String,
    },
    /// There is one of its name already.
    #[error("{origin} exists already")]
    Exists {
        /// The object.
        origin: String,
    },
    /// It could not be kept or removed.
    #[error("keep or remove {origin}")]
    Store {
        /// The object.
        origin: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An object could not be written as JSON.
    #[error("write {origin} as JSON")]
    Encode {
        /// The object.
        origin: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The work was cut off.
    #[error("keep what is applied")]
    Blocking(#[source] BlockingError),
}

impl LocalError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Folder { source, .. } => crate::error::Kinded::kind(source),
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Store { source, .. } => source.kind(),
            Self::Encode { .. } => ErrorKind::Internal,
            Self::Blocking(source) => source.kind(),
        }
    }
}

/// What becomes of an object that was applied before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replaced,
    /// It stays, and nothing is applied.
    Stays,
}

/// What applying an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none of its name.
    Created,
    /// It was another.
    Configured,
    /// It was there as it is.
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// An object that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its kind, namespace and name: `pod default/web`.
    pub origin: String,
    /// What became of it: the name of its pod, and problems with what other sources or objects have.
    pub status: FileStatus,
    /// What applying it did.
    pub outcome: Outcome,
    /// The uid of a pod.
    pub uid: Option<String>,
}

/// What was applied. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalPods {
    state: Arc<Mutex<State>>,
    updates: mpsc::Sender<Update>,
}

#[derive(Debug)]
struct State {
    files: LocalFiles,
    node_name: String,
    /// Texts by origin.
    texts: BTreeMap<String, Vec<u8>>,
    /// Files that hold no object, and why.
    broken: BTreeMap<String, String>,
    last: Option<Update>,
}

impl LocalPods {
    /// What was applied before, from the folder (`<state>/kubelet/local`); tells it at once.
    ///
    /// # Errors
    /// [`LocalError::Folder`], [`LocalError::Blocking`].
    pub async fn open(
        dir: &Path,
        node_name: &str,
        updates: mpsc::Sender<Update>,
    ) -> Result<Self, LocalError> {
        let (dir, node_name) = (dir.to_owned(), node_name.to_owned());
        let state = blocking::run("load what was applied", move || State::load(&dir, node_name));
        let state = state.await.map_err(LocalError::Blocking)??;
        let made = Self { state: Arc::new(Mutex::new(state)), updates };
        made.tell(&mut *made.state.lock().await).await;
        Ok(made)
    }

    /// Adds objects, or replaces those that `existing` lets go, all of them or none. A pod that is replaced by
    /// another one ends first.
    ///
    /// # Errors
    /// [`LocalError::Invalid`] with the first object that is wrong; [`LocalError::Exists`], [`LocalError::Store`].
    pub async fn apply(
        &self,
        decoded: Decoded,
        existing: Existing,
    ) -> Result<Vec<Stored>, LocalError> {
        let mut state = self.state.lock().await;
        let mut new = BTreeMap::new();
        for object in &decoded.objects {
            let origin = origin(object);
            if existing == Existing::Stays && state.texts.contains_key(&origin) {
                return Err(LocalError::Exists { origin });
            }
            let text = text(object)
                .map_err(|source| LocalError::Encode { origin: origin.clone(), source })?;
            new.insert(origin, text);
        }
        let update = state.reader(&new).assemble();
        // One that was sound until now may have lost its name or UID to a new one.
        let known = state.last.as_ref().map(|last| &last.files);
        let was_bad = |origin| known.and_then(|files| files.get(origin)).is_some_and(is_bad);
        let mut bad = update.files.iter().filter(|(_, status)| is_bad(status));
        let bad = bad.find(|(origin, _)| new.contains_key(*origin) || !was_bad(*origin));
        if let Some((origin, status)) = bad {
            let (origin, problems) = (origin.clone(), status.problems.clone());
            return Err(LocalError::Invalid { origin, problems });
        }
        let (files, kept, before) = (state.files.clone(), new.clone(), state.texts.clone());
        let kept = blocking::run("keep what is applied", move || keep(&files, &kept, &before));
        kept.await.map_err(LocalError::Blocking)??;
        let stored = new.iter().map(|(origin, text)| Stored {
            uid: uid_of(&update, origin).map(str::to_owned),
            origin: origin.clone(),
            status: update.files.get(origin).cloned().unwrap_or_default(),
            outcome: match state.texts.get(origin) {
                None => Outcome::Created,
                Some(known) if known == text => Outcome::Unchanged,
                Some(_) => Outcome::Configured,
            },
        });
        let stored = stored.collect();
        state.texts.extend(new);
        self.tell(&mut state).await;
        Ok(stored)
    }

    /// Takes an object back; of pods only that of a `uid`, if one is given.
    ///
    /// # Errors
    /// [`LocalError::NotFound`], [`LocalError::Store`].
    pub async fn delete(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        uid: Option<&str>,
    ) -> Result<(), LocalError> {
        let mut state = self.state.lock().await;
        let origin = format!("{kind} {namespace}/{name}");
        let last = state.last.as_ref();
        let other = |uid| last.and_then(|last| uid_of(last, &origin)) != Some(uid);
        if !state.texts.contains_key(&origin) || kind == Kind::Pod && uid.is_some_and(other) {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            return Err(LocalError::NotFound { kind, namespace, name });
        }
        let (files, of) = (state.files.clone(), origin.clone());
        let removed = blocking::run("remove what was applied", move || files.remove(&of));
        let removed = removed.await.map_err(LocalError::Blocking)?;
        removed.map_err(|source| LocalError::Store { origin: origin.clone(), source })?;
        state.texts.remove(&origin);
        self.tell(&mut state).await;
        Ok(())
    }

    /// Tells what there is, if that is news. Under the lock, so that updates come in order.
    async fn tell(&self, state: &mut State) {
        let update = state.reader(&BTreeMap::new()).assemble();
        if state.last.as_ref() != Some(&update) {
            // Nobody listens when the daemon is about to end. Known as told only then: who asked may go while it waits.
            self.updates.send(update.clone()).await.ok();
            state.last = Some(update);
        }
    }
}

impl State {
    fn load(dir: &Path, node_name: String) -> Result<Self, LocalError> {
        let folder = |source| LocalError::Folder { path: dir.to_owned(), source };
        let files = LocalFiles::open(dir).map_err(folder)?;
        let (mut texts, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (path, text) in files.load().map_err(folder)? {
            let object = text.and_then(|text| {
                let decoded = decode(&text).map_err(|error| chain(&error))?;
                let object = decoded.objects.first().ok_or("no object in it")?;
                Ok((origin(object), text))
            });
            match object {
                Ok((origin, text)) => {
                    texts.insert(origin, text);
                }
                Err(why) => {
                    broken.insert(path.display().to_string(), why);
                }
            }
        }
        Ok(Self { files, node_name, texts, broken, last: None })
    }

    /// What there is, with `new` in place of what is replaced.
    fn reader(&self, new: &BTreeMap<String, Vec<u8>>) -> Reader {
        let mut reader = Reader::new(Source::Local, &self.node_name);
        let origins: BTreeSet<&String> = self.texts.keys().chain(new.keys()).collect();
        for origin in origins {
            if let Some(text) = new.get(origin).or_else(|| self.texts.get(origin)) {
                reader.read(origin, Text::Bytes(text));
            }
        }
        for (path, why) in &self.broken {
            reader.read(path, Text::Unreadable(why));
        }
        reader
    }
}

/// Writes all texts, or leaves those of before.
fn keep(
    files: &LocalFiles,
    new: &BTreeMap<String, Vec<u8>>,
    before: &BTreeMap<String, Vec<u8>>,
) -> Result<(), LocalError> {
    let mut written = Vec::new();
    for (origin, text) in new {
        if let Err(source) = files.put(origin, text) {
            // What fails now is found by the next start as it is: there is nothing else to do about it.
            for origin in written {
                match before.get(origin) {
                    Some(text) => files.put(origin, text).ok(),
                    None => files.remove(origin).ok(),
                };
            }
            return Err(LocalError::Store { origin: origin.clone(), source });
        }
        written.push(origin);
    }
    Ok(())
}

/// The uid of the pod of an origin.
fn uid_of<'a>(update: &'a Update, origin: &str) -> Option<&'a str> {
    let pod = update.pods.iter().find(|pod| pod.origin == origin)?;
    pod.pod.metadata.uid.as_deref()
}

fn is_bad(status: &FileStatus) -> bool {
    !status.problems.is_empty()
}

/// Under which name an object is known: `pod default/web`.
fn origin(object: &Object) -> String {
    let (kind, metadata): (Kind, &ObjectMeta) = match object {
        Object::Pod(pod) => (Kind::Pod, &pod.metadata),
        Object::ConfigMap(map) => (Kind::ConfigMap, &map.metadata),
        Object::Secret(secret) => (Kind::Secret, &secret.metadata),
        Object::Service(service) => (Kind::Service, &service.metadata),
    };
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let name = metadata.name.as_deref().unwrap_or_default();
    format!("{kind} {}/{name}", namespace.unwrap_or(DEFAULT_NAMESPACE))
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
