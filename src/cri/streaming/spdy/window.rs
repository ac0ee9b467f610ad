//! Credit, § 2.6.8. Pure.
//!
//! A peer that has never said anything about windows has none: the Go implementation neither sends
//! WINDOW_UPDATE nor SETTINGS, and a server that keeps to the default of 64 KiB stalls for ever. So credit
//! is counted from the first byte, and kept to from the first frame that shows that the peer counts too.

use super::limits::{DEFAULT_WINDOW, MAX_WINDOW};

/// A window would be larger than there is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// What the peer takes more, of a stream or of the session. Less than nothing after it made its initial
/// window smaller, or when it was sent something before it spoke of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window(i64);

impl Window {
    pub(super) fn new(initial: u32) -> Self {
        Self(i64::from(initial))
    }

    /// Bytes that may be sent.
    pub(super) fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Counts what is sent. Without bounds while the peer does not count.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Takes a WINDOW_UPDATE, or the difference between two initial windows.
    pub(super) fn change(&mut self, by: i64) -> Result<(), Overflow> {
        let changed = self.0.saturating_add(by);
        if changed > MAX_WINDOW {
            return Err(Overflow);
        }
        self.0 = changed;
        Ok(())
    }
}

/// What the peer has said about windows, and the session's own.
#[derive(Debug)]
pub(super) struct Credit {
    /// Of new streams.
    pub(super) initial: u32,
    /// Whether streams are held to their windows.
    pub(super) streams: bool,
    /// Whether the session is held to its own.
    pub(super) session: bool,
    pub(super) window: Window,
}

impl Credit {
    pub(super) fn new() -> Self {
        let window = Window::new(DEFAULT_WINDOW);
        Self { initial: DEFAULT_WINDOW, streams: false, session: false, window }
    }

    /// The most that a stream may send now.
    pub(super) fn room(&self, stream: Window) -> Room {
        if self.streams && stream.room() == 0 {
            Room::NoneOfStream
        } else if self.session && self.window.room() == 0 {
            Room::NoneOfSession
        } else {
            let of_stream = if self.streams { stream.room() } else { usize::MAX };
            let of_session = if self.session { self.window.room() } else { usize::MAX };
            Room::Bytes(of_stream.min(of_session))
        }
    }
}

/// How much may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// At least 1.
    Bytes(usize),
    NoneOfStream,
    NoneOfSession,
}

/// What has been consumed here and not been granted again.
#[derive(Debug, Default)]
pub(super) struct Consumed(u32);

impl Consumed {
    /// Grants are made by halves of the smallest window there is, not for each read.
    const STEP: u32 = DEFAULT_WINDOW / 2;

    /// Counts, and says what to grant now.
    pub(super) fn add(&mut self, bytes: usize) -> Option<u32> {
        self.0 = self.0.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        (self.0 >= Self::STEP).then(|| std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peer_without_windows_is_not_limited() {
        let mut credit = Credit::new();
        let mut stream = Window::new(credit.initial);
        stream.sent(1 << 30);
        credit.window.sent(1 << 30);
        assert_eq!(credit.room(stream), Room::Bytes(usize::MAX));
        credit.streams = true;
        assert_eq!(credit.room(stream), Room::NoneOfStream);
        stream.change(1 << 30).unwrap();
        assert_eq!(credit.room(stream), Room::Bytes(65536));
        credit.session = true;
        assert_eq!(credit.room(stream), Room::NoneOfSession);
    }

    proptest! {
        /// Windows are sums, and are refused exactly when they are too large.
        #[test]
        fn a_window_is_the_sum_of_what_was_granted_and_sent(
            steps in prop::collection::vec((any::<bool>(), 0..u32::MAX >> 1), 0..40),
        ) {
            let (mut window, mut sum) = (Window::new(DEFAULT_WINDOW), i64::from(DEFAULT_WINDOW));
            for (sent, bytes) in steps {
                if sent {
                    window.sent(bytes as usize);
                    sum -= i64::from(bytes);
                } else if window.change(i64::from(bytes)).is_ok() {
                    sum += i64::from(bytes);
                } else {
                    prop_assert!(sum + i64::from(bytes) > MAX_WINDOW);
                }
                prop_assert_eq!(window.0, sum);
                prop_assert_eq!(i64::try_from(window.room()), Ok(sum.max(0)));
            }
        }

        /// All that is consumed is granted, but for less than half of a window.
        #[test]
        fn what_is_consumed_is_granted(reads in prop::collection::vec(0..100_000_usize, 0..100)) {
            let mut consumed = Consumed::default();
            let granted: usize =
                reads.iter().filter_map(|bytes| consumed.add(*bytes)).map(|n| n as usize).sum();
            let open = reads.iter().sum::<usize>() - granted;
            prop_assert!(open < Consumed::STEP as usize);
        }
    }
}
