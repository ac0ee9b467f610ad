//! bpf(2), as far as cgroup device programs need it: BPF_PROG_LOAD of type CGROUP_DEVICE (Linux
//! 4.15), BPF_PROG_ATTACH with BPF_F_REPLACE (5.6), BPF_PROG_QUERY, BPF_PROG_DETACH.
//!
//! EPERM: CAP_BPF or CAP_NET_ADMIN is missing (CAP_SYS_ADMIN before 5.8). EINVAL: the verifier
//! refused the program. ENOSYS: a kernel without CONFIG_BPF_SYSCALL.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;
/// The kernel attaches at most this many programs to a cgroup (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low, source register in the high half.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

/// Loads a program that decides on device access.
///
/// # Errors
/// As the module says; EAGAIN (a signal cut the verifier short) is retried a few times.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
    }
    let mut request = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: address(program.as_ptr()),
        license: address(c"Apache-2.0".as_ptr()),
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"berth_devices\0\0\0",
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        // SAFETY: `insns` points to `insn_cnt` instructions and `license` to a NUL-terminated
        // string; both live until the call returns, and the kernel only reads them.
        match unsafe { bpf(PROG_LOAD, &mut request) } {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && attempts < 8 => {}
            // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
            result => return result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

/// Makes `program` the one device program of the cgroup, without a moment in which none is attached.
///
/// # Errors
/// As the module says.
pub fn set_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = program_id(program)?;
    let mut attached = Vec::new();
    for id in query_device_programs(cgroup)? {
        if id == wanted {
            attached.push((id, None));
        } else {
            attached.push((id, Some(program_by_id(id)?)));
        }
    }
    let present = attached.iter().any(|(id, _)| *id == wanted);
    let others: Vec<&OwnedFd> = attached.iter().filter_map(|(_, fd)| fd.as_ref()).collect();
    match others.as_slice() {
        _ if present => {}
        [one] => return attach_device_program(cgroup, program, Some(one.as_fd())),
        _ => attach_device_program(cgroup, program, None)?,
    }
    // All attached programs must agree to an access, so a leftover can only deny.
    others.into_iter().try_for_each(|other| detach_device_program(cgroup, other.as_fd()))
}

/// The ids of the device programs attached to this very cgroup, in order.
///
/// # Errors
/// As the module says.
pub fn query_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        padding: u32,
    }
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut request = Query {
        target_fd: number(cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: u32::try_from(MAX_PROGRAMS).unwrap_or(0),
        padding: 0,
    };
    // SAFETY: `prog_ids` points to room for `prog_cnt` numbers, exclusively borrowed for the call;
    // the kernel writes the count back into `request`.
    unsafe { bpf(PROG_QUERY, &mut request) }?;
    ids.truncate(usize::try_from(request.prog_cnt).unwrap_or(0));
    Ok(ids)
}

fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut request = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if replace.is_some() { F_REPLACE } else { 0 },
        replace_bpf_fd: replace.map_or(0, number),
    };
    // SAFETY: only descriptors are passed, all borrowed for the call.
    unsafe { bpf(PROG_ATTACH, &mut request) }.map(drop)
}

fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: only descriptors are passed, both borrowed for the call.
    unsafe { bpf(PROG_DETACH, &mut request) }.map(drop)
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    // SAFETY: only an id is passed.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut ById { id, next_id: 0, open_flags: 0 }) }?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    /// The first fields of `struct bpf_prog_info`; the kernel fills as many as there is room for.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        prog_type: u32,
        id: u32,
    }
    #[repr(C)]
    struct GetInfo {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut request = GetInfo {
        bpf_fd: number(program),
        info_len: u32::try_from(size_of::<Info>()).unwrap_or(0),
        info: address(&raw mut info),
    };
    // SAFETY: `info` points to `info_len` writable bytes that live until the call returns.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(info.id)
}

/// bpf(2) with the part of `union bpf_attr` that `command` reads; the kernel takes the rest as zero.
///
/// # Safety
/// Every address in `request` must be valid for what `command` does with it.
unsafe fn bpf<T>(command: libc::c_int, request: &mut T) -> io::Result<i32> {
    // SAFETY: `request` is writable for the size given; the addresses in it are the caller's demand.
    let result = super::check(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>())
    })?;
    i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// A user address as the kernel's 64-bit field.
fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
