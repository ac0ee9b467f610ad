//! What a signature says: "simple signing", the document whose bytes are signed.

use super::super::digest::Digest;
use super::super::reference::Reference;
use serde::Deserialize;

/// What cosign signs.
const KIND: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Document {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Whether a signed document is about the manifest `digest` in one of `repositories`.
///
/// # Errors
/// What it is about instead.
pub(super) fn is_about(
    document: &[u8],
    digest: &Digest,
    repositories: &[&str],
) -> Result<(), String> {
    let Document { critical } =
        serde_json::from_slice(document).map_err(|e| format!("what is signed: {e}"))?;
    if critical.kind != KIND {
        return Err(format!("what is signed is a {:?}", critical.kind));
    }
    if critical.image.digest != digest.to_string() {
        return Err(format!("it is of {}", critical.image.digest));
    }
    let name = Reference::parse(&critical.identity.reference)
        .map_err(|_| format!("it is of {:?}", critical.identity.reference))?
        .name();
    match repositories.contains(&name.as_str()) {
        true => Ok(()),
        false => Err(format!("it is of {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::document;
    use super::*;

    #[test]
    fn a_signature_is_of_one_manifest_of_one_repository() {
        let (digest, other) = (Digest::of(b"manifest"), Digest::of(b"other"));
        let about =
            |document: &[u8]| is_about(document, &digest, &["r.test/a", "docker.io/library/b"]);
        about(&document("r.test/a", &digest)).unwrap();
        about(&document("r.test/a:tag", &digest)).unwrap();
        about(&document("index.docker.io/library/b", &digest)).unwrap();
        for (document, words) in [
            (document("r.test/a", &other), "it is of sha256:"),
            (document("r.test/ab", &digest), "it is of r.test/ab"),
            (document("a", &digest), "it is of docker.io/library/a"),
            (document("", &digest), "it is of \"\""),
            (b"{}".to_vec(), "what is signed: "),
            (b"".to_vec(), "what is signed: "),
        ] {
            let error = about(&document).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
        let text = String::from_utf8(document("r.test/a", &digest)).unwrap();
        let error = about(text.replace("cosign", "another").as_bytes()).unwrap_err();
        assert_eq!(error, "what is signed is a \"another container image signature\"");
    }
}
