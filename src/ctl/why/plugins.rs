//! The program that makes a pod's network, while it runs. CNI gives each the pod in its environment, whichever runtime
//! has started it.

use crate::waits::{numbers, waits_in};
use std::fs;
use std::path::Path;

/// The plugin at work for the pod of a uid, in a sentence; none when none is seen. Blocking.
pub(super) fn at_work(uid: &str) -> Option<String> {
    let proc = Path::new("/proc");
    // What it has started itself has the same environment, and came later.
    numbers(proc).into_iter().find_map(|pid| {
        let task = proc.join(pid.to_string());
        let environment = fs::read(task.join("environ")).ok()?;
        let command = command(&environment, uid)?;
        let name = fs::read_to_string(task.join("comm")).ok()?;
        let call = waits_in(&task).map_or_else(String::new, |call| format!(", waits in {call}"));
        Some(format!(
            "plugin {} of its network has not ended ({command}, pid {pid}{call})",
            name.trim()
        ))
    })
}

/// What a plugin is asked to do for the pod, by its environment; pure.
fn command(environment: &[u8], uid: &str) -> Option<String> {
    let text = String::from_utf8_lossy(environment);
    let of =
        |name: &str| text.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let own = of("CNI_ARGS")?
        .split(';')
        .any(|argument| argument.strip_prefix("K8S_POD_UID=") == Some(uid));
    own.then(|| of("CNI_COMMAND").map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_known_by_the_pod_that_it_is_given() {
        let environment = |uid: &str| {
            format!("PATH=/bin\0CNI_COMMAND=ADD\0CNI_ARGS=IgnoreUnknown=1;K8S_POD_UID={uid};A=b\0")
        };
        assert_eq!(command(environment("u1").as_bytes(), "u1").as_deref(), Some("ADD"));
        assert_eq!(command(environment("u12").as_bytes(), "u1"), None);
        assert_eq!(command(b"CNI_COMMAND=ADD\0K8S_POD_UID=u1\0", "u1"), None);
        assert_eq!(command(b"\xff\0", "u1"), None);
    }
}
