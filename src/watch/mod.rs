//! Folders that are watched for changes, by one inotify(7) instance in the whole process.
//!
//! Instances are few on a node (128 a user where nothing else is set), so that everything that watches shares
//! one: the CNI configuration, the manifest directories. A folder need not exist, and may come back.
//!
//! One thread reads the events and calls back. It begins with the first folder and ends when the last
//! [`Watcher`] and [`Watch`] are gone.

mod folder;
mod watcher;

pub use folder::Change;
pub use watcher::{Watch, Watcher};
