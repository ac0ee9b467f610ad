//! berth's own service beside CRI, for its command line: imports and pulls with progress, commands
//! with open streams, events.

mod exec;
pub mod proto;
mod service;

pub(super) use service::OwnService;
