//! The engine: one method a CRI verb, over the objects of a node.
//!
//! A mutation runs in a task of its own that the caller only awaits: a client that goes away loses
//! the answer, not the work. Each sandbox and each container has a lane, a fair async mutex, that
//! orders its mutations; nothing holds two sandboxes' lanes. Reads copy plain values out and never
//! wait for a verb.

mod attach_session;
mod blockio;
mod checkpoint;
mod containers;
mod error;
mod exec_session;
mod lists;
mod metrics;
mod network;
mod open;
mod ports;
mod recover;
mod registry;
mod repeat;
mod restore;
mod sandboxes;
mod shim_events;
mod stats;
mod status;
pub mod view;

pub use crate::container::exec::Killer;
pub use crate::shim::client::AttachEnd;
pub use attach_session::{AttachSession, AttachWants};
pub use checkpoint::{ContainerCheckpoint, PodCheckpoint};
pub use error::EngineError;
pub use exec_session::{ExecSession, ExecStreams};
pub use metrics::{ContainerMetricsView, GroupFigures, SandboxMetricsView};
pub use open::Engine;
pub use restore::{PodRestore, RestoredPod};
pub use stats::{ContainerStatsView, SandboxStatsView};
