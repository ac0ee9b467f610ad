//! The client's side of CRI streaming, by WebSocket.
//!
//! CRI's Exec, Attach and PortForward answer with a URL that is good for one connection. [`socket`]
//! makes that connection; [`session`] joins this process's streams and terminal to a command or a
//! container over it, [`forward`] a TCP connection to a port of a pod.
//!
//! A message is binary and begins with the number of its channel ([`channel`]). The last one of a
//! session is a status on the error channel ([`status`]); a connection that ends without it was lost.
//!
//! | channel | exec, attach | port-forward |
//! | --- | --- | --- |
//! | 0 | stdin, to the daemon | data, both ways, behind the port's number |
//! | 1 | stdout | the text of an error, behind the port's number |
//! | 2 | stderr | |
//! | 3 | the status | |
//! | 4 | `{"Width":80,"Height":24}`, to the daemon | |
//! | 255 | ends the channel that the second byte names | the same |

mod channel;
mod error;
pub(super) mod forward;
mod keyboard;
pub(super) mod session;
pub(super) mod signals;
pub(super) mod socket;
pub(super) mod status;
mod terminal;
mod tls;

pub use error::StreamError;
pub use tls::Trust;
