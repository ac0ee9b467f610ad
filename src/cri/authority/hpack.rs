//! The structure of HPACK header blocks (RFC 7541), as far as finding `:authority` needs it.
//!
//! The dynamic table is followed by size alone: which of its names is `:authority`, and how many
//! bytes each entry counts, because evictions decide what a later index means.

use super::huffman;
use std::collections::VecDeque;
use std::ops::Range;

/// The name that is looked for.
const AUTHORITY: &str = ":authority";
/// The names of the static table (appendix A), from index 1 on.
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    AUTHORITY, ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status",
    ":status", ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type",
    "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
    "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range",
    "referer", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security",
    "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
];
/// What an entry counts beside its strings (section 4.1).
const ENTRY_OVERHEAD: usize = 32;
/// The table size that both sides start with. The server never offers more.
const MAX_TABLE_SIZE: usize = 4096;

/// A header block that cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What there is to know of a field's name.
#[derive(Clone, Copy, Debug)]
struct Name {
    len: usize,
    authority: bool,
}

/// One entry of the dynamic table.
#[derive(Debug)]
struct Entry {
    name: Name,
    size: usize,
}

/// The client's dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, max: MAX_TABLE_SIZE }
    }

    /// Follows one whole header block, and makes every literal `:authority` in it acceptable.
    ///
    /// # Errors
    /// The block breaks the rules; the table is of no use from then on.
    pub(super) fn rewrite(&mut self, block: &mut [u8]) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(first) = block.get(at).copied() {
            if first & 0x80 != 0 {
                let index = integer(block, &mut at, 7)?;
                self.name(index)?;
            } else if first & 0xc0 == 0x40 {
                let entry = self.rewrite_literal(block, &mut at, 6)?;
                self.insert(entry);
            } else if first & 0xe0 == 0x20 {
                let max = integer(block, &mut at, 5)?;
                self.resize(max)?;
            } else {
                // Without indexing, or never indexed.
                self.rewrite_literal(block, &mut at, 4)?;
            }
        }
        Ok(())
    }

    /// Follows a literal field; what it would be in the table is the answer.
    fn rewrite_literal(
        &self,
        block: &mut [u8],
        at: &mut usize,
        prefix: u32,
    ) -> Result<Entry, Malformed> {
        let name = match integer(block, at, prefix)? {
            0 => Text::read(block, at)?.name(block)?,
            index => self.name(index)?,
        };
        let value = Text::read(block, at)?;
        let size = name.len + value.decoded_len(block)? + ENTRY_OVERHEAD;
        if name.authority {
            value.make_acceptable(block)?;
        }
        Ok(Entry { name, size })
    }

    /// The name at an index of both tables: first the static one, then the dynamic one.
    fn name(&self, index: usize) -> Result<Name, Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        if let Some(name) = STATIC_NAMES.get(at) {
            return Ok(Name { len: name.len(), authority: *name == AUTHORITY });
        }
        let entry = self.entries.get(at - STATIC_NAMES.len()).ok_or(Malformed)?;
        Ok(entry.name)
    }

    /// Adds an entry. One that is larger than the table empties it (section 4.4).
    fn insert(&mut self, entry: Entry) {
        self.evict_to(self.max.saturating_sub(entry.size));
        if entry.size <= self.max {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, max: usize) -> Result<(), Malformed> {
        if max > MAX_TABLE_SIZE {
            return Err(Malformed);
        }
        self.max = max;
        self.evict_to(max);
        Ok(())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size = self.size.saturating_sub(oldest.size);
        }
    }
}

/// A string literal of a header block.
struct Text {
    huffman: bool,
    range: Range<usize>,
}

impl Text {
    /// The string that begins at `at`, which moves behind it (section 5.2).
    fn read(block: &[u8], at: &mut usize) -> Result<Self, Malformed> {
        let huffman = block.get(*at).ok_or(Malformed)? & 0x80 != 0;
        let len = integer(block, at, 7)?;
        let end = at.checked_add(len).filter(|e| *e <= block.len()).ok_or(Malformed)?;
        let range = *at..end;
        *at = end;
        Ok(Self { huffman, range })
    }

    fn bytes<'a>(&self, block: &'a [u8]) -> Result<&'a [u8], Malformed> {
        block.get(self.range.clone()).ok_or(Malformed)
    }

    fn decoded_len(&self, block: &[u8]) -> Result<usize, Malformed> {
        let bytes = self.bytes(block)?;
        if !self.huffman {
            return Ok(bytes.len());
        }
        let mut len = 0;
        huffman::decode(bytes, |_, _| len += 1).map_err(|_| Malformed)?;
        Ok(len)
    }

    fn name(&self, block: &[u8]) -> Result<Name, Malformed> {
        let bytes = self.bytes(block)?;
        if !self.huffman {
            return Ok(Name { len: bytes.len(), authority: bytes == AUTHORITY.as_bytes() });
        }
        let (mut len, mut authority) = (0, true);
        huffman::decode(bytes, |byte, _| {
            authority &= AUTHORITY.as_bytes().get(len) == Some(&byte);
            len += 1;
        })
        .map_err(|_| Malformed)?;
        Ok(Name { len, authority: authority && len == AUTHORITY.len() })
    }

    /// Replaces `/` and `%` by `.`, in place.
    fn make_acceptable(&self, block: &mut [u8]) -> Result<(), Malformed> {
        let bytes = block.get_mut(self.range.clone()).ok_or(Malformed)?;
        if !self.huffman {
            bytes.iter_mut().filter(|b| refused(**b)).for_each(|b| *b = b'.');
            return Ok(());
        }
        let mut places = Vec::new();
        let found = |byte, begin| {
            if refused(byte) {
                places.push(begin);
            }
        };
        huffman::decode(bytes, found).map_err(|_| Malformed)?;
        for at in places {
            huffman::write_six_bits(bytes, at, huffman::DOT);
        }
        Ok(())
    }
}

/// Whether a byte of a socket path is one that an authority cannot have.
fn refused(byte: u8) -> bool {
    matches!(byte, b'/' | b'%')
}

/// An integer with a prefix of so many bits; `at` moves behind it (section 5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Result<usize, Malformed> {
    let mask = (1usize << prefix) - 1;
    let first = block.get(*at).ok_or(Malformed)?;
    *at += 1;
    let mut value = usize::from(*first) & mask;
    if value < mask {
        return Ok(value);
    }
    // Four continuation bytes are 28 bits: more than any table or frame holds.
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at).ok_or(Malformed)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7541, appendix C.1.
    #[test]
    fn integers_of_the_specification_decode() {
        for (bytes, prefix, value) in
            [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a][..], 5, 1337), (&[0x2a][..], 8, 42)]
        {
            assert_eq!(integer(bytes, &mut 0, prefix), Ok(value));
        }
        assert_eq!(integer(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x01], &mut 0, 5), Err(Malformed));
        assert_eq!(integer(&[0x1f], &mut 0, 5), Err(Malformed));
    }

    // RFC 7541, appendix C.4: three requests on one connection, Huffman-coded.
    #[test]
    fn the_table_grows_as_in_the_specification() {
        let mut table = Table::new();
        let blocks: [(&[u8], usize); 3] = [
            (
                b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                57,
            ),
            (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 110),
            (
                b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                164,
            ),
        ];
        for (block, size) in blocks {
            let mut copy = block.to_vec();
            table.rewrite(&mut copy).unwrap();
            assert_eq!((copy.as_slice(), table.size), (block, size));
        }
    }

    // Section 4.4: an entry larger than the table empties it, which is no error.
    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new();
        table.rewrite(&mut b"\x41\x01a".to_vec()).unwrap();
        assert_eq!(table.entries.len(), 1);
        let mut large = b"\x40\x01x\x7f\x81\x1f".to_vec();
        large.extend([b'v'; 4096]);
        table.rewrite(&mut large).unwrap();
        assert_eq!((table.entries.len(), table.size), (0, 0));
    }

    #[test]
    fn blocks_that_break_the_rules_are_refused() {
        for (why, block) in [
            ("index 0", &b"\x80"[..]),
            ("index behind the tables", b"\xbe"),
            ("name behind the tables", b"\x7e\x01a"),
            ("string longer than the block", b"\x41\x05a"),
            ("table larger than offered", b"\x3f\xe2\x1f"),
            ("end of string in a string", b"\x41\x84\xff\xff\xff\xff"),
        ] {
            assert_eq!(Table::new().rewrite(&mut block.to_vec()), Err(Malformed), "{why}");
        }
    }
}
