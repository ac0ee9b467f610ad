//! Metrics under the names that kubelets and their dashboards know from cAdvisor.
//!
//! * `family`: a metric's name, keys and type, and the samples of it, which cannot have other keys;
//! * `cpu`, `memory`, `disk`, `network`, `process`, `life`: the families of one kind and their samples;
//! * `all`: every family, and what is told of a pod and its containers.
//!
//! A figure that the kernel does not give has no sample. Numbers are whole, so seconds are, too.

mod all;
mod cpu;
mod disk;
mod family;
mod life;
mod memory;
mod network;
mod process;

pub(crate) use all::{descriptors, pod_metrics};
