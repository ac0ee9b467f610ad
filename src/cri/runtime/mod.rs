//! RuntimeService by groups: convert, call the engine, convert.
//!
//! `runtime_service` names the methods; what each of them does is here, a file a group.

pub(super) mod checkpoints;
pub(super) mod containers;
mod info;
pub(super) mod lists;
pub(super) mod metrics;
pub(super) mod node;
pub(super) mod sandboxes;
pub(super) mod stats;
pub(super) mod stream;
pub(super) mod streaming;
