//! What ends a whole session: errors of the protocol that leave no way to go on, § 2.4.1.

/// How the peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A control frame of another version.
    #[error("a control frame of version {0}")]
    Version(u16),
    /// A control frame that is too short, too long or does not hold what it counts.
    #[error("a control frame of type {kind} with {length} bytes")]
    Length {
        /// Its type.
        kind: u16,
        /// Its length as sent.
        length: u32,
    },
    /// Headers that do not inflate: both compressors are out of step from here on.
    #[error("headers that do not inflate")]
    Inflate,
    /// More headers than are taken.
    #[error("headers of more than {limit} bytes")]
    HeadersTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A block of headers that does not hold what it counts, or an empty, doubled or unreadable name.
    #[error("headers that are not pairs of names and values")]
    Headers,
    /// A stream id that the peer may not use, or not again.
    #[error("stream id {0} out of order")]
    StreamId(u32),
    /// A window of more than 2^31 - 1 bytes.
    #[error("a window of more than 2^31 - 1 bytes")]
    Window,
}
