//! Sources of bind mounts: resolved in the daemon, in the host's mount namespace, and passed on as
//! detached mounts complete with attributes and propagation.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::fcntl::AT_FDCWD;

use super::error::OciError;
use super::options::Options;
use crate::sys::fds;
use crate::sys::mount::{self, Change, Propagation, Reach, attr};
use crate::sys::path::c_path;

/// How a mount stands in the propagation of events (mountinfo's optional fields).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peers {
    shared: bool,
    slave: bool,
}

/// Clones the mount at `source`; a missing source is made as a directory, as others do. Its ids are
/// mapped by the user namespace `space`.
///
/// # Errors
/// [`OciError::Source`], [`OciError::Propagation`].
pub(super) fn clone_source(
    source: &Path,
    target: &Path,
    options: &Options,
    space: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, OciError> {
    let failed = |operation| refused(operation, source, target);
    let reach = options.bind.unwrap_or(Reach::Tree);
    let name = c_path(source).map_err(failed("open"))?;
    let clone = match mount::clone_tree(AT_FDCWD, &name, reach) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            make_directory(source).map_err(failed("create"))?;
            mount::clone_tree(AT_FDCWD, &name, reach)
        }
        other => other,
    }
    .map_err(failed("open"))?;

    check_propagation(source, target, options.propagation.map_or(Propagation::Private, |p| p.0))?;
    adapt(clone, source, target, (options, space))
}

/// A detached mount that stands for a source, with the attributes that are asked for.
///
/// # Errors
/// [`OciError::Source`].
pub(super) fn take_volume(
    volume: &OwnedFd,
    source: &Path,
    target: &Path,
    options: &Options,
) -> Result<OwnedFd, OciError> {
    let copy = volume.try_clone().map_err(refused("copy the descriptor of", source, target))?;
    adapt(copy, source, target, (options, None))
}

/// Says what could not be done with a mount's source.
fn refused(
    operation: &'static str,
    source: &Path,
    target: &Path,
) -> impl FnOnce(std::io::Error) -> OciError {
    move |error| OciError::Source {
        operation,
        path: source.to_owned(),
        target: target.to_owned(),
        source: error,
    }
}

/// Gives a detached mount its propagation, attributes and id map.
fn adapt(
    clone: OwnedFd,
    source: &Path,
    target: &Path,
    (options, space): (&Options, Option<BorrowedFd<'_>>),
) -> Result<OwnedFd, OciError> {
    let failed = |operation| refused(operation, source, target);
    let (propagation, of) = options.propagation.unwrap_or((Propagation::Private, Reach::Tree));
    let change = Change { propagation: Some(propagation), ..Change::default() };
    mount::set_attributes(clone.as_fd(), change, of).map_err(failed("set the propagation of"))?;
    let changes =
        [(options.set_tree, options.clear_tree, Reach::Tree), (options.set, 0, Reach::One)];
    for (set, clear, reach) in changes {
        if set | clear != 0 {
            set_attributes(&clone, set, clear, reach).map_err(failed("set attributes of"))?;
        }
    }
    if let Some(space) = space {
        map_ids(&clone, options.idmap.unwrap_or(Reach::One), space)
            .map_err(failed("map the ids of"))?;
    }
    Ok(clone)
}

/// In words that say what is wrong: the kernel's are `Invalid argument`.
fn map_ids(mount: &OwnedFd, reach: Reach, space: BorrowedFd<'_>) -> io::Result<()> {
    match mount::set_attributes_idmapped(mount.as_fd(), Change::default(), reach, Some(space)) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its file system, or one mounted below it, cannot be id-mapped by this kernel",
        )),
        other => other,
    }
}

/// Detached mounts that came from elsewhere get attributes the same way.
fn set_attributes(mount: &OwnedFd, set: u64, clear: u64, reach: Reach) -> io::Result<()> {
    // An access-time mode is a field, not a bit: it is cleared when any is set.
    let field = if set & attr::ATIME_FIELD != 0 { attr::ATIME_FIELD } else { 0 };
    let change = Change { set, clear: clear | field, propagation: None };
    mount::set_attributes(mount.as_fd(), change, reach)
}

fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn check_propagation(source: &Path, target: &Path, wanted: Propagation) -> Result<(), OciError> {
    let needed = match wanted {
        Propagation::Private | Propagation::Unbindable => return Ok(()),
        Propagation::Slave => "shared or slave",
        Propagation::Shared => "shared",
    };
    let peers = peers_of(source)?;
    if peers.shared || (wanted == Propagation::Slave && peers.slave) {
        return Ok(());
    }
    Err(OciError::Propagation { path: source.to_owned(), target: target.to_owned(), needed })
}

/// How the mount that holds `path` stands, by its id: a path comparison would be fooled by
/// symlinks and by mounts stacked on one another.
fn peers_of(path: &Path) -> Result<Peers, OciError> {
    let host = |source| OciError::Host { path: "/proc/self/mountinfo", source };
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let fd =
        nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map_err(|e| host(e.into()))?;
    let id = fds::mount_id(fd.as_fd()).map_err(host)?;
    let table = std::fs::read("/proc/self/mountinfo").map_err(host)?;
    parse_peers(&String::from_utf8_lossy(&table), id).ok_or_else(|| {
        host(io::Error::new(io::ErrorKind::NotFound, "the mount is not in this namespace"))
    })
}

/// The optional fields of mount `id` (proc_pid_mountinfo(5)): between the sixth field and `-`.
fn parse_peers(table: &str, id: u64) -> Option<Peers> {
    let line = table.lines().find_map(|line| {
        let (first, rest) = line.split_once(' ')?;
        (first.parse() == Ok(id)).then_some(rest)
    })?;
    let mut peers = Peers::default();
    for field in line.split(' ').skip(5).take_while(|field| *field != "-") {
        peers.shared |= field.starts_with("shared:");
        peers.slave |= field.starts_with("master:");
    }
    Some(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
36 22 0:31 / /mnt\\040a rw shared:7 - tmpfs shared:9 rw
37 22 0:32 / /b rw,nosuid shared:8 master:7 propagate_from:2 - tmpfs tmpfs rw
38 22 0:33 / /c rw master:7 - tmpfs master:1 rw
";

    #[test]
    fn optional_fields_of_the_right_mount_are_read() {
        let peers = |shared, slave| Some(Peers { shared, slave });
        assert_eq!(parse_peers(TABLE, 22), peers(false, false));
        assert_eq!(parse_peers(TABLE, 36), peers(true, false));
        assert_eq!(parse_peers(TABLE, 37), peers(true, true));
        assert_eq!(parse_peers(TABLE, 38), peers(false, true));
        assert_eq!(parse_peers(TABLE, 3), None);
    }
}
