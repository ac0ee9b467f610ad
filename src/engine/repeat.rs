//! When a request is a repeat: the hash of a request, and what differs between two.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A hash of the whole request. Maps are ordered, so equal requests have equal hashes.
pub(crate) fn request_hash<T: Serialize>(request: &T) -> String {
    // Requests are plain data with string keys, which always encode.
    let bytes = serde_json::to_vec(request).unwrap_or_default();
    Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The names of the fields that differ between two requests, for a message.
pub(crate) fn differing<T: Serialize>(old: &T, new: &T) -> String {
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let names: Vec<&str> = old
        .iter()
        .filter(|(key, value)| new.get(*key) != Some(value))
        .map(|(key, _)| key.as_str())
        .collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn equal_requests_hash_equal_and_differences_are_named() {
        let one = BTreeMap::from([("name", "a"), ("image", "x")]);
        let two = BTreeMap::from([("name", "a"), ("image", "y")]);
        assert_eq!(request_hash(&one), request_hash(&one.clone()));
        assert_ne!(request_hash(&one), request_hash(&two));
        assert_eq!(differing(&one, &two), "image");
    }
}
