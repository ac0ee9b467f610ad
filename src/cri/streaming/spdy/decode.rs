//! Frames out of a stream of bytes that comes in pieces.
//!
//! Data is passed on as it comes: a data frame may have 16 MiB, and is never held. A control frame is held
//! until it is whole, and never more of it than [`Limits::control_frame`](super::Limits).

use super::frame::{Control, HEAD, Head, is_known};
use super::violation::Violation;

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A piece of a data frame, maybe of no bytes.
    Data {
        stream: u32,
        /// Whether it is the frame's first.
        first: bool,
        /// Whether it is the stream's last.
        fin: bool,
        bytes: &'a [u8],
    },
    Control(Control<'a>),
}

#[derive(Clone, Copy, Debug)]
enum At {
    Head,
    Data {
        stream: u32,
        first: bool,
        fin: bool,
        left: usize,
    },
    Control {
        kind: u16,
        flags: u8,
        length: usize,
    },
    /// In a frame of an unknown type.
    Unknown {
        left: usize,
    },
}

/// The place in the stream.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    at: At,
    /// The beginning of what is not whole: a head, or the payload of a control frame.
    held: Vec<u8>,
    /// Whether `held` was passed on.
    passed: bool,
}

impl Decoder {
    /// With the limit to a control frame's payload.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, at: At::Head, held: Vec::new(), passed: false }
    }

    /// The next item. Takes its bytes off `input`; `None` when all of `input` is taken.
    pub(super) fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Item<'a>>, Violation> {
        if std::mem::take(&mut self.passed) {
            self.held.clear();
        }
        loop {
            match self.at {
                At::Head => {
                    self.hold(input, HEAD);
                    let Some(head) = self.held.first_chunk().filter(|_| self.held.len() == HEAD)
                    else {
                        return Ok(None);
                    };
                    self.at = self.after(Head::parse(*head)?)?;
                    self.held.clear();
                }
                At::Unknown { left } => {
                    let left = left - take(input, left).len();
                    if left > 0 {
                        self.at = At::Unknown { left };
                        return Ok(None);
                    }
                    self.at = At::Head;
                }
                At::Data { stream, first, fin, left } => {
                    if left > 0 && input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = take(input, left);
                    let left = left - bytes.len();
                    self.at = if left == 0 {
                        At::Head
                    } else {
                        At::Data { stream, first: false, fin, left }
                    };
                    return Ok(Some(Item::Data { stream, first, fin: fin && left == 0, bytes }));
                }
                At::Control { kind, flags, length } => {
                    let whole = self.held.is_empty() && input.len() >= length;
                    let payload = if whole {
                        take(input, length)
                    } else {
                        self.hold(input, length);
                        if self.held.len() < length {
                            return Ok(None);
                        }
                        self.passed = true;
                        &self.held
                    };
                    self.at = At::Head;
                    return Control::parse(kind, flags, payload).map(|c| Some(Item::Control(c)));
                }
            }
        }
    }

    fn after(&self, head: Head) -> Result<At, Violation> {
        let size = |length| usize::try_from(length).unwrap_or(usize::MAX);
        match head {
            Head::Data { stream, fin, length } => {
                Ok(At::Data { stream, first: true, fin, left: size(length) })
            }
            Head::Control { kind, length, .. } if !is_known(kind) => {
                Ok(At::Unknown { left: size(length) })
            }
            Head::Control { kind, length, .. } if size(length) > self.limit => {
                Err(Violation::Length { kind, length })
            }
            Head::Control { kind, flags, length } => {
                Ok(At::Control { kind, flags, length: size(length) })
            }
        }
    }

    /// Moves bytes of the input to what is held, up to `size`.
    fn hold(&mut self, input: &mut &[u8], size: usize) {
        let missing = size.saturating_sub(self.held.len());
        self.held.extend_from_slice(take(input, missing));
    }
}

/// Takes up to `size` bytes off the front.
fn take<'a>(input: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(size).unwrap_or((input, &[]));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Items in a form that is the same however the bytes were cut.
    fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<Violation>) {
        let (mut decoder, mut seen) = (Decoder::new(64), Vec::<String>::new());
        for mut piece in pieces {
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(Item::Data { stream, first, fin, bytes })) => {
                        if first {
                            seen.push(format!("data {stream} "));
                        }
                        let last = seen.last_mut().unwrap();
                        bytes.iter().for_each(|b| *last += &format!("{b:02x}"));
                        if fin {
                            *last += " fin";
                        }
                    }
                    Ok(Some(Item::Control(control))) => seen.push(format!("{control:?}")),
                    Ok(None) => break,
                    Err(violation) => return (seen, Some(violation)),
                }
            }
            assert!(piece.is_empty(), "it takes all");
            assert!(decoder.held.len() <= 64 && decoder.held.capacity() <= 128);
        }
        (seen, None)
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop::collection::vec(any::<u8>(), 0..80);
        let known = (0..12_u8, any::<u8>(), payload.clone()).prop_map(|(kind, flags, payload)| {
            let length = u8::try_from(payload.len()).unwrap();
            let mut frame = vec![0x80, 3, 0, kind, flags, 0, 0, length];
            frame.extend(payload);
            frame
        });
        let ping = any::<[u8; 4]>().prop_map(|id| [&[0x80, 3, 0, 6, 0, 0, 0, 4], &id[..]].concat());
        let data = (0..9_u8, 0..2_u8, payload).prop_map(|(stream, flags, payload)| {
            let length = u8::try_from(payload.len()).unwrap();
            let mut frame = vec![0, 0, 0, stream, flags, 0, 0, length];
            frame.extend(payload);
            frame
        });
        prop_oneof![1 => known, 4 => data, 4 => ping]
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_any_pieces(
            frames in prop::collection::vec(frame(), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = frames.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut from = 0;
            let pieces = cuts.iter().map(|to| &bytes[std::mem::replace(&mut from, *to)..*to]);
            let whole = decode(std::iter::once(&bytes[..]));
            prop_assert_eq!(decode(pieces), whole.clone());
            prop_assert_eq!(decode(bytes.chunks(1)), whole);
        }

        #[test]
        fn garbage_is_refused_or_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(std::iter::once(&bytes[..]));
        }
    }

    #[test]
    fn a_frame_of_an_unknown_type_is_skipped_whatever_its_length() {
        let mut bytes = vec![0x80, 3, 0, 5, 0, 0, 1, 0];
        bytes.extend([7; 256]);
        bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
        let (seen, violation) = decode(bytes.chunks(50));
        assert_eq!((seen, violation), (vec!["Ping { id: 9 }".to_owned()], None));
    }

    #[test]
    fn a_control_frame_over_the_limit_is_refused_at_its_head() {
        let head = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff];
        let (seen, violation) = decode(std::iter::once(&head[..]));
        let length = Violation::Length { kind: 1, length: 0x00ff_ffff };
        assert_eq!((seen.len(), violation), (0, Some(length)));
    }
}
