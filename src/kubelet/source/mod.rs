//! Where pods come from: a directory, a URL, the control socket.
//!
//! Each source tells its full set, every time something in it changed; what an [`Update`] does not have is to end.
//! The first one comes always, also when there is nothing: until every source has told one, nothing of an earlier
//! life may be cleaned up.
//!
//! A text is taken as a whole or not at all. One that is bad does not touch other texts, and where it was good before,
//! its pods go on as they were: an edit that is half done ends nothing.
//!
//! * [`read`]: texts to an update, pure; the same for all sources.
//! * [`file`], [`http`], [`local`]: where the texts come from.

mod file;
mod files;
mod http;
mod local;
mod local_files;
mod pending;
mod read;
mod update;

pub use file::FileSource;
pub use http::HttpSource;
pub use local::{Existing, Kind, LocalError, LocalPods, Outcome, Stored};
pub use read::{Reader, Text};
pub use update::{FileStatus, Source, SourcePod, Update};

/// No text is longer, bytes.
pub const MOST_BYTES: u64 = 10 << 20;

crate::error::kinded!(LocalError);
