//! What else is here: another owner of the socket, other runtimes, limits, labels, criu.

use super::report::{Finding, Report};
use crate::checkpoint::{CheckpointError, Criu};
use crate::config::Config;
use crate::container::apparmor::AppArmor;
use crate::error::chain;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Other runtimes that a kubelet may be pointed at.
const OTHERS: [(&str, &str); 2] =
    [("containerd", "/run/containerd/containerd.sock"), ("cri-o", "/run/crio/crio.sock")];
/// Descriptors that a full node needs: a few a pod, and a listing of each.
const ENOUGH_FILES: u64 = 65_536;

pub(super) fn check(config: &Config, report: &mut Report) {
    report.add(socket(&config.server.socket));
    let running = |(_, path): &&(&str, &str)| UnixStream::connect(path).is_ok();
    let others: Vec<&str> = OTHERS.iter().filter(running).map(|(name, _)| *name).collect();
    report.add(other_runtimes(&others));
    // berth serves CRI on its socket alone; host ports of pods are no listeners of its own.
    report.add(Finding::ok("ports", "none needed by berth"));
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    report.add(open_files(files.map_or(0, |(_, hard)| hard)));
    report.add(apparmor(AppArmor::default().enabled(), || {
        std::process::Command::new("apparmor_parser").arg("--version").output().is_ok()
    }));
    report.add(selinux(crate::oci::selinux_in_force(), config.selinux.enabled));
    let configured = config.checkpoint.criu.as_deref();
    report.add(criu(&Criu::at_hand(configured), configured.is_some()));
}

fn socket(path: &Path) -> Finding {
    const NAME: &str = "socket";
    let shown = path.display();
    match UnixStream::connect(path) {
        Ok(_) => Finding::warn(
            NAME,
            format!("{shown} is served already"),
            "stop that daemon before you start another one, or set server.socket",
        ),
        Err(e)
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            Finding::ok(NAME, format!("{shown} is free"))
        }
        Err(e) => Finding::fail(
            NAME,
            format!("{shown}: {e}"),
            "remove what is there, or set server.socket to another path",
        ),
    }
}

fn other_runtimes(running: &[&str]) -> Finding {
    const NAME: &str = "other runtimes";
    if running.is_empty() {
        return Finding::ok(NAME, "none");
    }
    let remedy = "no conflict; but only one of them should serve the kubelet";
    Finding::warn(NAME, format!("{} runs", running.join(", ")), remedy)
}

fn open_files(hard: u64) -> Finding {
    let found = format!("up to {hard}");
    if hard >= ENOUGH_FILES {
        Finding::ok("open files", found)
    } else {
        Finding::warn("open files", found, "set LimitNOFILE=1048576 in berth's unit")
    }
}

fn apparmor(enabled: bool, parser: impl FnOnce() -> bool) -> Finding {
    const NAME: &str = "apparmor";
    if !enabled {
        return Finding::ok(NAME, "off");
    }
    if parser() {
        return Finding::ok(NAME, "enforced");
    }
    let remedy = "install apparmor_parser (package apparmor), which loads the default profile";
    Finding::fail(NAME, "enforced, and apparmor_parser is missing", remedy)
}

fn selinux(kernel: bool, configured: bool) -> Finding {
    const NAME: &str = "selinux";
    match (kernel, configured) {
        (false, false) => Finding::ok(NAME, "off"),
        (true, true) => Finding::ok(NAME, "pods are labelled"),
        (true, false) => Finding::warn(
            NAME,
            "on, and pods run unlabelled",
            "set selinux.enabled = true, or pods that ask for a label are refused",
        ),
        (false, true) => Finding::fail(
            NAME,
            "selinux.enabled = true, and the kernel does not run with SELinux or has no policy",
            "boot with lsm=...,selinux and a policy, or set selinux.enabled = false",
        ),
    }
}

/// Without one nothing is missing but checkpoints, unless it was asked for.
fn criu(found: &Result<Criu, CheckpointError>, configured: bool) -> Finding {
    const NAME: &str = "checkpoints";
    match found {
        Ok(criu) => {
            Finding::ok(NAME, format!("by criu {}, {}", criu.version(), criu.program().display()))
        }
        Err(CheckpointError::Missing(_)) if !configured => {
            Finding::ok(NAME, "none: criu is not installed")
        }
        Err(error) => {
            let remedy =
                "install criu 4.1 or newer, or set checkpoint.criu; checkpoints are refused";
            Finding::warn(NAME, chain(error), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::testing::eventually;

    #[test]
    fn a_served_socket_is_told_and_a_stale_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(socket(&path).verdict, Verdict::Ok);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(socket(&path).verdict, Verdict::Warn);
        drop(listener);
        eventually("nobody listens", || socket(&path).verdict == Verdict::Ok);
    }

    #[test]
    fn few_descriptors_and_other_runtimes_are_warnings() {
        assert_eq!(open_files(1024).verdict, Verdict::Warn);
        assert_eq!(open_files(1 << 20).verdict, Verdict::Ok);
        assert_eq!(other_runtimes(&["containerd"]).verdict, Verdict::Warn);
    }

    #[test]
    fn labels_that_are_configured_need_a_kernel_that_has_them() {
        for (kernel, configured, verdict) in [
            (false, false, Verdict::Ok),
            (true, true, Verdict::Ok),
            (true, false, Verdict::Warn),
            (false, true, Verdict::Fail),
        ] {
            assert_eq!(selinux(kernel, configured).verdict, verdict, "{kernel} {configured}");
        }
    }

    #[test]
    fn a_criu_that_cannot_be_used_is_a_warning_and_none_is_none() {
        let missing = || Err(CheckpointError::Missing("/usr/sbin/criu".into()));
        assert_eq!(criu(&missing(), false).verdict, Verdict::Ok);
        assert_eq!(criu(&missing(), true).verdict, Verdict::Warn);
        let (program, found) = ("/usr/sbin/criu".into(), "3.17.1".into());
        let old = criu(&Err(CheckpointError::TooOld { program, found, needed: "4.1" }), false);
        assert!(old.verdict == Verdict::Warn && old.found.contains("3.17.1"), "{old:?}");
    }

    #[test]
    fn apparmor_without_its_parser_is_a_failure_where_it_is_enforced() {
        assert_eq!(apparmor(false, || false).verdict, Verdict::Ok);
        assert_eq!(apparmor(true, || true).verdict, Verdict::Ok);
        assert_eq!(apparmor(true, || false).verdict, Verdict::Fail);
    }
}
