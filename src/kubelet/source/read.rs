//! Texts of a source to what they mean.
//!
//! A text with anything wrong in it is skipped as a whole, and its last good content stays in force, be it of the last
//! run of the daemon; that is forgotten when the text goes. Of two pods or objects of the same name in one source the one of the first origin counts.

use super::update::{FileStatus, Source, SourcePod, Update};
use crate::error::chain;
use crate::kubelet::api::{
    Decoded, Object, decode, default_pod, name_after_node, static_identity, validate_object,
    validate_pod,
};
use crate::kubelet::objects::{DEFAULT_NAMESPACE, Objects};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Problems of a text that are told.
const MOST_PROBLEMS: usize = 50;

/// What was found at an origin.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Why there are none. What is known of it stays in force.
    Unreadable(&'a str),
}

/// What the texts of one source mean.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    node_name: String,
    known: BTreeMap<String, Known>,
}

/// What is known of an origin.
#[derive(Debug, Default)]
struct Known {
    /// Of the bytes that were read last.
    digest: Option<[u8; 32]>,
    problems: Vec<String>,
    warnings: Vec<String>,
    /// Of the last good content.
    pods: Vec<Arc<Pod>>,
    objects: Vec<Object>,
}

impl Reader {
    /// Nothing was read yet.
    pub fn new(source: Source, node_name: &str) -> Self {
        Self { source, node_name: node_name.to_owned(), known: BTreeMap::new() }
    }

    /// The same, with the pods that were of each origin in the last run: its last good content until there is another.
    #[must_use]
    pub fn with_last(mut self, pods: Vec<SourcePod>) -> Self {
        for SourcePod { pod, origin } in pods {
            self.known.entry(origin).or_default().pods.push(pod);
        }
        self
    }

    /// Whether there is anything that could be lost.
    pub fn has_pods(&self) -> bool {
        self.known.values().any(|known| !known.pods.is_empty())
    }

    /// Takes what was found at an origin. The same bytes again cost no more than their digest.
    pub fn read(&mut self, origin: &str, text: Text<'_>) {
        let bytes = match text {
            Text::Bytes(bytes) => bytes,
            Text::Unreadable(why) => {
                let known = self.known.entry(origin.to_owned()).or_default();
                // The same bytes are news after it.
                known.digest = None;
                known.problems = vec![why.to_owned()];
                return;
            }
        };
        let digest = Sha256::digest(bytes).into();
        if self.known.get(origin).is_some_and(|known| known.digest == Some(digest)) {
            return;
        }
        let meant = self.meaning(origin, bytes);
        let known = self.known.entry(origin.to_owned()).or_default();
        known.digest = Some(digest);
        match meant {
            Ok(meant) => *known = Known { digest: Some(digest), ..meant },
            Err(mut problems) => {
                let more = problems.len().saturating_sub(MOST_PROBLEMS);
                problems.truncate(MOST_PROBLEMS);
                problems.extend((more > 0).then(|| format!("and {more} more")));
                known.problems = problems;
            }
        }
    }

    /// Forgets the origins that are not among these: they are gone.
    pub fn keep(&mut self, origins: &BTreeSet<String>) {
        self.known.retain(|origin, _| origins.contains(origin));
    }

    /// What is in force.
    pub fn assemble(&self) -> Update {
        let mut update = Update {
            source: self.source,
            pods: Vec::new(),
            objects: Objects::default(),
            files: BTreeMap::new(),
        };
        let mut taken = Taken::default();
        for (origin, known) in &self.known {
            let mut status = FileStatus {
                problems: known.problems.clone(),
                warnings: known.warnings.clone(),
                pods: Vec::new(),
            };
            for pod in &known.pods {
                match taken.pod(&pod.metadata, origin) {
                    Ok(()) => {
                        status.pods.push(full_name(&pod.metadata));
                        let (pod, origin) = (Arc::clone(pod), origin.clone());
                        update.pods.push(SourcePod { pod, origin });
                    }
                    Err(problem) => status.problems.push(problem),
                }
            }
            for object in &known.objects {
                match taken.object(object, origin) {
                    Ok(()) => put(&mut update.objects, object),
                    Err(problem) => status.problems.push(problem),
                }
            }
            update.files.insert(origin.clone(), status);
        }
        update
    }

    /// # Errors
    /// Everything that is wrong in the text.
    fn meaning(&self, origin: &str, bytes: &[u8]) -> Result<Known, Vec<String>> {
        let Decoded { objects, warnings } = decode(bytes).map_err(|error| vec![chain(&error)])?;
        let mut meant = Known { warnings, ..Known::default() };
        let mut problems = Vec::new();
        for object in objects {
            let (what, errors) = match object {
                Object::Pod(mut pod) => {
                    let what = format!("pod {}", full_name(&pod.metadata));
                    static_identity(&mut pod, &self.node_name, self.source.name(), origin);
                    // What is applied is of this node alone, and keeps the name that its user gave it.
                    if self.source != Source::Local {
                        name_after_node(&mut pod, &self.node_name);
                    }
                    default_pod(&mut pod);
                    let errors = validate_pod(&pod);
                    meant.pods.push(Arc::new(*pod));
                    (what, errors)
                }
                other => {
                    let errors = validate_object(&other);
                    let what = format!("{} {}", kind(&other), full_name(metadata(&other)));
                    meant.objects.push(other);
                    (what, errors)
                }
            };
            problems.extend(errors.iter().map(|error| format!("{what}: {error}")));
        }
        if problems.is_empty() { Ok(meant) } else { Err(problems) }
    }
}

fn full_name(metadata: &ObjectMeta) -> String {
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let name = metadata.name.as_deref().unwrap_or_default();
    format!("{}/{name}", namespace.unwrap_or(DEFAULT_NAMESPACE))
}

fn kind(object: &Object) -> &'static str {
    match object {
        Object::Pod(_) => "pod",
        Object::ConfigMap(_) => "ConfigMap",
        Object::Secret(_) => "Secret",
        Object::Service(_) => "Service",
    }
}

fn metadata(object: &Object) -> &ObjectMeta {
    match object {
        Object::Pod(pod) => &pod.metadata,
        Object::ConfigMap(map) => &map.metadata,
        Object::Secret(secret) => &secret.metadata,
        Object::Service(service) => &service.metadata,
    }
}

fn put(objects: &mut Objects, object: &Object) {
    match object {
        Object::Pod(_) => {}
        Object::ConfigMap(map) => objects.put_config_map((**map).clone()),
        Object::Secret(secret) => objects.put_secret((**secret).clone()),
        Object::Service(service) => objects.put_service((**service).clone()),
    }
}

/// The names and UIDs that are taken, and by whom.
#[derive(Default)]
struct Taken(BTreeMap<String, String>);

impl Taken {
    fn pod(&mut self, metadata: &ObjectMeta, origin: &str) -> Result<(), String> {
        let name = format!("pod {}", full_name(metadata));
        let uid = format!("UID {}", metadata.uid.as_deref().unwrap_or_default());
        if let Some(owner) = self.0.get(&uid).filter(|_| !self.0.contains_key(&name)) {
            return Err(format!(
                "{name} in {origin} is left out: its {uid} is that of a pod in {owner}"
            ));
        }
        self.take(name, origin)?;
        self.0.insert(uid, origin.to_owned());
        Ok(())
    }

    fn object(&mut self, object: &Object, origin: &str) -> Result<(), String> {
        self.take(format!("{} {}", kind(object), full_name(metadata(object))), origin)
    }

    fn take(&mut self, name: String, origin: &str) -> Result<(), String> {
        if let Some(owner) = self.0.get(&name) {
            return Err(format!("{name} in {origin} is left out: {owner} has one of that name"));
        }
        self.0.insert(name, origin.to_owned());
        Ok(())
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
