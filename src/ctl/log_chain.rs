//! The files of a log that is rotated: the newest has the log's name, older ones that name, a dot, the time of their
//! rotation, and `.gz` when they are compressed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file of the log that is not the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rotated {
    /// The name without `.gz`: compressing a file does not make it another. Names are in the order of time.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Rotated {
    /// Whether it is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.path.extension() == Some(OsStr::new("gz"))
    }

    /// Its content.
    pub(super) fn open(&self) -> io::Result<Opened> {
        let file = File::open(&self.path)?;
        if self.is_compressed() {
            return Ok(Opened::Packed(Box::new(flate2::read::MultiGzDecoder::new(file))));
        }
        Ok(Opened::Plain(file))
    }

    fn inode(&self) -> Option<(u64, u64)> {
        let about = self.path.metadata().ok()?;
        Some((about.dev(), about.ino()))
    }
}

/// A file of the log that is read.
pub(super) enum Opened {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Packed(_) => "Packed",
        })
    }
}

/// The older files of the log at `path`, the oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(folder), Some(log)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return Ok(Vec::new());
    };
    let mut all: Vec<Rotated> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(OsStr::to_str) else { continue };
        let name = file.strip_suffix(".gz").unwrap_or(file);
        let stamp = name.strip_prefix(log).and_then(|rest| rest.strip_prefix('.'));
        // What is being compressed has another end, and its source is still there.
        if stamp.is_some_and(is_stamp) {
            all.push(Rotated { name: name.to_owned(), path: path.clone() });
        }
    }
    // Of a file and its compressed self, for the moment in which there are both, the file comes first.
    all.sort();
    all.dedup_by(|later, first| later.name == first.name);
    Ok(all)
}

/// `20260101-120000`, in whatever way the numbers are set apart.
fn is_stamp(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | 'T' | 'Z' | ':' | '.'))
}

/// The file that is meant among `all`: by its inode, else by its name.
pub(super) fn place_of(all: &[Rotated], inode: (u64, u64), name: Option<&str>) -> Option<usize> {
    let by_inode = all.iter().position(|of| !of.is_compressed() && of.inode() == Some(inode));
    by_inode.or_else(|| {
        // One that was removed since is the one before those that are newer.
        let name = name?;
        let newer = all.iter().position(|of| of.name.as_str() > name).unwrap_or(all.len());
        newer.checked_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let file = |of: Rotated| of.path.file_name().unwrap().to_string_lossy().into_owned();
        rotated(&dir.join("0.log")).unwrap().into_iter().map(file).collect()
    }

    #[test]
    fn older_files_come_in_the_order_of_their_times() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "0.log",
            "0.log.20260102-000000",
            "0.log.20260101-000000.gz",
            "0.log.20260103-000000.gz.tmp",
            "0.log.20260103-000000",
            "0.log.20260103-000000.gz",
            "0.log.old",
            "1.log.20260101-000000",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(
            names(dir.path()),
            ["0.log.20260101-000000.gz", "0.log.20260102-000000", "0.log.20260103-000000"]
        );
    }

    #[test]
    fn a_file_is_found_by_its_inode_and_by_its_name_once_it_is_compressed_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0.log.1", "0.log.2", "0.log.4.gz"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let all = rotated(&dir.path().join("0.log")).unwrap();
        let about = dir.path().join("0.log.2").metadata().unwrap();
        assert_eq!(place_of(&all, (about.dev(), about.ino()), None), Some(1));
        assert_eq!(place_of(&all, (0, 0), Some("0.log.4")), Some(2));
        assert_eq!(place_of(&all, (0, 0), Some("0.log.3")), Some(1), "it is gone");
        assert_eq!(place_of(&all, (0, 0), Some("0.log.0")), None, "all are newer");
        assert_eq!(place_of(&all, (0, 0), None), None);
    }
}
