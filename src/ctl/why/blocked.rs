//! What of a pod's the kernel holds: threads that no signal reaches until what they wait for answers. They are of the
//! pod's own processes, by its cgroup, and of a daemon's work for it, by the thread's name.

use crate::waits::{numbers, thread_of, waits_in};
use std::fs;
use std::path::Path;

/// How many are told.
const MOST: usize = 5;

/// The threads that work for the pod of a uid, a sentence each. Blocking.
pub(super) fn threads(uid: &str) -> Vec<String> {
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mut all = Vec::new();
    for process in numbers(Path::new("/proc")) {
        let own = Path::new("/proc").join(process.to_string());
        let in_pod = is_of_pod(uid, &text(&own.join("cgroup")));
        let name = text(&own.join("comm"));
        let name = name.trim();
        if !in_pod && !name.starts_with("berth") {
            continue;
        }
        for thread in numbers(&own.join("task")) {
            let task = own.join("task").join(thread.to_string());
            if !in_pod && text(&task.join("comm")).trim() != thread_of(uid) {
                continue;
            }
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

/// Whether a process of this proc_pid_cgroup(5) is in the cgroup of the pod of a uid, of either driver; pure.
fn is_of_pod(uid: &str, cgroup: &str) -> bool {
    let (folder, slice) = (format!("pod{uid}"), format!("pod{}.slice", uid.replace('-', "_")));
    let part = |part: &str| part == folder || part == slice || part.ends_with(&format!("-{slice}"));
    !uid.is_empty() && cgroup.lines().any(|line| line.split('/').any(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_the_pod_whose_cgroup_it_is_in() {
        let rows = [
            ("0::/kubepods/burstable/podu-1/abc\n", true),
            ("12:cpu:/\n0::/kubepods/podu-1\n", true),
            ("0::/kubepods.slice/kubepods-podu_1.slice/berth-abc.scope\n", true),
            ("0::/podu_1.slice/x\n", true),
            ("0::/kubepods/podu-12/abc\n", false),
            ("0::/kubepods.slice/kubepods-podu_12.slice/x\n", false),
            ("0::/\n", false),
            ("", false),
        ];
        for (cgroup, expected) in rows {
            assert_eq!(is_of_pod("u-1", cgroup), expected, "{cgroup}");
        }
        assert!(!is_of_pod("", "0::/pod/x\n"));
    }

    #[test]
    fn nothing_is_held_of_a_pod_that_is_not_there() {
        assert_eq!(threads("no-such-uid"), Vec::<String>::new());
    }
}
