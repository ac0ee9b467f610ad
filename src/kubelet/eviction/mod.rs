//! Making room when the node runs out of memory, disk or process ids, and keeping pods within the local storage they
//! may use.
//!
//! Every ten seconds: [`signals`] are read, [`machine`] says what of them is short and since when (pure), [`pressure`] is
//! told to everybody, and then either [`reclaim`] makes room with what nobody needs, or one pod has to go: the first in
//! the order of [`rank`] (pure). [`evictor`] is that loop, in which the end of a [`victim`] is waited for; [`keeper`] is another, in which [`storage`] finds who uses more
//! of its own than it may. By [`orders`] pods end; [`log`] is what they leave behind, each decision with its figures, a
//! line each, from which [`recall`] (pure) knows after a restart who was told.
//!
//! [`usage`] is what pods use; [`images`] and [`collect`] keep images within their file system, [`links`] what is left of
//! removed logs; [`admit`] keeps pods out meanwhile; [`tally`] counts.
//!
//! What always holds: a critical pod is never evicted; no more than one pod goes a round for what the node is short of, and
//! the next one only after it has given back what it held, or too long after; who was evicted has failed, and does not
//! come back before its manifest is another.

mod admit;
mod collect;
mod evictor;
mod images;
mod keeper;
mod links;
mod log;
mod machine;
mod orders;
mod pressure;
mod rank;
mod recall;
mod reclaim;
mod signals;
mod storage;
mod tally;
mod usage;
mod victim;
mod words;

pub use admit::{is_critical, under_pressure};
pub use collect::Collector;
pub use evictor::{Evictor, Order};
pub use links::keep_links;
pub use pressure::Pressure;
pub use tally::EvictionTally;

/// The reason of a pod that was evicted, or kept out.
pub const EVICTED: &str = "Evicted";
