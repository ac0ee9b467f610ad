//! `/metrics`: what became of the calls to the runtime, and how long pods took to run.

use super::Exposition;
use super::exposition::{Kind, Sample, Value};
use crate::cri::client::Calls;
use crate::histogram::Histogram;
use std::collections::BTreeMap;

/// Adds the calls of each verb.
pub(in crate::kubelet::http) fn operations(
    all: &mut Exposition,
    calls: &BTreeMap<&'static str, Calls>,
) {
    const COUNT: &str = "kubelet_runtime_operations_total";
    const ERRORS: &str = "kubelet_runtime_operations_errors_total";
    const TIMES: &str = "kubelet_runtime_operations_duration_seconds";
    all.family(COUNT, Kind::Counter, "Calls to the runtime that were answered.");
    all.family(ERRORS, Kind::Counter, "Those that failed.");
    all.family(TIMES, Kind::Histogram, "How long they took, seconds.");
    for (verb, Calls { times, errors }) in calls {
        // As kubelets spell it.
        let operation = verb.replace("pod_sandbox", "podsandbox");
        let labels = [("operation_type", operation.as_str())];
        let whole = |number| Sample { labels: &labels, value: Value::Whole(number), nanos: 0 };
        all.add(COUNT, whole(times.count()));
        all.add(ERRORS, whole(*errors));
        all.histogram(TIMES, &labels, times);
    }
}

/// Adds how long pods took.
pub(in crate::kubelet::http) fn starts(all: &mut Exposition, times: &Histogram) {
    const TIMES: &str = "kubelet_pod_start_duration_seconds";
    all.family(TIMES, Kind::Histogram, "From when a pod was first seen until it ran, seconds.");
    all.histogram(TIMES, &[], times);
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;
    use std::time::Duration;

    const BOUNDS: &[Duration] = &[Duration::from_millis(5), Duration::from_secs(1)];

    fn times(millis: &[u64]) -> Histogram {
        let mut times = Histogram::new(BOUNDS);
        millis.iter().for_each(|millis| times.observe(Duration::from_millis(*millis)));
        times
    }

    #[test]
    fn calls_are_told_by_their_verb_with_their_failures_and_times() {
        let calls = BTreeMap::from([
            ("run_pod_sandbox", Calls { times: times(&[3, 900, 7000]), errors: 1 }),
            ("version", Calls { times: times(&[1]), errors: 0 }),
        ]);
        let mut all = Exposition::default();
        operations(&mut all, &calls);
        starts(&mut all, &times(&[1500]));
        let all = check(&all.text()).unwrap();
        let rows = |name: &str, operation: &str| -> Vec<f64> {
            let of = |s: &&super::super::checker::Scraped| {
                s.name == name && s.labels.get("operation_type").is_none_or(|l| l == operation)
            };
            all.iter().filter(of).map(|s| s.value).collect()
        };
        assert_eq!(rows("kubelet_runtime_operations_total", "run_podsandbox"), [3.0]);
        assert_eq!(rows("kubelet_runtime_operations_errors_total", "run_podsandbox"), [1.0]);
        // None is told, too: who watches the rate sees the first.
        assert_eq!(rows("kubelet_runtime_operations_errors_total", "version"), [0.0]);
        let buckets = "kubelet_runtime_operations_duration_seconds_bucket";
        assert_eq!(rows(buckets, "run_podsandbox"), [1.0, 2.0, 3.0]);
        let sum = "kubelet_runtime_operations_duration_seconds_sum";
        assert_eq!(rows(sum, "run_podsandbox"), [7.903]);
        assert_eq!(rows("kubelet_pod_start_duration_seconds_count", ""), [1.0]);
        assert_eq!(rows("kubelet_pod_start_duration_seconds_bucket", ""), [0.0, 0.0, 1.0]);
    }
}
