//! Frames that were made without this code: by Python's `struct` and one `zlib.compressobj(9, zlib.DEFLATED,
//! 15, 9, 0, zdict)` for all of them, with `Z_SYNC_FLUSH` after each block.

use super::decode::{Decoder, Item};
use super::frame::{self, Control, Goodbye, Status};
use super::headers::{Headers, Inflater};

const FRAMES: [(&str, &str); 10] = [
    (
        "80030001000000280000000100000000000078f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000\
         ffff",
        "open 1 streamtype=error",
    ),
    (
        "80030001010000220000000300000000000002651c0c295029930829b08bc079c3c2c0c200000000ffff",
        "open 3 port=8080 streamtype=data fin",
    ),
    ("800300080000001100000001821ac25801241800000000ffff", "headers 1 x="),
    (
        "80030004000000140000000201000004000000640000000700010001",
        "Settings { initial_window: Some(65537) }",
    ),
    ("80030009000000080000000100001000", "WindowUpdate { stream: 1, bytes: 4096 }"),
    ("80030003000000080000000300000005", "RstStream { stream: 3 }"),
    ("800300060000000400000005", "Ping { id: 5 }"),
    ("000000010000000568656c6c6f", "data 1 hello"),
    ("0000000101000000", "data 1  fin"),
    ("80030007000000080000000000000000", "Goaway"),
];

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn told(headers: &Headers) -> String {
    let names = ["port", "streamtype", "x"];
    let pairs = names.iter().filter_map(|name| Some(format!("{name}={}", headers.get(name)?)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn frames_of_another_implementation_are_read() {
    let (mut decoder, mut inflater) = (Decoder::new(1000), Inflater::new(1000));
    for (hex, expected) in FRAMES {
        let wire = bytes(hex);
        let mut input = &wire[..];
        let fin = |fin| if fin { " fin" } else { "" };
        let told = match decoder.next(&mut input).unwrap().unwrap() {
            Item::Data { stream, fin: f, bytes, .. } => {
                format!("data {stream} {}{}", String::from_utf8_lossy(bytes), fin(f))
            }
            Item::Control(Control::SynStream { stream, fin: f, block, unidirectional: false }) => {
                format!("open {stream} {}{}", told(&inflater.headers(block).unwrap()), fin(f))
            }
            Item::Control(Control::Headers { stream, block, fin: false }) => {
                format!("headers {stream} {}", told(&inflater.headers(block).unwrap()))
            }
            Item::Control(other) => format!("{other:?}"),
        };
        assert_eq!(told, expected);
        assert!(input.is_empty(), "{expected}");
    }
}

#[test]
fn our_frames_are_those_of_another_implementation() {
    let written = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        out
    };
    let rows: [(usize, Vec<u8>); 6] = [
        (4, written(&|out| frame::put_window_update(out, 1, 4096))),
        (5, written(&|out| frame::put_rst_stream(out, 3, Status::Cancel))),
        (6, written(&|out| frame::put_ping(out, 5))),
        (
            7,
            written(&|out| {
                frame::put_data_head(out, 1, 5, false);
                out.extend(b"hello");
            }),
        ),
        (8, written(&|out| frame::put_data_head(out, 1, 0, true))),
        (9, written(&|out| frame::put_goaway(out, 0, Goodbye::Ok))),
    ];
    for (row, written) in rows {
        assert_eq!(written, bytes(FRAMES[row].0), "{}", FRAMES[row].1);
    }
    let reply = written(&|out| frame::put_syn_reply(out, 1, b"block"));
    assert_eq!(reply, [&bytes("800300020000000900000001")[..], b"block"].concat());
}
