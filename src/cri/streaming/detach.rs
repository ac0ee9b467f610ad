//! The keys with which a person at a terminal leaves an attached container as it is.

/// Keys in a row, as bytes; none: nobody can leave by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Parses keys joined by commas: a character, or `ctrl-` with a letter or one of `@[\]^_`. Empty: none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        text.split(',').map(key).collect::<Option<Vec<u8>>>().map(Self)
    }
}

fn key(name: &str) -> Option<u8> {
    match (name.strip_prefix("ctrl-"), name.as_bytes()) {
        (Some(rest), _) => match rest.as_bytes() {
            [letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => {
                // Ctrl leaves the low five bits of a letter (ASCII).
                Some(letter & 0x1f)
            }
            _ => None,
        },
        (None, [character @ 0x21..=0x7e]) => Some(*character),
        (None, _) => None,
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(super) struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    pub(super) fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.0.clone(), matched: 0 }
    }

    /// What of `typed` goes to the container; `true`: the keys were pressed, nothing after them counts.
    /// The beginning of the keys is held back until it is known what follows.
    pub(super) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(typed.len() + self.matched);
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (through, true);
                }
                continue;
            }
            through.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
            self.matched = 0;
            if self.keys.first() == Some(byte) {
                self.matched = 1;
                if self.keys.len() == 1 {
                    return (through, true);
                }
            } else {
                through.push(*byte);
            }
        }
        (through, false)
    }

    /// What is held back, when nothing follows any more.
    pub(super) fn rest(&mut self) -> &[u8] {
        let held = self.keys.get(..self.matched).unwrap_or_default();
        self.matched = 0;
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_people_write_them() {
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q"), Some(DetachKeys(vec![16, 17])));
        assert_eq!(DetachKeys::parse("a,~,ctrl-["), Some(DetachKeys(vec![b'a', b'~', 27])));
        assert_eq!(DetachKeys::parse(""), Some(DetachKeys::default()));
        for bad in ["ctrl-", "ctrl-P", "ctrl-pp", "ab", ",", "a,", " ", "ctrl-1", "ä"] {
            assert_eq!(DetachKeys::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_keys_end_it_and_everything_else_passes() {
        let keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        // Typed in pieces; what passes; whether it ends there.
        type Row = (&'static [&'static [u8]], &'static [u8], bool);
        let rows: [Row; 7] = [
            (&[b"abc"], b"abc", false),
            (&[b"a\x10\x11b"], b"a", true),
            (&[b"a\x10", b"\x11"], b"a", true),
            (&[b"\x10", b"x"], b"\x10x", false),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"\x10\x10\x10"], b"\x10\x10\x10", false),
            (&[b"\x11\x10"], b"\x11\x10", false),
        ];
        for (typed, expected, ends) in rows {
            let mut watch = Watch::new(&keys);
            let (mut through, mut over) = (Vec::new(), false);
            for piece in typed {
                let (bytes, ended) = watch.pass(piece);
                through.extend(bytes);
                over = ended;
            }
            if !over {
                through.extend_from_slice(watch.rest());
            }
            assert_eq!((through.as_slice(), over), (expected, ends), "{typed:?}");
        }
    }

    #[test]
    fn without_keys_everything_passes() {
        let mut watch = Watch::new(&DetachKeys::default());
        assert_eq!(watch.pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        assert_eq!(watch.rest(), b"");
    }
}
