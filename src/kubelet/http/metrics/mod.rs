//! Figures in the text format of Prometheus 0.0.4: [`exposition`] writes it; the kubelet half's own are [`own`] with [`operations`] and [`process`], and
//! [`probes`]; those of pods and containers are [`cadvisor`], as the runtime tells them, and [`resource`].

pub(super) mod cadvisor;
#[cfg(test)]
mod checker;
mod exposition;
mod operations;
pub(super) mod own;
pub(super) mod probes;
pub(super) mod process;
pub(super) mod resource;

pub(super) use exposition::Exposition;
