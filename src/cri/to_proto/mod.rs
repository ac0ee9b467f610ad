//! berth's own types as replies. Nothing here can fail: what the wire cannot hold is cut to what it
//! can.

mod container;
mod event;
mod image;
mod metrics;
mod node;
mod sandbox;
mod stats;

pub(crate) use container::{container, container_info, container_status};
pub(crate) use event::event_type;
pub(crate) use image::{CORRUPT, filesystem, image, image_info, tagged_id};
pub(crate) use metrics::{descriptors as metric_descriptors, pod_metrics};
pub(crate) use node::{runtime_config, runtime_status};
pub(crate) use sandbox::{sandbox, sandbox_info, sandbox_status};
pub(crate) use stats::{Figures, container_stats, sandbox_stats};

use std::collections::BTreeMap;
use std::path::Path;

/// The `info` of a verbose answer: one entry with JSON, as tools expect it.
fn info(value: &serde_json::Value) -> BTreeMap<String, String> {
    BTreeMap::from([("info".to_owned(), value.to_string())])
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A number of a wire type that is narrower or signed.
fn fit<T, U: TryFrom<T>>(value: T, most: U) -> U {
    U::try_from(value).unwrap_or(most)
}
