//! What a thread or a process waits for, as the kernel tells it in /proc: proc_pid_syscall(5), proc_pid_wchan(5).

use std::fs;
use std::path::Path;
use syscalls::Sysno;

/// proc_pid_comm(5).
const OWN_NAME: &str = "/proc/thread-self/comm";

/// What the task of a folder of /proc waits in: `newfstatat (request_wait_answer, state D)`; none for one that runs, or
/// is not there. Blocking.
pub(crate) fn waits_in(task: &Path) -> Option<String> {
    let text = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    described(&text("syscall"), &text("wchan"), &text("stat"))
}

/// The name that a thread of berth has while it works for the pod of a uid: 15 bytes, all that the kernel keeps.
pub(crate) fn thread_of(uid: &str) -> String {
    let uid: String = uid.chars().filter(char::is_ascii_alphanumeric).take(11).collect();
    format!("pod:{uid}")
}

/// Names this thread until the value is dropped, so that `berth why` finds whom it works for.
#[derive(Debug)]
pub(crate) struct Named(Option<String>);

impl Named {
    /// Names it; without a name, leaves it as it is.
    pub(crate) fn new(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self(None) };
        let before = fs::read_to_string(OWN_NAME).ok().map(|before| before.trim().to_owned());
        // Who looks for it finds less.
        fs::write(OWN_NAME, name).ok();
        Self(before)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.0.iter().for_each(|before| drop(fs::write(OWN_NAME, before)));
    }
}

/// The numbers that are names in a folder of /proc, the smallest first: processes, or threads of one. Blocking.
pub(crate) fn numbers(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// [`waits_in`] of the three files' texts; pure.
fn described(syscall: &str, wchan: &str, stat: &str) -> Option<String> {
    let number = syscall.split_whitespace().next()?.parse::<usize>().ok()?;
    let call = Sysno::new(number)
        .map_or_else(|| format!("system call {number}"), |call| call.name().to_owned());
    // Where names of functions are hidden, it is 0 or nothing.
    let place = Some(wchan.trim()).filter(|place| !place.is_empty() && *place != "0");
    // The name in parentheses may have any characters.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    let state = state.map(|state| format!("state {state}"));
    let more: Vec<String> = place.map(str::to_owned).into_iter().chain(state).collect();
    Some(if more.is_empty() { call } else { format!("{call} ({})", more.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_name_and_its_place() {
        let stat = "12 (a) b) D 1 2 3";
        let rows = [
            ("0 0x3 0x7f", "pipe_read", stat, Some("read (pipe_read, state D)")),
            ("0 0x3 0x7f", "0", "", Some("read")),
            ("99999 0x3", "", stat, Some("system call 99999 (state D)")),
            ("running\n", "0", stat, None),
            ("-1 0x7ffd 0x7f\n", "0", stat, None),
            ("", "", "", None),
        ];
        for (syscall, wchan, stat, expected) in rows {
            assert_eq!(described(syscall, wchan, stat).as_deref(), expected, "{syscall}");
        }
    }

    #[test]
    fn a_thread_has_the_name_of_the_pod_that_it_works_for() {
        let own = || fs::read_to_string(OWN_NAME).unwrap().trim().to_owned();
        let before = own();
        let name = thread_of("1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d");
        assert_eq!(name, "pod:1a2b3c4d5e6");
        let named = Named::new(Some(&name));
        assert_eq!(own(), name);
        drop(named);
        assert_eq!(own(), before);
        drop(Named::new(None));
        assert_eq!(own(), before);
    }

    #[test]
    fn a_thread_that_waits_is_seen() {
        let (told, tid) = std::sync::mpsc::channel();
        let (go, waits) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            told.send(nix::unistd::gettid()).unwrap();
            waits.recv().ok();
        });
        let task = format!("/proc/self/task/{}", tid.recv().unwrap());
        let seen = (0..1000).find_map(|_| {
            std::thread::yield_now();
            waits_in(Path::new(&task)).filter(|told| told.starts_with("futex"))
        });
        drop(go);
        thread.join().unwrap();
        assert!(seen.is_some());
        assert_eq!(waits_in(Path::new("/proc/self/task/0")), None);
    }
}
