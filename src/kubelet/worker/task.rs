//! The life of a worker.

use super::body::Body;
use super::host::Host;
use super::inbox::{Command, Ending, Handle, Inbox, inbox};
use super::round::Round;
use crate::kubelet::objects::Objects;
use crate::kubelet::source::SourcePod;
use crate::kubelet::status::has_ended;
use crate::kubelet::volumes::VolumeInput;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A worker to be.
pub struct Worker {
    body: Body,
    inbox: Inbox,
    objects: watch::Receiver<Arc<Objects>>,
}

/// Starts the worker of a pod; with an `ending` it has only to end it, and begins nothing. When nothing is left of
/// the pod, its uid goes to `ended`. A `stop` leaves everything as it is.
pub fn spawn(
    host: &Arc<Host>,
    SourcePod { pod, origin }: SourcePod,
    ending: Option<Ending>,
    ended: mpsc::UnboundedSender<String>,
    stop: CancellationToken,
) -> Handle {
    let (handle, inbox) = inbox();
    if let Some(ending) = ending {
        handle.tell(Command::End(ending));
    }
    let objects = host.objects.clone();
    let mut worker = Worker { body: Body::new(Arc::clone(host), pod, origin), inbox, objects };
    host.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = worker.live() => {
                // Nobody listens when the kubelet half has ended, too.
                ended.send(worker.body.uid().to_owned()).ok();
            }
        }
    });
    handle
}

impl Worker {
    /// From the first look to the last trace.
    async fn live(&mut self) {
        let ending = if self.body.has_ended() {
            // What the last run did not get done of its end, in no more time than that had.
            self.inbox.ordered().unwrap_or_default()
        } else {
            info!(
                pod_uid = self.body.uid(),
                pod = self.body.pod.metadata.name,
                "the pod is to run"
            );
            self.keep().await
        };
        self.end(ending).await;
        self.inbox.has_ended();
        // A pod that has ended stays, for its status and logs, until no source wants it.
        let mut known = None;
        while !self.inbox.ending().is_some_and(|ending| ending.deleted) {
            known = Some(self.inbox.ends(known.as_ref()).await);
        }
        self.body.remove().await;
        info!(pod_uid = self.body.uid(), "nothing is left of the pod");
    }

    /// Keeps the pod as it is to be, until it is to end or has ended by itself.
    async fn keep(&mut self) -> Ending {
        loop {
            if let Some(pod) = self.inbox.update() {
                self.body.replace(pod);
            }
            let round = tokio::select! {
                biased;
                ending = self.inbox.ends(None) => return ending,
                round = self.body.round() => round,
            };
            let wake = match round {
                Round::Finished => return Ending::default(),
                Round::Idle(wake) => wake,
            };
            if let Some(ending) = self.wait(wake).await {
                return ending;
            }
        }
    }

    /// Waits for a reason to look again, or for the order to end.
    async fn wait(&mut self, wake: Option<SystemTime>) -> Option<Ending> {
        let sync = self.body.host.settings.sync;
        let until = wake.map_or(sync, |wake| {
            wake.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).min(sync)
        });
        let changed = tokio::select! {
            biased;
            () = self.inbox.word() => false,
            report = self.body.reports.recv() => {
                self.body.take_reports(report);
                false
            }
            changed = self.objects.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
                true
            }
            () = tokio::time::sleep(until) => false,
        };
        if changed {
            tokio::select! {
                biased;
                ending = self.inbox.ends(None) => return Some(ending),
                () = self.body.objects_changed() => {}
            }
        }
        self.inbox.ending().cloned()
    }

    /// Ends the pod, in a shorter time if a later order says so.
    async fn end(&mut self, first: Ending) {
        let mut ending = first;
        loop {
            let shorter = tokio::select! {
                () = self.body.terminate(&ending) => break,
                shorter = self.inbox.ends(Some(&ending)) => shorter,
            };
            ending = shorter;
        }
        self.body.terminated().await;
    }
}

impl Body {
    /// Whether the pod's last run ended it: a terminal phase is never left.
    fn has_ended(&self) -> bool {
        has_ended(&self.last_status())
    }

    /// ConfigMaps or Secrets are others now: the files of running containers follow, and what failed for want of
    /// one is tried again at once.
    async fn objects_changed(&mut self) {
        let pod = Arc::clone(&self.pod);
        let refreshed =
            self.steps.run(&self.host, "refresh the pod's volumes", move |host, wanted| {
                let objects = Arc::clone(&host.objects.borrow());
                let node = &host.node;
                host.volumes.refresh(&VolumeInput { pod: &pod, objects: &objects, node, wanted })
            });
        match refreshed.await {
            Ok(refreshed) => {
                for error in &refreshed.failed {
                    self.refresh_failed(crate::error::chain(error));
                }
            }
            Err(error) => self.refresh_failed(error.to_string()),
        }
        let of_objects =
            ["CreateContainerConfigError", "ContainerCreating", "ImagePullBackOff", "ErrImagePull"];
        self.failures.retain(|_, failure| !of_objects.contains(&failure.waiting.reason.as_str()));
    }

    fn refresh_failed(&self, error: String) {
        let message = format!("MountVolume.SetUp failed: {error}");
        self.event(crate::kubelet::board::EventKind::Warning, "FailedMount", message);
    }
}
