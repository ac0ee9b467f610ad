//! One pass over a layer's blob: verify, keep, decompress, unpack.
//!
//! The bytes are hashed as they come and, with `keep_blobs`, written to an ingest file; behind a
//! gzip or zstd decoder, chosen by what the bytes say, they are hashed again for the diff id and
//! unpacked. Nothing of it is visible before both digests are known to be right. Runs on a blocking
//! thread.

use super::content::Ingest;
use super::digest::{Digest, HashingReader};
use super::error::ImageError;
use super::info::Phase;
use super::progress::LayerProgress;
use super::tar_record::Recorder;
use super::tree::Tree;
use super::unpack::{Limits, UnpackError, Unpacked, unpack};
use std::io::{self, BufReader, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many bytes pass between two progress events.
const PROGRESS_STEP: u64 = 256 << 10;
const BUFFER: usize = 128 << 10;

/// What a layer's blob must be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The blob's name in messages.
    pub(super) name: String,
    /// The digest of the blob; `None`: only the diff id is known.
    pub(super) digest: Option<Digest>,
    /// The size of the blob.
    pub(super) size: u64,
    /// The digest of the uncompressed archive.
    pub(super) diff_id: Digest,
}

/// Set when nobody waits for the layer any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// A guard that cancels when dropped.
    pub(super) fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// See [`Cancelled::on_drop`].
#[derive(Debug)]
pub(super) struct CancelOnDrop(Cancelled);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The compressed stream on its way in.
pub(super) struct Intake<R> {
    inner: R,
    keep: Option<Ingest>,
    progress: LayerProgress,
    cancelled: Cancelled,
    limit: u64,
    read: u64,
    told: u64,
    /// A read failed after bytes were taken: what would come now is not what follows them.
    broken: bool,
}

impl<R: Read> Intake<R> {
    pub(super) fn new(
        inner: R,
        limit: u64,
        keep: Option<Ingest>,
        progress: LayerProgress,
        cancelled: Cancelled,
    ) -> Self {
        Self { inner, keep, progress, cancelled, limit, read: 0, told: 0, broken: false }
    }
}

impl<R: Read> Read for Intake<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("read after a failure"));
        }
        let taken = self.take_some(buffer);
        self.broken = taken.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        taken
    }
}

impl<R: Read> Intake<R> {
    fn take_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        if self.read > self.limit {
            return Err(io::Error::other(format!("more than the {} bytes promised", self.limit)));
        }
        if let (Some(keep), Some(read)) = (&mut self.keep, buffer.get(..n)) {
            keep.write_all(read)?;
        }
        if self.read >= self.told + PROGRESS_STEP {
            self.told = self.read;
            self.progress.tell(Phase::Unpacking, self.read);
        }
        Ok(n)
    }
}

/// Unpacks a layer's blob into `tree` and verifies it. Answers what is left to do, and the blob if
/// it is kept.
///
/// # Errors
/// [`ImageError::Mismatch`] when the blob is not what was promised, [`ImageError::Unpack`].
pub(super) fn take_in<R: Read>(
    intake: Intake<R>,
    expected: &Expected,
    tree: &Tree,
    limits: Limits,
    recorder: Recorder,
) -> Result<(Unpacked, Option<Ingest>), ImageError> {
    let mut blob = HashingReader::new(intake);
    let unpacked = decode(&mut blob)
        .map_err(UnpackError::Archive)
        .and_then(|archive| unpack(archive, tree, limits, recorder));
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked,
        Err(UnpackError::Archive(source)) => {
            // A damaged blob is a better answer than where the decoder noticed it.
            if let Err(damaged @ ImageError::Mismatch { .. }) = check_blob(blob, expected) {
                return Err(damaged);
            }
            let source = UnpackError::Archive(source);
            return Err(ImageError::Unpack { layer: expected.name.clone(), source });
        }
        Err(source) => return Err(ImageError::Unpack { layer: expected.name.clone(), source }),
    };
    let intake = check_blob(blob, expected)?;
    if unpacked.diff_id != expected.diff_id {
        return Err(ImageError::Mismatch {
            subject: format!("uncompressed layer {}", expected.name),
            expected: expected.diff_id.to_string(),
            found: unpacked.diff_id.to_string(),
        });
    }
    Ok((unpacked, intake.keep))
}

/// Reads the blob to its end and compares size and digest.
fn check_blob<R: Read>(
    blob: HashingReader<Intake<R>>,
    expected: &Expected,
) -> Result<Intake<R>, ImageError> {
    let (digest, bytes, intake) = blob.finish().map_err(|e| ImageError::Unpack {
        layer: expected.name.clone(),
        source: UnpackError::Archive(e),
    })?;
    let mismatch = |expected_text: String, found: String| ImageError::Mismatch {
        subject: format!("layer {}", expected.name),
        expected: expected_text,
        found,
    };
    if bytes != expected.size {
        return Err(mismatch(format!("{} bytes", expected.size), format!("{bytes} bytes")));
    }
    match &expected.digest {
        Some(wanted) if *wanted != digest => Err(mismatch(wanted.to_string(), digest.to_string())),
        _ => Ok(intake),
    }
}

/// The uncompressed stream, by the magic numbers of gzip (RFC 1952) and zstd (RFC 8878). Media types
/// are not asked: archives have none, and registries have served wrong ones.
fn decode<'r>(mut stream: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut magic = Vec::with_capacity(4);
    (&mut stream).take(4).read_to_end(&mut magic)?;
    let kind = magic.clone();
    let stream = BufReader::with_capacity(BUFFER, io::Cursor::new(magic).chain(stream));
    Ok(match kind.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        _ => Box::new(stream),
    })
}

#[cfg(test)]
mod tests {
    use super::super::progress::Listeners;
    use super::*;
    use crate::error::ErrorKind;

    /// Has some bytes, fails once, and then has no more.
    struct Failing(u8);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => {
                    buffer[..4].fill(0x1f);
                    Ok(4)
                }
                2 => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn a_failure_on_the_way_is_told_and_not_what_is_missing_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let progress = LayerProgress::new(&Listeners::default(), "image", "layer", 10);
        let intake = Intake::new(Failing(0), 10, None, progress, Cancelled::default());
        let digest = Digest::of(b"x");
        let expected = Expected { name: "l".into(), digest: None, size: 10, diff_id: digest };
        let limits = Limits { bytes: 1 << 20, entries: 10 };
        let tree = Tree::open(folder.path()).unwrap();
        let error = take_in(intake, &expected, &tree, limits, Recorder::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    }
}
