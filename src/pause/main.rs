//! berth-pause: holds a pod's shared namespaces, one a pod.
//!
//! As the first process of a pid namespace it is the parent of every orphan and reaps it. It ends
//! when asked to, and does nothing else: no C library, no heap, a page of code and a page or two
//! of stack. Its exit codes:
//!
//! | code | why                            |
//! |------|--------------------------------|
//! | 143  | SIGTERM                        |
//! | 130  | SIGINT                         |
//! | 3    | the signals cannot be blocked  |
//! | 4    | waiting for a signal failed    |
//! | 5    | started by hand, not by a shim |
//! | 6    | a defect: it panicked          |

#![no_std]
#![no_main]

mod call;

use core::panic::PanicInfo;

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const EINTR: isize = -4;

const NOT_BLOCKED: i32 = 3;
const NOT_WAITED: i32 = 4;
const NOT_FIRST: i32 = 5;
const PANICKED: i32 = 6;

/// The bit of a signal in the kernel's 64-bit set.
const fn bit(signal: isize) -> u64 {
    1 << (signal - 1)
}

/// The first Rust code that runs, called by the entry point of the architecture.
#[unsafe(no_mangle)]
extern "C" fn pause() -> ! {
    // The first process of a pid namespace, or at least of its session: the shim starts it in one
    // of its own. Anything else was started by hand and would wait for nothing.
    if call::getpid() != 1 && call::getsid() != call::getpid() {
        call::exit(NOT_FIRST);
    }
    // Blocked signals are queued even for a pid namespace's init, which would not get them
    // otherwise (pid_namespaces(7)), and SIGCHLD, which would be dropped.
    let set = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);
    if call::block_signals(&set) < 0 {
        call::exit(NOT_BLOCKED);
    }
    loop {
        match call::wait_signal(&set) {
            SIGTERM => call::exit(128 + 15),
            SIGINT => call::exit(128 + 2),
            // Several ends can be one SIGCHLD.
            SIGCHLD => while call::reap() > 0 {},
            // A stop and continue by a debugger.
            EINTR => {}
            _ => call::exit(NOT_WAITED),
        }
    }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    call::exit(PANICKED)
}
