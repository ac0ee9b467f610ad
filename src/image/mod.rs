//! Images: content by digest, layers unpacked once, and a writable layer a container.
//!
//! [`Images`] is the whole store. A pull (`pull`, `registry`) or an import (`import`, `archive`)
//! becomes a plan; `assemble` fetches its layers, several at a time, in one pass each (`intake`:
//! verify, decompress, `unpack`), completes them bottom-up (`settle`), commits them (`layers`), and
//! makes the image visible by one record (`store`, with `index` for names). `snapshot` and `overlay` mount it for a
//! container.
//!
//! What always holds: nothing is visible before its digests are verified and it is synced; lists
//! and look-ups are answered from memory; an archive, however hostile, reaches nothing outside its
//! layer; what no image, snapshot or pull uses is collected.
//!
//! OCI image spec 1.1, distribution spec 1.1, Docker's image manifest v2 schema 2 and tarball.

mod archive;
mod aside;
mod assemble;
mod check;
mod compare;
mod content;
mod digest;
mod entry;
mod error;
mod export;
mod gc;
mod images;
mod import;
mod index;
mod info;
mod intake;
mod layers;
mod layout_file;
mod manifest;
mod mend;
mod metadata;
mod overlay;
mod pins;
mod policy;
mod progress;
mod prune;
mod pull;
mod reference;
mod registry;
mod replay;
mod settle;
mod skeleton;
mod snapshot;
mod store;
mod tar_record;
mod tree;
mod unpack;
mod usage;

pub use check::{CheckedLayer, Description, LayerInfo, Verified};
pub use digest::{Digest, InvalidDigest};
pub use error::ImageError;
pub use export::Exported;
pub use gc::{Goal, Prune, Which};
pub use images::Images;
pub use info::{Auth, FsUsage, ImageInfo, ImageSpec, Phase, Progress, ProgressEvent};
pub use layers::View;
pub use prune::{Pretend, Pruned, PrunedImage};
pub use reference::Reference;
pub use registry::{RegistryError, credentials_for};
pub use snapshot::try_id_mapped;
pub use unpack::UnpackError;
pub(crate) use usage::{TreeUse, disk_use};

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod exact_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod mend_tests;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod pull_tests;
#[cfg(test)]
mod registry_fixture;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod skopeo_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod umoci_tests;
#[cfg(test)]
mod unpack_tests;
