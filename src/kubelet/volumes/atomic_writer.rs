//! The files of a volume, replaced as one: a reader that opens `..data` sees all of one generation, or all of the next.
//!
//! ```text
//! ..g.Xy12Ab/app/conf     the files of a generation
//! ..data -> ..g.Xy12Ab    replaced by rename(2)
//! app -> ..data/app       what containers see, one link a first component
//! ```
//!
//! New links are made after the rename, stale ones removed after it, so that no link ever leads nowhere that will or did
//! lead somewhere in both generations. The generation before stays until the next call: a reader that followed `..data`
//! just before the rename still finds what it came for.
//!
//! The volume's folder is berth's alone: containers have it read-only. A crash between any two steps is repaired by the
//! next call.

use super::error::VolumeError;
use super::payload::Payload;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
const LINK_NEW: &str = "..link_tmp";
/// All of the writer's own names begin so, and none of a payload does.
const OWN: &str = "..";
/// mkdtemp(3) replaces the Xs.
const GENERATION: &str = "..g.XXXXXX";

/// Whether there was anything to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Content, mode, owner and names are as they were.
    Same,
    /// A new generation is there.
    Changed,
}

/// A file as it is on disk: content, permission bits, owner, group.
type OnDisk = (Vec<u8>, u32, u32, u32);

/// Brings the volume at `root` to `payload`, with files that `group` may read.
///
/// # Errors
/// The step that failed. The generation before stands, if the new one could not be written.
pub(super) fn write(
    root: &Path,
    payload: &Payload,
    group: Option<u32>,
) -> Result<Written, VolumeError> {
    make_root(root, group)?;
    let current = current(root)?;
    let wanted = wanted(payload, group);
    let same = current.as_ref().is_some_and(|name| read(&root.join(name)).ok() == Some(wanted));
    let (kept, written): (Vec<String>, _) = if same {
        (current.into_iter().collect(), Written::Same)
    } else {
        let new = write_generation(root, payload, group)?;
        publish(root, &new)?;
        (current.into_iter().chain([new]).collect(), Written::Changed)
    };
    link(root, payload)?;
    sweep(root, payload, &kept)?;
    Ok(written)
}

/// The bits that a group adds: what it may read, it may read.
fn group_bits(group: Option<u32>) -> u32 {
    if group.is_some() { 0o440 } else { 0 }
}

fn wanted(payload: &Payload, group: Option<u32>) -> BTreeMap<String, OnDisk> {
    let file = |file: &super::payload::File| {
        (file.bytes.clone(), file.mode | group_bits(group), file.user, group.unwrap_or(0))
    };
    payload.iter().map(|(path, f)| (path.clone(), file(f))).collect()
}

fn make_root(root: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(VolumeError::io("create the volume", root)(e));
        }
        _ => {}
    }
    own_folder(root, group, 0o777)
}

/// A folder's group and mode; the umask has no say.
fn own_folder(path: &Path, group: Option<u32>, mode: u32) -> Result<(), VolumeError> {
    let set_gid = if group.is_some() { 0o2110 } else { 0 };
    std::os::unix::fs::chown(path, Some(0), Some(group.unwrap_or(0)))
        .and_then(|()| {
            let mode = mode | group_bits(group) | set_gid;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })
        .map_err(VolumeError::io("set the owner and mode of", path))
}

/// The name of the generation that is there.
fn current(root: &Path) -> Result<Option<String>, VolumeError> {
    let link = root.join(DATA);
    match fs::read_link(&link) {
        Ok(target) => Ok(target.to_str().filter(|name| is_generation(name)).map(str::to_owned)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(VolumeError::io("read the link", &link)(e)),
    }
}

fn is_generation(name: &str) -> bool {
    name.starts_with(OWN) && !name.contains('/') && !matches!(name, ".." | DATA | DATA_NEW)
}

/// All files below a generation; what else there may be makes it differ.
fn read(generation: &Path) -> io::Result<BTreeMap<String, OnDisk>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(generation.join(&folder))? {
            let entry = entry?;
            let odd = || io::Error::from(io::ErrorKind::InvalidData);
            let name = entry.file_name().into_string().map_err(|_| odd())?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                todo.push(path);
            } else if metadata.is_file() {
                let bytes = fs::read(entry.path())?;
                let mode = metadata.permissions().mode() & 0o7777;
                found.insert(path, (bytes, mode, metadata.uid(), metadata.gid()));
            } else {
                return Err(odd());
            }
        }
    }
    Ok(found)
}

/// Writes the files into a folder of their own and answers its name.
fn write_generation(
    root: &Path,
    payload: &Payload,
    group: Option<u32>,
) -> Result<String, VolumeError> {
    let folder = nix::unistd::mkdtemp(&root.join(GENERATION))
        .map_err(VolumeError::io("create a folder in", root))?;
    let fill = || -> Result<(), VolumeError> {
        own_folder(&folder, group, 0o755)?;
        payload.iter().try_for_each(|(path, file)| write_file(&folder, path, file, group))
    };
    fill().inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
    Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn write_file(
    folder: &Path,
    path: &str,
    file: &super::payload::File,
    group: Option<u32>,
) -> Result<(), VolumeError> {
    let mut parent = folder.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        parent.push(part);
        match fs::create_dir(&parent) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(VolumeError::io("create the folder", &parent)(e)),
            Ok(()) => own_folder(&parent, group, 0o755)?,
        }
    }
    let path = folder.join(path);
    let write = || -> io::Result<()> {
        let mut open = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        open.write_all(&file.bytes)?;
        std::os::unix::fs::fchown(&open, Some(file.user), Some(group.unwrap_or(0)))?;
        open.set_permissions(fs::Permissions::from_mode(file.mode | group_bits(group)))
    };
    write().map_err(VolumeError::io("write", &path))
}

/// `..data` becomes a link to the generation.
fn publish(root: &Path, generation: &str) -> Result<(), VolumeError> {
    replace_link(&root.join(DATA_NEW), generation, &root.join(DATA))
}

fn replace_link(beside: &Path, target: &str, path: &Path) -> Result<(), VolumeError> {
    let replace = || -> io::Result<()> {
        match fs::remove_file(beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::os::unix::fs::symlink(target, beside)?;
        fs::rename(beside, path)
    };
    replace().map_err(VolumeError::io("replace the link", path))
}

/// The first components of the payload's paths.
fn names(payload: &Payload) -> BTreeSet<&str> {
    payload.keys().filter_map(|path| path.split('/').next()).collect()
}

fn link(root: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for name in names(payload) {
        let (path, target) = (root.join(name), format!("{DATA}/{name}"));
        if fs::read_link(&path).is_ok_and(|has| has == Path::new(&target)) {
            continue;
        }
        replace_link(&root.join(LINK_NEW), &target, &path)?;
    }
    Ok(())
}

/// Removes the names that the payload no longer has, and generations but those.
fn sweep(root: &Path, payload: &Payload, kept: &[String]) -> Result<(), VolumeError> {
    let names = names(payload);
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(root)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    for path in list().map_err(VolumeError::io("list", root))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == DATA || kept.contains(&name) || names.contains(name.as_str()) {
            continue;
        }
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(VolumeError::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "atomic_writer_tests.rs"]
mod tests;
