//! Pulls from a real registry under a policy, with keys and signatures of openssl's.

use super::super::digest::Digest;
use super::super::fixtures::{Made, Tar, World, block_on, gzip, make};
use super::super::registry_fixture::Registry;
use super::fixture::{Signer, document};
use crate::config::ImageConfig;
use crate::error::{ErrorKind, chain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::PathBuf;

const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry, a store, and the policy between them.
struct Place {
    registry: Registry,
    world: World,
    folder: tempfile::TempDir,
}

impl Place {
    /// With the rules of a policy that rejects by default, and `SCOPE` for the registry.
    fn new(rules: &str) -> Self {
        let (registry, folder) = (Registry::start(), tempfile::tempdir().unwrap());
        let policy = folder.path().join("policy.toml");
        let text = format!("default = \"reject\"\n{rules}").replace("SCOPE", &registry.address);
        std::fs::write(&policy, text).unwrap();
        let config = ImageConfig { policy: Some(policy), ..ImageConfig::default() };
        Self { registry, world: World::with(&config), folder }
    }

    /// A rule that wants one of the keys.
    fn signed_by(signers: &[&Signer], more: &str) -> Self {
        let keys: Vec<PathBuf> = signers.iter().map(|signer| signer.public_file()).collect();
        Self::new(&format!(
            "[[rule]]\nfor = \"SCOPE\"\naction = \"signed\"\nkeys = {keys:?}\n{more}"
        ))
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.address)
    }

    fn pull(&self, image: &str) -> Result<String, (ErrorKind, String)> {
        let pulled = block_on(self.world.images.pull(&self.name(image), None, None));
        let told = pulled.map(|id| id.to_string()).map_err(|e| (e.kind(), chain(&e)));
        let seen = self.world.images.list().len();
        assert_eq!(seen > 0, told.is_ok(), "{seen} images are visible");
        assert_eq!(self.world.half_made(), 0);
        told
    }

    /// Puts a signature of a document beside an image, as cosign does.
    fn sign(&self, repository: &str, of: &Made, document: &[u8], signature: &[u8]) {
        let (manifest, parts) = signature_manifest(document, signature);
        self.registry.push_blobs(repository, &parts);
        let tag = format!("sha256-{}.sig", of.manifest_digest().hex());
        self.registry.push_manifest(repository, &tag, MANIFEST, &manifest);
    }
}

/// The manifest of a signature, and its blobs.
fn signature_manifest(document: &[u8], signature: &[u8]) -> (Vec<u8>, Made) {
    let describe = |kind: &str, bytes: &[u8]| -> Value {
        json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() })
    };
    let mut layer = describe("application/vnd.dev.cosign.simplesigning.v1+json", document);
    layer["annotations"] =
        json!({ "dev.cosignproject.cosign/signature": STANDARD.encode(signature) });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [layer],
    });
    let parts =
        Made { manifest: Vec::new(), config: b"{}".to_vec(), layers: vec![document.to_vec()] };
    (manifest.to_string().into_bytes(), parts)
}

fn image(content: &str) -> Made {
    make(&[Tar::new().file("x", content).build()], gzip)
}

fn refused(result: Result<String, (ErrorKind, String)>, words: &str) {
    let (kind, text) = result.unwrap_err();
    assert_eq!(kind, ErrorKind::PermissionDenied, "{text}");
    assert!(text.contains(words), "{text}");
}

#[test]
fn an_image_is_pulled_when_one_of_the_keys_has_signed_it() {
    let (signer, other) = (Signer::new(P256), Signer::new("RSA -pkeyopt rsa_keygen_bits:2048"));
    for by in [&signer, &other] {
        let place = Place::signed_by(&[&other, &signer], "");
        let made = image("x");
        place.registry.push("a", "1", &made);
        refused(place.pull("a:1"), "no signature of sha256:");
        let document = document(&place.name("a"), &made.manifest_digest());
        place.sign("a", &made, &document, &by.sign(&document));
        assert_eq!(place.pull("a:1").unwrap(), made.id());
    }
}

#[test]
fn a_signature_that_is_not_of_this_image_by_these_keys_does_not_count() {
    let (signer, stranger) = (Signer::new(P256), Signer::new(P256));
    let (made, another) = (image("x"), image("y"));
    let own = made.manifest_digest();
    for (row, of, digest, by, words) in [
        ("a stranger's", "a", &own, &stranger, "one is by another key"),
        ("of another manifest", "a", &another.manifest_digest(), &signer, "it is of sha256:"),
        ("of another repository", "b", &own, &signer, "/b"),
    ] {
        let place = Place::signed_by(&[&signer], "");
        place.registry.push("a", "1", &made);
        let document = document(&place.name(of), digest);
        place.sign("a", &made, &document, &by.sign(&document));
        refused(place.pull("a:1"), words);
        // The control: the same with a signature that counts.
        let document = super::fixture::document(&place.name("a"), &own);
        place.sign("a", &made, &document, &signer.sign(&document));
        assert_eq!(place.pull("a:1").unwrap(), made.id(), "{row}");
    }
    let place = Place::signed_by(&[&signer], "");
    place.registry.push("a", "1", &made);
    let document = document(&place.name("a"), &own);
    let mut changed = document.clone();
    changed.push(b' ');
    place.sign("a", &made, &changed, &signer.sign(&document));
    refused(place.pull("a:1"), "one is by another key");
    place.sign("a", &made, &document, b"");
    refused(place.pull("a:1"), "one is by another key");
}

#[test]
fn an_image_that_was_signed_under_another_name_counts_where_the_policy_says_so() {
    let signer = Signer::new(P256);
    let made = image("x");
    for (more, words) in
        [("", Some("it is of r.test/origin")), ("signed_as = [\"r.test/origin\"]", None)]
    {
        let place = Place::signed_by(&[&signer], more);
        place.registry.push("mirrored", "1", &made);
        let document = document("r.test/origin", &made.manifest_digest());
        place.sign("mirrored", &made, &document, &signer.sign(&document));
        match words {
            Some(words) => refused(place.pull("mirrored:1"), words),
            None => assert_eq!(place.pull("mirrored:1").unwrap(), made.id()),
        }
    }
}

#[test]
fn a_signature_is_found_among_what_refers_to_the_image() {
    let signer = Signer::new(P256);
    let place = Place::signed_by(&[&signer], "");
    let made = image("x");
    place.registry.push("a", "1", &made);
    let document = document(&place.name("a"), &made.manifest_digest());
    let (manifest, parts) = signature_manifest(&document, &signer.sign(&document));
    place.registry.push_blobs("a", &parts);
    place.registry.push_manifest("a", "signature", MANIFEST, &manifest);
    refused(place.pull("a:1"), "no signature of");
    // The registry has no API for it; this is where clients keep it then.
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST, "digest": Digest::of(&manifest), "size": manifest.len(),
            "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
        }],
    });
    let tag = format!("sha256-{}", made.manifest_digest().hex());
    let kind = "application/vnd.oci.image.index.v1+json";
    place.registry.push_manifest("a", &tag, kind, index.to_string().as_bytes());
    assert_eq!(place.pull("a:1").unwrap(), made.id());
}

#[test]
fn what_is_rejected_is_not_even_asked_for_and_a_policy_that_cannot_be_read_rejects_all() {
    let place = Place::new("[[rule]]\nfor = \"SCOPE/good\"\naction = \"accept\"");
    let made = image("x");
    place.registry.push("good", "1", &made);
    refused(place.pull("bad:1"), "policy.toml: rejected by default");
    let policy = place.folder.path().join("policy.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    for fault in ["", "default = \"accept\"\nrul = 1"] {
        std::fs::write(&policy, fault).unwrap();
        refused(place.pull("good:1"), "policy.toml: ");
    }
    std::fs::remove_file(&policy).unwrap();
    refused(place.pull("good:1"), "policy.toml: No such file");
    std::fs::write(&policy, text).unwrap();
    assert_eq!(place.pull("good:1").unwrap(), made.id());
}
