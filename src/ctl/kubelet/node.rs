//! `berth get node`.

use super::args::{GetNodeArgs, PodFormat};
use super::duration;
use super::get::now_seconds;
use super::inventory::event;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Columns, Console, Format};
use crate::ctl::error::CtlError;
use crate::kubelet::board::Event;
use crate::kubelet::control::proto;
use crate::kubelet::node_status::is_ready;
use k8s_openapi::api::core::v1::Node;

/// Asks the daemon for its node.
pub(super) async fn read(daemon: &Daemon) -> Result<Node, CtlError> {
    Ok(read_with_events(daemon).await?.0)
}

/// Asks the daemon for its node, and what happened to it.
pub(super) async fn read_with_events(daemon: &Daemon) -> Result<(Node, Vec<Event>), CtlError> {
    let answer = daemon.pods.clone().get_node(proto::GetNodeRequest {}).await;
    let answer = answer.map_err(CtlError::rpc("get", "the node"))?.into_inner();
    let node = serde_json::from_str(&answer.json).map_err(|_| CtlError::Format("a v1 Node"))?;
    Ok((node, answer.events.into_iter().map(event).collect()))
}

/// Prints the node.
pub(super) async fn get(
    args: GetNodeArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    print(args.output, &read(daemon).await?, console)
}

fn print(format: PodFormat, node: &Node, console: &mut Console) -> Result<(), CtlError> {
    match format {
        PodFormat::Json => console.document(Format::Json, node),
        PodFormat::Yaml => console.document(Format::Yaml, node),
        PodFormat::Name => console.line(&format!("node/{}", name(node))),
        PodFormat::Table | PodFormat::Wide => {
            let wide = format == PodFormat::Wide;
            let text = table(node, wide, now_seconds());
            console.write(text.as_bytes())
        }
    }
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn table(node: &Node, wide: bool, now: i64) -> String {
    let mut headings = vec!["NAME", "STATUS", "AGE", "VERSION"];
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
    let info = node.status.as_ref().and_then(|status| status.node_info.clone()).unwrap_or_default();
    let mut cells = vec![
        name(node).to_owned(),
        status(node),
        created.map_or_else(|| "<unknown>".to_owned(), |created| duration(now - created)),
        info.kubelet_version,
    ];
    if wide {
        headings.extend(["INTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]);
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        let ip = addresses.into_iter().flatten().find(|address| address.type_ == "InternalIP");
        let ip = ip.map_or_else(|| "<none>".to_owned(), |address| address.address.clone());
        cells.extend([ip, info.os_image, info.kernel_version, info.container_runtime_version]);
    }
    Columns::new(&headings).lines(&[cells])
}

/// `Ready` or `NotReady`, and what there is too little of.
fn status(node: &Node) -> String {
    let ready = if is_ready(node) { "Ready" } else { "NotReady" };
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let others = conditions.into_iter().flatten().filter(|c| c.type_ != "Ready");
    let holding = others.filter(|c| c.status == "True").map(|c| c.type_.as_str());
    std::iter::once(ready).chain(holding).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::console::tests::captured;
    use serde_json::json;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "MemoryPressure", "status": "True"},
                    {"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}],
                "nodeInfo": {"kernelVersion": "6.12", "architecture": "amd64", "bootID": "",
                    "containerRuntimeVersion": "berth://1", "kubeProxyVersion": "",
                    "kubeletVersion": "v1", "machineID": "", "operatingSystem": "linux",
                    "osImage": "X", "systemUUID": ""},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_node_is_a_line_that_may_be_wide() {
        assert_eq!(
            table(&node("True"), false, 40),
            "NAME  STATUS                AGE  VERSION\nn1    Ready,MemoryPressure  30s  v1\n"
        );
        let wide = table(&node("False"), true, 40);
        assert!(wide.contains("NotReady,MemoryPressure") && wide.contains("192.0.2.1"), "{wide}");
        assert!(wide.ends_with("X         6.12            berth://1\n"), "{wide}");
    }

    #[test]
    fn programs_get_the_object() {
        let (mut console, out, _) = captured();
        print(PodFormat::Json, &node("True"), &mut console).unwrap();
        let text: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!((&text["kind"], &text["metadata"]["name"]), (&json!("Node"), &json!("n1")));
    }
}
