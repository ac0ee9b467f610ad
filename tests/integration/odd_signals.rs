//! A daemon whose parent ignored SIGCHLD and blocked signals: both are passed on over exec.

use crate::harness::machine::{Machine, Need};
use crate::harness::{Node, Options, Test, kernel, own};
use anyhow::{Result, ensure};

pub(crate) fn tests() -> Vec<Test> {
    vec![own("a_daemon_reaps_and_stops_whatever_its_parent_did", &[Need::PodNetwork], odd, works)]
}

fn odd(_: &Machine) -> Options {
    let words = "env --ignore-signal=CHLD --block-signal=TERM,INT,CHLD";
    Options { wrapper: words.split(' ').map(str::to_owned).collect(), ..Options::default() }
}

fn works(node: &mut Node) -> Result<()> {
    let pid = node.pid()?;
    let bits =
        |field| -> Result<u64> { Ok(u64::from_str_radix(&kernel::status_field(pid, field)?, 16)?) };
    ensure!(bits("SigBlk")? == 0, "signals are blocked");
    ensure!(bits("SigIgn")? & 1 << 16 == 0, "SIGCHLD is ignored");
    // Helpers are waited for, and their codes are seen.
    let (pod, container) = node.patient_pod("signals")?;
    ensure!(node.exec_ok(&container, &["echo", "out"])? == "out");
    node.remove_pod(&pod)?;
    let status = node.stop()?;
    ensure!(status.success(), "after SIGTERM: {status}");
    Ok(())
}
