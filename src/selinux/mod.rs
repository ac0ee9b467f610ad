//! SELinux: the label that the processes of a pod run under, and the label of what they may touch.
//!
//! A pod has a pair of categories of its own ([`Categories`]) unless its request names a level; its
//! containers share it. A process label is what the kernel changes to at execve; a mount label is the
//! `context=` of the file systems that are made for a container, and what volumes are relabelled
//! with ([`relabel`]). Nothing of this happens, and nothing is looked at, where `[selinux] enabled` is
//! off; a request that asks for a label is an error there.

mod categories;
mod error;
mod label;
mod node;
mod relabel;

pub use categories::Categories;
pub use error::SelinuxError;
pub(crate) use label::is_name;
pub use label::{Label, Labels, Options};
pub use node::Selinux;
pub use relabel::{Forbidden, relabel, set_label};
