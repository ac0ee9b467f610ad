//! Images: content by digest, layers unpacked once, and a writable layer a container.

mod error;
mod images;
mod info;
mod unpack;

pub use error::ImageError;
pub use images::Images;
pub use info::{Auth, FsUsage, ImageInfo, ImageSpec, Phase, Progress, ProgressEvent};
pub use unpack::UnpackError;
