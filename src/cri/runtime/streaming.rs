//! Exec, Attach, PortForward: a URL of the streaming server that can be used once.

use crate::cri::from_proto::{self, id, ports, streams};
use crate::cri::instrument::about;
use crate::cri::proto;
use crate::cri::streaming::{Command, Pod, Streaming, Target};
use crate::engine::Engine;
use tonic::Status;

pub(in crate::cri) fn exec(
    engine: &Engine,
    streaming: &Streaming,
    request: proto::ExecRequest,
) -> Result<proto::ExecResponse, Status> {
    let proto::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
    let container = id("container_id", &container_id)?.to_owned();
    about("container_id", &container);
    let words = from_proto::command("cmd", cmd)?;
    let streams = streams(stdin, stdout, stderr, tty)?;
    engine.executes(&container)?;
    let url = streaming.exec(Command { container, words, streams })?;
    Ok(proto::ExecResponse { url })
}

pub(in crate::cri) fn attach(
    engine: &Engine,
    streaming: &Streaming,
    request: proto::AttachRequest,
) -> Result<proto::AttachResponse, Status> {
    let proto::AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
    let container = id("container_id", &container_id)?.to_owned();
    about("container_id", &container);
    let streams = streams(stdin, stdout, stderr, tty)?;
    engine.attaches(&container, streams.into())?;
    let url = streaming.attach(Target { container, streams })?;
    Ok(proto::AttachResponse { url })
}

pub(in crate::cri) fn port_forward(
    engine: &Engine,
    streaming: &Streaming,
    request: proto::PortForwardRequest,
) -> Result<proto::PortForwardResponse, Status> {
    let sandbox = id("pod_sandbox_id", &request.pod_sandbox_id)?.to_owned();
    about("sandbox_id", &sandbox);
    let ports = ports("port", &request.port)?;
    engine.forwards(&sandbox)?;
    let url = streaming.port_forward(Pod { sandbox, ports })?;
    Ok(proto::PortForwardResponse { url })
}
