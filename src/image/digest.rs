//! Digests of content, and readers that compute them on the way.
//!
//! OCI image spec, descriptor.md "Digests". Only sha256 is accepted: it is the one algorithm that
//! registries are required to speak.

use crate::ids::ImageId;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// A sha256 digest. Held valid: 64 lower-case hexadecimal digits, safe as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// Text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDigest(pub(super) &'static str);

impl Digest {
    /// Parses `sha256:<64 lower-case hexadecimal digits>`.
    ///
    /// # Errors
    /// [`InvalidDigest`] for any other text, also for other algorithms.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(InvalidDigest("a digest is written algorithm:hex"));
        };
        if algorithm != "sha256" {
            return Err(InvalidDigest("only sha256 digests are supported"));
        }
        Self::from_hex(hex)
    }

    /// Parses the hexadecimal part alone.
    ///
    /// # Errors
    /// [`InvalidDigest`] unless it is 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, InvalidDigest> {
        if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(hex.to_owned()))
        } else {
            Err(InvalidDigest("a sha256 digest has 64 lower-case hexadecimal digits"))
        }
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new().chain_update(bytes))
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The image id whose config has this digest.
    pub fn image_id(&self) -> Option<ImageId> {
        ImageId::parse(&self.0).ok()
    }

    /// The chain id of a layer with this diff id above `below` (image spec, config.md "Layer
    /// ChainID").
    pub fn chain(&self, below: Option<&Self>) -> Self {
        match below {
            None => self.clone(),
            Some(below) => Self::of(format!("{below} {self}").as_bytes()),
        }
    }

    fn from_hash(hash: Sha256) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a String cannot fail.
            write!(hex, "{byte:02x}").ok();
        }
        Self(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::parse(text)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Computes the digest and the length of what is read through it.
pub(super) struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// Reads what is left, then answers the digest and the length of all of it, and the reader.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64, R)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest::from_hash(self.hash), self.bytes, self.inner))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(read) = buffer.get(..n) {
            self.hash.update(read);
        }
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }
}

/// Computes the digest and the length of what is written through it.
pub(super) struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// The digest and the length of all that was written, and the writer.
    pub(super) fn finish(self) -> (Digest, u64, W) {
        (Digest::from_hash(self.hash), self.bytes, self.inner)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        if let Some(written) = bytes.get(..n) {
            self.hash.update(written);
        }
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_whole_lower_case_sha256_digests_parse() {
        assert_eq!(Digest::parse(EMPTY).unwrap().to_string(), EMPTY);
        for bad in [
            "",
            "sha256:",
            &EMPTY[7..],
            &EMPTY.to_uppercase(),
            "sha512:e3b0",
            "sha256:../../../../etc/passwd",
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hashing_reader_counts_what_nobody_read() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        let (digest, bytes, _) = reader.finish().unwrap();
        assert_eq!((digest, bytes), (Digest::of(b"hello"), 5));
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }

    // config.md: ChainID(L0) = DiffID(L0); ChainID(L0|…|Ln) = Digest(ChainID(L0|…|Ln-1) + " " +
    // DiffID(Ln)).
    #[test]
    fn a_chain_id_hashes_the_chain_below_and_the_diff() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(a.chain(None), a);
        assert_eq!(b.chain(Some(&a)), Digest::of(format!("{a} {b}").as_bytes()));
    }
}
