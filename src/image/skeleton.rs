//! A layer made once more from its tar record, without the content of its files, to compare the one
//! on disk with.
//!
//! It is unpacked and completed by the code that unpacked the layer, above the skeletons of the
//! layers below: so it has the directories that were invented, what they inherited, and what
//! overlayfs is told, and no damage of the layers below shows in it.

use super::compare::{Difference, compare};
use super::digest::{Digest, HashingWriter};
use super::error::ImageError;
use super::layers::{Layer, LayerKey, Layers, Part, View};
use super::replay::{Damage, ReplayError, replay};
use super::settle::{Settled, settle};
use super::tar_record::TREE;
use super::tree::{FileKind, Tree, kind_of};
use super::unpack::unpack_hollow;
use std::fs::File;
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layer as it was, in a folder of its own that goes with it.
#[derive(Debug)]
pub(super) struct Skeleton {
    /// For mounts.
    pub(super) layer: Arc<Layer>,
    part: Part,
    settled: Settled,
}

/// A layer whose archive was made again.
#[derive(Debug)]
pub(super) struct Rebuilt {
    /// Files whose content is not what it was.
    pub(super) damaged: Vec<Damage>,
    /// The digest of the archive.
    pub(super) digest: Digest,
    /// None of a layer that needs those below it, when they are not known.
    pub(super) skeleton: Result<Option<Skeleton>, ImageError>,
}

/// Makes the archive of the layer in `folder` again, and unpacks it hollow above the skeletons
/// `below` (lowest first), if these are known.
///
/// # Errors
/// The record is damaged, in the inner result; a folder that cannot be made.
pub(super) fn rebuild(
    layers: &Layers,
    folder: &Path,
    below: Option<&[Arc<Layer>]>,
) -> Result<Result<Rebuilt, ReplayError>, ImageError> {
    let part = layers.begin()?;
    let root = part.root();
    let tree = Tree::open(&root).map_err(|e| ImageError::io("open", &root, e))?;
    let failed = |e| ImageError::io("put together", folder, e);
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    let (replayed, unpacked) = std::thread::scope(|scope| {
        let replaying = std::thread::Builder::new().name("replay".to_owned()).spawn_scoped(
            scope,
            move || {
                let mut archive = HashingWriter::new(BufWriter::with_capacity(64 << 10, writer));
                let replayed = replay(folder, &mut archive);
                // What is left goes out with the writer.
                (replayed, archive.finish().0)
            },
        )?;
        let unpacked = unpack_hollow(&mut reader, &tree);
        // The digest is that of all of it.
        io::copy(&mut reader.by_ref(), &mut io::sink())?;
        let replayed = replaying.join().map_err(|_| io::Error::other("its thread panicked"))?;
        Ok((replayed, unpacked))
    })
    .map_err(failed)?;
    let (replayed, digest) = replayed;
    let damaged = match replayed {
        Ok(damaged) => damaged,
        Err(error) => return Ok(Err(error)),
    };
    let of = digest.clone();
    let unpack_failed = |source| ImageError::Unpack { layer: of.to_string(), source };
    let complete = || -> Result<Option<Skeleton>, ImageError> {
        let unpacked = unpacked.map_err(&unpack_failed)?;
        let lower = match below {
            None if unpacked.needs_lower() => return Ok(None),
            Some(below) if unpacked.needs_lower() && !below.is_empty() => {
                let subject = digest.to_string();
                Some(Tree::from_fd(layers.mount(&subject, below, None, View::default())?))
            }
            _ => None,
        };
        let opaque_root = unpacked.opaque.contains(Path::new(""));
        let settled = settle(unpacked, &tree, lower.as_ref()).map_err(&unpack_failed)?;
        let layer = Arc::new(Layer {
            key: LayerKey::Diff(digest.clone()),
            name: part.file_name(),
            bytes: 0,
            inodes: 0,
            root_entry: false,
            opaque_root,
            record_bytes: 0,
        });
        Ok(Some(Skeleton { layer, part, settled }))
    };
    let skeleton = complete();
    Ok(Ok(Rebuilt { damaged, digest, skeleton }))
}

impl Skeleton {
    /// What of the tree in a layer's folder is not as it was.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub(super) fn compare(&self, folder: &Path) -> io::Result<Vec<Difference>> {
        let (was, is) = (Tree::open(&self.part.root())?, Tree::open(&folder.join(TREE))?);
        compare(&was, &is, &|path| self.settled.times.contains(path))
    }

    /// The files of the tree that are copies of files of lower layers and do not have their content
    /// any more. `below` are the folders of these layers, lowest first; `known` says of which of
    /// their files that is so already.
    pub(super) fn changed_copies(
        &self,
        folder: &Path,
        below: &[PathBuf],
        known: &dyn Fn(usize, &Path) -> bool,
    ) -> io::Result<Vec<PathBuf>> {
        let tree = Tree::open(&folder.join(TREE))?;
        let mut changed = Vec::new();
        for (path, source) in &self.settled.copies {
            for (number, folder) in below.iter().enumerate().rev() {
                let lower = Tree::open(&folder.join(TREE))?;
                let Some(stat) = lower.lookup(source)? else { continue };
                if kind_of(&stat) == FileKind::File
                    && !known(number, source)
                    && let Ok(copy) = tree.file(path)
                    && !same_content(&copy, &lower.file(source)?)?
                {
                    changed.push(path.clone());
                }
                break;
            }
        }
        Ok(changed)
    }
}

fn same_content(a: &File, b: &File) -> io::Result<bool> {
    let (mut a, mut b) = (io::BufReader::new(a), io::BufReader::new(b));
    loop {
        use io::BufRead as _;
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let n = left.len().min(right.len());
        if left.get(..n) != right.get(..n) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        a.consume(n);
        b.consume(n);
    }
}
