//! The wire, as another gRPC library speaks it: any `:authority`, long header sets, large requests.
//!
//! Kubelets up to 1.30 send the socket's path as `:authority`, plain or percent-encoded, which is
//! no authority in the sense of RFC 3986. The library is gRPC's C core, from Python.

use crate::harness::machine::Need;
use crate::harness::{Node, Test, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/authority.py");
const PATH: &str = "/run/berth/berth.sock";
const ENCODED: &str = "%2Frun%2Fberth%2Fberth.sock";
/// The library's own choice.
const NONE: &str = "-";

pub(crate) fn tests() -> Vec<Test> {
    const GRPC: &[Need] = &[Need::Grpcio];
    vec![
        shared("calls_without_an_authority_are_answered", GRPC, |node| run(node, NONE, "calls")),
        shared("the_socket_s_path_is_taken_as_authority", GRPC, |node| run(node, PATH, "calls")),
        shared("the_encoded_path_is_taken_as_authority", GRPC, |node| run(node, ENCODED, "calls")),
        shared("long_header_sets_evict_the_path", GRPC, |node| run(node, PATH, "headers")),
        shared("long_header_sets_evict_the_encoded_path", GRPC, |node| {
            run(node, ENCODED, "headers")
        }),
        shared("requests_up_to_16_mib_are_taken_and_larger_ones_refused", GRPC, |node| {
            run(node, PATH, "large")
        }),
    ]
}

fn run(node: &Node, authority: &str, case: &str) -> Result<()> {
    let python = node.machine.python.as_ref().context("no Python")?;
    let pid = node.pid()?;
    let output =
        Command::new(python).arg(SCRIPT).arg(node.socket()).args([authority, case]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case} as {authority:?}: {errors}");
    ensure!(output.stdout == b"ok\n", "it says {:?}", String::from_utf8_lossy(&output.stdout));
    ensure!(node.pid()? == pid, "another daemon");
    node.cri.version(proto::VersionRequest::default())?;
    Ok(())
}
