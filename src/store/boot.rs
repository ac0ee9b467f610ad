//! The boot id: what tells a process of this boot from one of another.

use std::sync::OnceLock;

/// The kernel's random id of this boot (random(4)), or `unknown` where /proc is missing, which no
/// record of a real boot equals.
pub fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    })
}
