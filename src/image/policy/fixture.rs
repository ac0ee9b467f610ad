//! Keys and signatures, made by openssl.

use super::super::digest::Digest;
use std::path::PathBuf;
use std::process::Command;

/// What a command of openssl prints.
pub(in crate::image) fn openssl(arguments: &str) -> Vec<u8> {
    let done = Command::new("openssl").args(arguments.split_whitespace()).output().unwrap();
    assert!(
        done.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    done.stdout
}

/// Who signs: a folder with a private and a public key.
pub(in crate::image) struct Signer(tempfile::TempDir);

impl Signer {
    /// With a new key, `algorithm` as openssl-genpkey(1) has it.
    pub(in crate::image) fn new(algorithm: &str) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let private = made.private();
        openssl(&format!("genpkey -out {} -algorithm {algorithm}", private.display()));
        let public = made.public_file();
        openssl(&format!("pkey -in {} -pubout -out {}", private.display(), public.display()));
        made
    }

    pub(in crate::image) fn private(&self) -> PathBuf {
        self.0.path().join("key")
    }

    pub(in crate::image) fn public_file(&self) -> PathBuf {
        self.0.path().join("key.pub")
    }

    pub(in crate::image) fn public(&self) -> Vec<u8> {
        std::fs::read(self.public_file()).unwrap()
    }

    /// A signature as cosign makes it.
    pub(in crate::image) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let file = self.0.path().join("message");
        std::fs::write(&file, message).unwrap();
        let key = self.private();
        openssl(&format!("dgst -sha256 -sign {} {}", key.display(), file.display()))
    }
}

/// What is signed of a manifest.
pub(in crate::image) fn document(reference: &str, digest: &Digest) -> Vec<u8> {
    let document = serde_json::json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": digest.to_string() },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    serde_json::to_vec(&document).unwrap()
}
