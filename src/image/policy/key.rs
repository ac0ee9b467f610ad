//! Public keys, and what they verify.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use spki::SubjectPublicKeyInfoRef;
use spki::der::asn1::ObjectIdentifier;

/// RFC 5480, RFC 8017, RFC 8410.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key as cosign writes it: ECDSA over P-256 or P-384, RSA (PKCS #1), Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    kind: Kind,
    bits: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl Kind {
    /// What its signatures may be made with. Of P-384 cosign has used both digests.
    fn algorithms(self) -> Vec<&'static dyn VerificationAlgorithm> {
        match self {
            Self::P256 => vec![&signature::ECDSA_P256_SHA256_ASN1],
            Self::P384 => {
                vec![&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1]
            }
            Self::Rsa => vec![&signature::RSA_PKCS1_2048_8192_SHA256],
            Self::Ed25519 => vec![&signature::ED25519],
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// From PEM (`BEGIN PUBLIC KEY`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|e| format!("is no public key in PEM: {e}"))?;
        let info = SubjectPublicKeyInfoRef::try_from(der.as_ref())
            .map_err(|e| format!("is no public key: {e}"))?;
        let curve = || {
            let parameters = info.algorithm.parameters?;
            parameters.decode_as::<ObjectIdentifier>().ok()
        };
        let kind = match info.algorithm.oid {
            EC if curve() == Some(P256) => Kind::P256,
            EC if curve() == Some(P384) => Kind::P384,
            RSA => Kind::Rsa,
            ED25519 => Kind::Ed25519,
            other => return Err(format!("is a key of a kind that is not known: {other}")),
        };
        let bits = info.subject_public_key.as_bytes().ok_or("is cut off")?.to_vec();
        Ok(Self { kind, bits })
    }

    /// Whether it made this signature of `message`.
    pub(super) fn made(&self, signature: &[u8], message: &[u8]) -> bool {
        let verifies = |algorithm: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bits).verify(message, signature).is_ok()
        };
        self.kind.algorithms().iter().any(verifies)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Signer, openssl};
    use super::*;

    #[test]
    fn a_key_knows_its_own_signatures_alone() {
        for kind in [
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "EC -pkeyopt ec_paramgen_curve:P-384",
            "RSA -pkeyopt rsa_keygen_bits:2048",
        ] {
            let (signer, other) = (Signer::new(kind), Signer::new(kind));
            let key = Key::parse(&signer.public()).unwrap();
            let signature = signer.sign(b"message");
            assert!(key.made(&signature, b"message"), "{kind}");
            assert!(!key.made(&signature, b"massage"), "{kind}");
            assert!(!key.made(&other.sign(b"message"), b"message"), "{kind}");
            assert!(!key.made(b"", b"message") && !key.made(&[0x30; 70], b"message"), "{kind}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_in_words() {
        let signer = Signer::new("EC -pkeyopt ec_paramgen_curve:P-256");
        let other = Signer::new("EC -pkeyopt ec_paramgen_curve:secp256k1");
        let private = std::fs::read(signer.private()).unwrap();
        let cut = String::from_utf8(signer.public()).unwrap().replacen("MFkw", "MFkx", 1);
        for (pem, words) in [
            (&b""[..], "is no public key in PEM"),
            (b"text", "is no public key in PEM"),
            (&private, "is no public key in PEM"),
            (cut.as_bytes(), "is no public key: "),
            (&other.public(), "is a key of a kind that is not known"),
        ] {
            let error = Key::parse(pem).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
        assert!(openssl("version").starts_with(b"OpenSSL"));
    }
}
