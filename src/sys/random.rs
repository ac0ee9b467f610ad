//! Random bytes from the kernel.

use std::io;

/// `N` bytes of getrandom(2). `N` is at most 256, for which the call is never cut short.
///
/// # Errors
/// The errno of getrandom(2); ENOSYS before Linux 3.17.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut buffer = [0u8; N];
    // SAFETY: the pointer and the length describe `buffer`, which is writable and lives across
    // the call; the kernel writes at most N bytes.
    let got = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), N, 0) };
    match usize::try_from(got) {
        Ok(n) if n == N => Ok(buffer),
        Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
