//! How much of a peer a session holds.

use std::time::Duration;

/// The window of a stream until a SETTINGS frame says something else, and the session's, § 2.6.8.
pub(super) const DEFAULT_WINDOW: u32 = 64 * 1024;

/// The largest window there is, § 2.6.8.
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

/// Bounds of one session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Payload of a control frame that is kept to be parsed, in bytes.
    pub control_frame: usize,
    /// A block of headers, inflated, in bytes.
    pub header_block: usize,
    /// Streams that are open, or that somebody here still holds.
    pub streams: usize,
    /// Received and not yet read, over all streams, in bytes. Then the socket is not read.
    pub received: usize,
    /// Written and not yet in a frame, over all streams, in bytes. Then writers wait.
    pub queued: usize,
    /// The same of one stream.
    pub queued_by_stream: usize,
    /// For the peer to close, when all is said.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 20 * 1024,
            header_block: 16 * 1024,
            streams: 1000,
            received: 1 << 20,
            queued: 1 << 20,
            queued_by_stream: 64 * 1024,
            drain: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// What a peer that honours windows may send before it is read: half of what is held, so that such a
    /// peer never stops the reading, which its own window updates need.
    pub(super) fn session_window(&self) -> u32 {
        u32::try_from(self.received / 2).unwrap_or(u32::MAX >> 1).max(DEFAULT_WINDOW)
    }

    /// What a stream may always queue, also beside others that fill their share.
    pub(super) fn queued_reserve(&self) -> usize {
        self.queued / 2 / self.streams.max(1)
    }
}
