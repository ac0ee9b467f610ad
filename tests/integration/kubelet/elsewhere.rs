//! The same tests with their pods on another runtime, by its socket: `make test-peer` runs them over Debian's
//! containerd and runc.
//!
//! What another runtime cannot do, or does otherwise, is a named skip with its reason. How many pass is counted, and
//! may not become fewer.

use anyhow::{Context as _, Result};
use std::path::Path;

/// The groups of tests whose pods another runtime can run.
pub(crate) const GROUPS: &[&str] = &["kubelet", "kubelet_place"];

/// How many pass there; fewer that did, or would but for this machine, are a failure.
const COUNT: &str = "tests/integration/kubelet/elsewhere-cases.txt";

/// What another runtime makes of a test that its own cannot pass.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "kubelet::another_runtime_runs_pods_by_its_socket",
        "it is about berth's own socket; here all tests are about another's",
    ),
    (
        "kubelet::a_rotated_log_is_whole_though_the_daemon_is_killed",
        "containerd cuts a line in two that is being written while its log is opened anew",
    ),
    (
        "kubelet::why_names_what_is_wrong_with_the_network",
        "it plants faults in the network of berth's own engine",
    ),
    (
        "kubelet::a_node_is_not_ready_without_its_network",
        "it takes away the CNI configuration of berth's own engine",
    ),
    (
        "kubelet_place::a_pod_has_users_of_its_own",
        "containerd 1.6 makes no user namespaces for pods",
    ),
    (
        "kubelet_place::who_says_nothing_of_seccomp_is_filtered",
        "its node keeps memory, which a runtime on the older cgroup hierarchy is refused for",
    ),
    (
        "kubelet::an_exec_probe_that_hangs_leaves_no_process",
        "containerd kills the command of an ExecSync that takes too long, and not what that has begun",
    ),
];

/// Why a test is not run over another runtime.
pub(crate) fn otherwise(name: &str) -> Option<&'static str> {
    OTHERWISE.iter().find(|(test, _)| *test == name).map(|(_, why)| *why)
}

/// Tells what was not run and how many passed; whether those are enough. `untried`: what this machine cannot do;
/// `whole`: nothing was left out by name.
///
/// # Errors
/// The count cannot be read.
#[expect(clippy::print_stdout, reason = "a test runner reports on standard output")]
pub(crate) fn judge(
    skipped: &[(String, &str)],
    passed: usize,
    untried: usize,
    whole: bool,
) -> Result<bool> {
    for (name, why) in skipped {
        println!("otherwise: {name}: {why}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(COUNT);
    let least: usize = std::fs::read_to_string(path).context(COUNT)?.trim().parse()?;
    println!(
        "{passed} pass with another runtime, {} are otherwise as explained, {untried} need another machine \
         ({least} have to pass, with those)",
        skipped.len()
    );
    Ok(!whole || passed + untried >= least)
}
