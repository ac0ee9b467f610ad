//! SPDY/3.1, the server's side: what kubectl, crictl and kubelets speak on exec, attach and port-forward
//! after the upgrade of an HTTP/1.1 connection.
//!
//! From the wire up: [`frame`] and [`decode`] (the codec), [`headers`] (name/value blocks), [`window`]
//! (credit, pure), [`state`] (the states of a stream, pure), `connection` with `receive`, `transmit` and `handles`
//! (all that a session knows, without I/O), [`driver`] (moves bytes between it and the socket), and what the
//! layer above holds: [`Session`], [`Stream`] and its two halves. Why our own: `docs/adr/0008-spdy.md`.
//!
//! Must always hold: what a session keeps is bounded by [`Limits`], whatever the peer sends or leaves
//! unread; nothing is allocated by what a length field says; no stream waits for another's window.
//!
//! Source: the SPDY protocol, draft 3.1 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>);
//! sections in the files are of it.

mod connection;
mod decode;
mod driver;
mod entry;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod handles;
mod headers;
mod limits;
mod receive;
mod session;
mod state;
mod stream;
mod transmit;
mod violation;
mod window;

#[cfg(test)]
mod client;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod window_tests;

pub use driver::Closed;
pub use limits::Limits;
pub use session::{Session, serve};
pub use stream::{RecvHalf, SendHalf, Stream};
pub use violation::Violation;
