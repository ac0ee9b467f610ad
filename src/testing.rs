//! What unit tests share.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::time::{Duration, Instant};

/// A bound against hanging, on a machine of any speed.
const SOON: Duration = Duration::from_secs(60);

/// Waits for what must come. Also for what follows from closing a descriptor: a program that
/// another test is just starting holds a copy of it until its execve.
///
/// # Panics
/// With `what`, when it does not come.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 where nobody listens, and nobody else can as long as the socket is held.
#[cfg(feature = "daemon")]
pub(crate) fn silent_port() -> (std::os::fd::OwnedFd, u16) {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd as _;
    let stream = SockType::Stream;
    let taken = socket(AddressFamily::Inet, stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(taken.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let port = getsockname::<SockaddrIn>(taken.as_raw_fd()).unwrap().port();
    (taken, port)
}

/// The blocks of an archive: parts of that size are worth repeating.
const BLOCK: usize = 512;

/// A change to a piece of a corpus.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// A part of it, again at another place.
    Copy(Index, Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), 1..64_usize).prop_map(|(at, n)| Edit::Remove(at, n)),
        (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, b)| Edit::Insert(at, b)),
        (at(), at(), prop_oneof![1..64_usize, Just(BLOCK), Just(2 * BLOCK)])
            .prop_map(|(from, to, n)| Edit::Copy(from, to, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let length = bytes.len().max(1);
    match edit {
        Edit::Set(at, byte) => {
            if let Some(place) = bytes.get_mut(at.index(length)) {
                *place = *byte;
            }
        }
        Edit::Remove(at, n) => {
            let at = at.index(length).min(bytes.len());
            bytes.drain(at..(at + n).min(bytes.len()));
        }
        Edit::Insert(at, new) => {
            let at = at.index(length).min(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
        Edit::Copy(from, to, n) => {
            let from = from.index(length).min(bytes.len());
            let part = bytes[from..(from + n).min(bytes.len())].to_vec();
            let to = to.index(length).min(bytes.len());
            bytes.splice(to..to, part);
        }
    }
}

/// Runs a fuzz target over its corpus in `fuzz/`, and over `cases` changed pieces of it.
///
/// # Panics
/// When the target does.
pub(crate) fn over_corpus(target: fn(&[u8]), name: &str, cases: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let pieces: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(pieces.len() >= 4, "{} pieces in {}", pieces.len(), folder.display());
    pieces.iter().for_each(|piece| target(piece));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (select(pieces), prop::collection::vec(edit(), 1..12));
    let done = TestRunner::new(config).run(&strategy, |(mut bytes, edits)| {
        edits.iter().for_each(|edit| apply(&mut bytes, edit));
        target(&bytes);
        Ok(())
    });
    done.unwrap();
}
