//! `berth get events`, and `berth events --pods`.

use super::args::GetEventsArgs;
use super::duration::duration;
use super::get::now_seconds;
use super::inventory::event as from_proto;
use crate::clock::rfc3339;
use crate::ctl::commands::OutputArgs;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Console, Format, Row};
use crate::ctl::error::CtlError;
use crate::kubelet::board::{Event, EventKind};
use crate::kubelet::control::proto::{self, change::What};
use serde::Serialize;
use tonic::Code;

/// An event in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRow {
    last: String,
    first: String,
    #[serde(rename = "type")]
    kind: &'static str,
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    count: u32,
    message: String,
    #[serde(skip)]
    age: String,
}

impl Row for EventRow {
    const HEADINGS: &'static [&'static str] = &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        let object = match (&self.node, &self.container) {
            (Some(node), _) => format!("node/{node}"),
            (None, Some(container)) => format!("{}:{container}", self.pod),
            (None, None) => self.pod.clone(),
        };
        vec![
            self.age.clone(),
            self.kind.to_owned(),
            self.reason.clone(),
            object,
            one_line(&self.message),
        ]
    }
}

/// A message in one line.
pub(in crate::ctl) fn one_line(message: &str) -> String {
    message.trim_end().replace(['\n', '\r'], " ")
}

/// `Normal` or `Warning`.
pub(super) fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Normal => "Normal",
        EventKind::Warning => "Warning",
    }
}

/// When an event was seen last, and how often since when.
pub(super) fn seen(event: &Event, now: i64) -> String {
    let ago = |nanos: i64| duration(now - nanos / 1_000_000_000);
    match event.count {
        0 | 1 => ago(event.last_nanos),
        count => format!("{} (x{count} over {})", ago(event.last_nanos), ago(event.first_nanos)),
    }
}

fn row(event: Event, now: i64) -> EventRow {
    EventRow {
        last: event.last(),
        first: rfc3339(event.first_nanos),
        kind: kind_name(event.kind),
        age: seen(&event, now),
        reason: event.reason,
        pod: event.pod,
        node: event.node,
        container: event.container,
        count: event.count,
        message: event.message,
    }
}

/// Lists the newest events.
pub(super) async fn list(
    args: &GetEventsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = daemon.pods.clone().list_events(proto::ListEventsRequest {}).await;
    let answer = answer.map_err(CtlError::rpc("list", "events of pods"))?.into_inner();
    let now = now_seconds();
    let events = answer.events.into_iter().map(from_proto);
    let only = args.namespaces.only();
    let meant = |event: &Event| only.is_none_or(|namespace| in_namespace(event, namespace));
    let rows: Vec<EventRow> = events.filter(meant).map(|event| row(event, now)).collect();
    if rows.is_empty() && args.output.output == Format::Table {
        console.note("nothing has happened");
        return Ok(());
    }
    console.rows(args.output.output, &rows)
}

/// An event of the node is in the namespace `default`, as in a cluster.
fn in_namespace(event: &Event, namespace: &str) -> bool {
    if event.node.is_some() {
        return namespace == "default";
    }
    event.pod.split_once('/').is_some_and(|(of, _)| of == namespace)
}

/// Prints what happens to pods until the daemon stops: a line each; with JSON one object a line, with YAML one
/// document each.
pub(in crate::ctl) async fn follow(
    args: &OutputArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    loop {
        let changes = daemon.pods.clone().watch_pods(proto::WatchPodsRequest {}).await;
        let mut changes = changes.map_err(CtlError::rpc("follow", "events of pods"))?.into_inner();
        loop {
            match changes.message().await {
                Ok(Some(proto::Change { what: Some(What::Event(event)) })) => {
                    console.write(render(args.output, from_proto(event))?.as_bytes())?;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) if status.code() == Code::DataLoss => {
                    console.note("berth: some events were missed: `berth get events` lists them");
                    break;
                }
                Err(status) => return Err(CtlError::rpc("follow", "events of pods")(status)),
            }
        }
    }
}

fn render(format: Format, event: Event) -> Result<String, CtlError> {
    let row = row(event, 0);
    match format {
        Format::Table => {
            let container = row.container.as_ref().map(|c| format!(" container {c}"));
            let object = match &row.node {
                Some(node) => format!("node {node}"),
                None => format!("pod {}{}", row.pod, container.unwrap_or_default()),
            };
            let (last, kind, reason) = (&row.last, row.kind, &row.reason);
            Ok(format!("{last} {kind:7} {reason} {object}: {}\n", one_line(&row.message)))
        }
        Format::Json => {
            let text = serde_json::to_string(&row).map_err(|_| CtlError::Format("JSON"))?;
            Ok(text + "\n")
        }
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(&row).map_err(|_| CtlError::Format("YAML"))?;
            Ok(format!("---\n{text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kubelet::test_pods::warning;

    #[test]
    fn an_event_tells_when_and_how_often() {
        let mut event = warning("c", "BackOff", "back-off 10s\nrestarting", 100);
        assert_eq!(
            row(event.clone(), 130).cells(),
            ["30s", "Warning", "BackOff", "default/web:c", "back-off 10s restarting"]
        );
        (event.count, event.last_nanos) = (4, 120_000_000_000);
        assert_eq!(row(event, 130).cells()[0], "10s (x4 over 30s)");
    }

    #[test]
    fn a_followed_event_is_a_line() {
        let text = render(Format::Table, warning("", "FailedMount", "no\nsuch", 1)).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:01.000000000Z Warning FailedMount pod default/web: no such\n"
        );
        let node =
            Event { node: Some("n1".into()), pod: String::new(), ..warning("", "R", "m", 1) };
        assert_eq!(row(node.clone(), 31).cells()[3], "node/n1");
        let text = render(Format::Table, node).unwrap();
        assert_eq!(text, "1970-01-01T00:00:01.000000000Z Warning R node n1: m\n");
        let json = render(Format::Json, warning("c", "BackOff", "m", 1)).unwrap();
        let value: serde_json::Value = serde_json::from_str(json.trim_end()).unwrap();
        assert_eq!((json.lines().count(), &value["container"]), (1, &serde_json::json!("c")));
    }

    #[test]
    fn events_are_of_a_namespace() {
        let event = warning("", "R", "m", 1);
        assert!(in_namespace(&event, "default") && !in_namespace(&event, "defaul"));
        let node = Event { node: Some("n1".into()), pod: String::new(), ..event };
        assert!(in_namespace(&node, "default") && !in_namespace(&node, "other"));
    }
}
