//! The pods of the kubelet half: `run`, `get`, `describe`, `apply`, `delete`, and the events of `events --pods`.
//!
//! They ask `berth.pods.v1` (`proto/berth/pods.proto`), which the daemon serves beside CRI. Objects come as JSON and
//! are turned into the API's types in [`inventory`] alone; what is made of them is pure: [`summary`] is a pod in a
//! line.

mod apply;
pub mod args;
mod delete;
mod describe;
mod duration;
mod events;
mod get;
mod inventory;
mod manifests;
mod node;
mod run;
mod summary;
#[cfg(test)]
pub(super) mod test_pods;
mod until;
mod watch;

pub(super) use apply::apply;
pub(super) use delete::delete;
pub(super) use describe::describe;
pub(super) use duration::duration;
pub(super) use events::follow as follow_events;
pub(super) use get::get;
pub(super) use inventory::{Inventory, KeptPod, missing};
pub(super) use run::run;
pub(super) use summary::Summary;
