//! The RPCs, in few words.

use crate::harness::Node;
use anyhow::{Context as _, Result};
use berth::cri::proto;

/// Which streams are asked for: letters of `i` (stdin), `o`, `e`, `t` (a terminal).
pub(super) fn exec(node: &Node, id: &str, streams: &str, script: &str) -> Result<String> {
    let cmd = ["sh", "-c", script].map(String::from).to_vec();
    let has = |letter| streams.contains(letter);
    let request = proto::ExecRequest {
        container_id: id.to_owned(),
        cmd,
        tty: has('t'),
        stdin: has('i'),
        stdout: has('o'),
        stderr: has('e'),
    };
    Ok(node.cri.exec(request).context("Exec")?.url)
}

/// The same for Attach.
pub(super) fn attach(node: &Node, id: &str, streams: &str) -> Result<String> {
    let has = |letter| streams.contains(letter);
    let request = proto::AttachRequest {
        container_id: id.to_owned(),
        tty: has('t'),
        stdin: has('i'),
        stdout: has('o'),
        stderr: has('e'),
    };
    Ok(node.cri.attach(request).context("Attach")?.url)
}

/// PortForward of some ports.
pub(super) fn port_forward(node: &Node, pod: &str, port: &[i32]) -> Result<String> {
    let request = proto::PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: port.to_vec() };
    Ok(node.cri.port_forward(request).context("PortForward")?.url)
}
