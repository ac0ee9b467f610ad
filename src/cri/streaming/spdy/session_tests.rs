//! A session from both of its ends.

use super::client::{FIN, Got, Peer, control, data, initial_window, pair, soon};
use super::window_tests::quiet;
use super::{Closed, Limits, RecvHalf, SendHalf, Session, Stream, serve};
use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A session, its driver's end, and its peer.
pub(super) fn session() -> (Session, JoinHandle<Closed>, Peer) {
    with(Limits::default())
}

#[expect(clippy::disallowed_methods, reason = "the task ends with its test")]
pub(super) fn with(limits: Limits) -> (Session, JoinHandle<Closed>, Peer) {
    let (io, peer) = duplex(16 * 1024);
    let (session, driver) = serve(io, limits, pending());
    (session, tokio::spawn(driver), Peer::new(peer))
}

pub(super) async fn accept(session: &mut Session) -> Stream {
    soon("a stream", session.accept()).await.unwrap()
}

/// A session with one open stream.
async fn one() -> (Session, JoinHandle<Closed>, Peer, RecvHalf, SendHalf) {
    let (mut session, driver, mut peer) = session();
    peer.open(1).await;
    let (receiver, sender) = accept(&mut session).await.split();
    (session, driver, peer, receiver, sender)
}

pub(super) async fn read_all(receiver: &mut RecvHalf) -> Result<Vec<u8>, ErrorKind> {
    let mut all = Vec::new();
    soon("the end", receiver.read_to_end(&mut all)).await.map_err(|e| e.kind())?;
    Ok(all)
}

async fn write(sender: &mut SendHalf, bytes: &[u8]) {
    soon("a write", sender.write_all(bytes)).await.unwrap();
}

#[tokio::test]
async fn a_stream_has_its_headers_and_its_reply() {
    let (mut session, _driver, mut peer) = session();
    let syn = peer.syn(1, 0, &[("streamtype", "stdin"), ("port", "80")]);
    peer.send(&syn).await;
    let stream = accept(&mut session).await;
    assert_eq!(stream.id(), 1);
    let headers = ["streamtype", "port", "requestid"].map(|name| stream.header(name));
    assert_eq!(headers, [Some("stdin"), Some("80"), None]);
    assert_eq!(peer.next().await, Got::Window(0, 512 * 1024 - 64 * 1024));
    let reply = b"\0\0\0\x02\0\0\0\x07:status\0\0\0\x03200\0\0\0\x08:version\0\0\0\x08HTTP/1.1";
    assert_eq!(peer.next().await, Got::Reply(1, reply.to_vec()));
}

#[tokio::test]
async fn the_peer_half_closes_and_still_gets_an_answer() {
    let (_session, _driver, mut peer, mut receiver, mut sender) = one().await;
    peer.send(&data(1, 0, b"que")).await;
    peer.send(&data(1, FIN, b"stion")).await;
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"question");
    write(&mut sender, b"answer").await;
    sender.shutdown().await.unwrap();
    assert_eq!(peer.until_fin(1).await, b"answer");
}

#[tokio::test]
async fn we_half_close_and_still_hear_the_peer() {
    let (_session, _driver, mut peer, mut receiver, mut sender) = one().await;
    write(&mut sender, b"all").await;
    sender.shutdown().await.unwrap();
    drop(sender);
    assert_eq!(peer.until_fin(1).await, b"all");
    peer.send(&data(1, 0, b"still ")).await;
    peer.send(&data(1, 0, b"here")).await;
    peer.send(&data(1, FIN, b"")).await;
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"still here");
}

#[tokio::test]
async fn a_stream_that_comes_with_a_fin_is_at_its_end() {
    let (mut session, _driver, mut peer) = session();
    let syn = peer.syn(1, FIN, &[]);
    peer.send(&syn).await;
    let (mut receiver, mut sender) = accept(&mut session).await.split();
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"");
    write(&mut sender, b"x").await;
    sender.shutdown().await.unwrap();
    assert_eq!(peer.until_fin(1).await, b"x");
}

#[tokio::test]
async fn a_unidirectional_stream_has_no_reply_and_takes_no_data() {
    let (mut session, _driver, mut peer) = session();
    let syn = peer.syn(1, 2, &[]);
    peer.send(&syn).await;
    let (mut receiver, mut sender) = accept(&mut session).await.split();
    assert_eq!(sender.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    peer.send(&data(1, FIN, b"one way")).await;
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"one way");
    peer.send(&control(6, 0, &7_u32.to_be_bytes())).await;
    assert!(matches!(peer.next().await, Got::Window(0, _)));
    assert_eq!(peer.next().await, Got::Ping(7));
}

#[tokio::test]
async fn headers_with_a_fin_end_a_stream() {
    let (mut session, _driver, mut peer, mut receiver, _sender) = one().await;
    let block = peer.block(&[0; 4]);
    peer.send(&control(8, FIN, &[&1_u32.to_be_bytes()[..], &block].concat())).await;
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"");
    // Both compressors are still in step.
    let syn = peer.syn(3, 0, &[("streamtype", "late")]);
    peer.send(&syn).await;
    assert_eq!(accept(&mut session).await.header("streamtype"), Some("late"));
}

#[tokio::test]
async fn a_reset_of_the_peer_breaks_both_halves() {
    let (_session, _driver, mut peer, mut receiver, mut sender) = one().await;
    peer.send(&data(1, 0, b"before")).await;
    peer.send(&control(3, 0, &pair(1, 5))).await;
    let mut before = [0; 6];
    soon("what came before", receiver.read_exact(&mut before)).await.unwrap();
    assert_eq!(
        (&before, read_all(&mut receiver).await),
        (b"before", Err(ErrorKind::ConnectionReset))
    );
    assert_eq!(sender.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(sender.shutdown().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_dropped_sender_cancels_its_stream_and_no_other() {
    let (mut session, _driver, mut peer, _receiver, sender) = one().await;
    drop(sender);
    assert_eq!(peer.next_other().await, Got::Reset(1, 5));
    peer.open(3).await;
    let (receiver, mut sender) = accept(&mut session).await.split();
    drop(receiver);
    sender.shutdown().await.unwrap();
    drop(sender);
    // What nobody reads is granted all the same.
    let mut granted = [0, 0];
    for sent in (1..=8).map(|n| n * 32 * 1024) {
        peer.send(&data(3, 0, &[0; 32 * 1024])).await;
        while granted.iter().any(|granted| granted + 32 * 1024 <= sent) {
            match peer.next().await {
                Got::Window(0, bytes) => granted[0] += bytes,
                Got::Window(3, bytes) => granted[1] += bytes,
                Got::Reply(3, _) | Got::Fin(3) => {}
                other => panic!("{other:?}, with {granted:?} granted of {sent}"),
            }
        }
    }
}

#[tokio::test]
async fn pings_of_the_peer_are_answered_and_answers_are_not() {
    let (_session, _driver, mut peer) = session();
    peer.send(&control(6, 0, &2_u32.to_be_bytes())).await;
    peer.send(&control(6, 0, &u32::MAX.to_be_bytes())).await;
    assert_eq!(peer.next_other().await, Got::Ping(u32::MAX));
}

#[tokio::test]
async fn after_a_goaway_of_the_peer_streams_go_on_and_none_come() {
    let (_session, _driver, mut peer, mut receiver, mut sender) = one().await;
    peer.send(&control(7, 0, &pair(0, 0))).await;
    peer.open(3).await;
    assert_eq!(peer.next_other().await, Got::Reset(3, 3));
    peer.send(&data(1, FIN, b"in")).await;
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"in");
    write(&mut sender, b"out").await;
    sender.shutdown().await.unwrap();
    assert_eq!(peer.until_fin(1).await, b"out");
}

#[tokio::test]
async fn finish_flushes_says_goaway_and_waits_for_the_peer() {
    let (session, driver, mut peer, mut receiver, mut sender) = one().await;
    let text = vec![b'x'; 50_000];
    write(&mut sender, &text).await;
    sender.shutdown().await.unwrap();
    let gone = session.gone();
    let (got, ()) = tokio::join!(peer.until_fin(1), session.finish());
    assert!(got == text);
    assert_eq!(peer.next_other().await, Got::Goaway(1, 0));
    assert_eq!(read_all(&mut receiver).await, Err(ErrorKind::ConnectionReset));
    assert!(!gone.is_cancelled());
    // What still comes is read away, and the socket stays open.
    peer.send(&data(1, 0, &[0; 60_000])).await;
    tokio::select! { got = peer.next_other() => panic!("{got:?}"), () = quiet() => {} }
    drop(peer);
    assert_eq!(soon("the driver's end", driver).await.unwrap(), Closed::Finished);
    assert!(gone.is_cancelled());
}

/// Windows that the flush waits for come behind data that nobody will read.
#[tokio::test]
async fn finish_waits_for_windows_and_drops_what_comes() {
    let (session, _driver, mut peer, _receiver, mut sender) = one().await;
    peer.send(&initial_window(10)).await;
    quiet().await;
    write(&mut sender, &[b'x'; 100]).await;
    sender.shutdown().await.unwrap();
    let talk = async {
        peer.send(&data(1, 0, &[0; 2 << 20])).await;
        peer.send(&control(9, 0, &pair(1, 1000))).await;
        let got = peer.until_fin(1).await;
        assert_eq!((got.len(), peer.next_other().await), (100, Got::Goaway(1, 0)));
    };
    tokio::join!(talk, soon("the flush", session.finish()));
}

#[tokio::test]
async fn a_peer_that_does_not_close_after_the_end_is_left() {
    let drain = Duration::from_millis(50);
    let (mut session, driver, mut peer) = with(Limits { drain, ..Limits::default() });
    peer.open(1).await;
    let stream = accept(&mut session).await;
    let before = Instant::now();
    session.finish().await;
    // Nothing follows that could fail on the socket, which is shut.
    drop(stream);
    assert_eq!(peer.next_other().await, Got::Goaway(1, 0));
    assert_eq!(peer.next_other().await, Got::End);
    assert_eq!(soon("the driver's end", driver).await.unwrap(), Closed::Finished);
    assert!(before.elapsed() >= drain);
}

#[tokio::test]
async fn a_dropped_session_refuses_streams_and_ends_with_its_last() {
    let (session, driver, mut peer, receiver, mut sender) = one().await;
    peer.open(3).await;
    peer.send(&control(6, 0, &1_u32.to_be_bytes())).await;
    assert_eq!(peer.next_other().await, Got::Ping(1));
    drop(session);
    assert_eq!(peer.next_other().await, Got::Reset(3, 3));
    write(&mut sender, b"last").await;
    sender.shutdown().await.unwrap();
    drop((receiver, sender));
    assert_eq!(peer.until_fin(1).await, b"last");
    assert_eq!(peer.next_other().await, Got::Goaway(3, 0));
    drop(peer);
    assert_eq!(soon("the driver's end", driver).await.unwrap(), Closed::Finished);
}

#[tokio::test]
async fn the_peer_s_end_of_the_connection_breaks_all() {
    let (mut session, driver, mut peer, mut receiver, mut sender) = one().await;
    peer.send(&data(1, 0, b"cut")).await;
    drop(peer);
    assert_eq!(soon("the driver's end", driver).await.unwrap(), Closed::PeerGone);
    assert!(session.gone().is_cancelled());
    assert!(session.accept().await.is_none());
    let mut cut = [0; 3];
    receiver.read_exact(&mut cut).await.unwrap();
    assert_eq!(read_all(&mut receiver).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(sender.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    session.finish().await;
}

#[tokio::test]
async fn an_aborted_driver_breaks_all() {
    let (mut session, driver, _peer, mut receiver, _sender) = one().await;
    driver.abort();
    assert!(soon("its end", session.accept()).await.is_none());
    assert!(session.gone().is_cancelled());
    assert_eq!(read_all(&mut receiver).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task ends with its test")]
async fn while_nothing_is_read_a_hung_up_peer_is_gone() {
    let (io, peer) = duplex(16 * 1024);
    let (hang_up, mut peer) = (Arc::new(Notify::new()), Peer::new(peer));
    let hung_up = hang_up.clone();
    let (mut session, driver) =
        serve(io, Limits::default(), async move { hung_up.notified().await });
    let driver = tokio::spawn(driver);
    peer.open(1).await;
    let _stream = accept(&mut session).await;
    // It is read: only the end of the connection counts.
    hang_up.notify_one();
    peer.send(&control(6, 0, &1_u32.to_be_bytes())).await;
    assert_eq!(peer.next_other().await, Got::Ping(1));
    assert!(!session.gone().is_cancelled());
    let flood = tokio::spawn(async move {
        let frame = data(1, 0, &[0; 4096]);
        while peer.io.write_all(&frame).await.is_ok() {}
    });
    assert_eq!(soon("the driver's end", driver).await.unwrap(), Closed::HungUp);
    assert!(session.gone().is_cancelled());
    soon("the flood's end", flood).await.unwrap();
}

#[tokio::test]
async fn five_hundred_streams_at_once_each_have_their_bytes() {
    let (mut session, _driver, mut peer) = session();
    let ids: Vec<u32> = (0..500).map(|n| 2 * n + 1).collect();
    let mut opening = Vec::new();
    for id in &ids {
        opening.extend(peer.syn(*id, 0, &[("streamtype", "data"), ("requestid", &id.to_string())]));
        opening.extend(data(*id, FIN, &id.to_be_bytes().repeat(100)));
    }
    let echo = async {
        for id in &ids {
            let stream = accept(&mut session).await;
            assert_eq!(stream.header("requestid"), Some(&id.to_string()[..]));
            let (mut receiver, mut sender) = stream.split();
            #[expect(clippy::disallowed_methods, reason = "the task ends with its test")]
            tokio::spawn(async move {
                tokio::io::copy(&mut receiver, &mut sender).await.unwrap();
                sender.shutdown().await.unwrap();
            });
        }
        session
    };
    let (reader, mut writer) = tokio::io::split(peer.io);
    let count = ids.len();
    let talk = async move {
        let write = async { writer.write_all(&opening).await.unwrap() };
        let read = collect(reader, count);
        let ((), all) = tokio::join!(write, read);
        all
    };
    let (_session, all) = soon("all of them", async { tokio::join!(echo, talk) }).await;
    for (id, bytes) in all {
        assert!(bytes == id.to_be_bytes().repeat(100), "stream {id}");
    }
}

/// What `count` streams bring until their FINs.
async fn collect(
    mut io: impl tokio::io::AsyncRead + Unpin,
    count: usize,
) -> std::collections::BTreeMap<u32, Vec<u8>> {
    let (mut all, mut done) = (std::collections::BTreeMap::<u32, Vec<u8>>::new(), 0);
    while done < count {
        let mut head = [0; 8];
        io.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        io.read_exact(&mut payload).await.unwrap();
        if head[0] & 0x80 == 0 {
            let id = u32::from_be_bytes(head[..4].try_into().unwrap());
            all.entry(id).or_default().extend(payload);
            done += usize::from(head[4] & FIN != 0);
        }
    }
    all
}
