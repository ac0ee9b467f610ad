//! Windows, backpressure and turns, through a whole session.

use super::client::{FIN, Got, Peer, control, data, initial_window, pair, soon};
use super::session_tests::{accept, session, with};
use super::{Limits, RecvHalf, SendHalf, Session};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Until nothing moves any more: tests run on one thread and over memory, so that all that can be done is
/// done after some turns of each task.
pub(super) async fn quiet() {
    for _ in 0..20_000 {
        tokio::task::yield_now().await;
    }
}

async fn streams(session: &mut Session, peer: &mut Peer, n: u32) -> Vec<(RecvHalf, SendHalf)> {
    let mut streams = Vec::new();
    for id in (1..2 * n).step_by(2) {
        peer.open(id).await;
        assert!(matches!(peer.next().await, Got::Window(0, _) | Got::Reply(..)));
        streams.push(accept(session).await.split());
    }
    if n > 0 {
        peer.next().await;
    }
    streams
}

/// What a stream brings before a ping that is sent now comes back.
async fn before_a_ping(peer: &mut Peer, id: u32) -> usize {
    quiet().await;
    peer.send(&control(6, 0, &1_u32.to_be_bytes())).await;
    let mut bytes = 0;
    loop {
        match peer.next_other().await {
            Got::Data(of, data) if of == id => bytes += data.len(),
            Got::Ping(1) => return bytes,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_knows_no_windows_gets_all() {
    let (mut session, _driver, mut peer) = session();
    let (_receiver, mut sender) = streams(&mut session, &mut peer, 1).await.remove(0);
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let write = async {
        sender.write_all(&text).await.unwrap();
        sender.shutdown().await.unwrap();
    };
    let ((), got) = soon("all", async { tokio::join!(write, peer.until_fin(1)) }).await;
    assert!(got == text);
}

#[tokio::test]
async fn a_peer_with_windows_gets_exactly_what_it_granted() {
    let (mut session, _driver, mut peer) = session();
    peer.send(&initial_window(1000)).await;
    let (_receiver, mut sender) = streams(&mut session, &mut peer, 1).await.remove(0);
    sender.write_all(&[0; 5000]).await.unwrap();
    sender.shutdown().await.unwrap();
    assert_eq!(before_a_ping(&mut peer, 1).await, 1000);
    peer.send(&control(9, 0, &pair(1, 500))).await;
    assert_eq!(before_a_ping(&mut peer, 1).await, 500);
    // Less than nothing, until as much is granted.
    peer.send(&initial_window(200)).await;
    peer.send(&control(9, 0, &pair(1, 800))).await;
    assert_eq!(before_a_ping(&mut peer, 1).await, 0);
    peer.send(&control(9, 0, &pair(1, 3))).await;
    assert_eq!(before_a_ping(&mut peer, 1).await, 3);
    peer.send(&initial_window(100_000)).await;
    assert_eq!(peer.until_fin(1).await.len(), 5000 - 1503);
}

#[tokio::test]
async fn what_was_sent_before_the_first_update_counts() {
    let (mut session, _driver, mut peer) = session();
    let (_receiver, mut sender) = streams(&mut session, &mut peer, 1).await.remove(0);
    let write = async {
        sender.write_all(&[0; 70_000]).await.unwrap();
    };
    let read = async {
        let mut got = 0;
        while got < 70_000 {
            let Got::Data(1, bytes) = peer.next_other().await else { panic!("other frames") };
            got += bytes.len();
        }
    };
    tokio::join!(write, read);
    // The default was overdrawn by 4464 bytes.
    peer.send(&control(9, 0, &pair(1, 4500))).await;
    quiet().await;
    sender.write_all(&[0; 1000]).await.unwrap();
    assert_eq!(before_a_ping(&mut peer, 1).await, 36);
}

#[tokio::test]
async fn the_window_of_the_session_is_shared_once_the_peer_uses_it() {
    let (mut session, _driver, mut peer) = session();
    peer.send(&initial_window(1 << 20)).await;
    let mut both = streams(&mut session, &mut peer, 2).await;
    peer.send(&control(9, 0, &pair(0, 1000))).await;
    quiet().await;
    for (_, sender) in &mut both {
        sender.write_all(&[0; 60_000]).await.unwrap();
        sender.shutdown().await.unwrap();
    }
    let (mut got, mut fins) = (0, 0);
    while got < 66_536 {
        let Got::Data(_, bytes) = peer.next_other().await else { panic!("other frames") };
        got += bytes.len();
    }
    assert_eq!((got, before_a_ping(&mut peer, 1).await), (66_536, 0));
    // A FIN needs no window.
    peer.open(5).await;
    let (_receiver, mut sender) = accept(&mut session).await.split();
    sender.shutdown().await.unwrap();
    assert_eq!(peer.next_other().await, Got::Fin(5));
    peer.send(&control(9, 0, &pair(0, 100_000))).await;
    while fins < 2 {
        match peer.next_other().await {
            Got::Data(_, bytes) => got += bytes.len(),
            Got::Fin(_) => fins += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, 120_000);
}

#[tokio::test]
async fn a_stream_without_a_window_holds_up_no_other() {
    let (mut session, _driver, mut peer) = session();
    peer.send(&initial_window(0)).await;
    let mut all = streams(&mut session, &mut peer, 30).await;
    let mut last = all.pop().unwrap().1;
    for (_, sender) in &mut all {
        let mut written = 0;
        let fill = async {
            while let Ok(n) = sender.write(&[0; 8192]).await {
                written += n;
            }
        };
        tokio::select! { () = fill => {}, () = async { for _ in 0..50 { tokio::task::yield_now().await; } } => {} }
        assert!(written > 0);
    }
    peer.send(&control(9, 0, &pair(59, 1 << 20))).await;
    let write = async {
        last.write_all(&[0; 100_000]).await.unwrap();
        last.shutdown().await.unwrap();
    };
    let ((), got) = soon("all", async { tokio::join!(write, peer.until_fin(59)) }).await;
    assert_eq!(got.len(), 100_000);
}

#[tokio::test]
async fn a_window_of_a_stream_over_2_to_31_resets_it_alone() {
    let (mut session, _driver, mut peer) = session();
    let _both = streams(&mut session, &mut peer, 2).await;
    peer.send(&control(9, 0, &pair(1, u32::MAX >> 1))).await;
    assert_eq!(peer.next_other().await, Got::Reset(1, 7));
    assert_eq!(before_a_ping(&mut peer, 3).await, 0);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_stops_the_peer_and_then_gets_all() {
    let (mut session, _driver, mut peer) = session();
    let (mut receiver, _sender) = streams(&mut session, &mut peer, 1).await.remove(0);
    let taken = AtomicUsize::new(0);
    let frame = data(1, 0, &[7; 8184]);
    let total = 4 << 20;
    let write = async {
        while taken.load(Ordering::Relaxed) < total {
            peer.io.write_all(&frame).await.unwrap();
            taken.fetch_add(frame.len(), Ordering::Relaxed);
        }
        peer.io.write_all(&data(1, FIN, b"")).await.unwrap();
        // The grants have to go somewhere.
        while peer.next().await != Got::End {}
    };
    let read = async {
        quiet().await;
        let stopped = taken.load(Ordering::Relaxed);
        assert!((900 << 10..(1 << 20) + 32 * 1024).contains(&stopped), "{stopped} were taken");
        let (mut piece, mut got) = (vec![0; 10_000], 0);
        loop {
            match receiver.read(&mut piece).await.unwrap() {
                0 => break got,
                n => got += n,
            }
        }
    };
    let got = tokio::select! { () = write => panic!("the peer ends first"), got = read => got };
    assert_eq!(got, total / 8192 * 8184);
}

/// A peer that keeps to windows is read on: its updates come behind what nobody reads.
#[tokio::test]
async fn a_consumer_that_does_not_read_holds_up_no_peer_with_windows() {
    let (mut session, _driver, mut peer) = session();
    let mut all = streams(&mut session, &mut peer, 9).await;
    peer.send(&initial_window(0)).await;
    // All that the session's window has.
    for id in (1..16).step_by(2) {
        peer.send(&data(id, 0, &[0; 64 * 1024])).await;
    }
    let (_receiver, sender) = all.last_mut().unwrap();
    sender.write_all(b"still").await.unwrap();
    peer.send(&control(9, 0, &pair(17, 100))).await;
    assert_eq!(peer.next_other().await, Got::Data(17, b"still".to_vec()));
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_writers() {
    let (mut session, _driver, mut peer) = with(Limits { queued: 512 * 1024, ..Limits::default() });
    let all = streams(&mut session, &mut peer, 40).await;
    let written = std::sync::Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for (receiver, mut sender) in all {
        let written = written.clone();
        tasks.spawn(async move {
            for _ in 0..64 {
                sender.write_all(&[1; 4096]).await.unwrap();
                written.fetch_add(4096, Ordering::Relaxed);
            }
            sender.shutdown().await.unwrap();
            receiver
        });
    }
    quiet().await;
    let stopped = written.load(Ordering::Relaxed);
    // What is queued, a batch on its way, and what the pipe holds.
    let bound = 512 * 1024 + 96 * 1024 + 16 * 1024;
    assert!((128 * 1024..bound).contains(&stopped), "{stopped} bytes were taken");
    let (mut got, mut fins) = (0, 0);
    while fins < 40 {
        match peer.next_other().await {
            Got::Data(_, bytes) => got += bytes.len(),
            Got::Fin(_) => fins += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, 40 * 64 * 4096);
    while soon("the writers", tasks.join_next()).await.is_some() {}
}

#[tokio::test]
async fn streams_take_turns() {
    let (mut session, _driver, mut peer) = session();
    let mut all = streams(&mut session, &mut peer, 3).await;
    let (_quiet, mut small) = all.remove(2);
    let mut tasks = tokio::task::JoinSet::new();
    for (receiver, mut sender) in all {
        tasks.spawn(async move {
            let _receiver = receiver;
            while sender.write_all(&[1; 64 * 1024]).await.is_ok() {}
        });
    }
    quiet().await;
    for _ in 0..20 {
        small.write_all(b"now").await.unwrap();
        let mut before = 0;
        loop {
            match peer.next_other().await {
                Got::Data(5, bytes) => break assert_eq!(bytes, b"now"),
                Got::Data(_, bytes) => before += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
        // A batch that was on its way, the pipe, and a turn of each.
        assert!(before <= (96 + 16 + 64) * 1024, "{before} bytes came first");
    }
}
