//! Descriptor tables, terminals and signals of a child between clone and exec.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::undefended::{Defence, removed};

/// Closes every descriptor of at least `from` that is not in `keep` (close_range(2), Linux 5.9).
///
/// The caller must not use an owner of a closed descriptor again: for a child between clone and
/// exec, which leaves what it inherited from its parent behind.
///
/// # Errors
/// None expected.
pub fn close_all_but(from: u32, keep: &mut [u32]) -> io::Result<()> {
    if removed(Defence::Descriptors) {
        return Ok(());
    }
    keep.sort_unstable();
    let mut next = from;
    for fd in keep.iter().copied().filter(|fd| *fd >= from) {
        if fd > next {
            close_range(next, fd - 1)?;
        }
        next = fd + 1;
    }
    close_range(next, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only integers are passed; ownership is the subject of `close_all_but`'s contract.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// A descriptor as the number that [`close_all_but`] takes.
pub fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// dup2(2): makes `fd` the descriptor `target` (0, 1 or 2), which survives exec.
///
/// # Errors
/// EBADF, EINTR, EBUSY.
pub fn place(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        // dup2 would leave close-on-exec as it is.
        // SAFETY: F_SETFD takes an integer.
        let done = unsafe { libc::fcntl(target, libc::F_SETFD, 0) };
        return super::check(libc::c_long::from(done)).map(drop);
    }
    // SAFETY: only integers are passed; 0, 1 and 2 have no owner in this program.
    super::check(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), target) })).map(drop)
}

/// Lets descriptor `number`, which this program was started with, survive exec.
///
/// # Errors
/// EBADF when it is not open.
pub fn survive_exec(number: u32) -> io::Result<()> {
    let number = i32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: F_SETFD takes an integer.
    super::check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })).map(drop)
}

/// Whether descriptor `number` is open.
pub fn is_open(number: u32) -> bool {
    // SAFETY: F_GETFD takes no argument.
    i32::try_from(number).is_ok_and(|n| unsafe { libc::fcntl(n, libc::F_GETFD) } >= 0)
}

/// Marks every descriptor of at least `from` close-on-exec (CLOSE_RANGE_CLOEXEC, Linux 5.11).
///
/// # Errors
/// None expected.
pub fn close_all_on_exec(from: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: only integers are passed; no descriptor is closed.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, flags) }).map(drop)
}

/// dup3(2): `at` becomes a copy of `fd`, close-on-exec; what it was before is closed.
///
/// # Errors
/// EBUSY.
pub fn replace(fd: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only integers are passed; the owner of `at` owns the copy from now on.
    let done = unsafe { libc::dup3(fd.as_raw_fd(), at.as_raw_fd(), libc::O_CLOEXEC) };
    super::check(libc::c_long::from(done)).map(drop)
}

/// A copy of `fd` with a number of at least 3, close-on-exec.
///
/// # Errors
/// EMFILE.
pub fn above_standard(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    super::check(libc::c_long::from(copy))?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Descriptor 0, 1 or 2 of this process, which are open in every program of this project.
pub fn standard(target: Standard) -> BorrowedFd<'static> {
    let fd = match target {
        Standard::Input => 0,
        Standard::Output => 1,
        Standard::Error => 2,
    };
    // SAFETY: the standard descriptors are never closed (the runtime opens missing ones on
    // /dev/null at start).
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The standard descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// 0.
    Input,
    /// 1.
    Output,
    /// 2.
    Error,
}

/// setsid(2): a session of one's own, without a terminal.
///
/// # Errors
/// EPERM when the caller leads a process group already.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no arguments.
    super::check(libc::c_long::from(unsafe { libc::setsid() })).map(drop)
}

/// TIOCSCTTY: `terminal` becomes the controlling terminal of the caller's session.
///
/// # Errors
/// EPERM when it is another session's, ENOTTY.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    super::check(libc::c_long::from(done)).map(drop)
}

/// TIOCSWINSZ: the size of a terminal in characters.
///
/// # Errors
/// ENOTTY.
pub fn set_window(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ takes a pointer to a live winsize.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    super::check(libc::c_long::from(done)).map(drop)
}

/// Every signal disposition default, then an empty mask.
pub fn reset_signals() {
    // A kernel sigaction: handler, flags, restorer, mask. All zero is SIG_DFL.
    let default = [0u64; 4];
    for signal in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: a live structure at least as large as the kernel's; `old` may be null. SIGKILL
        // and SIGSTOP are refused, which is fine.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    }
    super::vfork::set_mask(&0, None);
}

/// getcwd(2): whether the working directory lies below the root directory.
///
/// # Errors
/// ERANGE when the path is longer than PATH_MAX, ENOENT when it was removed.
pub fn inside_root() -> io::Result<bool> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // The raw call: the C library hides the "(unreachable)" that the kernel puts before a path
    // outside the root, and walks it by itself.
    // SAFETY: pointer and size describe `path`.
    super::check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    Ok(path.first() == Some(&b'/'))
}

/// statx(2): the id of the mount that `fd` is on, as the first field of mountinfo (Linux 5.8).
///
/// # Errors
/// ENOSYS, EBADF.
pub fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(statx(fd, c"", (libc::AT_EMPTY_PATH, libc::STATX_MNT_ID))?.stx_mnt_id)
}

/// What an entry of a directory takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its inode number.
    pub inode: u64,
    /// How many names it has.
    pub links: u32,
    /// Blocks of 512 bytes that it has on disk.
    pub blocks: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether something is mounted there: what is told is of that.
    pub is_mount: bool,
}

/// statx(2): an entry of an open directory; no symlink is followed, and nothing is mounted or fetched for it
/// (`STATX_ATTR_MOUNT_ROOT`: Linux 5.8).
///
/// # Errors
/// ENOENT, ENOSYS.
pub fn entry(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let told = statx(dir, name, (flags, libc::STATX_BASIC_STATS))?;
    let mount_root = u64::from(libc::STATX_ATTR_MOUNT_ROOT.cast_unsigned());
    Ok(Entry {
        inode: told.stx_ino,
        links: told.stx_nlink,
        blocks: told.stx_blocks,
        is_directory: u32::from(told.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
        is_mount: told.stx_attributes & mount_root != 0,
    })
}

/// statx(2) with AT_STATX_DONT_SYNC.
fn statx(dir: BorrowedFd<'_>, name: &CStr, (flags, mask): (i32, u32)) -> io::Result<libc::statx> {
    // SAFETY: statx is plain data for which all-zero is valid.
    let mut result: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated, `result` a live statx that the kernel writes; both outlive the call.
    let done = unsafe {
        let flags = flags | libc::AT_STATX_DONT_SYNC;
        libc::statx(dir.as_raw_fd(), name.as_ptr(), flags, mask, &raw mut result)
    };
    super::check(libc::c_long::from(done))?;
    Ok(result)
}
