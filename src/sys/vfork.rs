//! clone3(2) with CLONE_VM and CLONE_VFORK: the child runs on a stack of its own in the parent's
//! memory, and the calling thread waits until it has exec'd or ended (Linux 5.3; the cgroup: 5.7).
//!
//! No page table is copied, so the size of the parent does not matter, and what the child finds
//! out it can write into memory that the parent reads afterwards. Other threads of the parent run
//! on: the child may not allocate, lock, log or panic.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// struct clone_args of linux/sched.h, up to `cgroup` (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const STACK_WORDS: usize = 64 * 1024 / 16;

/// What the child runs. It must end in exec or `_exit`.
pub(crate) type Entry = extern "C" fn(*mut libc::c_void) -> !;

/// Blocks every signal of the calling thread, the C library's own two as well, and unblocks them
/// on drop: a handler must not run in a child that shares the parent's memory.
struct Blocked(u64);

impl Blocked {
    fn all() -> Self {
        let mut old = 0;
        set_mask(&u64::MAX, Some(&mut old));
        Self(old)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(&self.0, None);
    }
}

/// rt_sigprocmask(2), SIG_SETMASK. Cannot fail with these arguments.
pub(crate) fn set_mask(new: &u64, old: Option<&mut u64>) {
    let old = old.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: both point to live kernel signal sets of the 8 bytes that are announced, or `old` is
    // null.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, std::ptr::from_ref(new), old, 8);
    }
}

/// Starts `entry(data)` in a child; returns its pid and pidfd when it has exec'd or ended.
///
/// # Safety
/// `entry` runs in this process' memory beside its other threads: it may not allocate, take locks,
/// unwind or return, and `data` must be what it expects, valid until this call returns.
///
/// # Errors
/// The errno of clone3(2): EAGAIN (pids.max, RLIMIT_NPROC), ENOMEM, EPERM, EBUSY and EOPNOTSUPP
/// (the cgroup cannot take processes), EACCES.
pub(crate) unsafe fn vfork(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    entry: Entry,
    data: *mut libc::c_void,
) -> io::Result<(i32, OwnedFd)> {
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_WORDS);
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags
            | (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD).cast_unsigned() as u64,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        // The kernel takes the lowest address and the size, and starts at the end, 16-aligned here.
        stack: stack.as_mut_ptr().addr() as u64,
        stack_size: (STACK_WORDS * 16) as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    let blocked = Blocked::all();
    // SAFETY: `args` is a live clone_args of the size given; the stack is allocated, writable and
    // unused by anybody else until the child is done with it, which CLONE_VFORK waits for; `entry`
    // and `data` are the caller's promise.
    let result = unsafe { clone3_call(&args, entry, data) };
    drop(blocked);
    if result < 0 {
        let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
        return Err(io::Error::from_raw_os_error(errno));
    }
    let pid = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The system call itself. The child never comes back through this frame: it calls `entry` on its
/// own stack, so that what the compiler keeps in the parent's frame stays the parent's.
///
/// # Safety
/// As [`vfork`]; `args` names a stack.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_call(args: &CloneArgs, entry: Entry, data: *mut libc::c_void) -> i64 {
    let result: i64;
    // SAFETY: the syscall clobbers rcx, r11 and rax alone; in the parent nothing else changes. The
    // child has the new stack, 16-aligned as the calling convention wants before a call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r8") data,
            in("r9") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// As on x86_64.
///
/// # Safety
/// As [`vfork`]; `args` names a stack.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_call(args: &CloneArgs, entry: Entry, data: *mut libc::c_void) -> i64 {
    let result: i64;
    // SAFETY: the system call changes x0 alone; the child has the new stack, 16-aligned.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x3",
            "blr x4",
            "brk 1",
            "2:",
            inout("x0") std::ptr::from_ref(args).addr() as i64 => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x3") data,
            in("x4") entry,
        );
    }
    result
}
