//! ContainerStats: the kernel's counters, read by the way the cgroup author made cheap.

use super::object::Container;
use crate::cgroups::CgroupStats;
use crate::clock;
use crate::engine::ContainerStatsView;
use crate::engine::view::ContainerState;
use crate::lock::lock;
use crate::node::Node;

/// The shortest time between two samples that make a rate, nanoseconds.
const RATE_OVER_NANOS: i64 = 500_000_000;

/// Reads one container's numbers. Blocks on the kernel only. A container that does not run, or ends
/// meanwhile, has none, which is no error: a list must not fail for it.
pub fn read(node: &Node, container: &Container) -> ContainerStatsView {
    let view = container.view(node);
    let running = view.state == ContainerState::Running;
    let stats = if running { container.leaf(node).stats().ok() } else { None };
    let nano_cores = stats.as_ref().and_then(|s| rate(container, s));
    let writable_layer = node.images.snapshot_usage(&container.id).ok();
    ContainerStatsView { view, stats, writable_layer, nano_cores }
}

/// CPU nanoseconds a second since the last sample; `None` at the first one.
fn rate(container: &Container, stats: &CgroupStats) -> Option<u64> {
    let used = stats.cpu.as_ref()?.usage_usec.saturating_mul(1000);
    let now = clock::now_nanos();
    let mut sample = lock(&container.sample);
    let Some(last) = sample.as_mut() else {
        *sample = Some(super::object::CpuSample { at_nanos: now, used_nanos: used, rate: None });
        return None;
    };
    let elapsed = now.saturating_sub(last.at_nanos);
    if elapsed >= RATE_OVER_NANOS {
        let delta = u128::from(used.saturating_sub(last.used_nanos)) * 1_000_000_000;
        let rate = u64::try_from(delta / u128::from(elapsed.unsigned_abs().max(1))).ok();
        *last = super::object::CpuSample { at_nanos: now, used_nanos: used, rate };
    }
    last.rate
}
