//! Liveness, readiness and startup probes, and the hooks of a container's life, which ask in the same ways.
//!
//! A [`spec::Probe`] is what a manifest asks for, with every default in place. [`pod::PodProbes`] keeps one
//! [`worker`] a probe: a task with one timer that makes a [`check`] at each tick ([`exec`], [`http`], [`tcp`],
//! [`grpc`]), hands what came of it ([`outcome`]) to the [`tracker`], which knows the thresholds, and tells the pod's
//! worker what changed. [`hooks`] runs postStart and preStop.
//!
//! What always holds: a result belongs to one container by its id, and never to the next; what cannot be tried is
//! no result; a check ends within its time, and leaves nothing of itself, httpGet not even a connection in TIME_WAIT
//! ([`connect`]); no more than [`outcome::READ_BYTES`] of an answer are read, and none
//! of an answer's body is told to anybody.

pub mod check;
mod command;
mod connect;
mod exec;
#[cfg(test)]
mod fixture;
mod grpc;
mod header;
pub mod hooks;
mod http;
pub mod outcome;
mod place;
pub mod pod;
pub mod spec;
mod stream;
mod tcp;
mod tls;
pub mod tracker;
mod worker;

pub use check::Checker;
pub use outcome::{Finding, LastResult, Notice, Report, Tally};
pub use pod::{PodProbes, Running, TallyReader};
pub use spec::{Kind, Probe};
