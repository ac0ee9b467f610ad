//! The filter against an encoder of its own: the same requests, encoded in the same way, once with
//! the authority that the client has and once with the one that is acceptable. What comes out of
//! the filter must be the second, byte for byte, however the first is cut into pieces.

use super::frames::AuthorityFilter;
use super::huffman;
use proptest::prelude::*;
use std::collections::VecDeque;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How one field is written.
#[derive(Clone, Copy, Debug)]
struct Form {
    indexing: u8, // 0: with, 1: without, 2: never
    use_index: bool,
    huffman_name: bool,
    huffman_value: bool,
}

#[derive(Clone, Debug)]
struct Request {
    fields: Vec<(String, String, Form)>,
    resize: Option<usize>,
    padding: Option<u8>,
    priority: bool,
    cuts: Vec<usize>,
    body: Vec<u8>,
}

/// How a value is spelled on the wire. What is chosen from the table goes by the one that was
/// given: two names may be acceptable in the same way.
enum Spelling {
    Given,
    Acceptable,
}

impl Spelling {
    fn of(&self, name: &str, value: &str) -> String {
        match self {
            Self::Acceptable if name == ":authority" => value.replace(['/', '%'], "."),
            _ => value.to_owned(),
        }
    }
}

struct Encoder {
    table: VecDeque<(String, String)>,
    max: usize,
    spelling: Spelling,
}

impl Encoder {
    fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
        let mask = (1 << prefix) - 1;
        if value < mask {
            out.push(first | u8::try_from(value).unwrap());
            return;
        }
        out.push(first | u8::try_from(mask).unwrap());
        value -= mask;
        while value >= 128 {
            out.push(u8::try_from(value % 128).unwrap() | 0x80);
            value /= 128;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn string(out: &mut Vec<u8>, text: &str, coded: bool) {
        let bytes = if coded { huffman::encode(text.as_bytes()) } else { text.into() };
        Self::integer(out, if coded { 0x80 } else { 0 }, 7, bytes.len());
        out.extend(bytes);
    }

    fn trim(&mut self) {
        let size = |t: &VecDeque<(String, String)>| -> usize {
            t.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
        };
        while size(&self.table) > self.max {
            self.table.pop_back();
        }
    }

    fn block(&mut self, request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(max) = request.resize {
            Self::integer(&mut out, 0x20, 5, max);
            self.max = max;
            self.trim();
        }
        for (name, value, form) in &request.fields {
            let whole = self.table.iter().position(|(n, v)| n == name && v == value);
            if let (Some(at), true) = (whole, form.use_index) {
                Self::integer(&mut out, 0x80, 7, at + 62);
                continue;
            }
            let (first, prefix) = [(0x40, 6), (0x00, 4), (0x10, 4)][usize::from(form.indexing)];
            let dynamic = self.table.iter().position(|(n, _)| n == name).map(|at| at + 62);
            let fixed = match name.as_str() {
                ":authority" => Some(1),
                ":path" => Some(4),
                "user-agent" => Some(58),
                _ => None,
            };
            match dynamic.or(fixed).filter(|_| form.use_index) {
                Some(index) => Self::integer(&mut out, first, prefix, index),
                None => {
                    out.push(first);
                    Self::string(&mut out, name, form.huffman_name);
                }
            }
            Self::string(&mut out, &self.spelling.of(name, value), form.huffman_value);
            if form.indexing == 0 {
                self.table.push_front((name.clone(), value.clone()));
                self.trim();
            }
        }
        out
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

fn headers(out: &mut Vec<u8>, stream: u32, request: &Request, block: &[u8]) {
    let mut cuts: Vec<usize> = request.cuts.iter().map(|c| c % (block.len() + 1)).collect();
    cuts.push(block.len());
    cuts.sort_unstable();
    let mut from = 0;
    for (index, to) in cuts.iter().copied().enumerate() {
        let mut payload = Vec::new();
        let mut flags = if index + 1 == cuts.len() { 0x4 } else { 0 };
        if index > 0 {
            payload.extend(&block[from..to]);
            frame(out, 0x9, flags, stream, &payload);
        } else {
            flags |= if request.padding.is_some() { 0x8 } else { 0 };
            flags |= if request.priority { 0x20 } else { 0 };
            payload.extend(request.padding);
            payload.extend(request.priority.then_some([0x2f; 5]).into_iter().flatten());
            payload.extend(&block[from..to]);
            payload.extend(std::iter::repeat_n(b'/', request.padding.unwrap_or(0).into()));
            frame(out, 0x1, flags, stream, &payload);
        }
        from = to;
    }
}

fn encoded(requests: &[Request], spelling: Spelling) -> Vec<u8> {
    let mut encoder = Encoder { table: VecDeque::new(), max: 4096, spelling };
    let mut out = PREFACE.to_vec();
    frame(&mut out, 0x4, 0, 0, &[]);
    for (index, request) in requests.iter().enumerate() {
        let stream = u32::try_from(index * 2 + 1).unwrap();
        let block = encoder.block(request);
        headers(&mut out, stream, request, &block);
        frame(&mut out, 0x0, 0x1, stream, &request.body);
    }
    out
}

/// What a client sends.
fn wire(requests: &[Request]) -> Vec<u8> {
    encoded(requests, Spelling::Given)
}

/// The same bytes with acceptable authorities in them.
fn acceptable(requests: &[Request]) -> Vec<u8> {
    encoded(requests, Spelling::Acceptable)
}

fn filtered(wire: &[u8], pieces: &[usize]) -> Vec<u8> {
    let (mut filter, mut out, mut rest) = (AuthorityFilter::new(), Vec::new(), wire);
    for piece in pieces.iter().cycle().take(wire.len()) {
        let (part, tail) = rest.split_at((*piece).min(rest.len()));
        filter.push(part, &mut out);
        rest = tail;
    }
    filter.push(rest, &mut out);
    out
}

fn form() -> impl Strategy<Value = Form> {
    (0u8..3, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(indexing, use_index, huffman_name, huffman_value)| Form {
            indexing,
            use_index,
            huffman_name,
            huffman_value,
        },
    )
}

fn field() -> impl Strategy<Value = (String, String, Form)> {
    let name = prop_oneof![
        3 => Just(":authority".to_owned()),
        1 => Just(":path".to_owned()),
        1 => Just("user-agent".to_owned()),
        2 => "x-[a-d]{1,2}",
        // Long enough to evict the whole table.
        1 => Just("x-long".to_owned()),
    ];
    (name, "[/%.a-zA-Z0-9~!]{0,40}", 0usize..70, form()).prop_map(|(name, value, times, form)| {
        let value = if name == "x-long" { value.repeat(times) } else { value };
        (name, value, form)
    })
}

fn request() -> impl Strategy<Value = Request> {
    (
        proptest::collection::vec(field(), 1..12),
        proptest::option::weighted(0.2, 0usize..4096),
        proptest::option::weighted(0.3, any::<u8>()),
        any::<bool>(),
        proptest::collection::vec(any::<usize>(), 0..4),
        proptest::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(fields, resize, padding, priority, cuts, body)| Request {
            fields,
            resize,
            padding,
            priority,
            cuts,
            body,
        })
}

proptest! {
    #[test]
    fn only_the_authority_changes_however_the_bytes_are_cut(
        requests in proptest::collection::vec(request(), 1..8),
        pieces in proptest::collection::vec(1usize..200, 1..6),
    ) {
        prop_assert_eq!(filtered(&wire(&requests), &pieces), acceptable(&requests));
    }

    #[test]
    fn bytes_without_any_sense_pass_in_their_length(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        pieces in proptest::collection::vec(1usize..50, 1..6),
    ) {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(&noise);
        let mut filter = AuthorityFilter::new();
        let mut out = Vec::new();
        filter.push(&bytes, &mut out);
        filter.finish(&mut out);
        prop_assert_eq!(out.len(), bytes.len());
        let pieced = filtered(&bytes, &pieces);
        prop_assert_eq!(&out[..pieced.len()], &pieced[..]);
    }
}

fn plain(fields: &[(&str, &str)], indexing: u8) -> Request {
    let form = Form { indexing, use_index: true, huffman_name: false, huffman_value: true };
    Request {
        fields: fields.iter().map(|(n, v)| ((*n).into(), (*v).into(), form)).collect(),
        resize: None,
        padding: None,
        priority: false,
        cuts: vec![],
        body: vec![],
    }
}

// Kubelets up to 1.30: both spellings of the socket's path.
#[test]
fn both_spellings_of_a_socket_path_become_names() {
    for (given, made) in [
        ("/run/berth/berth.sock", ".run.berth.berth.sock"),
        ("%2Frun%2Fberth%2Fberth.sock", ".2Frun.2Fberth.2Fberth.sock"),
    ] {
        let out = filtered(&wire(&[plain(&[(":authority", given)], 0)]), &[7]);
        assert_eq!(out, wire(&[plain(&[(":authority", made)], 0)]));
    }
}

#[test]
fn an_authority_by_dynamic_name_index_is_found_after_evictions() {
    let long = "v".repeat(3000);
    let requests = [
        plain(&[(":authority", "/a"), ("x-a", "/b")], 0),
        plain(&[("x-b", &long), (":authority", "/c")], 0),
        plain(&[("x-c", &long), (":authority", "/d"), ("x-d", "e"), (":authority", "/f")], 0),
    ];
    let out = filtered(&wire(&requests), &[1]);
    assert_eq!(out, acceptable(&requests));
    assert!(wire(&requests) != out);
}

#[test]
fn a_header_block_beyond_the_bound_passes_unchanged() {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, 0x1, 0, 1, b"\x41\x02/a");
    for _ in 0..20 {
        frame(&mut bytes, 0x9, 0, 1, &[0; 16384]);
    }
    frame(&mut bytes, 0x9, 4, 1, &[]);
    assert_eq!(filtered(&bytes, &[1000]), bytes);
}

#[test]
fn another_stream_s_frame_within_a_header_block_ends_the_walk() {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, 0x1, 0, 1, b"\x41\x02/a");
    frame(&mut bytes, 0x9, 4, 3, b"\x41\x02/b");
    frame(&mut bytes, 0x1, 4, 5, b"\x41\x02/c");
    assert_eq!(filtered(&bytes, &[5]), bytes);
}

#[test]
fn other_protocols_pass_unchanged() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(filtered(bytes, &[2]), bytes);
}
