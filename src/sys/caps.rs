//! Credentials of the calling process: capabilities(7), user and group ids.

use std::io;

/// struct __user_cap_header_struct, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct; two of them hold 64 bits a set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The bit of CAP_SYS_ADMIN.
pub const SYS_ADMIN: u64 = 1 << 21;

/// The bit of CAP_SYS_RESOURCE.
pub const SYS_RESOURCE: u64 = 1 << 24;

const VERSION_3: u32 = 0x2008_0522;

/// The three sets that capset(2) sets, bit n for capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What is used in permission checks.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What a program with inheritable file capabilities keeps over execve.
    pub inheritable: u64,
}

fn low(set: u64) -> u32 {
    u32::try_from(set & 0xffff_ffff).unwrap_or(0)
}

fn high(set: u64) -> u32 {
    u32::try_from(set >> 32).unwrap_or(0)
}

/// capset(2).
///
/// # Errors
/// EPERM when a capability is not in the present permitted or bounding set.
pub fn set(sets: Sets) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |part: fn(u64) -> u32| Data {
        effective: part(sets.effective),
        permitted: part(sets.permitted),
        inheritable: part(sets.inheritable),
    };
    let data = [half(low), half(high)];
    // SAFETY: `header` and the two `data` structures that version 3 wants live over the call.
    super::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
        .map(drop)
}

/// capget(2) of this process.
///
/// # Errors
/// None on a kernel of this century.
pub fn get() -> io::Result<Sets> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: `header` and room for the two structures that version 3 writes live over the call.
    super::check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// prctl(2) with one argument that is a number.
fn prctl(option: i32, argument: libc::c_ulong, second: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the options used in this file take numbers, no pointers.
    let result = unsafe { libc::prctl(option, argument, second, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Drops every capability that is not in `keep` from the bounding set.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64u64 {
        match prctl(libc::PR_CAPBSET_READ, capability, 0) {
            Ok(1) if keep & (1 << capability) == 0 => {
                prctl(libc::PR_CAPBSET_DROP, capability, 0)?;
            }
            Ok(_) => {}
            // Past the last capability that this kernel knows.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sets the ambient set; each must be permitted and inheritable.
///
/// # Errors
/// EPERM when one is not.
pub fn set_ambient(set: u64) -> io::Result<()> {
    let op = |op: i32| libc::c_ulong::from(op.cast_unsigned());
    prctl(libc::PR_CAP_AMBIENT, op(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0)?;
    for capability in (0..64).filter(|c| set & (1 << c) != 0) {
        prctl(libc::PR_CAP_AMBIENT, op(libc::PR_CAP_AMBIENT_RAISE), capability)?;
    }
    Ok(())
}

/// Clears the secure bits, so that exec treats user 0 as usual.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn clear_secure_bits() -> io::Result<()> {
    if prctl(libc::PR_GET_SECUREBITS, 0, 0)? == 0 {
        return Ok(());
    }
    prctl(libc::PR_SET_SECUREBITS, 0, 0).map(drop)
}

/// Keeps the permitted set over the change of user ids that follows; execve ends it.
///
/// # Errors
/// EPERM when locked by secure bits.
pub fn keep_over_set_user() -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(drop)
}

/// setgroups(2), then all three group ids, then all three user ids, of the calling thread.
///
/// # Errors
/// EPERM, EINVAL (too many groups), EAGAIN (RLIMIT_NPROC).
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe `groups`, an array of gid_t.
    super::check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: only integers are passed.
    super::check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: only integers are passed.
    super::check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}
