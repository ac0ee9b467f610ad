//! The C library's heap, kept small: a shim is one a pod, and a daemon that pulled an image goes on for weeks.

/// One arena, small top padding, and large blocks that go back to the kernel when freed.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes integers; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 32 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 4 * 1024);
    }
}

/// Two arenas, as many threads as there may be, and large blocks that go back to the kernel when freed.
pub fn keep_moderate() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes integers; there is one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        // Set, it does not grow with what is freed.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// Gives free pages back to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer.
    unsafe {
        libc::malloc_trim(0);
    }
}
