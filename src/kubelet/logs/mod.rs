//! The logs of containers: kept from growing without end.
//!
//! [`plan`] says which files of a log are to be packed and which are too many, pure; [`rotate`] does it, by the
//! way of every kubelet: rename, ReopenContainerLog, and what is packed is no longer written to.

mod plan;
mod rotate;

pub use rotate::{Limits, RotateError, keep_rotating};
