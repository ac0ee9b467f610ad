//! What a source tells.

use crate::kubelet::objects::Objects;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a pod comes from. The order is that of importance: of two pods of the same name the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A directory of manifests.
    File,
    /// A URL.
    Http,
    /// The control socket.
    Local,
}

impl Source {
    /// As in the annotation of a pod.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A pod with its identity and its defaults, in which nothing is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePod {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The file, the URL, or the name under which it was applied.
    pub origin: String,
}

/// What became of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Why it, or a part of it, was not taken. Then the pods are those of its last good content.
    pub problems: Vec<String>,
    /// What in it has no meaning.
    pub warnings: Vec<String>,
    /// Its pods, `namespace/name`.
    pub pods: Vec<String>,
}

/// Everything that a source has.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Whose it is.
    pub source: Source,
    /// The pods, in the order of their origins; no two have the same name or UID.
    pub pods: Vec<SourcePod>,
    /// The ConfigMaps, Secrets and Services.
    pub objects: Objects,
    /// Each text by its origin, and what else there is to tell: a directory that cannot be read is one, too.
    pub files: BTreeMap<String, FileStatus>,
}
