//! Any runtime, with each call counted and its time taken.

use super::verbs::with_verbs;
use super::{Cri, CriError, Events};
use crate::cri::proto::*;
use crate::histogram::Histogram;
use crate::lock::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bounds of the times: 5 ms, and each two and a half times the one before, as a kubelet's.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(5_000),
    Duration::from_micros(12_500),
    Duration::from_micros(31_250),
    Duration::from_micros(78_125),
    Duration::from_micros(195_313),
    Duration::from_micros(488_281),
    Duration::from_micros(1_220_703),
    Duration::from_micros(3_051_758),
    Duration::from_micros(7_629_395),
    Duration::from_micros(19_073_486),
    Duration::from_micros(47_683_716),
    Duration::from_micros(119_209_290),
    Duration::from_micros(298_023_224),
    Duration::from_micros(745_058_060),
];

/// What came of the calls of a verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// How long each of them took.
    pub times: Histogram,
    /// How many of them failed.
    pub errors: u64,
}

/// The calls of each verb so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Operations(Arc<Mutex<BTreeMap<&'static str, Calls>>>);

impl Operations {
    /// As they are now, by verb.
    pub fn read(&self) -> BTreeMap<&'static str, Calls> {
        lock(&self.0).clone()
    }

    fn note(&self, verb: &'static str, time: Duration, failed: bool) {
        let mut all = lock(&self.0);
        let none = || Calls { times: Histogram::new(BOUNDS), errors: 0 };
        let calls = all.entry(verb).or_insert_with(none);
        calls.times.observe(time);
        calls.errors += u64::from(failed);
    }
}

/// A runtime whose calls are counted. One whose caller goes away before the answer is not.
pub struct Metered {
    cri: Arc<dyn Cri>,
    operations: Operations,
}

impl Metered {
    /// Counts the calls to `cri` in `operations`.
    pub fn new(cri: Arc<dyn Cri>, operations: Operations) -> Self {
        Self { cri, operations }
    }
}

macro_rules! implement {
    ($($service:ident $verb:ident($request:ident) -> $answer:ident within $limit:literal;)*) => {
        #[tonic::async_trait]
        impl Cri for Metered {
            $(
                async fn $verb(&self, request: $request) -> Result<$answer, CriError> {
                    let began = Instant::now();
                    let answer = self.cri.$verb(request).await;
                    self.operations.note(stringify!($verb), began.elapsed(), answer.is_err());
                    answer
                }
            )*

            async fn events(&self) -> Result<Events, CriError> {
                self.cri.events().await
            }
        }
    };
}
with_verbs!(implement);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_failures_are_counted_by_verb() {
        let all = Operations::default();
        all.note("version", Duration::from_millis(1), false);
        all.note("version", Duration::from_millis(20), true);
        all.note("status", Duration::from_secs(1000), false);
        let read = all.read();
        assert_eq!((read["version"].times.count(), read["version"].errors), (2, 1));
        assert_eq!(read["version"].times.buckets().next().unwrap().1, 1);
        assert_eq!((read["status"].times.count(), read["status"].errors), (1, 0));
        assert!(BOUNDS.is_sorted());
    }
}
