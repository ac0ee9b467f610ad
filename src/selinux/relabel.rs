//! `selinux_relabel`: the source of a mount, and all below it, gets its pod's label.
//!
//! Private to the pod, as with containerd: the label has the pod's categories, so that the last pod that
//! mounts a folder is the one that can use it. By descriptor: symlinks are labelled and not
//! followed, and what another mount covers is left alone. A file that has the label already costs one
//! read. A file system without labels of its own (EOPNOTSUPP: NFS, many FUSE ones) has that of its
//! mount, which is the node's to arrange.

use super::SelinuxError;
use crate::sys::fds;
use nix::dir::{Dir, OwningIter};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The attribute that holds a label.
const XATTR: &str = "security.selinux";
/// How many folders may be in each other: more than a path can name.
const MAX_DEPTH: usize = 2048;
/// Folders of the system: under another label the host's own services could not use them.
const SYSTEM: [&str; 31] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/system",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// What must keep its label beside the folders of the system: berth's own, and what they are in.
#[derive(Clone, Copy, Debug)]
pub struct Forbidden<'a>(pub &'a [&'a Path]);

impl Forbidden<'_> {
    fn holds(self, path: &Path) -> bool {
        SYSTEM.iter().any(|system| Path::new(system) == path)
            || self.0.iter().any(|own| own.starts_with(path))
    }
}

/// Labels a tree. `wanted` says whether anybody still waits for it. Blocks.
///
/// # Errors
/// A folder of the system; a file that cannot be labelled; [`SelinuxError::Late`].
pub fn relabel(
    source: &Path,
    label: &str,
    forbidden: Forbidden<'_>,
    wanted: impl Fn() -> bool,
) -> Result<(), SelinuxError> {
    let file = |operation| {
        move |source_error: io::Error| SelinuxError::File {
            operation,
            path: source.to_owned(),
            source: source_error,
        }
    };
    let root = nix::fcntl::open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.map_err(|e| file("open")(e.into()))?;
    // Of what was opened: a link may be another by now.
    let real = std::fs::read_link(by_fd(root.as_fd())).map_err(file("find"))?;
    let named: PathBuf = source.components().collect();
    if let Some(path) = [named, real].into_iter().find(|path| forbidden.holds(path)) {
        return Err(SelinuxError::Forbidden { path });
    }
    Walk { source, label, mount: fds::mount_id(root.as_fd()).map_err(file("look at"))? }
        .tree(root, &wanted)
}

/// Labels one file, which is no symlink.
///
/// # Errors
/// The kernel's refusal.
pub fn set_label(path: &Path, label: &str) -> Result<(), SelinuxError> {
    set(path, label).map_err(|source| SelinuxError::File {
        operation: "set the SELinux label of",
        path: path.to_owned(),
        source,
    })
}

fn look() -> OFlag {
    OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Follows `path`: it leads by a descriptor.
fn set(path: &Path, label: &str) -> io::Result<()> {
    // The kernel answers with the final NUL, and takes a label with or without.
    let has = xattr::get_deref(path, XATTR).unwrap_or_default().unwrap_or_default();
    if has.strip_suffix(b"\0").unwrap_or(&has) == label.as_bytes() {
        return Ok(());
    }
    match xattr::set_deref(path, XATTR, label.as_bytes()) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            tracing::debug!(path = %path.display(), "a file system without labels");
            Ok(())
        }
        other => other,
    }
}

fn by_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

struct Walk<'a> {
    source: &'a Path,
    label: &'a str,
    /// The mount that is labelled.
    mount: u64,
}

/// A folder on the way: labelled when all in it is.
struct Folder {
    fd: OwnedFd,
    entries: OwningIter,
}

impl Walk<'_> {
    fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> SelinuxError {
        let path = self.source.to_owned();
        move |source| SelinuxError::File { operation, path: path.clone(), source }
    }

    fn label(&self, fd: BorrowedFd<'_>) -> Result<(), SelinuxError> {
        set(&by_fd(fd), self.label).map_err(|source| {
            let path = std::fs::read_link(by_fd(fd)).unwrap_or_else(|_| self.source.to_owned());
            SelinuxError::File { operation: "set the SELinux label of", path, source }
        })
    }

    /// The root last: who finds it labelled finds everything so.
    fn tree(&self, root: OwnedFd, wanted: &dyn Fn() -> bool) -> Result<(), SelinuxError> {
        let mut stack = Vec::new();
        self.one(root, &mut stack)?;
        while let Some(top) = stack.last_mut() {
            if !wanted() {
                return Err(SelinuxError::Late { path: self.source.to_owned() });
            }
            let Some(entry) = top.entries.next() else {
                let done = stack.pop();
                done.map_or(Ok(()), |folder| self.label(folder.fd.as_fd()))?;
                continue;
            };
            let entry = entry.map_err(|e| self.failed("list a folder of")(e.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match openat(&top.fd, name, look(), Mode::empty()) {
                Ok(fd) => self.one(fd, &mut stack)?,
                // Removed meanwhile, by somebody who has the folder mounted already.
                Err(nix::errno::Errno::ENOENT) => {}
                Err(e) => return Err(self.failed("open a file of")(e.into())),
            }
        }
        Ok(())
    }

    /// Labels a file, or puts a folder on the stack.
    fn one(&self, fd: OwnedFd, stack: &mut Vec<Folder>) -> Result<(), SelinuxError> {
        let look_at = self.failed("look at a file of");
        if fds::mount_id(fd.as_fd()).map_err(&look_at)? != self.mount {
            return Ok(());
        }
        let kind = fstat(&fd).map_err(|e| look_at(e.into()))?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFDIR.bits() {
            return self.label(fd.as_fd());
        }
        if stack.len() == MAX_DEPTH {
            return Err(SelinuxError::Deep { path: self.source.to_owned(), limit: MAX_DEPTH });
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let entries = Dir::openat(&fd, ".", flags, Mode::empty())
            .map_err(|e| self.failed("open a folder of")(e.into()))?
            .into_iter();
        stack.push(Folder { fd, entries });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn no_folders() -> Forbidden<'static> {
        Forbidden(&[])
    }

    #[test]
    fn folders_of_the_system_are_refused_however_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let rows =
            ["/", "/etc", "/etc/", "//usr", "/usr/.", "/home", "/var/lib", "/usr/bin", "/bin"];
        for path in rows.map(PathBuf::from).into_iter().chain([link]) {
            let error = relabel(&path, LABEL, no_folders(), || true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", path.display());
            assert!(error.to_string().contains("folder of the system"), "{error}");
        }
    }

    #[test]
    fn what_holds_berths_own_state_is_refused_and_what_is_beside_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::canonicalize(dir.path()).unwrap();
        let state = dir.join("a/state");
        for (path, refused) in [("", true), ("a", true), ("a/state", true), ("a/other", false)] {
            let path = dir.join(path);
            assert_eq!(Forbidden(&[&state]).holds(&path), refused, "{}", path.display());
        }
    }

    #[test]
    fn a_tree_is_labelled_without_what_its_links_lead_to() {
        // The kernel stores the attribute with or without SELinux, for root.
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), "").unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        relabel(&tree, LABEL, no_folders(), || true).unwrap();
        // A second time there is nothing to do.
        relabel(&tree, LABEL, no_folders(), || true).unwrap();
        let of = |path: &Path| xattr::get(path, XATTR).unwrap();
        for path in ["", "a", "a/b", "a/b/file", "link"] {
            assert_eq!(of(&tree.join(path)).as_deref(), Some(LABEL.as_bytes()), "{path}");
        }
        assert_eq!(of(&outside), None);
    }

    #[test]
    fn a_walk_that_nobody_waits_for_ends_and_a_missing_source_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = relabel(dir.path(), LABEL, no_folders(), || false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        let missing = dir.path().join("missing");
        let error = relabel(&missing, LABEL, no_folders(), || true).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
