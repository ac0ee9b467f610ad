//! `berth get`.

use super::args::{GetCommand, GetPodsArgs, PodFormat};
use super::inventory::{Inventory, KeptPod, Which, missing};
use super::summary::Summary;
use super::{events, manifests, node, watch};
use crate::clock;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Columns, Console, Format};
use crate::ctl::error::CtlError;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Prints what was asked for.
pub(in crate::ctl) async fn get(
    command: &GetCommand,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    match command {
        GetCommand::Pods(args) if args.watch => watch::pods(args, daemon, console).await,
        GetCommand::Pods(args) => pods(args, daemon, console).await,
        GetCommand::Manifests(args) => manifests::list(args, daemon, console).await,
        GetCommand::Node(args) => node::get(*args, daemon, console).await,
        GetCommand::Events(args) => events::list(args, daemon, console).await,
    }
}

async fn pods(args: &GetPodsArgs, daemon: &Daemon, console: &mut Console) -> Result<(), CtlError> {
    let which = Which::of(&args.namespaces, args.name.as_deref());
    let all = Inventory::read(daemon).await?;
    let found: Vec<&KeptPod> = all.0.iter().filter(|kept| which.has(&kept.pod)).collect();
    if let (Some(name), [], Some(namespace)) = (which.name, found.as_slice(), which.namespace) {
        return Err(missing(namespace, name));
    }
    print(args, &found, console)
}

/// Prints pods in the form that was asked for: a single one that was named as itself, others as a list.
fn print(args: &GetPodsArgs, pods: &[&KeptPod], console: &mut Console) -> Result<(), CtlError> {
    match args.output {
        PodFormat::Table | PodFormat::Wide => {
            if pods.is_empty() {
                console.note(&nothing(args.namespaces.only()));
                return Ok(());
            }
            let mut table = PodTable::new(args);
            let now = now_seconds();
            let rows: Vec<Vec<String>> = pods.iter().map(|kept| table.cells(kept, now)).collect();
            console.write(table.text(&rows).as_bytes())
        }
        PodFormat::Name => pods.iter().try_for_each(|kept| console.line(&name_line(&kept.pod))),
        PodFormat::Json => console.document(Format::Json, &document(args, pods)),
        PodFormat::Yaml => console.document(Format::Yaml, &document(args, pods)),
    }
}

/// Now, in seconds since 1970.
pub(super) fn now_seconds() -> i64 {
    clock::now_nanos() / 1_000_000_000
}

/// What is said of a list of nothing.
fn nothing(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("no pods are kept in namespace {namespace}"),
        None => "no pods are kept".to_owned(),
    }
}

pub(super) fn name_line(pod: &Pod) -> String {
    format!("pod/{}", crate::kubelet::spec::name(pod))
}

fn document(args: &GetPodsArgs, pods: &[&KeptPod]) -> Value {
    if let (Some(_), [only]) = (&args.name, pods) {
        return object(&only.pod);
    }
    let items: Vec<Value> = pods.iter().map(|kept| object(&kept.pod)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// A pod as a document of its own.
pub(super) fn object(pod: &Pod) -> Value {
    // The types of the API write `apiVersion` and `kind` first.
    serde_json::to_value(pod).unwrap_or_default()
}

/// The table of pods, which may get more rows later.
pub(super) struct PodTable {
    columns: Columns,
    with_namespace: bool,
    wide: bool,
}

impl PodTable {
    pub(super) fn new(args: &GetPodsArgs) -> Self {
        let (with_namespace, wide) =
            (args.namespaces.all_namespaces, args.output == PodFormat::Wide);
        let mut headings = Vec::new();
        if with_namespace {
            headings.push("NAMESPACE");
        }
        headings.extend(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        if wide {
            headings.extend(["IP", "NODE", "ORIGIN"]);
        }
        Self { columns: Columns::new(&headings), with_namespace, wide }
    }

    pub(super) fn cells(&self, kept: &KeptPod, now: i64) -> Vec<String> {
        let summary = Summary::of(&kept.pod);
        let mut cells = summary.cells(now);
        if self.with_namespace {
            cells.insert(0, summary.namespace);
        }
        if self.wide {
            let none = || "<none>".to_owned();
            let origin = Some(kept.origin.clone()).filter(|origin| !origin.is_empty());
            cells.push(summary.ip.unwrap_or_else(none));
            cells.push(summary.node.unwrap_or_else(none));
            cells.push(origin.unwrap_or_else(|| "applied".to_owned()));
        }
        cells
    }

    /// Which of the cells says what the pod does.
    pub(super) fn status_column(&self) -> usize {
        if self.with_namespace { 3 } else { 2 }
    }

    /// Rows as lines, the first time below the headings.
    pub(super) fn text(&mut self, rows: &[Vec<String>]) -> String {
        self.columns.lines(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::console::tests::captured;
    use crate::ctl::kubelet::args::NamespacesArgs;
    use crate::ctl::kubelet::test_pods::kept;

    pub(crate) fn args(output: PodFormat, name: Option<&str>) -> GetPodsArgs {
        GetPodsArgs {
            name: name.map(str::to_owned),
            namespaces: NamespacesArgs::default(),
            output,
            watch: false,
        }
    }

    fn web() -> KeptPod {
        kept(json!({
            "metadata": {"name": "web-n1", "namespace": "shop"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]},
        }))
    }

    fn printed(args: &GetPodsArgs, pods: &[&KeptPod]) -> (String, String) {
        let (mut console, out, err) = captured();
        print(args, pods, &mut console).unwrap();
        (out.text(), err.text())
    }

    #[test]
    fn a_table_may_be_wide_and_have_namespaces() {
        let mut pod = web();
        let narrow = printed(&args(PodFormat::Table, None), &[&pod]).0;
        assert_eq!(
            narrow,
            "NAME    READY  STATUS   RESTARTS  AGE\nweb-n1  1/1    Running  0         <unknown>\n"
        );
        let mut wide = args(PodFormat::Wide, None);
        wide.namespaces.all_namespaces = true;
        pod.origin = "/m/web.yaml".into();
        let text = printed(&wide, &[&pod]).0;
        assert_eq!(
            text,
            "NAMESPACE  NAME    READY  STATUS   RESTARTS  AGE        IP        NODE  ORIGIN\n\
             shop       web-n1  1/1    Running  0         <unknown>  10.0.0.7  n1    /m/web.yaml\n"
        );
    }

    #[test]
    fn a_pod_that_was_named_is_a_pod_and_several_are_a_list() {
        let pod = web();
        let read = |name| -> Value {
            let text = printed(&args(PodFormat::Json, name), &[&pod]).0;
            serde_json::from_str(&text).unwrap()
        };
        let one = read(Some("web"));
        assert_eq!((&one["kind"], &one["apiVersion"]), (&json!("Pod"), &json!("v1")));
        let list = read(None);
        assert_eq!((&list["kind"], &list["items"][0]), (&json!("List"), &one));
        let yaml = printed(&args(PodFormat::Yaml, Some("web")), &[&pod]).0;
        assert!(yaml.contains("kind: Pod\n") && yaml.contains("  podIP: 10.0.0.7\n"), "{yaml}");
        assert_eq!(printed(&args(PodFormat::Name, None), &[&pod]).0, "pod/web-n1\n");
    }

    #[test]
    fn nothing_is_said_beside_the_output() {
        let (out, err) = printed(&args(PodFormat::Table, None), &[]);
        assert_eq!((out.as_str(), err.as_str()), ("", "no pods are kept in namespace default\n"));
        let (out, err) = printed(&args(PodFormat::Name, None), &[]);
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
    }
}
