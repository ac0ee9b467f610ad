//! berth's own service beside CRI, for its command line: images beyond CRI, events.

mod images;
pub mod proto;
mod service;

pub(super) use service::OwnService;
