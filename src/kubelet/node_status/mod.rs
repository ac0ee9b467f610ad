//! The node as a v1 Node: what it is, what it has, whether it is well.
//!
//! [`look`] reads what is told (blocking, and by the runtime's verbs), [`make`] makes the object of it (pure), [`keep`]
//! does both every ten seconds, tells what has changed as events ([`changes`], pure), shows it on the board, and writes it to `node.json` when it is another, and every five
//! minutes.

mod changes;
mod keep;
mod look;
mod make;

pub use keep::{NodeKeeper, keep};
pub use make::is_ready;
