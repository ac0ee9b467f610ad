//! What of berth's own programs the kernel holds: threads that no signal reaches until what they wait for answers.

use crate::waits::{numbers, waits_in};
use std::fs;
use std::path::Path;

/// How many are told.
const MOST: usize = 5;

/// The threads, a sentence each. Blocking.
pub(super) fn threads() -> Vec<String> {
    let mut all = Vec::new();
    for process in numbers(Path::new("/proc")) {
        let own = Path::new("/proc").join(process.to_string());
        let name = fs::read_to_string(own.join("comm")).unwrap_or_default();
        let name = name.trim();
        if !name.starts_with("berth") {
            continue;
        }
        for thread in numbers(&own.join("task")) {
            let task = own.join("task").join(thread.to_string());
            let held = waits_in(&task).filter(|call| call.ends_with("state D)"));
            all.extend(held.map(|call| {
                format!("held by the kernel: a thread of {name} (pid {process}) waits in {call}")
            }));
        }
    }
    all.dedup();
    all.truncate(MOST);
    all
}
