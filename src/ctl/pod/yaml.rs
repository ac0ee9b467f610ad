//! A YAML document with the path of every value, so that an error can name it.

use serde_yaml_ng::{Mapping, Value};
use std::collections::BTreeMap;

/// A Pod file that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// It is not YAML.
    #[error("read YAML")]
    Yaml(#[source] serde_yaml_ng::Error),
    /// It does not hold exactly one document.
    #[error("the file holds {0} documents; one Pod is expected")]
    Documents(usize),
    /// A value is wrong or not supported.
    #[error("{path} {problem}")]
    Field {
        /// Where, such as `spec.containers[0].image`.
        path: String,
        /// What is the matter.
        problem: String,
    },
}

impl PodError {
    pub(super) fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { path: path.into(), problem: problem.into() }
    }
}

/// A value and its path.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) path: String,
    value: &'a Value,
}

/// The fields of a mapping, checked for unknown ones.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    path: String,
    map: &'a Mapping,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> PodError {
        PodError::field(self.path.clone(), problem)
    }

    /// The fields. Those that are not `known` are refused by name, unless they ask for nothing
    /// (null, an empty list or mapping), as tools write them that fill in every field.
    pub(super) fn fields(&self, known: &[&str]) -> Result<Fields<'a>, PodError> {
        let map = self.value.as_mapping().ok_or_else(|| self.error("must be a mapping"))?;
        for (key, value) in map {
            let name = key.as_str().ok_or_else(|| self.error("has a field that is no text"))?;
            if !known.contains(&name) && !asks_for_nothing(value) {
                return Err(PodError::field(join(&self.path, name), "is not supported yet"));
            }
        }
        Ok(Fields { path: self.path.clone(), map })
    }

    pub(super) fn text(&self) -> Result<&'a str, PodError> {
        self.value.as_str().ok_or_else(|| self.error("must be text"))
    }

    pub(super) fn boolean(&self) -> Result<bool, PodError> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    /// A whole number from `low` to `high`.
    pub(super) fn number(&self, low: u32, high: u32) -> Result<u32, PodError> {
        self.value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| self.error(format!("must be a number from {low} to {high}")))
    }

    /// Text or a number, as text: quantities come as either.
    pub(super) fn scalar(&self) -> Result<String, PodError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.error("must be text or a number")),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Node<'a>>, PodError> {
        let items = self.value.as_sequence().ok_or_else(|| self.error("must be a list"))?;
        let node = |(index, value)| Node { path: format!("{}[{index}]", self.path), value };
        Ok(items.iter().enumerate().map(node).collect())
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, PodError> {
        self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    pub(super) fn text_map(&self) -> Result<BTreeMap<String, String>, PodError> {
        let map = self.value.as_mapping().ok_or_else(|| self.error("must be a mapping"))?;
        let mut texts = BTreeMap::new();
        for (key, value) in map {
            let key = key.as_str().ok_or_else(|| self.error("has a field that is no text"))?;
            let value = Node { path: join(&self.path, key), value }.text()?;
            texts.insert(key.to_owned(), value.to_owned());
        }
        Ok(texts)
    }

    /// The name of one of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, PodError> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.error(format!("{text:?} is not one of {}", names.join(", ")))
        })
    }
}

impl<'a> Fields<'a> {
    /// The field, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Node { path: join(&self.path, name), value })
    }

    pub(super) fn required(&self, name: &str) -> Result<Node<'a>, PodError> {
        self.get(name).ok_or_else(|| PodError::field(join(&self.path, name), "is required"))
    }

    /// The field's items; none when it is absent.
    pub(super) fn items(&self, name: &str) -> Result<Vec<Node<'a>>, PodError> {
        self.get(name).map_or(Ok(Vec::new()), |node| node.list())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, PodError> {
        self.get(name).map_or(Ok(false), |node| node.boolean())
    }

    /// The names in the mapping.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().filter_map(Value::as_str)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(map) => map.is_empty(),
        _ => false,
    }
}
