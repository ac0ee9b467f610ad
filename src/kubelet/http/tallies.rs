//! What the probes of all pods came to, for whoever asks.

use crate::lock::lock;
use crate::probes::{Kind, Tally, TallyReader};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The pod of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedPod {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a probe of a container came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The pod.
    pub pod: ProbedPod,
    /// The container.
    pub container: String,
    /// Which probe.
    pub kind: Kind,
    /// How often what.
    pub tally: Tally,
}

type Known = BTreeMap<u64, (ProbedPod, TallyReader)>;

#[derive(Default)]
struct Inner {
    next: u64,
    known: Known,
}

/// The probes of all workers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tallies(Arc<Mutex<Inner>>);

/// Held by a worker: dropped, its probes are forgotten.
pub struct Registered {
    of: Tallies,
    number: u64,
}

impl Tallies {
    /// Notes the probes of a pod.
    pub fn register(&self, pod: ProbedPod, reader: TallyReader) -> Registered {
        let mut inner = lock(&self.0);
        let number = inner.next;
        inner.next += 1;
        inner.known.insert(number, (pod, reader));
        Registered { of: self.clone(), number }
    }

    /// As they are now.
    pub fn read(&self) -> Vec<Probed> {
        let inner = lock(&self.0);
        let of = |(pod, reader): &(ProbedPod, TallyReader)| {
            let pod = pod.clone();
            reader.read().into_iter().map(move |(container, kind, tally)| Probed {
                pod: pod.clone(),
                container,
                kind,
                tally,
            })
        };
        inner.known.values().flat_map(of).collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.of.0).known.remove(&self.number);
    }
}
