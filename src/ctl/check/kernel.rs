//! The kernel's version, and who asks.

use super::report::{Finding, Report};

/// The oldest kernel that the test suite runs on.
const OLDEST: (u32, u32) = (6, 1);
/// Tmpfs can be id-mapped and overlay takes its layers one by one: what user namespaces need.
const COMPLETE: (u32, u32) = (6, 8);

pub(super) fn check(report: &mut Report) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.add(version(release.trim()));
    report.add(user(nix::unistd::geteuid().as_raw()));
}

fn version(release: &str) -> Finding {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().and_then(|p| p.parse::<u32>().ok());
    let remedy = "boot a kernel of version 6.1 or newer, better 6.8 or newer";
    match (number(), number()) {
        (Some(major), Some(minor)) if (major, minor) >= COMPLETE => Finding::ok("kernel", release),
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            let found = format!("{release}: no user namespaces for pods with volumes on tmpfs");
            Finding::warn("kernel", found, remedy)
        }
        (Some(_), Some(_)) => Finding::fail("kernel", format!("{release}: too old"), remedy),
        _ => Finding::fail("kernel", format!("{release:?} cannot be read"), remedy),
    }
}

fn user(uid: u32) -> Finding {
    if uid == 0 {
        Finding::ok("user", "root")
    } else {
        Finding::fail("user", format!("uid {uid}"), "run berth as root")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_first_two_numbers() {
        for (release, verdict) in [
            ("6.12.9+deb12-amd64", Verdict::Ok),
            ("6.8.0", Verdict::Ok),
            ("7.0-rc1", Verdict::Ok),
            ("6.1.0-13-amd64", Verdict::Warn),
            ("5.15.0", Verdict::Fail),
            ("", Verdict::Fail),
        ] {
            assert_eq!(version(release).verdict, verdict, "{release}");
        }
    }
}
