//! The system calls of pause, by hand, and its entry points.

use core::arch::{asm, global_asm};

// The kernel enters with the stack pointer at argc; the calling convention wants it 16-aligned
// before a call.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call pause", "ud2");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl pause", "brk 1");

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const GETPID: usize = 39;
    pub(super) const EXIT: usize = 60;
    pub(super) const WAIT4: usize = 61;
    pub(super) const GETSID: usize = 124;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const EXIT: usize = 93;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
    pub(super) const GETSID: usize = 156;
    pub(super) const GETPID: usize = 172;
    pub(super) const WAIT4: usize = 260;
}

/// One system call; negative results are `-errno`.
///
/// # Safety
/// The arguments must be what the call demands; pointers must be live for its duration.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: `syscall` changes rax, rcx and r11 alone, besides what the caller answers for.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

/// One system call; negative results are `-errno`.
///
/// # Safety
/// The arguments must be what the call demands; pointers must be live for its duration.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: `svc` changes x0 alone, besides what the caller answers for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            options(nostack),
        );
    }
    result
}

/// The size of the kernel's signal set.
const SET_SIZE: usize = size_of::<u64>();

/// exit(2).
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: one integer.
        unsafe { call(number::EXIT, [code as usize, 0, 0, 0]) };
    }
}

/// getpid(2).
pub(crate) fn getpid() -> isize {
    // SAFETY: no arguments.
    unsafe { call(number::GETPID, [0; 4]) }
}

/// getsid(2) of this process.
pub(crate) fn getsid() -> isize {
    // SAFETY: 0 is the caller.
    unsafe { call(number::GETSID, [0; 4]) }
}

/// rt_sigprocmask(2), SIG_BLOCK.
pub(crate) fn block_signals(set: &u64) -> isize {
    // SAFETY: `set` is a live signal set of the size given; no old one is asked for.
    unsafe { call(number::RT_SIGPROCMASK, [0, core::ptr::from_ref(set) as usize, 0, SET_SIZE]) }
}

/// rt_sigtimedwait(2) without a limit: the signal, or `-errno`.
pub(crate) fn wait_signal(set: &u64) -> isize {
    // SAFETY: `set` is a live signal set of the size given; siginfo and timeout may be null.
    unsafe { call(number::RT_SIGTIMEDWAIT, [core::ptr::from_ref(set) as usize, 0, 0, SET_SIZE]) }
}

/// wait4(2) of any child, WNOHANG: the pid reaped, 0 when none has ended, `-errno` without any.
pub(crate) fn reap() -> isize {
    // SAFETY: status and rusage may be null; -1 is any child, 1 is WNOHANG.
    unsafe { call(number::WAIT4, [usize::MAX, 0, 1, 0]) }
}
