//! Bytes to objects: YAML of one or more documents, or JSON; each document one object or a list of them.
//!
//! Field errors name the path of the field. A field that nobody knows, and one that is there twice, are warnings: an API
//! server drops them and says so.

use super::tree::Tree;
use crate::error::ErrorKind;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use serde::Deserialize as _;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use std::fmt;

/// More warnings than these are counted only.
const MOST_WARNINGS: usize = 100;
/// What this node reads.
const KINDS: [&str; 4] = ["Pod", "ConfigMap", "Secret", "Service"];

/// An object that pods are made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A pod, without its status.
    Pod(Box<Pod>),
    /// A ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// A Secret, its `stringData` within its `data`.
    Secret(Box<Secret>),
    /// A Service.
    Service(Box<Service>),
}

/// What a text says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The objects, in the order of the text.
    pub objects: Vec<Object>,
    /// Fields that are unknown or there twice, each with its path.
    pub warnings: Vec<String>,
}

/// Where in a text an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Counted from 1; none where there is one document only.
    document: Option<usize>,
    /// Within a list.
    item: Option<usize>,
}

impl At {
    /// The path of a field, from the top of its document.
    fn path(&self, field: &str) -> String {
        match self.item {
            Some(item) if field.is_empty() || field == "." => format!("items[{item}]"),
            Some(item) => format!("items[{item}].{field}"),
            None => field.to_owned(),
        }
    }
}

/// `document 2: `, or nothing.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.document.map_or(Ok(()), |document| write!(f, "document {document}: "))
    }
}

/// A text that gives no objects.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is no YAML.
    #[error("{at}not YAML")]
    Yaml {
        /// Where.
        at: At,
        /// Line and column.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// It begins as JSON and is none.
    #[error("{at}not JSON")]
    Json {
        /// Where.
        at: At,
        /// Line and column.
        #[source]
        source: serde_json::Error,
    },
    /// There is no object in it: an editor may have begun to write it.
    #[error("no object in it")]
    Empty,
    /// An object that this node does not read.
    #[error(
        "{at}{}apiVersion {api_version:?}, kind {kind:?} is not read here: v1 {}, and lists of them are",
        prefix(at), KINDS.join(", ")
    )]
    Kind {
        /// Where.
        at: At,
        /// As it is written; empty when it is not.
        api_version: String,
        /// As it is written; empty when it is not.
        kind: String,
    },
    /// A field of the wrong type.
    #[error("{at}{path}")]
    Field {
        /// Where.
        at: At,
        /// Of the field, from the top of the document.
        path: String,
        /// What it should be.
        #[source]
        source: serde_json::Error,
    },
}

fn prefix(at: &At) -> String {
    at.item.map(|item| format!("items[{item}]: ")).unwrap_or_default()
}

impl DecodeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Reads a text. How long it may be is the caller's matter.
///
/// # Errors
/// [`DecodeError`] for the first thing that is wrong; then nothing of the text is taken.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if is_blank(bytes) {
        return Err(DecodeError::Empty);
    }
    let trees = match bytes.trim_ascii_start().first() {
        Some(b'{') => json_documents(bytes)?,
        _ => yaml_documents(bytes)?,
    };
    let several = trees.len() > 1;
    let mut reader = Reader::default();
    for (index, tree) in trees.into_iter().enumerate() {
        let at = At { document: several.then_some(index + 1), item: None };
        reader.document(&at, tree)?;
    }
    if reader.decoded.objects.is_empty() && !reader.lists {
        return Err(DecodeError::Empty);
    }
    Ok(reader.finish())
}

/// The documents of a text, whatever they are about, each with the paths of the keys that it has twice.
///
/// # Errors
/// It is neither YAML nor JSON.
pub(crate) fn documents(bytes: &[u8]) -> Result<Vec<(Value, Vec<String>)>, DecodeError> {
    let trees = match bytes.trim_ascii_start().first() {
        _ if is_blank(bytes) => return Err(DecodeError::Empty),
        Some(b'{') => json_documents(bytes)?,
        _ => yaml_documents(bytes)?,
    };
    Ok(trees.into_iter().map(|tree| (tree.value, tree.repeated)).collect())
}

/// Whether there is nothing but comments and marks of documents. To the parser of YAML the end of a text is an error.
fn is_blank(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| matches!(line, [] | [b'#', ..] | b"---" | b"..."))
}

/// Documents without content are left out, as between two `---`.
fn yaml_documents(bytes: &[u8]) -> Result<Vec<Tree>, DecodeError> {
    let mut trees = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_slice(bytes).enumerate() {
        let tree = Tree::deserialize(document).map_err(|source| {
            // The first of them may be the only one.
            let document = (index > 0).then_some(index + 1);
            DecodeError::Yaml { at: At { document, item: None }, source }
        })?;
        if !tree.value.is_null() {
            trees.push(tree);
        }
    }
    Ok(trees)
}

fn json_documents(bytes: &[u8]) -> Result<Vec<Tree>, DecodeError> {
    let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Tree>();
    let documents: Result<Vec<Tree>, serde_json::Error> = documents.collect();
    documents.map_err(|source| DecodeError::Json { at: At::default(), source })
}

#[derive(Default)]
struct Reader {
    decoded: Decoded,
    /// Warnings beyond the limit.
    more: usize,
    /// Whether there was a list, which may be empty.
    lists: bool,
}

impl Reader {
    fn document(&mut self, at: &At, tree: Tree) -> Result<(), DecodeError> {
        for path in tree.repeated {
            self.warn(format!("{at}field {path:?} is there twice; the last one counts"));
        }
        let (api_version, kind) = type_of(&tree.value);
        let unread = |api_version, kind| DecodeError::Kind { at: at.clone(), api_version, kind };
        let item_kind = kind.strip_suffix("List").unwrap_or_default();
        if api_version != "v1" || !item_kind.is_empty() && !KINDS.contains(&item_kind) {
            return Err(unread(api_version, kind));
        }
        match (kind.as_str(), item_kind) {
            ("List", _) => self.list(at, tree.value, None),
            (_, "") => self.object(at, &kind, tree.value),
            (_, item_kind) => self.list(at, tree.value, Some(item_kind)),
        }
    }

    fn list(&mut self, at: &At, list: Value, of: Option<&str>) -> Result<(), DecodeError> {
        self.lists = true;
        let items = match list {
            Value::Object(mut list) => list.remove("items").unwrap_or(Value::Null),
            _ => Value::Null,
        };
        let items = match items {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            _ => {
                let source = serde_json::Error::custom("must be a list");
                return Err(DecodeError::Field { at: at.clone(), path: "items".into(), source });
            }
        };
        for (index, item) in items.into_iter().enumerate() {
            let at = At { item: Some(index), ..at.clone() };
            // Items of a typed list need not name what they are.
            let (api_version, kind) = match (type_of(&item), of) {
                ((version, kind), Some(of)) if version.is_empty() && kind.is_empty() => {
                    ("v1".to_owned(), of.to_owned())
                }
                (own, _) => own,
            };
            if api_version != "v1" || of.is_some_and(|of| of != kind) {
                return Err(DecodeError::Kind { at, api_version, kind });
            }
            self.object(&at, &kind, item)?;
        }
        Ok(())
    }

    fn object(&mut self, at: &At, kind: &str, mut value: Value) -> Result<(), DecodeError> {
        if let Value::Object(fields) = &mut value {
            // It is of a pod that ran elsewhere.
            fields.remove("status");
        }
        let object = match kind {
            "Pod" => Object::Pod(self.typed(at, value)?),
            "ConfigMap" => Object::ConfigMap(self.typed(at, value)?),
            "Secret" => Object::Secret(with_strings(self.typed(at, value)?)),
            "Service" => Object::Service(self.typed(at, value)?),
            _ => {
                let (api_version, kind) = type_of(&value);
                return Err(DecodeError::Kind { at: at.clone(), api_version, kind });
            }
        };
        self.decoded.objects.push(object);
        Ok(())
    }

    fn typed<T: DeserializeOwned>(&mut self, at: &At, mut value: Value) -> Result<T, DecodeError> {
        loop {
            let mut unknown = Vec::new();
            match attempt(&value, &mut unknown) {
                Ok(object) => {
                    for path in unknown {
                        self.warn(format!("{at}unknown field {:?}", at.path(&path)));
                    }
                    return Ok(object);
                }
                // Each turn makes one number of a text, so that there is an end.
                Err((path, _)) if as_octal(&mut value, &path) => {}
                Err((path, source)) => {
                    let path = at.path(&path.to_string());
                    return Err(DecodeError::Field { at: at.clone(), path, source });
                }
            }
        }
    }

    fn warn(&mut self, warning: String) {
        match self.decoded.warnings.len() < MOST_WARNINGS {
            true => self.decoded.warnings.push(warning),
            false => self.more += 1,
        }
    }

    fn finish(mut self) -> Decoded {
        if self.more > 0 {
            self.decoded.warnings.push(format!("and {} more", self.more));
        }
        self.decoded
    }
}

/// apiVersion and kind, empty where there is none.
fn type_of(value: &Value) -> (String, String) {
    let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("apiVersion"), text("kind"))
}

type Failed = (serde_path_to_error::Path, serde_json::Error);

fn attempt<T: DeserializeOwned>(value: &Value, unknown: &mut Vec<String>) -> Result<T, Failed> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(dotted(&path));
    let made = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    made.map_err(|error| (track.path(), error))
}

/// The path as users write it; serde_ignored's own names each `Option`, too.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => match dotted(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => dotted(parent),
    }
}

/// File modes are written as `0644`: a number in the YAML that Kubernetes reads, a text in YAML 1.2.
/// Whether a text in the place of a number was made one.
fn as_octal(value: &mut Value, path: &serde_path_to_error::Path) -> bool {
    use serde_path_to_error::Segment;
    let mut place = value;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => place.get_mut(*index),
            Segment::Map { key } => place.get_mut(key.as_str()),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(next) = next else { return false };
        place = next;
    }
    let Value::String(text) = &*place else { return false };
    let octal = text.strip_prefix('0').filter(|digits| !digits.is_empty());
    let Some(number) = octal.and_then(|digits| u32::from_str_radix(digits, 8).ok()) else {
        return false;
    };
    *place = number.into();
    true
}

/// `stringData` is for writing only; where both have a key it counts.
fn with_strings(mut secret: Box<Secret>) -> Box<Secret> {
    if let Some(strings) = secret.string_data.take() {
        let bytes = strings
            .into_iter()
            .map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
    secret
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
