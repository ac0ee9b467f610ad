//! Making room when the node runs out of something.
//!
//! [`pressure`]: what of the node is short, as everybody may see it.

mod pressure;

pub use pressure::Pressure;
