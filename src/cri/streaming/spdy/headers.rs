//! Blocks of names and values, § 2.6.10: 32-bit counts and lengths, compressed by one zlib stream a direction
//! for the whole session, with the dictionary of § 2.6.10.1 (`header-dictionary.bin`), flushed at each block.
//!
//! As both ends of a zlib stream must stay in step, each block is inflated, also when its frame is then
//! refused. More than the limit is never inflated: such a block ends the session.

use super::violation::Violation;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::BTreeMap;

/// The preset dictionary of both directions.
pub(super) const DICTIONARY: &[u8] = include_bytes!("header-dictionary.bin");

/// Names in lower case, and their values. A name with several values has them with NULs between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The first value of a name, which is written in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.split('\0').next()
    }

    /// Bytes that it holds, without what the map needs.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Takes an inflated block apart. Names are taken in any case: what matters is that none is there twice.
    fn parse(block: &[u8]) -> Option<Self> {
        let (count, mut rest) = number(block)?;
        let mut headers = BTreeMap::new();
        // The count is compared, not believed: each turn takes 9 bytes at least.
        for _ in 0..count {
            let name;
            let value;
            (name, rest) = text(rest)?;
            (value, rest) = text(rest)?;
            if name.is_empty() || headers.insert(name.to_ascii_lowercase(), value.into()).is_some()
            {
                return None;
            }
        }
        rest.is_empty().then_some(Self(headers))
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = number(bytes)?;
    let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// The peer's blocks.
#[derive(Debug)]
pub(super) struct Inflater {
    zlib: Decompress,
    limit: usize,
}

impl Inflater {
    /// With the most bytes of a block.
    pub(super) fn new(limit: usize) -> Self {
        Self { zlib: Decompress::new(true), limit }
    }

    /// The headers of a block.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, Violation> {
        let inflated = self.inflate(block)?;
        Headers::parse(&inflated).ok_or(Violation::Headers)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut inflated = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (self.zlib.total_in(), self.zlib.total_out());
            let done = self.zlib.decompress(block, &mut piece, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(self.zlib.total_out() - before_out).unwrap_or(usize::MAX);
            block = block.get(taken..).ok_or(Violation::Inflate)?;
            match done {
                Ok(Status::Ok | Status::BufError) => {}
                // Asked for before the first block: the dictionary has no place in the stream itself.
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(DICTIONARY).map_err(|_| Violation::Inflate)?;
                    continue;
                }
                // The end of the stream: nothing could follow.
                Ok(Status::StreamEnd) | Err(_) => return Err(Violation::Inflate),
            }
            inflated.extend_from_slice(piece.get(..made).ok_or(Violation::Inflate)?);
            if inflated.len() > self.limit {
                return Err(Violation::HeadersTooLarge { limit: self.limit });
            }
            // Room that is left says that there is no more.
            if made < piece.len() {
                return if block.is_empty() { Ok(inflated) } else { Err(Violation::Inflate) };
            }
        }
    }
}

/// Our blocks.
#[derive(Debug)]
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        // It fails in the middle of a stream only. Peers then refuse the first block.
        zlib.set_dictionary(DICTIONARY).ok();
        Self(zlib)
    }

    /// The compressed block of some headers, names in lower case.
    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        let mut plain = length(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&length(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        // Compressed it is never larger than this, in one go: zlib's own bound is 5 bytes for each 16 KiB.
        let mut block = Vec::with_capacity(plain.len() + plain.len() / 1000 + 64);
        self.0.compress_vec(&plain, &mut block, FlushCompress::Sync).ok();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deflated(zlib: &mut Deflater, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() * 2 + 64);
        zlib.0.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    proptest! {
        /// Through both, over the whole session, and each name as it was.
        #[test]
        fn headers_come_back(
            blocks in prop::collection::vec(
                prop::collection::btree_map("[a-z:-]{1,40}", "[ -~äß]{0,300}", 0..8), 1..8),
        ) {
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new(16 * 1024));
            for block in blocks {
                let pairs: Vec<(&str, &str)> =
                    block.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                let compressed = deflater.block(&pairs);
                prop_assert_eq!(inflater.headers(&compressed), Ok(Headers(block)));
            }
        }

        #[test]
        fn garbage_is_refused_or_taken(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            Inflater::new(1000).headers(&bytes).ok();
            let block = deflated(&mut Deflater::new(), &bytes);
            Inflater::new(1000).headers(&block).ok();
            Headers::parse(&bytes);
        }
    }

    #[test]
    fn blocks_that_lie_are_refused() {
        let name = [0, 0, 0, 1, b'a', 0, 0, 0, 1, b'b'];
        let rows: [(&str, Vec<u8>); 7] = [
            ("nothing", vec![]),
            ("one of none", vec![0, 0, 0, 1]),
            ("2^32 - 1 of none", vec![0xff; 4]),
            ("a length beyond the end", [&[0, 0, 0, 1, 0xff][..], &name[1..]].concat()),
            ("bytes after the last", [&[0, 0, 0, 0][..], &name[..]].concat()),
            ("an empty name", vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("a name twice", [&[0, 0, 0, 2][..], &name[..], &name[..]].concat()),
        ];
        for (what, plain) in rows {
            let block = deflated(&mut Deflater::new(), &plain);
            let refused = Inflater::new(1000).headers(&block);
            assert_eq!(refused, Err(Violation::Headers), "{what}");
        }
        let fine = deflated(&mut Deflater::new(), &[&[0, 0, 0, 1][..], &name[..]].concat());
        assert_eq!(Inflater::new(1000).headers(&fine).unwrap().get("a"), Some("b"));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let block = deflated(&mut Deflater::new(), &vec![0; 1 << 20]);
        assert!(block.len() < 20 * 1024, "{} bytes would not reach the inflater", block.len());
        let refused = Inflater::new(16 * 1024).headers(&block);
        assert_eq!(refused, Err(Violation::HeadersTooLarge { limit: 16 * 1024 }));
    }

    #[test]
    fn a_name_has_its_first_value_whatever_its_case() {
        let block = Deflater::new().block(&[("StreamType", "stdin\0stdout")]);
        let headers = Inflater::new(1000).headers(&block).unwrap();
        assert_eq!(headers.get("streamtype"), Some("stdin"));
        assert_eq!(headers.get("StreamType"), None);
    }
}
