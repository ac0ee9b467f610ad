//! The Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical: ordered by length, then by symbol. So its 257 lengths say it all, and the
//! decoder needs, for each length, the first code and how many there are.

/// One more than the longest code, in bits.
const LENGTHS_END: usize = 31;

/// The length of each symbol's code in bits: the 256 bytes, then the end of string.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5,
    7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22,
    22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
    21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
    24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27,
    27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Level {
    /// The lowest code of this length.
    first: u32,
    /// How many codes have it.
    count: u32,
    /// Where their symbols begin in `SYMBOLS`.
    offset: usize,
}

/// All symbols in the order of their codes.
const SYMBOLS: [u16; 257] = order_symbols();
/// The codes by length.
const LEVELS: [Level; LENGTHS_END] = levels();

/// The code of `.`, six bits like those of `/` and `%`.
pub(super) const DOT: u8 = 0b01_0111;

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where an overrun is an error")]
const fn order_symbols() -> [u16; 257] {
    let mut symbols = [0u16; 257];
    let (mut length, mut at) = (1, 0);
    while length < LENGTHS_END {
        let (mut symbol, mut name) = (0, 0u16);
        while symbol < CODE_LENGTHS.len() {
            if CODE_LENGTHS[symbol] as usize == length {
                symbols[at] = name;
                at += 1;
            }
            symbol += 1;
            name += 1;
        }
        length += 1;
    }
    symbols
}

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where an overrun is an error")]
const fn levels() -> [Level; LENGTHS_END] {
    let mut levels = [Level { first: 0, count: 0, offset: 0 }; LENGTHS_END];
    let (mut length, mut code, mut offset) = (1, 0u32, 0usize);
    while length < LENGTHS_END {
        code <<= 1;
        let (mut count, mut symbols, mut symbol) = (0u32, 0usize, 0);
        while symbol < CODE_LENGTHS.len() {
            if CODE_LENGTHS[symbol] as usize == length {
                count += 1;
                symbols += 1;
            }
            symbol += 1;
        }
        levels[length] = Level { first: code, count, offset };
        code += count;
        offset += symbols;
        length += 1;
    }
    levels
}

/// A string that is not in the code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHuffman;

/// Calls `each` with every byte of the encoded string and the bit at which its code begins.
///
/// # Errors
/// The end-of-string symbol occurs. Padding is not checked.
pub(super) fn decode(encoded: &[u8], mut each: impl FnMut(u8, usize)) -> Result<(), NotHuffman> {
    let (mut code, mut length, mut begin) = (0u32, 0usize, 0usize);
    for (index, byte) in encoded.iter().enumerate() {
        for bit in 0..8 {
            code = (code << 1) | u32::from((byte >> (7 - bit)) & 1);
            length += 1;
            let level = LEVELS.get(length).ok_or(NotHuffman)?;
            let Some(rank) = code.checked_sub(level.first).filter(|r| *r < level.count) else {
                continue;
            };
            let at = level.offset + usize::try_from(rank).map_err(|_| NotHuffman)?;
            let symbol = SYMBOLS.get(at).copied().ok_or(NotHuffman)?;
            // The end-of-string symbol is no byte.
            each(u8::try_from(symbol).map_err(|_| NotHuffman)?, begin);
            begin = index * 8 + bit + 1;
            (code, length) = (0, 0);
        }
    }
    Ok(())
}

/// Writes the six bits of `code` at bit `at`.
pub(super) fn write_six_bits(bytes: &mut [u8], at: usize, code: u8) {
    for offset in 0..6usize {
        let bit = (code >> (5 - offset)) & 1;
        let position = at + offset;
        if let Some(byte) = bytes.get_mut(position / 8) {
            let shift = 7 - position % 8;
            *byte = (*byte & !(1 << shift)) | (bit << shift);
        }
    }
}

/// Encodes a string, for tests.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for byte in text {
        let length = usize::from(CODE_LENGTHS[usize::from(*byte)]);
        let level = LEVELS[length];
        let symbols = &SYMBOLS[level.offset..];
        let rank = symbols.iter().position(|s| *s == u16::from(*byte)).unwrap();
        let code = level.first + u32::try_from(rank).unwrap();
        bits.extend((0..length).rev().map(|b| (code >> b) & 1 == 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(true);
    }
    bits.chunks(8).map(|c| c.iter().fold(0, |byte, bit| (byte << 1) | u8::from(*bit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(encoded: &[u8]) -> Result<Vec<u8>, NotHuffman> {
        let mut out = Vec::new();
        decode(encoded, |byte, _| out.push(byte))?;
        Ok(out)
    }

    // RFC 7541, appendix C.4.1 and C.6.1.
    #[test]
    fn examples_of_the_specification_decode() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(text(&host).unwrap(), b"www.example.com");
        assert_eq!(text(&[0xae, 0xc3, 0x77, 0x1a, 0x4b]).unwrap(), b"private");
        assert_eq!(encode(b"www.example.com"), host);
    }

    #[test]
    fn every_byte_survives_encoding_and_decoding() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(text(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn the_code_uses_every_bit_string() {
        let last = LEVELS[LENGTHS_END - 1];
        assert_eq!(last.first + last.count, 1 << 30);
    }

    #[test]
    fn the_end_of_string_symbol_is_refused() {
        assert_eq!(text(&[0xff, 0xff, 0xff, 0xff]), Err(NotHuffman));
    }

    #[test]
    fn a_slash_becomes_a_dot_at_any_bit() {
        for prefix in ["", "0", "aB", "~", "x!y"] {
            let mut bytes = encode(format!("{prefix}/z").as_bytes());
            let mut at = None;
            decode(&bytes, |byte, begin| at = (byte == b'/').then_some(begin).or(at)).unwrap();
            write_six_bits(&mut bytes, at.unwrap(), DOT);
            assert_eq!(text(&bytes).unwrap(), format!("{prefix}.z").as_bytes());
        }
    }
}
