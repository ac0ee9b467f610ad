//! A KubeletConfiguration file (`kubelet.config.k8s.io/v1beta1`), as nodes have one already, as keys of `[kubelet]`.
//!
//! [`table`] says of every field what becomes of it: it sets a key, it is refused, or it is ignored. [`form`] turns
//! values into those of keys, [`read`] goes through a file. What berth's own files set goes before what is said here,
//! and this before the defaults.

mod form;
mod read;
mod table;

pub(super) use read::{KubeletFile, read};

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
