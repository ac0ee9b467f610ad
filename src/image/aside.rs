//! Files that a later entry of their archive replaces: they leave the tree, and are kept beside it for
//! the archive to be made again.

use super::tree::{FileKind, Tree, kind_of, stat_at};
use crate::sys::path::{Resolve, open_in};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The folder of replaced files, in the layer's own.
pub(super) const ASIDE: &str = "x";

/// What has left the tree of one layer.
#[derive(Debug)]
pub(super) struct Aside {
    /// The layer's folder.
    folder: OwnedFd,
    taken: u64,
    /// By inode: copies of files that have other names in the tree. An inode with content never goes:
    /// its last name is moved here. So each is copied once, however often an archive links to it.
    copies: HashMap<u64, String>,
}

impl Aside {
    pub(super) fn new(folder: OwnedFd) -> Self {
        Self { folder, taken: 0, copies: HashMap::new() }
    }

    /// Takes `name` out of its directory. Answers where it is now, a path in the layer's folder. What
    /// stays in the tree has no names but those there.
    pub(super) fn take(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
        if self.taken == 0 {
            mkdirat(self.folder.as_fd(), ASIDE, Mode::S_IRWXU)?;
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let aside = openat(self.folder.as_fd(), ASIDE, flags, Mode::empty())?;
        let stat = stat_at(dir, name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let kind = kind_of(&stat);
        let number = if kind == FileKind::File && stat.st_nlink > 1 {
            let number = self.copy(&aside, dir, name, stat.st_ino)?;
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            number
        } else {
            let number = self.next();
            renameat2(dir, name, &aside, number.as_str(), RenameFlags::RENAME_NOREPLACE)?;
            if kind == FileKind::Directory {
                self.part(&aside, &number)?;
            }
            number
        };
        Ok(Path::new(ASIDE).join(number))
    }

    fn next(&mut self) -> String {
        let number = self.taken.to_string();
        self.taken += 1;
        number
    }

    /// A copy of a file that stays in the tree by another name.
    fn copy(
        &mut self,
        aside: &OwnedFd,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        inode: u64,
    ) -> io::Result<String> {
        if let Some(known) = self.copies.get(&inode) {
            return Ok(known.clone());
        }
        let number = self.next();
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut from: File = openat(dir, name, flags, Mode::empty())?.into();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let to = openat(aside, number.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        io::copy(&mut from, &mut File::from(to))?;
        self.copies.insert(inode, number.clone());
        Ok(number)
    }

    /// Parts a directory that was taken from the tree: its files with names in both become two.
    fn part(&mut self, aside: &OwnedFd, number: &str) -> io::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let tree = Tree::from_fd(openat(aside, number, flags, Mode::empty())?);
        for (inode, linked) in linked(&tree)? {
            if u64::try_from(linked.names.len()).is_ok_and(|names| names == linked.links) {
                continue;
            }
            for path in linked.names {
                let dir = tree.dir(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                let copy = match linked.has_content {
                    true => Some(self.copy(aside, dir.as_fd(), name, inode)?),
                    // No record asks for it.
                    false => None,
                };
                unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)?;
                if let Some(copy) = copy {
                    linkat(aside, copy.as_str(), &dir, name, AtFlags::empty())?;
                }
            }
        }
        Ok(())
    }
}

/// A file with several names, some of which are in one tree.
struct Linked {
    links: u64,
    has_content: bool,
    names: Vec<PathBuf>,
}

/// The files of a tree that have several names, by inode.
fn linked(tree: &Tree) -> io::Result<HashMap<u64, Linked>> {
    let mut found: HashMap<u64, Linked> = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let mut dir = Dir::from_fd(open_in(tree.root(), here, flags, 0, Resolve::NoSymlinks)?)?;
        let names: Vec<_> =
            dir.iter().map(|e| e.map(|e| e.file_name().to_owned())).collect::<Result<_, _>>()?;
        for name in &names {
            let name = OsStr::from_bytes(name.to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let Some(stat) = stat_at(dir.as_fd(), name)? else { continue };
            let kind = kind_of(&stat);
            if kind == FileKind::Directory {
                todo.push(path.join(name));
            } else if stat.st_nlink > 1 {
                let has_content = kind == FileKind::File && stat.st_size > 0;
                let new = || Linked { links: stat.st_nlink, has_content, names: Vec::new() };
                found.entry(stat.st_ino).or_insert_with(new).names.push(path.join(name));
            }
        }
    }
    Ok(found)
}
