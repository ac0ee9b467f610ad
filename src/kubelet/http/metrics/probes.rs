//! `/metrics/probes`: how often each probe came to what.

use super::Exposition;
use super::exposition::{Kind, Sample, Value};
use crate::kubelet::http::tallies::Probed;
use crate::probes;

const NAME: &str = "prober_probe_total";

/// All probes of all pods that are kept.
pub(in crate::kubelet::http) fn probes(all: &[Probed]) -> String {
    let mut told = Exposition::default();
    told.family(NAME, Kind::Counter, "Attempts of probes, by what came of them.");
    for Probed { pod, container, kind, tally } in all {
        let kind = match kind {
            probes::Kind::Liveness => "Liveness",
            probes::Kind::Readiness => "Readiness",
            probes::Kind::Startup => "Startup",
        };
        let results = [
            ("successful", tally.successful),
            ("failed", tally.failed),
            ("unknown", tally.unknown),
        ];
        // What never happened is not told.
        for (result, count) in results.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [
                ("container", container.as_str()),
                ("namespace", &pod.namespace),
                ("pod", &pod.name),
                ("pod_uid", &pod.uid),
                ("probe_type", kind),
                ("result", result),
            ];
            told.add(NAME, Sample { labels: &labels, value: Value::Whole(count), nanos: 0 });
        }
    }
    told.text()
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;
    use crate::kubelet::http::tallies::ProbedPod;
    use crate::probes::Tally;

    #[test]
    fn each_result_that_there_was_is_a_sample() {
        let pod = ProbedPod { uid: "u".into(), namespace: "n".into(), name: "p".into() };
        let probed = Probed {
            pod,
            container: "c".into(),
            kind: probes::Kind::Readiness,
            tally: Tally { successful: 3, failed: 1, unknown: 0 },
        };
        let all = check(&probes(&[probed])).unwrap();
        let rows: Vec<_> = all.iter().map(|s| (s.labels["result"].as_str(), s.value)).collect();
        assert_eq!(rows, [("successful", 3.0), ("failed", 1.0)]);
        let of = ["probe_type", "container", "pod", "namespace", "pod_uid"];
        assert_eq!(of.map(|key| all[0].labels[key].as_str()), ["Readiness", "c", "p", "n", "u"]);
        assert_eq!(probes(&[]), "");
    }
}
