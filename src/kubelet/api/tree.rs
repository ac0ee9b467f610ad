//! A document as a tree of JSON values, from YAML or JSON.
//!
//! What the formats permit and JSON values do not have: a key twice (the last one counts, and it is told), keys that are
//! no strings (they become strings), merge keys (`<<`), aliases. A few aliases can stand for more than any memory, so
//! there is a bound on what a document may become.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Values in a document, aliases followed.
const MOST_VALUES: usize = 1_000_000;
/// Bytes of text in a document, aliases followed.
const MOST_TEXT: usize = 32 << 20;
/// YAML's key that takes the entries of another mapping.
const MERGE: &str = "<<";

/// A document, and the paths of keys that it has twice.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) repeated: Vec<String>,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = State::default();
        let value = Node { path: &Path::Top, state: &mut state }.deserialize(deserializer)?;
        Ok(Self { value, repeated: state.repeated })
    }
}

/// Where in a document something is.
enum Path<'a> {
    Top,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Key(Self::Top, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Default)]
struct State {
    repeated: Vec<String>,
    values: usize,
    text: usize,
}

impl State {
    fn count<E: de::Error>(&mut self, text: usize) -> Result<(), E> {
        self.values += 1;
        self.text = self.text.saturating_add(text);
        if self.values > MOST_VALUES {
            return Err(E::custom(format_args!("more than {MOST_VALUES} values")));
        }
        if self.text > MOST_TEXT {
            return Err(E::custom(format_args!("more than {MOST_TEXT} bytes of text")));
        }
        Ok(())
    }
}

/// One value of the tree that is being built.
struct Node<'a> {
    path: &'a Path<'a>,
    state: &'a mut State,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.state.count(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.state.count(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.state.count(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.state.count(0)?;
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("infinite or not a number"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.state.count(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.state.count(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.state.count(0)?;
        let mut list = Vec::new();
        loop {
            let path = Path::Index(self.path, list.len());
            match items.next_element_seed(Node { path: &path, state: self.state })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.state.count(0)?;
        let mut map = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            self.state.count(key.len())?;
            let path = Path::Key(self.path, &key);
            let value = entries.next_value_seed(Node { path: &path, state: self.state })?;
            if map.contains_key(&key) {
                self.state.repeated.push(path.to_string());
            }
            map.insert(key, value);
        }
        merge(&mut map);
        Ok(Value::Object(map))
    }
}

/// Entries of merged mappings count where the mapping has none of its own; of several, the first.
fn merge(map: &mut Map<String, Value>) {
    let sources = match map.get(MERGE) {
        Some(Value::Object(_)) => map.remove(MERGE).into_iter().collect(),
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => match map.remove(MERGE) {
            Some(Value::Array(list)) => list,
            _ => return,
        },
        _ => return,
    };
    for source in sources {
        if let Value::Object(entries) = source {
            for (key, value) in entries {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// A key, as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a string, a number or a boolean")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
        Ok(Key(key.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, key: bool) -> Result<Key, E> {
        Ok(Key(key.to_string()))
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<Key, E> {
        Ok(Key(key.to_string()))
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<Key, E> {
        Ok(Key(key.to_string()))
    }

    fn visit_f64<E: de::Error>(self, key: f64) -> Result<Key, E> {
        Ok(Key(key.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn yaml(text: &str) -> Tree {
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn the_last_of_a_repeated_key_counts_and_each_is_told_with_its_path() {
        let tree = yaml("a:\n- b: 1\n  b: 2\na: {c: 3}\n");
        assert_eq!(tree.value, json!({"a": {"c": 3}}));
        assert_eq!(tree.repeated, ["a[0].b", "a"]);
        let tree: Tree = serde_json::from_str(r#"{"a": {"b": 1, "b": 2}}"#).unwrap();
        assert_eq!((tree.value, tree.repeated), (json!({"a": {"b": 2}}), vec!["a.b".to_owned()]));
    }

    #[test]
    fn keys_that_are_no_strings_become_strings() {
        assert_eq!(
            yaml("{1: a, true: b, 1.5: c}").value,
            json!({"1": "a", "true": "b", "1.5": "c"})
        );
    }

    #[test]
    fn merged_mappings_fill_in_what_is_missing() {
        let tree = yaml("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\n");
        assert_eq!(tree.value["z"], json!({"a": 0, "b": 2, "c": 4}));
        assert_eq!(tree.repeated, [""; 0]);
    }

    #[test]
    fn aliases_that_stand_for_too_much_are_refused() {
        let ones = "1,".repeat(100_000);
        let many = format!("a: &a [{ones}]\nb: [{}]\n", "*a,".repeat(11));
        let error = serde_yaml_ng::from_str::<Tree>(&many).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 values"), "{error}");
        let text = "x".repeat(1 << 20);
        let long = format!("a: &a {text}\nb: [{}]\n", "*a,".repeat(32));
        let error = serde_yaml_ng::from_str::<Tree>(&long).unwrap_err().to_string();
        assert!(error.contains("bytes of text"), "{error}");
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for text in [".nan", ".inf", "!tagged x", "? [a]\n: b\n"] {
            assert!(serde_yaml_ng::from_str::<Tree>(text).is_err(), "{text}");
        }
    }
}
