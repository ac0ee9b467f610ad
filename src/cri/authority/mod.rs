//! Any `:authority` is accepted on the unix socket.
//!
//! Kubelets up to 1.30 send the socket's path, plain or percent-encoded, as the HTTP/2 `:authority`
//! of every request. That is no valid authority, and the HTTP/2 library below tonic answers
//! PROTOCOL_ERROR before any code of berth is asked. So the accepted stream passes a small filter
//! first, which replaces `/` and `%` in that one value by `.`, in place.
//!
//! The filter walks what the client sends, and changes nothing else:
//! * [`frames`]: the HTTP/2 frames (RFC 9113, section 4 and 6), to find header blocks;
//! * [`hpack`]: the structure of a header block (RFC 7541), to find the value;
//! * [`huffman`]: the string code of RFC 7541, appendix B. `/`, `%` and `.` all have six bits in it,
//!   so no length and no size in the dynamic table changes;
//! * [`stream`]: the filter as a tokio stream.
//!
//! It is no judge: what it cannot follow it passes on unchanged from there to the end of the
//! connection, and the HTTP/2 library gives the answer that such input deserves.

mod frames;
mod hpack;
mod huffman;
mod stream;

#[cfg(test)]
mod frames_tests;

pub(crate) use stream::AuthorityStream;
