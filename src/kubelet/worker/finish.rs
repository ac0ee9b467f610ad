//! The end of a pod: terminating until nothing of it runs, terminated when its volumes and cgroup are gone, and
//! in the end nothing at all.

use super::body::Body;
use super::host::Host;
use super::inbox::Ending;
use super::kill::Until;
use crate::cri::proto;
use crate::error::chain;
use crate::kubelet::board::EventKind;
use crate::kubelet::observed::{Instance, InstanceState, Observed};
use crate::kubelet::spec::{name, namespace, uid};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::warn;

/// After how long an end that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a look at a pod that ends found anything to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

/// Which of its sandboxes are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sandboxes {
    Ready,
    /// Those that were stopped, too: what was made after it is ended by another stop.
    All,
}

impl Body {
    /// Ends everything of the pod that runs; tries until that is so, and nothing of its start is under way that could
    /// make something anew: the runtime need not list what it is still making.
    pub(super) async fn terminate(&mut self, ending: &Ending) {
        if self.verdict.is_none() {
            self.verdict.clone_from(&ending.verdict);
        }
        self.probes.deleting();
        if ending.deleted && self.deleted.is_none() {
            self.deleted = Some(SystemTime::now());
        }
        self.steps.give_up();
        let mut sandboxes = match self.until {
            None => Sandboxes::Ready,
            Some(_) => Sandboxes::All,
        };
        // A later order can make the time shorter, and never begins it anew.
        let own = self.own_grace();
        let until = *self.until.get_or_insert_with(|| Until::within(own));
        let until = until.or_sooner(ending.grace.unwrap_or(own));
        self.until = Some(until);
        loop {
            // What comes to be after this look was under way before it.
            let under_way = self.steps.are_under_way();
            match self.terminate_once(until, sandboxes).await {
                Ok(Found::Nothing) if !under_way => return,
                Ok(Found::Nothing) => {
                    self.steps.over().await;
                    sandboxes = Sandboxes::All;
                }
                // Something was still there: look again.
                Ok(Found::Something) => sandboxes = Sandboxes::Ready,
                Err(error) => {
                    self.event(EventKind::Warning, "FailedKillPod", error);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Ends what runs.
    async fn terminate_once(
        &mut self,
        until: Until,
        sandboxes: Sandboxes,
    ) -> Result<Found, String> {
        let observed = self.observe().await.map_err(|e| e.to_string())?;
        self.look(&observed).await;
        self.publish(&observed, &BTreeMap::new(), false);
        let alive = observed.alive().count();
        let all = sandboxes == Sandboxes::All;
        let stops = observed.sandboxes.iter().filter(|sandbox| sandbox.ready || all);
        if alive == 0 && stops.clone().next().is_none() {
            return Ok(Found::Nothing);
        }
        self.kill_all(&observed, until).await.map_err(|e| e.to_string())?;
        for sandbox in stops {
            let request = proto::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            self.host.cri.stop_pod_sandbox(request).await.map_err(|e| e.to_string())?;
        }
        Ok(Found::Something)
    }

    /// Gives back what a pod that does not run needs no more, and publishes its last status.
    pub(super) async fn terminated(&mut self) {
        loop {
            match self.release().await {
                Ok(()) => break,
                Err(error) => {
                    self.event(EventKind::Warning, "FailedCleanUp", error);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        let mut cleared = false;
        loop {
            match self.observe().await {
                Ok(observed) => {
                    if !std::mem::replace(&mut cleared, true)
                        && self.remove_unstarted(&observed).await
                    {
                        continue;
                    }
                    self.look(&observed).await;
                    self.failures.clear();
                    self.publish(&observed, &BTreeMap::new(), true);
                    return;
                }
                Err(error) => {
                    warn!(pod_uid = self.uid(), %error, "the runtime does not tell of the pod");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Removes what was created for a start that the end overtook: how the container ended is told by its last instance.
    /// Whether there was any.
    async fn remove_unstarted(&self, observed: &Observed) -> bool {
        let mut any = false;
        for instance in observed.instances.iter().filter(|i| i.state == InstanceState::Created) {
            let request = proto::RemoveContainerRequest { container_id: instance.id.clone() };
            match self.host.cri.remove_container(request).await {
                Ok(_) => any = true,
                Err(error) => {
                    let (pod_uid, container) = (self.uid(), &instance.name);
                    warn!(pod_uid, container, %error, "what was created is not removed");
                }
            }
        }
        any
    }

    async fn release(&mut self) -> Result<(), String> {
        let pod = Arc::clone(&self.pod);
        let released = self.steps.run(&self.host, "give back the pod's volumes", move |host, _| {
            let uid = uid(&pod);
            let volumes = host.volumes.tear_down(uid).map_err(|error| chain(&error));
            let cgroup = host
                .cgroups
                .as_ref()
                .map_or(Ok(()), |cgroups| cgroups.remove(&pod).map_err(|error| chain(&error)));
            volumes.and(cgroup)
        });
        released.await.map_err(|error| error.to_string())?
    }

    /// Takes away everything that is left of a pod that nobody wants any more.
    pub(super) async fn remove(&mut self) {
        loop {
            match self.remove_once().await {
                Ok(()) => break,
                Err(error) => {
                    self.event(EventKind::Warning, "FailedCleanUp", error);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        self.host.board.remove(self.uid());
    }

    async fn remove_once(&mut self) -> Result<(), String> {
        let observed = self.observe().await.map_err(|e| e.to_string())?;
        for instance in &observed.instances {
            self.remove_instance(instance).await?;
        }
        for sandbox in &observed.sandboxes {
            let request = proto::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            self.host.cri.remove_pod_sandbox(request).await.map_err(|e| e.to_string())?;
        }
        let pod = Arc::clone(&self.pod);
        let removed = self.steps.run(&self.host, "remove the pod's files", move |host, _| {
            let files = remove_all(&host.pod_dir(uid(&pod)));
            let logs = remove_all(&host.log_dir(namespace(&pod), name(&pod), uid(&pod)));
            let files = files.and(logs);
            files.map_err(|(path, error)| format!("remove {}: {error}", path.display()))?;
            // Nobody owns a file of them any more.
            host.userns.free(uid(&pod));
            Ok(())
        });
        removed.await.map_err(|error| error.to_string())?
    }

    async fn remove_instance(&self, instance: &Instance) -> Result<(), String> {
        // Before the container: who dies between them finds what is left by the container.
        let pod = Arc::clone(&self.pod);
        let (of, id) = (instance.name.clone(), instance.id.clone());
        let unlinked = self.steps.run(&self.host, "remove a log's link", move |host: &Host, _| {
            let link = host.log_link(name(&pod), namespace(&pod), (&of, &id));
            gone_is_fine(std::fs::remove_file(link))
        });
        let unlinked = unlinked.await.map_err(|error| error.to_string())?;
        unlinked.map_err(|error| format!("remove the link of a log: {error}"))?;
        let request = proto::RemoveContainerRequest { container_id: instance.id.clone() };
        match self.host.cri.remove_container(request).await {
            Err(error) if !error.is_not_found() => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Removes instances that nobody asks for any more: all but the newest and the one before it, and their
    /// logs; and sandboxes that hold none of what stays.
    pub(super) async fn sweep(&mut self, observed: &Observed) {
        let mut kept: BTreeMap<&str, u32> = BTreeMap::new();
        let mut sandboxes: Vec<&str> = observed.sandbox().iter().map(|s| s.id.as_str()).collect();
        for instance in &observed.instances {
            let count = kept.entry(&instance.name).or_default();
            *count += 1;
            if *count <= 2 || instance.exit().is_none() {
                sandboxes.push(&instance.sandbox);
                continue;
            }
            let log = PathBuf::from(&instance.log_path);
            if let Err(error) = self.remove_instance(instance).await {
                warn!(pod_uid = self.uid(), error, "a dead container was not removed");
                return;
            }
            self.steps.run(&self.host, "remove a log", move |_, _| remove_log(&log)).await.ok();
        }
        for sandbox in observed.sandboxes.iter().filter(|s| !s.ready) {
            if !sandboxes.contains(&sandbox.id.as_str()) {
                let request = proto::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
                if let Err(error) = self.host.cri.remove_pod_sandbox(request).await {
                    warn!(pod_uid = self.uid(), %error, "a dead sandbox was not removed");
                }
            }
        }
    }
}

/// Removes a log with its rotated parts, which have its name and more.
fn remove_log(log: &Path) {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|of| of.starts_with(name)) {
            // What stays goes with the pod.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove_all(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    gone_is_fine(std::fs::remove_dir_all(path)).map_err(|error| (path.to_owned(), error))
}

#[cfg(test)]
#[path = "finish_tests.rs"]
mod tests;
