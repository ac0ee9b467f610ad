//! Peers that break the protocol, or use it up.

use super::client::{FIN, Got, Peer, control, data, pair, soon};
use super::session_tests::{accept, session, with};
use super::window_tests::quiet;
use super::{Closed, Limits, Stream, Violation};
use crate::lock::lock;
use tokio::io::AsyncWriteExt as _;

/// What a peer may send first, and how the session ends for it.
type Row = (&'static str, fn(&mut Peer) -> Vec<u8>, Violation);

const ROWS: [Row; 17] = [
    ("another version", |_| vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Violation::Version(2)),
    ("HTTP", |_| b"\x80GET / HTTP/1.1\r\n".to_vec(), Violation::Version(0x47)),
    ("a short PING", |_| control(6, 0, &[0; 3]), Violation::Length { kind: 6, length: 3 }),
    ("a long PING", |_| control(6, 0, &[0; 5]), Violation::Length { kind: 6, length: 5 }),
    ("an empty SYN_STREAM", |_| control(1, 0, &[]), Violation::Length { kind: 1, length: 0 }),
    ("a short RST_STREAM", |_| control(3, 0, &[0; 4]), Violation::Length { kind: 3, length: 4 }),
    ("a short WINDOW_UPDATE", |_| control(9, 0, &[0; 7]), Violation::Length { kind: 9, length: 7 }),
    (
        "SETTINGS that count more than there are",
        |_| control(4, 0, &[0xff; 12]),
        Violation::Length { kind: 4, length: 12 },
    ),
    (
        "a head that claims 16 MiB",
        |_| vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        Violation::Length { kind: 1, length: 0x00ff_ffff },
    ),
    ("headers that are no zlib", |_| control(1, 0, &[7; 50]), Violation::Inflate),
    (
        "headers cut off",
        |peer| {
            let syn = peer.syn(1, 0, &[("streamtype", "error")]);
            let payload = syn[8..syn.len() - 12].to_vec();
            control(1, 0, &payload)
        },
        Violation::Headers,
    ),
    (
        "a header of 17 KiB",
        |peer| peer.syn(1, 0, &[("a", &"b".repeat(17 * 1024))]),
        Violation::HeadersTooLarge { limit: 16 * 1024 },
    ),
    (
        "a bomb in HEADERS of no stream",
        |peer| {
            let block = peer.block(&vec![0; 8 << 20]);
            control(8, 0, &[&pair(9, 0)[..4], &block].concat())
        },
        Violation::HeadersTooLarge { limit: 16 * 1024 },
    ),
    ("an even stream", |peer| peer.syn(2, 0, &[]), Violation::StreamId(2)),
    ("stream 0", |peer| peer.syn(0, 0, &[]), Violation::StreamId(0)),
    ("data of stream 0", |_| data(0, 0, b"x"), Violation::StreamId(0)),
    (
        "a window of the session over 2^31",
        |_| control(9, 0, &pair(0, u32::MAX >> 1)),
        Violation::Window,
    ),
];

/// The session's last words, and its end.
async fn ends_with(violation: Violation, what: &str, bytes: impl Fn(&mut Peer) -> Vec<u8>) {
    let (mut session, driver, mut peer) = session();
    let bytes = bytes(&mut peer);
    peer.send(&bytes).await;
    let goaway = peer.next_other().await;
    assert!(matches!(goaway, Got::Goaway(_, 1)), "{what}: {goaway:?}");
    assert_eq!(peer.next_other().await, Got::End, "{what}");
    assert!(session.gone().is_cancelled(), "{what}");
    while soon("the end of streams", session.accept()).await.is_some() {}
    drop(peer);
    assert_eq!(driver.await.unwrap(), Closed::Violation(violation), "{what}");
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_left() {
    for (what, bytes, violation) in ROWS {
        ends_with(violation, what, bytes).await;
    }
}

#[tokio::test]
async fn an_id_that_was_used_ends_the_session() {
    let twice = |peer: &mut Peer| [peer.syn(1, 0, &[]), peer.syn(1, 0, &[])].concat();
    ends_with(Violation::StreamId(1), "open", twice).await;
    let over = |peer: &mut Peer| {
        [peer.syn(3, 0, &[]), control(3, 0, &pair(3, 5)), peer.syn(3, 0, &[])].concat()
    };
    ends_with(Violation::StreamId(3), "reset", over).await;
    let late_twice =
        |peer: &mut Peer| [peer.syn(3, 0, &[]), peer.syn(1, 0, &[]), peer.syn(1, 0, &[])].concat();
    ends_with(Violation::StreamId(1), "late, twice", late_twice).await;
    let too_late = |peer: &mut Peer| [peer.syn(999, 0, &[]), peer.syn(1, 0, &[])].concat();
    ends_with(Violation::StreamId(1), "left out long ago", too_late).await;
}

#[tokio::test]
async fn streams_that_overtook_each_other_are_taken() {
    let (mut session, _driver, mut peer) = session();
    for id in [5, 1, 3, 7] {
        peer.open(id).await;
        assert_eq!(accept(&mut session).await.id(), id);
    }
}

#[tokio::test]
async fn data_to_a_stream_that_never_was_resets_it_and_to_one_that_was_is_nothing() {
    let (mut session, _driver, mut peer) = session();
    peer.open(1).await;
    let (receiver, sender) = accept(&mut session).await.split();
    drop((receiver, sender));
    assert_eq!(peer.next_other().await, Got::Reset(1, 5));
    peer.send(&data(1, FIN, b"on its way")).await;
    peer.send(&control(9, 0, &pair(1, 1))).await;
    peer.send(&control(3, 0, &pair(77, 1))).await;
    peer.send(&data(3, 0, &[0; 40_000])).await;
    assert_eq!(peer.next_other().await, Got::Reset(3, 2));
    peer.send(&data(2, FIN, b"")).await;
    assert_eq!(peer.next_other().await, Got::Reset(2, 2));
}

#[tokio::test]
async fn data_after_a_fin_resets_its_stream_alone() {
    let (mut session, _driver, mut peer) = session();
    let syn = peer.syn(1, FIN, &[]);
    peer.send(&syn).await;
    let _stream = accept(&mut session).await;
    peer.send(&data(1, 0, b"more")).await;
    assert_eq!(peer.next_other().await, Got::Reset(1, 9));
    peer.open(3).await;
    assert_eq!(accept(&mut session).await.id(), 3);
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_until_others_are_over() {
    let (mut session, _driver, mut peer) = with(Limits { streams: 2, ..Limits::default() });
    for id in [1, 3] {
        peer.open(id).await;
    }
    peer.open(5).await;
    assert_eq!(peer.next_other().await, Got::Reset(5, 3));
    drop(accept(&mut session).await);
    assert_eq!(peer.next_other().await, Got::Reset(1, 5));
    peer.open(7).await;
    assert_eq!(accept(&mut session).await.id(), 3);
    assert_eq!(accept(&mut session).await.id(), 7);
}

/// A stream that is opened and reset at once counts, as long as it waits to be accepted.
#[tokio::test]
async fn streams_that_are_reset_before_they_are_accepted_are_bounded() {
    let (_session, _driver, mut peer) = with(Limits { streams: 2, ..Limits::default() });
    for id in [1, 3] {
        let open_and_reset = [peer.syn(id, 0, &[]), control(3, 0, &pair(id, 5))].concat();
        peer.send(&open_and_reset).await;
    }
    peer.open(5).await;
    assert_eq!(peer.next_other().await, Got::Reset(5, 3));
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let (_session, _driver, mut peer) = session();
    let mut sent = 0;
    let flood = control(6, 0, &1_u32.to_be_bytes()).repeat(1000);
    let write = async {
        loop {
            peer.io.write_all(&flood).await.unwrap();
            sent += flood.len();
        }
    };
    tokio::select! { _ = write => {}, () = quiet() => {} }
    assert!((64 * 1024..300 * 1024).contains(&sent), "{sent} bytes of pings were taken");
}

#[tokio::test]
async fn unknown_frames_are_skipped() {
    let (_session, _driver, mut peer) = session();
    peer.send(&control(5, 0, &[1; 300])).await;
    peer.send(&control(200, 0xff, &vec![1; 3 << 20])).await;
    peer.send(&control(6, 0, &1_u32.to_be_bytes())).await;
    assert_eq!(peer.next_other().await, Got::Ping(1));
}

/// Headers count as long as nobody has accepted their stream, inflated.
#[tokio::test]
async fn headers_that_nobody_accepts_are_bounded() {
    let (mut session, _driver, mut peer) = session();
    let text: String = (0..15_000_u32).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
    let opening: Vec<u8> = (0..500).flat_map(|n| peer.syn(2 * n + 1, 0, &[("a", &text)])).collect();
    let write = async {
        peer.io.write_all(&opening).await.unwrap();
        while peer.next().await != Got::End {}
    };
    let accept_all = async {
        quiet().await;
        let held = lock(&session.shared.connection).unread;
        assert!((900 << 10..=1 << 20).contains(&held), "{held} bytes are held");
        let mut streams = Vec::new();
        for n in 0..500 {
            streams.push(accept(&mut session).await);
            assert_eq!(streams.last().map(Stream::id), Some(2 * n + 1));
        }
    };
    tokio::select! { () = write => panic!("the peer ends first"), () = accept_all => {} }
}
