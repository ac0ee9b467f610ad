//! Which pods are wanted, by source, and which of them have a worker; pure.
//!
//! A source says its whole set each time. What follows from it are [`Action`]s for the workers:
//!
//! | found | action |
//! | --- | --- |
//! | a new uid whose full name no worker has | start |
//! | a new uid whose full name a worker has | waits, in order of arrival, until that worker has ended |
//! | a known uid with another pod | update |
//! | a uid that its source says no more | terminate, or leave the queue |
//! | a uid again while its worker terminates | starts anew when that has ended |
//! | a pod that ended for a shutdown which was called off | terminates, and starts anew when that has ended |
//!
//! An edited file is another uid (its uid is a hash of what it says), so that the old pod has finished
//! entirely before the new one of its name starts.

use super::source::{Source, SourcePod};
use super::spec::{full_name, uid};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a worker is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A worker for a pod that has none.
    Start(SourcePod),
    /// Another pod of the same uid.
    Update(Arc<Pod>),
    /// The source wants it no more.
    Terminate(String),
}

/// A pod that has a worker.
#[derive(Clone, Debug)]
struct Live {
    full_name: String,
    terminating: bool,
}

/// The wanted and the living.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// What each source said last; none before its first word.
    wanted: BTreeMap<Source, Option<BTreeMap<String, SourcePod>>>,
    live: BTreeMap<String, Live>,
    /// Uids that wait for a full name, the first to come first.
    queues: BTreeMap<String, VecDeque<String>>,
}

impl Pods {
    /// Nothing yet, from these sources.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Self { wanted: sources.into_iter().map(|s| (s, None)).collect(), ..Self::default() }
    }

    /// Whether every source has spoken. Nothing that nobody wants is cleaned up before.
    pub fn all_spoke(&self) -> bool {
        self.wanted.values().all(Option::is_some)
    }

    /// Takes a source's whole set.
    pub fn set(&mut self, source: Source, pods: Vec<SourcePod>) -> Vec<Action> {
        let order: Vec<String> = pods.iter().map(|pod| uid(&pod.pod).to_owned()).collect();
        let new = order.iter().cloned().zip(pods).collect();
        let old = self.wanted.insert(source, Some(new)).flatten().unwrap_or_default();
        let mut actions = Vec::new();
        for gone in old.keys() {
            actions.extend(self.unwanted(gone));
        }
        for uid in order {
            let Some(pod) = self.wanted_pod(&uid).cloned() else { continue };
            let before = old.get(&uid);
            if self.live.get(&uid).is_some_and(|live| !live.terminating) {
                if before.is_some_and(|before| before.pod != pod.pod) {
                    actions.push(Action::Update(pod.pod));
                }
            } else {
                let queue = self.queues.entry(full_name(&pod.pod)).or_default();
                if !queue.contains(&uid) {
                    queue.push_back(uid);
                }
            }
        }
        actions.extend(self.start_waiting());
        actions
    }

    /// The worker of `uid` has ended and cleaned up.
    pub fn ended(&mut self, uid: &str) -> Vec<Action> {
        self.live.remove(uid);
        self.start_waiting()
    }

    /// A pod that has ended and is to run again, if its source still wants it: its worker ends, and another begins.
    pub fn again(&mut self, uid: &str) -> Option<Action> {
        let full_name = full_name(&self.wanted_pod(uid)?.pod);
        let live = self.live.get_mut(uid).filter(|live| !live.terminating)?;
        live.terminating = true;
        // Before those that came after it.
        self.queues.entry(full_name).or_default().push_front(uid.to_owned());
        Some(Action::Terminate(uid.to_owned()))
    }

    /// A worker for a pod that no source wants, and of which the runtime has something left.
    pub fn adopt_orphan(&mut self, uid: &str, full_name: &str) {
        let live = Live { full_name: full_name.to_owned(), terminating: true };
        self.live.insert(uid.to_owned(), live);
    }

    /// Whether a source wants `uid`, or a worker has it.
    pub fn knows(&self, uid: &str) -> bool {
        self.live.contains_key(uid) || self.wanted_pod(uid).is_some()
    }

    /// The uids that have a worker.
    pub fn live(&self) -> BTreeSet<String> {
        self.live.keys().cloned().collect()
    }

    /// The pods that wait for another of their name to end, by full name.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &SourcePod)> {
        let uids = self.queues.iter().flat_map(|(name, uids)| uids.iter().map(move |u| (name, u)));
        uids.filter_map(|(name, uid)| Some((name.as_str(), self.wanted_pod(uid)?)))
    }

    fn wanted_pod(&self, uid: &str) -> Option<&SourcePod> {
        self.wanted.values().flatten().find_map(|pods| pods.get(uid))
    }

    /// Ends a pod that no source wants any more.
    fn unwanted(&mut self, uid: &str) -> Option<Action> {
        if self.wanted_pod(uid).is_some() {
            return None;
        }
        for queue in self.queues.values_mut() {
            queue.retain(|waiting| waiting != uid);
        }
        let live = self.live.get_mut(uid).filter(|live| !live.terminating)?;
        live.terminating = true;
        Some(Action::Terminate(uid.to_owned()))
    }

    /// The first of each queue whose name nobody has.
    fn start_waiting(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let taken: BTreeSet<String> = self.live.values().map(|l| l.full_name.clone()).collect();
        let mut queues = std::mem::take(&mut self.queues);
        for (name, queue) in queues.iter_mut().filter(|(name, _)| !taken.contains(*name)) {
            let Some(uid) = queue.pop_front() else { continue };
            let Some(pod) = self.wanted_pod(&uid).cloned() else { continue };
            self.live.insert(uid, Live { full_name: name.clone(), terminating: false });
            actions.push(Action::Start(pod));
        }
        queues.retain(|_, queue| !queue.is_empty());
        self.queues = queues;
        actions
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
