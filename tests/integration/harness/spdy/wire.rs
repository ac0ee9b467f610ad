//! Frames and headers as bytes.

use anyhow::{Context as _, Result, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::collections::BTreeMap;

static DICTIONARY: &[u8] =
    include_bytes!("../../../../src/cri/streaming/spdy/header-dictionary.bin");

pub(crate) const FIN: u8 = 1;
pub(crate) const UNIDIRECTIONAL: u8 = 2;

/// Compresses blocks of headers: one for a session.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(DICTIONARY).unwrap();
        Self(zlib)
    }

    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        let mut plain = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(number(text.len()));
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 1024);
        self.0.compress_vec(&plain, &mut block, FlushCompress::Sync)?;
        Ok(block)
    }
}

/// Inflates the server's.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn headers(&mut self, block: &[u8]) -> Result<BTreeMap<String, String>> {
        let inflate = &mut self.0;
        let (mut plain, before) = (Vec::with_capacity(16 * 1024), inflate.total_in());
        if inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).is_err() {
            // The first block asks for the dictionary.
            inflate.set_dictionary(DICTIONARY)?;
            let taken = usize::try_from(inflate.total_in() - before)?;
            inflate.decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync)?;
        }
        let mut rest = &plain[..];
        let count = next_number(&mut rest)?;
        let mut headers = BTreeMap::new();
        for _ in 0..count {
            let (name, value) = (next_text(&mut rest)?, next_text(&mut rest)?);
            ensure!(headers.insert(name, value).is_none(), "a name twice");
        }
        ensure!(rest.is_empty(), "{} bytes after the headers", rest.len());
        Ok(headers)
    }
}

fn next_number(rest: &mut &[u8]) -> Result<u32> {
    let (number, after) = rest.split_first_chunk().context("headers cut off")?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn next_text(rest: &mut &[u8]) -> Result<String> {
    let length = usize::try_from(next_number(rest)?)?;
    let (text, after) = rest.split_at_checked(length).context("headers cut off")?;
    *rest = after;
    Ok(String::from_utf8(text.to_vec())?)
}

fn frame(start: [u8; 4], flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&start[..], &[flags], &length[1..], payload].concat()
}

/// The bytes of a control frame.
pub(crate) fn control(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame([0x80, 3, 0, kind], flags, payload)
}

/// The bytes of a data frame.
pub(crate) fn data(id: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(id.to_be_bytes(), flags, bytes)
}

/// A payload of two numbers.
pub(crate) fn pair(a: u32, b: u32) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}
