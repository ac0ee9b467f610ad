//! Families and samples. The number of keys is a part of a family's type: a sample with other labels
//! than its descriptor has does not compile.

use crate::cri::proto;

/// The labels that every sample has, in this order, before those of its family.
pub(super) const BASE_KEYS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// A metric: what it is called and which labels it has beside the common ones.
pub(super) struct Family<const KEYS: usize> {
    name: &'static str,
    help: &'static str,
    keys: [&'static str; KEYS],
    kind: proto::MetricType,
}

impl<const KEYS: usize> Family<KEYS> {
    /// A number that only grows.
    pub(super) const fn counter(
        name: &'static str,
        keys: [&'static str; KEYS],
        help: &'static str,
    ) -> Self {
        Self { name, help, keys, kind: proto::MetricType::Counter }
    }

    /// A number that goes up and down.
    pub(super) const fn gauge(
        name: &'static str,
        keys: [&'static str; KEYS],
        help: &'static str,
    ) -> Self {
        Self { name, help, keys, kind: proto::MetricType::Gauge }
    }

    /// What is told of it in advance.
    pub(super) fn descriptor(&self) -> proto::MetricDescriptor {
        let keys = BASE_KEYS.iter().chain(&self.keys);
        proto::MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: keys.map(|&key| key.to_owned()).collect(),
        }
    }
}

/// The samples of one pod or container.
pub(super) struct Samples {
    base: [String; BASE_KEYS.len()],
    made: Vec<proto::Metric>,
}

impl Samples {
    /// None yet, of what these labels name.
    pub(super) fn of(base: [String; BASE_KEYS.len()]) -> Self {
        Self { base, made: Vec::new() }
    }

    /// Adds one. They are read when they are asked for, which CRI tells by a time of 0.
    pub(super) fn add<const KEYS: usize>(
        &mut self,
        family: &Family<KEYS>,
        labels: [&str; KEYS],
        value: u64,
    ) {
        let labels = labels.iter().map(|&label| label.to_owned());
        self.made.push(proto::Metric {
            name: family.name.to_owned(),
            timestamp: 0,
            metric_type: family.kind.into(),
            label_values: self.base.iter().cloned().chain(labels).collect(),
            value: Some(proto::UInt64Value { value }),
        });
    }

    /// Adds one if there is a value.
    pub(super) fn add_some(&mut self, family: &Family<0>, value: Option<u64>) {
        if let Some(value) = value {
            self.add(family, [], value);
        }
    }

    /// All of them.
    pub(super) fn into_metrics(self) -> Vec<proto::Metric> {
        self.made
    }
}
