//! RPCs of later versions say UNIMPLEMENTED and their name; nothing pretends.

use crate::harness::{Node, Test, shared};
use anyhow::{Result, ensure};
use berth::cri::proto;
use tonic::{Code, Status};

pub(crate) fn tests() -> Vec<Test> {
    vec![shared("rpcs_of_later_versions_say_so_by_name", &[], runtime_rpcs)]
}

/// The names as they stand in CRI, and calls with an empty request.
macro_rules! refused {
    ($node:ident, $client:ident: $($name:literal $method:ident($request:ident);)*) => {
        $(
            let mut client = $node.cri.$client();
            let request = proto::$request::default();
            let answer = $node.cri.wait(async move { client.$method(request).await });
            said_so($name, answer.map(drop))?;
        )*
    };
}

fn runtime_rpcs(node: &Node) -> Result<()> {
    refused! { node, runtime:
        "Exec" exec(ExecRequest);
        "Attach" attach(AttachRequest);
        "PortForward" port_forward(PortForwardRequest);
    }
    // One that could not be meant (a terminal has no stderr) is refused as any other, and not begun.
    let container_id = "none".to_owned();
    let request =
        proto::ExecRequest { container_id, tty: true, stderr: true, ..Default::default() };
    let mut client = node.cri.runtime();
    let answer = node.cri.wait(async move { client.exec(request).await });
    said_so("Exec", answer.map(drop))?;
    // The control: one that is there.
    node.cri.version(proto::VersionRequest::default())?;
    Ok(())
}

fn said_so(name: &str, answer: Result<(), Status>) -> Result<()> {
    let status = answer.err().unwrap_or_else(|| Status::ok("an answer"));
    ensure!(status.code() == Code::Unimplemented, "{name}: {status:?}");
    ensure!(status.message() == format!("{name} is not implemented"), "{name}: {status:?}");
    Ok(())
}
