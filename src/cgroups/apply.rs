//! Writing settings into a cgroup: all of them, or none. The old value of each file is read before
//! it is overwritten, and comes back, last first, when a later write fails.

use super::CgroupError;
use super::cpulist::CpuList;
use super::dir::Dir;
use super::limits::{Absent, Setting};
use super::stats::read_memory;
use super::swap::swap_bytes;

/// A change that was made, and what it replaced.
struct Done<'a> {
    setting: &'a Setting,
    old: String,
}

/// Applies the settings in order. Those of `skip`ped controllers are left out: best effort.
pub(super) fn apply_settings(
    dir: &Dir,
    settings: &[Setting],
    skip: &[&str],
) -> Result<(), CgroupError> {
    apply_settings_then(dir, settings, skip, || Ok(()))
}

/// As [`apply_settings`], and then does what belongs to it; when that fails, nothing was changed.
pub(super) fn apply_settings_then(
    dir: &Dir,
    settings: &[Setting],
    skip: &[&str],
    then: impl FnOnce() -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let mut done = Vec::new();
    for setting in settings.iter().filter(|s| !skip.contains(&s.controller())) {
        match apply_one(dir, setting) {
            Ok(None) => {}
            Ok(Some(old)) => {
                done.push(Done { setting, old });
                if let Err(error) = check_cpuset(dir, setting) {
                    return Err(roll_back(dir, &done, error));
                }
            }
            Err(Failure { error, old }) => {
                done.extend(old.map(|old| Done { setting, old }));
                return Err(roll_back(dir, &done, error));
            }
        }
    }
    then().map_err(|error| roll_back(dir, &done, error))
}

/// A failed setting; `old` when a part of its lines was written before the failure.
struct Failure {
    error: CgroupError,
    old: Option<String>,
}

impl From<CgroupError> for Failure {
    fn from(error: CgroupError) -> Self {
        Self { error, old: None }
    }
}

/// Writes one setting; `None` when there was nothing to change.
fn apply_one(dir: &Dir, setting: &Setting) -> Result<Option<String>, Failure> {
    let Some(old) = dir.read(&setting.file)? else {
        return absent(dir, setting).map(|()| None).map_err(Failure::from);
    };
    if old.trim() == setting.value {
        return Ok(None);
    }
    if setting.file == "memory.max" {
        check_usage(dir, setting)?;
    }
    for (index, line) in setting.value.lines().enumerate() {
        if let Err(error) = dir.write(&setting.file, line) {
            return Err(Failure { error, old: (index > 0).then_some(old) });
        }
    }
    Ok(Some(old))
}

fn absent(dir: &Dir, setting: &Setting) -> Result<(), CgroupError> {
    match setting.absent {
        Absent::Ignore => Ok(()),
        Absent::UnknownKey => Err(CgroupError::UnknownSetting {
            key: setting.file.clone(),
            reason: "this kernel has no such setting here",
        }),
        Absent::NeedsNoSwap if !node_has_swap() => Ok(()),
        Absent::Fail | Absent::NeedsNoSwap => {
            let on = dir.read("cgroup.controllers")?.unwrap_or_default();
            let controller = setting.controller();
            if on.split_ascii_whitespace().any(|c| c == controller) {
                return Err(conflict(dir, setting, "this kernel has no such setting"));
            }
            let missing = vec![controller.to_owned()];
            Err(CgroupError::MissingControllers { path: dir.path().to_owned(), missing })
        }
    }
}

/// Unreadable: assume the worse.
fn node_has_swap() -> bool {
    swap_bytes().map_or(true, |bytes| bytes > 0)
}

/// The kernel would take a limit below what is in use, and kill. Inactive file pages do not count:
/// it drops them without harm.
fn check_usage(dir: &Dir, setting: &Setting) -> Result<(), CgroupError> {
    let Ok(limit) = setting.value.parse::<u64>() else { return Ok(()) };
    match read_memory(dir)? {
        Some(memory) if limit < memory.working_set => {
            let reason = format!("{} bytes are in use", memory.working_set);
            Err(conflict(dir, setting, &reason))
        }
        _ => Ok(()),
    }
}

/// The kernel takes CPUs and nodes that the cgroups above do not grant, and silently runs the tasks
/// elsewhere.
fn check_cpuset(dir: &Dir, setting: &Setting) -> Result<(), CgroupError> {
    if setting.file != "cpuset.cpus" && setting.file != "cpuset.mems" {
        return Ok(());
    }
    let Some(granted) = dir.read(&format!("{}.effective", setting.file))? else { return Ok(()) };
    if CpuList::parse(&setting.value)?.is_within(&CpuList::parse(&granted)?) {
        return Ok(());
    }
    Err(conflict(dir, setting, &format!("only {:?} can be had there", granted.trim())))
}

fn conflict(dir: &Dir, setting: &Setting, reason: &str) -> CgroupError {
    CgroupError::Conflict {
        file: setting.file.clone(),
        value: setting.value.clone(),
        path: dir.path().to_owned(),
        reason: reason.to_owned(),
    }
}

/// Restores what `done` replaced, and answers with the cause, or with what could not be restored.
fn roll_back(dir: &Dir, done: &[Done<'_>], cause: CgroupError) -> CgroupError {
    let mut failed = Vec::new();
    for change in done.iter().rev() {
        for line in restoring_lines(change) {
            if let Err(error) = dir.write(&change.setting.file, &line) {
                failed.push(crate::error::chain(&error));
            }
        }
    }
    if failed.is_empty() {
        cause
    } else {
        CgroupError::Rollback { source: Box::new(cause), failed }
    }
}

/// What to write to get the old value back. io.max prints only devices with a limit, so the device
/// that was written is freed first.
fn restoring_lines(change: &Done<'_>) -> Vec<String> {
    let old: Vec<String> = change.old.lines().map(str::to_owned).collect();
    if change.setting.file == "io.max" {
        let devices =
            change.setting.value.lines().filter_map(|l| l.split_ascii_whitespace().next());
        let free = devices.map(|d| format!("{d} rbps=max wbps=max riops=max wiops=max"));
        return free.chain(old).collect();
    }
    // An empty cpuset is written as an empty line: write(2) of no bytes reaches no file.
    if old.iter().all(String::is_empty) { vec!["\n".to_owned()] } else { old }
}

#[cfg(test)]
mod tests {
    use super::super::limits::plan_limits;
    use super::super::{Limit, Resources};
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A folder of plain files. Unlike the kernel's they keep the tail that a shorter write leaves.
    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(temp.path().join(name), text).unwrap();
        }
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    fn text(temp: &Path, name: &str) -> String {
        fs::read_to_string(temp.join(name)).unwrap().trim().to_owned()
    }

    fn settings(resources: &Resources) -> Vec<Setting> {
        plan_limits(resources).unwrap()
    }

    #[test]
    fn a_failed_write_brings_the_earlier_ones_back_and_names_the_cause() {
        let (temp, dir) = folder(&[("cpu.weight", "100"), ("cgroup.controllers", "cpu\n")]);
        let weight =
            Setting { file: "cpu.weight".into(), value: "555".into(), absent: Absent::Fail };
        let pids = Setting { file: "pids.max".into(), ..weight.clone() };
        let error = apply_settings(&dir, &[weight.clone(), pids], &[]).unwrap_err();
        assert!(
            matches!(&error, CgroupError::MissingControllers { missing, .. } if missing == &["pids"]),
            "{error}"
        );
        assert_eq!(text(temp.path(), "cpu.weight"), "100");
        apply_settings(&dir, &[weight], &[]).unwrap();
        assert_eq!(text(temp.path(), "cpu.weight"), "555", "the control: it can be written");
    }

    #[test]
    fn what_follows_and_fails_takes_the_settings_back() {
        let (temp, dir) = folder(&[("cpu.weight", "100")]);
        let weight =
            Setting { file: "cpu.weight".into(), value: "555".into(), absent: Absent::Fail };
        let refuse = || Err(CgroupError::invalid("a", "b", "c"));
        apply_settings_then(&dir, std::slice::from_ref(&weight), &[], refuse).unwrap_err();
        assert_eq!(text(temp.path(), "cpu.weight"), "100");
        apply_settings_then(&dir, &[weight], &[], || Ok(())).unwrap();
        assert_eq!(text(temp.path(), "cpu.weight"), "555");
    }

    #[test]
    fn settings_of_controllers_left_out_by_best_effort_are_skipped() {
        let (_temp, dir) = folder(&[("cgroup.controllers", "\n")]);
        let resources = Resources { pids_limit: Some(Limit::Value(5)), ..Resources::default() };
        assert!(apply_settings(&dir, &settings(&resources), &["cpu"]).is_err());
        apply_settings(&dir, &settings(&resources), &["pids"]).unwrap();
    }

    #[test]
    fn a_memory_limit_below_what_is_in_use_is_refused_and_inactive_pages_do_not_count() {
        let (temp, dir) = folder(&[
            ("memory.max", "max       "),
            ("memory.swap.max", "0"),
            ("memory.current", "3000000\n"),
            ("memory.stat", "inactive_file 1000000\n"),
        ]);
        let limit = |n| {
            settings(&Resources { memory_limit: Some(Limit::Value(n)), ..Resources::default() })
        };
        let message = apply_settings(&dir, &limit(1_999_999), &[]).unwrap_err().to_string();
        assert!(message.contains("2000000 bytes are in use"), "{message}");
        assert_eq!(text(temp.path(), "memory.max"), "max");
        apply_settings(&dir, &limit(2_000_000), &[]).unwrap();
        assert_eq!(text(temp.path(), "memory.max"), "2000000");
    }

    #[test]
    fn cpus_that_are_not_granted_are_refused_and_taken_back() {
        let (temp, dir) = folder(&[("cpuset.cpus", "0-1"), ("cpuset.cpus.effective", "0-1\n")]);
        let cpus = |list: &str| {
            settings(&Resources { cpuset_cpus: Some(list.into()), ..Resources::default() })
        };
        let message = apply_settings(&dir, &cpus("1-2"), &[]).unwrap_err().to_string();
        assert!(message.contains("cpuset.cpus \"1-2\""), "{message}");
        assert_eq!(text(temp.path(), "cpuset.cpus"), "0-1");
    }

    #[test]
    fn an_unknown_unified_key_is_refused_by_name() {
        let (_temp, dir) = folder(&[]);
        let unified = [("memory.hihg".to_owned(), "1".to_owned())].into();
        let plan = settings(&Resources { unified, ..Resources::default() });
        let message = apply_settings(&dir, &plan, &[]).unwrap_err().to_string();
        assert!(message.contains("\"memory.hihg\""), "{message}");
    }

    #[test]
    fn io_limits_are_taken_back_by_device_and_an_empty_value_by_an_empty_line() {
        let change = |file: &str, value: &str, old: &str| {
            let setting =
                Setting { file: file.into(), value: value.into(), absent: Absent::UnknownKey };
            restoring_lines(&Done { setting: &setting, old: old.into() })
        };
        assert_eq!(
            change("io.max", "8:0 rbps=1", "8:16 rbps=2 wbps=max\n"),
            ["8:0 rbps=max wbps=max riops=max wiops=max", "8:16 rbps=2 wbps=max"]
        );
        assert_eq!(change("cpuset.cpus", "1", "\n"), ["\n"]);
        assert_eq!(change("cpu.max", "1000 2000", "max 100000\n"), ["max 100000"]);
    }
}
