//! Requests as berth's own types: all validation of what comes over the wire.
//!
//! Every field is either carried over, or known to ask for nothing, or refused by its name: as
//! INVALID_ARGUMENT when no version could honour it, as UNIMPLEMENTED when this one does not.
//!
//! * [`error`]: what a refusal says; [`text`]: names, paths, strings;
//! * [`sandbox`], [`container`], [`mounts`], [`security`], [`userns`], [`resources`], [`signal`],
//!   [`image`]: the requests;
//! * [`checkpoint`]: what is to be written to or made from a folder;
//! * [`streams`]: what is asked of a streaming session;
//! * [`again`]: a sandbox's configuration when it is told once more, with a container's;
//! * [`fits`]: what a container may ask for in its sandbox.

mod again;
mod checkpoint;
mod container;
mod error;
mod fits;
mod image;
mod mounts;
mod resources;
mod sandbox;
mod security;
mod signal;
mod streams;
mod text;
mod userns;

#[cfg(test)]
mod container_tests;
#[cfg(test)]
mod sandbox_tests;

pub(crate) use again::pod_again;
pub(crate) use checkpoint::{checkpoint_container, checkpoint_pod, deadline, restore_pod};
pub(crate) use container::container_config;
pub(crate) use error::RequestError;
pub(crate) use fits::fit;
pub(crate) use image::{image_name, pull_credentials};
pub(crate) use resources::{pod_resources, update_resources};
pub(crate) use sandbox::sandbox_config;
pub(crate) use signal::signal_number;
pub(crate) use streams::{ports, streams};
pub(crate) use text::{command, grace, handler, id, pod_ranges, timeout};
