//! `berth describe pod`: all about a pod, for people.
//!
//! [`page`] writes lines of names and values, [`pod`] the parts in their order, [`container`] one container,
//! [`volume`] where a volume's content comes from, [`probe`] a probe in a line.

mod container;
mod page;
mod pod;
mod probe;
mod volume;

pub(in crate::ctl) use pod::describe;
