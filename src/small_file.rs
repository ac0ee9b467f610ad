//! Small files of the node's: profiles, policies, keys.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// No such file is larger, bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a file whole. Blocks on the disk, and on nothing else.
///
/// # Errors
/// Those of open(2) and read(2); InvalidInput for what is no regular file, InvalidData for one that is
/// larger than 1 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 1 MiB")),
        false => Ok(bytes),
    }
}
