//! The values that ConfigMaps and Secrets hold, as environments and volumes read them. Pure.

use crate::error::ErrorKind;
use crate::kubelet::objects::Objects;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::collections::BTreeMap;

/// What kind of object holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl Kind {
    /// As manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Whether what a pod names may be missing (`optional`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The pod does not start without it.
    Required,
    /// Then it is as if it had not been named.
    Optional,
}

impl Need {
    /// Of the API's field `optional`; required when it is not there.
    pub fn of(optional: Option<bool>) -> Self {
        if optional == Some(true) { Self::Optional } else { Self::Required }
    }
}

/// An object that a pod names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, which is the pod's.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A pod names what is not there, or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The object.
    #[error("{kind} {namespace}/{name} does not exist", kind = .kind.name())]
    Missing {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A key of the object.
    #[error("{kind} {namespace}/{name} has no key {key:?}", kind = .kind.name())]
    MissingKey {
        /// The object's kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A value that no variable can have.
    #[error("key {key:?} of {kind} {namespace}/{name} is not text: {reason}", kind = .kind.name())]
    NotText {
        /// The object's kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// What is wrong with the value.
        reason: &'static str,
    },
}

impl ValueError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::MissingKey { .. } => ErrorKind::NotFound,
            Self::NotText { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// The values of an object by key.
pub type Values<'a> = BTreeMap<&'a str, &'a [u8]>;

impl Named<'_> {
    /// Its values, those of `binaryData` and `stringData` among them; `None` when it is not there and need
    /// not be.
    ///
    /// # Errors
    /// [`ValueError::Missing`].
    pub fn values(self, objects: &Objects, need: Need) -> Result<Option<Values<'_>>, ValueError> {
        let found = match self.kind {
            Kind::ConfigMap => objects.config_map(self.namespace, self.name).map(|o| of_map(o)),
            Kind::Secret => objects.secret(self.namespace, self.name).map(|o| of_secret(o)),
        };
        match (found, need) {
            (None, Need::Required) => Err(self.missing()),
            (found, _) => Ok(found),
        }
    }

    /// The object is not there.
    pub fn missing(self) -> ValueError {
        let (namespace, name) = (self.namespace.to_owned(), self.name.to_owned());
        ValueError::Missing { kind: self.kind, namespace, name }
    }

    /// The object has no such key.
    pub fn missing_key(self, key: &str) -> ValueError {
        let (namespace, name) = (self.namespace.to_owned(), self.name.to_owned());
        ValueError::MissingKey { kind: self.kind, namespace, name, key: key.to_owned() }
    }

    /// A value as the text of a variable.
    ///
    /// # Errors
    /// [`ValueError::NotText`]: execve(2) takes no NUL, and the API of variables takes UTF-8.
    pub fn text(self, key: &str, value: &[u8]) -> Result<String, ValueError> {
        let refuse = |reason| ValueError::NotText {
            kind: self.kind,
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            key: key.to_owned(),
            reason,
        };
        match std::str::from_utf8(value) {
            Err(_) => Err(refuse("it is not UTF-8")),
            Ok(text) if text.contains('\0') => Err(refuse("it has a NUL byte")),
            Ok(text) => Ok(text.to_owned()),
        }
    }
}

/// A key in both is `data`'s: the API refuses such an object, a folder does not.
fn of_map(object: &ConfigMap) -> Values<'_> {
    let binary = object.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    let text = object.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    binary.chain(text).collect()
}

/// `stringData` wins, as when the API takes it over.
fn of_secret(object: &Secret) -> Values<'_> {
    let data = object.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    let text = object.string_data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    data.chain(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let map =
            json!({"metadata": {"name": "m"}, "data": {"a": "1"}, "binaryData": {"b": "AP8="}});
        objects.put_config_map(from_value(map).unwrap());
        let secret = json!({"metadata": {"name": "s", "namespace": "n"},
            "data": {"a": "b2xk", "b": "eA=="}, "stringData": {"a": "new"}});
        objects.put_secret(from_value(secret).unwrap());
        objects
    }

    fn named(kind: Kind, namespace: &'static str, name: &'static str) -> Named<'static> {
        Named { kind, namespace, name }
    }

    #[test]
    fn every_field_that_holds_values_counts() {
        let objects = objects();
        let map = named(Kind::ConfigMap, "default", "m");
        let map = map.values(&objects, Need::Required).unwrap().unwrap();
        assert_eq!(map, Values::from([("a", b"1".as_slice()), ("b", b"\0\xff")]));
        let secret = named(Kind::Secret, "n", "s");
        let secret = secret.values(&objects, Need::Required).unwrap().unwrap();
        assert_eq!(secret, Values::from([("a", b"new".as_slice()), ("b", b"x")]));
    }

    #[test]
    fn another_namespaces_object_is_missing() {
        let objects = objects();
        let secret = named(Kind::Secret, "default", "s");
        let error = secret.values(&objects, Need::Required).unwrap_err();
        assert_eq!(error.to_string(), "Secret default/s does not exist");
        assert_eq!(secret.values(&objects, Need::Optional), Ok(None));
    }

    #[test]
    fn a_variable_is_text_without_nul() {
        let map = named(Kind::ConfigMap, "n", "m");
        assert_eq!(map.text("k", "ä".as_bytes()), Ok("ä".to_owned()));
        let rows: [(&[u8], &str); 2] = [(b"\xff", "UTF-8"), (b"a\0b", "NUL")];
        for (value, reason) in rows {
            let error = map.text("k", value).unwrap_err().to_string();
            assert!(error.contains("key \"k\" of ConfigMap n/m"), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }
}
