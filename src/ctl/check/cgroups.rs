//! cgroup v2 and its controllers.

use super::report::{Finding, Report};
use crate::config::{CgroupDriver, Cgroups, Enforce};
use std::path::Path;

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
    if config.driver == CgroupDriver::Systemd {
        report.add(systemd(
            Path::new("/run/systemd/system"),
            Path::new("/run/dbus/system_bus_socket"),
        ));
    }
}

/// What the systemd driver needs: systemd as the first process, and the bus.
fn systemd(booted: &Path, bus: &Path) -> Finding {
    const NAME: &str = "systemd cgroup driver";
    if !booted.exists() {
        let remedy = "set cgroups.driver = \"cgroupfs\", for the kubelet, too";
        return Finding::fail(NAME, "this machine does not run systemd".to_owned(), remedy);
    }
    if !bus.exists() {
        let found = format!("no D-Bus at {}", bus.display());
        return Finding::fail(NAME, found, "install and start dbus");
    }
    Finding::ok(NAME, format!("D-Bus at {}", bus.display()))
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
    fn the_systemd_driver_needs_systemd_and_its_bus() {
        let (there, missing) = (Path::new("/"), Path::new("/nowhere"));
        for (booted, bus, verdict) in [
            (there, there, Verdict::Ok),
            (missing, there, Verdict::Fail),
            (there, missing, Verdict::Fail),
        ] {
            assert_eq!(systemd(booted, bus).verdict, verdict, "{booted:?} {bus:?}");
        }
    }

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
