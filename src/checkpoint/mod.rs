//! Checkpoints of containers and pods by criu, and their way back.
//!
//! A checkpoint is taken of containers that stand still: all are frozen, criu writes the processes of each,
//! what each has written is archived, and all go on, whatever happened in between. What was begun is in a
//! journal, so that a start of the daemon lets paused containers go on and removes what is not whole.
//!
//! A restored container is CREATED: its process images are copied beside its writable layer, and its start is a
//! `criu restore` below the shim, which becomes the parent of what comes back.
//!
//! * `command`: criu and tar as helpers of a sandbox;
//! * `process`: what of a process belongs to the pod and not to the images;
//! * `pause`: containers that stand still for as long as a value lives;
//! * `saved`: the files of a checkpoint;
//! * `dump`: paused containers to files;
//! * `journal`: what is at work, and its repair;
//! * `restore`: files to a container that can be started.

mod command;
mod dump;
mod error;
mod journal;
mod pause;
mod process;
mod restore;
mod saved;

pub use command::Criu;
pub use dump::{Archive, Folder, Subject, Way, to_archive, to_folder};
pub use error::CheckpointError;
pub use journal::{Left, repair};
pub use restore::{RestoreFrom, fill, prepare};
pub use saved::{Cover, Place, SavedContainer, SavedPod, read_container, read_pod};
