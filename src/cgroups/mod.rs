//! Control groups, version 2.

mod resources;

pub use resources::{Limit, Resources};
