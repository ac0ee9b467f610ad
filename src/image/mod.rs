//! Images: content by digest, layers unpacked once, and a writable layer a container.

mod archive;
mod assemble;
mod content;
mod digest;
mod entry;
mod error;
mod images;
mod import;
mod info;
mod intake;
mod layers;
mod manifest;
mod overlay;
mod progress;
mod pull;
mod reference;
mod registry;
mod settle;
mod snapshot;
mod store;
mod tree;
mod unpack;
mod usage;

pub use digest::{Digest, InvalidDigest};
pub use error::ImageError;
pub use images::Images;
pub use info::{Auth, FsUsage, ImageInfo, ImageSpec, Phase, Progress, ProgressEvent};
pub use reference::Reference;
pub use unpack::UnpackError;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod pull_tests;
#[cfg(test)]
mod registry_fixture;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod unpack_tests;
