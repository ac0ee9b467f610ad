//! `berth get pods --watch`: the pods, and then each that becomes another.

use super::args::{GetPodsArgs, PodFormat};
use super::get::{PodTable, name_line, now_seconds, object};
use super::inventory::{Inventory, KeptPod, Which, pod, source_of};
use super::until::missed_some;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::CtlError;
use crate::kubelet::control::proto::{WatchPodsRequest, change::What};
use crate::kubelet::spec::uid;
use std::collections::BTreeMap;

/// Prints pods and what becomes of them, until the daemon stops.
pub(super) async fn pods(
    args: &GetPodsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut watched = Watched::new(args);
    loop {
        // Asked for before the list, so that nothing falls between them.
        let changes = daemon.pods.clone().watch_pods(WatchPodsRequest {}).await;
        let mut changes = changes.map_err(CtlError::rpc("watch", "pods"))?.into_inner();
        let text = watched.listed(Inventory::read(daemon).await?, now_seconds())?;
        console.write(text.as_bytes())?;
        loop {
            let text = match changes.message().await {
                Ok(Some(change)) => watched.changed(change.what, now_seconds())?,
                Ok(None) => return Ok(()),
                Err(status) if missed_some(&status) => break,
                Err(status) => return Err(CtlError::rpc("watch", "pods")(status)),
            };
            console.write(text.as_bytes())?;
        }
    }
}

/// What was printed of each pod.
struct Watched<'a> {
    which: Which<'a>,
    output: PodFormat,
    table: PodTable,
    /// By UID.
    shown: BTreeMap<String, Shown>,
}

/// A pod as it was printed last.
struct Shown {
    kept: KeptPod,
    /// What tells whether it is another: the cells without the age and the time since the last restart, or the pod.
    print: String,
}

impl<'a> Watched<'a> {
    fn new(args: &'a GetPodsArgs) -> Self {
        Self {
            which: Which::of(&args.namespaces, args.name.as_deref()),
            output: args.output,
            table: PodTable::new(args),
            shown: BTreeMap::new(),
        }
    }

    /// The pods as they are now: those are printed that are others than before.
    fn listed(&mut self, all: Inventory, now: i64) -> Result<String, CtlError> {
        let mut text = String::new();
        let there: Vec<String> = all.0.iter().map(|kept| uid(&kept.pod).to_owned()).collect();
        let gone: Vec<String> =
            self.shown.keys().filter(|uid| !there.contains(uid)).cloned().collect();
        for uid in gone {
            text += &self.gone(&uid, now)?;
        }
        for kept in all.0 {
            text += &self.seen(kept, now)?;
        }
        Ok(text)
    }

    /// What is to be printed of a change.
    fn changed(&mut self, what: Option<What>, now: i64) -> Result<String, CtlError> {
        match what {
            Some(What::Pod(json)) => {
                let pod = pod(&json)?;
                let known = self.shown.get(uid(&pod));
                let origin = known.map(|known| known.kept.origin.clone()).unwrap_or_else(|| {
                    // A change does not say it; the annotation tells of files and of addresses.
                    source_of(&pod).unwrap_or_default().to_owned()
                });
                self.seen(KeptPod { pod, origin, events: Vec::new() }, now)
            }
            Some(What::Gone(json)) => self.gone(uid(&pod(&json)?), now),
            Some(What::Event(_)) | None => Ok(String::new()),
        }
    }

    fn seen(&mut self, kept: KeptPod, now: i64) -> Result<String, CtlError> {
        if !self.which.has(&kept.pod) {
            return Ok(String::new());
        }
        let print = match self.output {
            PodFormat::Table | PodFormat::Wide => {
                // At one moment: a time that passes is no change.
                self.table.cells(&kept, 0).join("\0")
            }
            PodFormat::Json | PodFormat::Yaml => object(&kept.pod).to_string(),
            PodFormat::Name => String::new(),
        };
        let id = uid(&kept.pod).to_owned();
        if self.shown.get(&id).is_some_and(|shown| shown.print == print) {
            return Ok(String::new());
        }
        let text = self.render(&kept, None, now)?;
        self.shown.insert(id, Shown { kept, print });
        Ok(text)
    }

    fn gone(&mut self, uid: &str, now: i64) -> Result<String, CtlError> {
        match self.shown.remove(uid) {
            Some(Shown { kept, .. }) => self.render(&kept, Some("Gone"), now),
            None => Ok(String::new()),
        }
    }

    fn render(
        &mut self,
        kept: &KeptPod,
        status: Option<&str>,
        now: i64,
    ) -> Result<String, CtlError> {
        match self.output {
            PodFormat::Table | PodFormat::Wide => {
                let mut cells = self.table.cells(kept, now);
                let column = self.table.status_column();
                if let (Some(cell), Some(status)) = (cells.get_mut(column), status) {
                    status.clone_into(cell);
                }
                Ok(self.table.text(&[cells]))
            }
            PodFormat::Name => Ok(name_line(&kept.pod) + "\n"),
            PodFormat::Json => Ok(object(&kept.pod).to_string() + "\n"),
            PodFormat::Yaml => {
                let text = serde_yaml_ng::to_string(&object(&kept.pod));
                Ok(format!("---\n{}", text.map_err(|_| CtlError::Format("YAML"))?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kubelet::args::NamespacesArgs;
    use crate::ctl::kubelet::test_pods::kept;
    use serde_json::{Value, json};
    use tonic::Status;

    fn args(output: PodFormat) -> GetPodsArgs {
        GetPodsArgs { name: None, namespaces: NamespacesArgs::default(), output, watch: true }
    }

    fn web(phase: &str) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
            "spec": {"containers": []},
            "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z"},
        })
    }

    fn pod_change(value: &Value) -> Option<What> {
        Some(What::Pod(value.to_string()))
    }

    /// The second after which the pod began.
    const START: i64 = 1_767_225_600;

    #[test]
    fn only_what_changed_is_printed_and_the_headings_once() {
        let args = args(PodFormat::Table);
        let mut watched = Watched::new(&args);
        let list = |phase| Inventory(vec![kept(web(phase))]);
        let first = watched.listed(list("Pending"), START + 1).unwrap();
        assert_eq!(
            first,
            "NAME  READY  STATUS   RESTARTS  AGE\nweb   0/0    Pending  0         1s\n"
        );
        assert_eq!(watched.listed(list("Pending"), START + 5).unwrap(), "");
        let running = watched.changed(pod_change(&web("Running")), START + 6).unwrap();
        assert_eq!(running, "web   0/0    Running  0         6s\n");
        assert_eq!(watched.changed(pod_change(&web("Running")), START + 7).unwrap(), "");
        let gone = Some(What::Gone(web("Running").to_string()));
        assert_eq!(
            watched.changed(gone.clone(), START + 8).unwrap(),
            "web   0/0    Gone     0         8s\n"
        );
        assert_eq!(watched.changed(gone, START + 9).unwrap(), "");
    }

    #[test]
    fn what_was_missed_is_made_up_for_by_the_next_list() {
        let args = args(PodFormat::Name);
        let mut watched = Watched::new(&args);
        watched.listed(Inventory(vec![kept(web("Running"))]), 0).unwrap();
        assert_eq!(watched.listed(Inventory::default(), 0).unwrap(), "pod/web\n");
        assert!(missed_some(&Status::data_loss("missed 3")));
        assert!(!missed_some(&Status::unavailable("stopping")));
    }

    #[test]
    fn other_namespaces_are_not_watched_and_programs_get_an_object_a_line() {
        let args = args(PodFormat::Json);
        let mut watched = Watched::new(&args);
        let mut other = web("Running");
        other["metadata"]["namespace"] = json!("shop");
        assert_eq!(watched.changed(pod_change(&other), 0).unwrap(), "");
        let text = watched.changed(pod_change(&web("Running")), 0).unwrap();
        let value: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((text.lines().count(), &value["kind"]), (1, &json!("Pod")));
    }
}
