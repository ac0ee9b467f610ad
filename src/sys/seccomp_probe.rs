//! Asks the kernel what a filter does: a child loads it and makes system calls. For tests.

use std::io::Read as _;

use super::prctl;

/// How a call enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// As programs of this machine do.
    Native,
    /// As 32-bit x86 programs do.
    Int80,
}

/// A system call, not to be one that needs memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) entry: Entry,
    pub(crate) number: u32,
    pub(crate) args: [u64; 3],
}

/// What came of the calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Of each call until the end; negative ones are `-errno`.
    pub(crate) results: Vec<i64>,
    /// The signal that ended the child.
    pub(crate) killed: Option<i32>,
}

/// Loads the filter in a child, which must be let write and exit, and makes the calls one by one.
pub(crate) fn ask(program: &[u8], flags: u32, calls: &[Call]) -> Answers {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    // SAFETY: the child allocates, which the C library permits after fork, and runs nothing of the
    // test's but this block.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(reader);
        let loaded =
            prctl::no_new_privileges().and_then(|()| prctl::Filter::new(program, flags)?.load());
        let failed = loaded.err().map(|e| i64::from(e.raw_os_error().unwrap_or(0)) + 100_000);
        let calls = if failed.is_some() { &[] } else { calls };
        let results = failed.into_iter().chain(calls.iter().map(|call| make(*call)));
        for result in results {
            nix::unistd::write(&writer, &result.to_ne_bytes()).ok();
        }
        // SAFETY: ends the child without running anything of the test's.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut bytes = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    let killed = match ended {
        nix::sys::wait::WaitStatus::Signaled(_, signal, _) => Some(signal as i32),
        _ => None,
    };
    let results = bytes.chunks(8).map(|b| i64::from_ne_bytes(b.try_into().unwrap())).collect();
    Answers { results, killed }
}

fn make(call: Call) -> i64 {
    let [a, b, c] = call.args;
    match call.entry {
        Entry::Native => {
            // SAFETY: tests ask only for calls that are refused or need no memory.
            let result =
                unsafe { libc::syscall(i64::from(call.number.cast_signed()), a, b, c, 0, 0, 0) };
            if result == -1 {
                let errno = std::io::Error::last_os_error().raw_os_error();
                return -i64::from(errno.unwrap_or(0));
            }
            result
        }
        Entry::Int80 => int80(call.number, call.args),
    }
}

#[cfg(target_arch = "x86_64")]
fn int80(number: u32, [a, b, c]: [u64; 3]) -> i64 {
    let result: i64;
    // SAFETY: as above; rbx, which the compiler keeps for itself, is given back.
    unsafe {
        core::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) a => _,
            inlateout("rax") i64::from(number) => result,
            in("rcx") b,
            in("rdx") c,
            in("rsi") 0,
            in("rdi") 0,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    // The upper half of the register is not the result's.
    i64::from(i32::from_le_bytes(std::array::from_fn(|n| result.to_le_bytes()[n])))
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: u32, _: [u64; 3]) -> i64 {
    unreachable!("tests ask for it on x86_64 alone")
}
