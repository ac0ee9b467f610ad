//! Since when something runs, and when it was last seen.

use super::family::{Family, Samples};
use crate::cri::proto::MetricDescriptor;

const START: Family<0> =
    Family::gauge("container_start_time_seconds", [], "When it began, Unix seconds.");
const SEEN: Family<0> =
    Family::gauge("container_last_seen", [], "When it was last seen, Unix seconds.");

const NANOS: u64 = 1_000_000_000;

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    [START, SEEN].iter().map(Family::descriptor).collect()
}

pub(super) fn add(samples: &mut Samples, started_at_nanos: i64, seen_at_nanos: i64) {
    samples.add(&START, [], started_at_nanos.unsigned_abs() / NANOS);
    samples.add(&SEEN, [], seen_at_nanos.unsigned_abs() / NANOS);
}
