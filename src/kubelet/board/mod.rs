//! What everybody may see of the pods: their statuses and events, in memory and in a file for each pod.
//!
//! Workers publish, and whoever asks reads; nothing of the node is decided from here, but what must outlive a
//! restart (restart counts, terminal phases, start times) is read back from the files at start.

mod event;
mod files;
mod starts;
mod state;

pub use event::{Event, EventKind, Events};
pub use files::BoardError;
pub use state::{Board, Change, PodView};
