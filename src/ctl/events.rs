//! `berth events`.

use super::commands::OutputArgs;
use super::connect::Daemon;
use super::console::{Console, Format};
use super::error::CtlError;
use super::format::{rfc3339, short_id};
use super::resolve::{Inventory, container_name, pod_name};
use crate::cri::own::proto as own;
use own::event::Kind;
use serde::Serialize;

/// An event, as a program reads it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    at: String,
    event: &'static str,
    pod_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

/// Prints events until the daemon stops: a line each; with JSON one object a line, with YAML one
/// document each.
pub(super) async fn events(
    args: &OutputArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = daemon.own.clone().events(own::EventsRequest {}).await;
    let mut events = answer.map_err(CtlError::rpc("follow", "events"))?.into_inner();
    let mut known = Inventory::read(daemon).await?;
    while let Some(event) = events.message().await.map_err(CtlError::rpc("follow", "events"))? {
        if is_new(&known, &event) {
            known = Inventory::read(daemon).await?;
        }
        let text = render(args.output, &told(&known, &event))?;
        console.write(text.as_bytes())?;
    }
    Ok(())
}

/// Whether the event is about something whose name is not known yet.
fn is_new(known: &Inventory, event: &own::Event) -> bool {
    let pod = known.pods.iter().any(|pod| pod.id == event.sandbox_id);
    let container = event.container_id.is_empty()
        || known.containers.iter().any(|container| container.id == event.container_id);
    event.kind() == Kind::Created && !(pod && container)
}

fn told(known: &Inventory, event: &own::Event) -> Told {
    let pod = known.pods.iter().find(|pod| pod.id == event.sandbox_id);
    let container = known.containers.iter().find(|c| c.id == event.container_id);
    Told {
        at: rfc3339(event.at),
        event: match event.kind() {
            Kind::Created => "created",
            Kind::Started => "started",
            Kind::Stopped => "stopped",
            Kind::Deleted => "deleted",
            Kind::Oom => "oom",
            Kind::Lost => "lost",
        },
        pod_id: event.sandbox_id.clone(),
        pod: pod.map_or_else(String::new, |pod| pod_name(pod).to_string()),
        container_id: event.container_id.clone(),
        container: container.map_or_else(String::new, |c| container_name(c).to_owned()),
        lost: event.count,
    }
}

fn render(format: Format, told: &Told) -> Result<String, CtlError> {
    match format {
        Format::Table => Ok(line(told)),
        Format::Json => {
            let text = serde_json::to_string(told).map_err(|_| CtlError::Format("JSON"))?;
            Ok(text + "\n")
        }
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(told).map_err(|_| CtlError::Format("YAML"))?;
            Ok(format!("---\n{text}"))
        }
    }
}

fn line(told: &Told) -> String {
    if told.lost > 0 {
        return format!("{} lost {} events: the reader is too slow\n", told.at, told.lost);
    }
    let named = |name: &str, id: &str| {
        if name.is_empty() { short_id(id).to_owned() } else { format!("{name} ({})", short_id(id)) }
    };
    let mut text = format!("{} {:8} pod {}", told.at, told.event, named(&told.pod, &told.pod_id));
    if !told.container_id.is_empty() {
        text += &format!(" container {}", named(&told.container, &told.container_id));
    }
    text + "\n"
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::resolve::tests::{container, pod};

    fn event(kind: Kind, container: &str) -> own::Event {
        own::Event {
            at: 1_000_000_000,
            kind: kind.into(),
            sandbox_id: "p1".into(),
            container_id: container.into(),
            count: 0,
        }
    }

    #[test]
    fn an_event_is_a_line_with_names() {
        let known = Inventory {
            pods: vec![pod("p1", "ns", "web", true)],
            containers: vec![container("c1", "p1", "server", true)],
        };
        let text = |event| line(&told(&known, &event));
        assert_eq!(
            text(event(Kind::Oom, "c1")),
            "1970-01-01T00:00:01.000000000Z oom      pod ns/web (p1) container server (c1)\n"
        );
        assert_eq!(
            text(event(Kind::Deleted, "")),
            "1970-01-01T00:00:01.000000000Z deleted  pod ns/web (p1)\n"
        );
        assert!(text(event(Kind::Started, "c9")).ends_with("container c9\n"));
        let lost = own::Event { count: 7, ..event(Kind::Lost, "") };
        assert!(text(lost).contains("lost 7 events"));
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let told = told(&Inventory::default(), &event(Kind::Created, ""));
        let text = render(Format::Json, &told).unwrap();
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["event"], "created");
        assert_eq!(value.get("containerId"), None);
    }
}
