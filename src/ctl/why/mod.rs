//! `berth why`: why a pod of the kubelet half does not run or is not ready, the first cause first.
//!
//! [`causes`] decides, pure, from what `berth get pods -o yaml` and `berth get events` show: pod-wide causes
//! ([`of_pod`]), then each container's ([`of_container`], how one ended in [`ending`]), sorted by the stage in which
//! a pod is held up ([`cause`]). [`print`] writes them. [`plugins`] looks for what makes a network meanwhile, [`blocked`] for what the kernel holds.

mod blocked;
mod cause;
mod causes;
mod ending;
mod of_container;
mod of_pod;
mod plugins;
mod print;

pub(super) use causes::first_fault;
pub(super) use print::why;
