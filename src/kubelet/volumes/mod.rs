//! A pod's volumes on the host: set up before its containers, refreshed when an object changes, torn down after them.
//!
//! | where                                        | what                                                          |
//! |----------------------------------------------|---------------------------------------------------------------|
//! | `<pods>/<uid>/volumes/<volume>`              | emptyDir; a mount point of tmpfs or hugetlbfs for those media |
//! | `<pods>/<uid>/ready/<volume>`                | an empty file: this emptyDir was set up to its end            |
//! | `<pods>/<uid>/subpaths/<container>/<number>` | a bind of what a `subPath` led to when its container was made |
//! | `<payload>/<uid>/<volume>`                   | configMap, secret, downwardAPI, projected                     |
//!
//! `<payload>` is one tmpfs for the whole node, so that such volumes cost no mount and never reach a disk. What a
//! hostPath leads to is used and never removed. All here blocks, on paths that may hang: the caller puts it behind
//! [`crate::blocking::Overdue`].
//!
//! What containers may write to is hostile: it is walked by descriptors, no symlink is followed and no mount is crossed.

mod atomic_writer;
mod empty_dir;
mod error;
mod folders;
mod fs_group;
mod host_path;
mod mount_point;
mod mounts;
mod payload;
mod remove;
mod source;
mod sub_path;
#[cfg(test)]
mod test_node;
mod verbs;

pub use empty_dir::on_disk;
pub use error::{VolumeError, VolumeErrors};
pub use source::{ImageVolume, image_volumes};
pub use verbs::{MOST_COUNTED, Refreshed, VolumeInput, Volumes};
