//! What a manifest must never do. `fuzz/` runs this under libFuzzer, and tests run it over changed pieces of its
//! corpus.

use super::{Object, decode, default_pod, static_identity, validate_object, validate_pod};

/// A manifest: what is taken is written as something that is taken for the same, and gets the same UID.
///
/// # Panics
/// When it is not.
pub fn manifest(bytes: &[u8]) {
    let decoded = match decode(bytes) {
        Ok(decoded) => decoded,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for object in decoded.objects {
        validate_object(&object);
        let Object::Pod(mut pod) = object else { continue };
        let written = serde_json::to_vec(&pod).unwrap_or_default();
        static_identity(&mut pod, "node", "file", "origin");
        let again = decode(&written).ok().and_then(|decoded| decoded.objects.into_iter().next());
        let Some(Object::Pod(mut again)) = again else { unreachable!("it was written from a pod") };
        static_identity(&mut again, "node", "file", "origin");
        assert_eq!(pod, again);
        default_pod(&mut pod);
        validate_pod(&pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_manifests_are_refused_or_mean_one_thing() {
        crate::testing::over_corpus(manifest, "pod_manifest", 5_000);
    }
}
