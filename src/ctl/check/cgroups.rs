//! cgroup v2 and its controllers.

use super::report::{Finding, Report};
use crate::config::{Cgroups, Enforce};

/// What limits need. hugetlb is used where it is present.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];

pub(super) fn check(config: &Cgroups, report: &mut Report) {
    let file = config.root.join("cgroup.controllers");
    let root = config.root.display();
    let remedy = "boot with systemd.unified_cgroup_hierarchy=1, or set cgroups.root to where cgroup \
                  v2 is mounted";
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            report.add(Finding::ok("cgroup v2", format!("at {root}")));
            report.add(controllers(&text, config.enforce));
        }
        Err(error) => {
            report.add(Finding::fail("cgroup v2", format!("not at {root}: {error}"), remedy));
        }
    }
}

fn controllers(text: &str, enforce: Enforce) -> Finding {
    const NAME: &str = "cgroup controllers";
    let present: Vec<&str> = text.split_ascii_whitespace().collect();
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|c| !present.contains(c)).collect();
    if missing.is_empty() {
        return Finding::ok(NAME, present.join(", "));
    }
    let found = format!("missing: {}", missing.join(", "));
    match enforce {
        Enforce::Required => Finding::fail(
            NAME,
            found,
            "boot with cgroup_no_v1=all so that no controller is held by cgroup v1; for a developer \
             machine set cgroups.enforce = \"best-effort\"",
        ),
        Enforce::BestEffort => {
            let remedy = "limits of these controllers are left out, as cgroups.enforce says";
            Finding::warn(NAME, found, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_missing_controller_fails_unless_it_may_be_left_out() {
        for (text, enforce, verdict) in [
            ("cpuset cpu io memory hugetlb pids\n", Enforce::Required, Verdict::Ok),
            ("cpuset cpu io memory\n", Enforce::Required, Verdict::Fail),
            ("\n", Enforce::BestEffort, Verdict::Warn),
        ] {
            assert_eq!(controllers(text, enforce).verdict, verdict, "{text}");
        }
        assert_eq!(controllers("cpu io pids", Enforce::Required).found, "missing: memory, cpuset");
    }
}
