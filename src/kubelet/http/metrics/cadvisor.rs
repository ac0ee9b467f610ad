//! `/metrics/cadvisor`: the runtime's figures of pods and containers, under the names that dashboards know.

use super::Exposition;
use super::exposition::{Kind, Sample, Value};
use crate::cri::proto;
use std::collections::BTreeMap;

/// The samples of all pods; those of a family that has no descriptor, or with other labels than its descriptor has, are
/// left out.
pub(in crate::kubelet::http) fn cadvisor(
    descriptors: &[proto::MetricDescriptor],
    pods: &[proto::PodSandboxMetrics],
) -> String {
    let known: BTreeMap<&str, &proto::MetricDescriptor> =
        descriptors.iter().map(|descriptor| (descriptor.name.as_str(), descriptor)).collect();
    let mut all = Exposition::default();
    for metric in pods.iter().flat_map(metrics) {
        let Some(descriptor) = known.get(metric.name.as_str()) else { continue };
        let Some(value) = metric.value else { continue };
        if descriptor.label_keys.len() != metric.label_values.len() {
            continue;
        }
        let kind = match metric.metric_type() {
            proto::MetricType::Counter => Kind::Counter,
            proto::MetricType::Gauge => Kind::Gauge,
        };
        let labels: Vec<(&str, &str)> = descriptor
            .label_keys
            .iter()
            .zip(&metric.label_values)
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        all.family(&metric.name, kind, &descriptor.help);
        let value = Value::Whole(value.value);
        all.add(&metric.name, Sample { labels: &labels, value, nanos: metric.timestamp });
    }
    all.text()
}

fn metrics(pod: &proto::PodSandboxMetrics) -> impl Iterator<Item = &proto::Metric> {
    pod.metrics.iter().chain(pod.container_metrics.iter().flat_map(|c| &c.metrics))
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;

    fn metric(name: &str, labels: &[&str], value: u64) -> proto::Metric {
        proto::Metric {
            name: name.into(),
            label_values: labels.iter().map(|&label| label.to_owned()).collect(),
            value: Some(proto::UInt64Value { value }),
            ..proto::Metric::default()
        }
    }

    #[test]
    fn samples_of_pods_and_containers_are_by_family_with_the_labels_of_its_descriptor() {
        let descriptor = |name: &str, keys: &[&str]| proto::MetricDescriptor {
            name: name.into(),
            help: "Help.".into(),
            label_keys: keys.iter().map(|&key| key.to_owned()).collect(),
        };
        let descriptors = [descriptor("a_total", &["container", "pod"]), descriptor("b", &["pod"])];
        let pod = |pod: &str, value| proto::PodSandboxMetrics {
            pod_sandbox_id: pod.into(),
            metrics: vec![metric("a_total", &["", pod], value), metric("b", &[pod], value)],
            container_metrics: vec![proto::ContainerMetrics {
                container_id: "c".into(),
                metrics: vec![
                    metric("a_total", &["c", pod], value + 1),
                    // Of no family, and with a label too few.
                    metric("unknown", &["c", pod], 1),
                    metric("a_total", &["c"], 1),
                ],
            }],
        };
        let all = check(&cadvisor(&descriptors, &[pod("p", 1), pod("q", 5)])).unwrap();
        let rows: Vec<_> = all
            .iter()
            .map(|s| {
                let label = |key: &str| s.labels.get(key).map_or("-", String::as_str);
                (s.name.as_str(), label("container"), label("pod"), s.value)
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("a_total", "", "p", 1.0),
                ("a_total", "c", "p", 2.0),
                ("a_total", "", "q", 5.0),
                ("a_total", "c", "q", 6.0),
                ("b", "-", "p", 1.0),
                ("b", "-", "q", 5.0),
            ]
        );
    }
}
