//! Whether pods in user namespaces can run: by trying what the daemon tries when it starts, from which
//! it has the feature that it tells of its native handler.

use super::report::{Finding, Report};
use super::storage::{Scratch, nearest, program_folders};
use crate::config::Config;
use crate::sandbox::userns;
use crate::sys::memfd;

pub(super) fn check(config: &Config, report: &mut Report) {
    report.add(judge(attempt(config)));
}

fn attempt(config: &Config) -> Result<(), String> {
    let found = program_folders(config).into_iter().map(|folder| folder.join("berth-pause"));
    let program = found.into_iter().find(|path| path.is_file());
    let program = program.ok_or("not tried without berth-pause")?;
    let pause = memfd::sealed_copy(c"berth-pause", &program)
        .map_err(|e| format!("load {}: {e}", program.display()))?;
    let state = nearest(&config.paths.state);
    let scratch =
        Scratch::make(&state).map_err(|e| format!("make a folder in {}: {e}", state.display()))?;
    userns::probe_in(pause, &scratch.0)
}

fn judge(tried: Result<(), String>) -> Finding {
    const NAME: &str = "user namespaces";
    match tried {
        Ok(()) => Finding::ok(NAME, "pods can have their own; which ids is up to the kubelet"),
        Err(reason) => Finding::warn(
            NAME,
            reason,
            "pods that ask for one (hostUsers: false) are refused; they need sysctl \
             user.max_user_namespaces above 0, a kernel of version 6.8 or newer, and paths.state on \
             a file system whose ids it maps, such as ext4 or xfs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_node_without_user_namespaces_runs_the_other_pods() {
        assert_eq!(judge(Ok(())).verdict, Verdict::Ok);
        let finding = judge(Err("id-mapped layers: Invalid argument".to_owned()));
        assert_eq!(finding.verdict, Verdict::Warn);
        assert_eq!(finding.found, "id-mapped layers: Invalid argument");
    }

    #[test]
    fn the_attempt_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.paths.state = dir.path().join("state");
        config.paths.libexec = Some(dir.path().to_owned());
        assert_eq!(attempt(&config), Err("not tried without berth-pause".to_owned()));
        // It only has to wait; whether it works depends on the machine.
        std::fs::copy("/bin/true", dir.path().join("berth-pause")).unwrap();
        let _result = attempt(&config);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
