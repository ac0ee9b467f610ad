//! The boundary between the kubelet half and whatever runs its pods: the verbs of CRI v1, nothing beside them.
//!
//! [`Cri`] has two implementations: [`EngineCri`], the engine in this process, behind the same conversion and
//! validation as the socket; and [`RemoteCri`], any CRI socket. Both speak the messages of the protocol. [`Metered`] counts the calls to either.

mod engine;
mod error;
#[cfg(test)]
mod fake;
mod metered;
mod remote;
mod verbs;

pub use engine::EngineCri;
pub use error::CriError;
#[cfg(test)]
pub(crate) use fake::FakeCri;
pub use metered::{Calls, Metered, Operations};
pub use remote::{RemoteCri, connect};
pub use verbs::{Cri, Events};
