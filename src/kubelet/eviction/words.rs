//! What is said of an eviction, in the sentences that tools of Kubernetes know.

use super::machine::{CALM, Crossing, Measure, Resource, Rule};
use super::rank::Candidate;

/// The name of a resource.
fn name(of: Resource) -> &'static str {
    match of {
        Resource::Memory => "memory",
        Resource::Bytes => "ephemeral-storage",
        Resource::Inodes => "inodes",
        Resource::Pids => "pids",
    }
}

/// An amount of a resource.
fn amount(of: Resource, value: u64) -> String {
    match of {
        Resource::Memory | Resource::Bytes => format!("{}Ki", value / 1024),
        Resource::Inodes | Resource::Pids => value.to_string(),
    }
}

/// Thousandths of a percent.
fn percent(value: u64) -> String {
    format!("{}.{:02}%", value / 1000, value % 1000 / 10)
}

/// What the node lacks.
pub(super) fn lack(crossing: &Crossing) -> String {
    let (rule, reading) = (&crossing.rule, &crossing.reading);
    let of = rule.measure.resource();
    let what = format!("The node was low on resource: {}.", name(of));
    if rule.measure == Measure::MemoryCalm {
        let stalled = percent(CALM.saturating_sub(reading.available));
        let most = percent(CALM.saturating_sub(rule.below.of(CALM)));
        return format!(
            "{what} All processes waited for it {stalled} of the time, threshold {most}."
        );
    }
    let (available, capacity) = (amount(of, reading.available), amount(of, reading.capacity));
    let name = rule.measure.name();
    format!(
        "{what} Threshold quantity: {}, available: {available} of {capacity} ({name}).",
        rule.below
    )
}

/// That a threshold is passed; always the same of the same threshold.
pub(super) fn passed(crossing: &Crossing) -> String {
    let Rule { measure, below, hard, .. } = &crossing.rule;
    let kind = if *hard { "hard" } else { "soft" };
    let of = name(measure.resource());
    match measure {
        Measure::MemoryCalm => format!("Attempting to reclaim {of}: memory.stall is too high."),
        Measure::Of(signal) => {
            format!("Attempting to reclaim {of}: {signal} is below its {kind} threshold {below}.")
        }
    }
}

/// Why a pod was chosen.
pub(super) fn verdict(crossing: &Crossing, victim: &Candidate) -> String {
    let of = crossing.rule.measure.resource();
    let Some(used) = victim.used else { return lack(crossing) };
    let (used, request) = (amount(of, used), amount(of, victim.request));
    match of {
        Resource::Pids => format!("{} The pod had {used} processes.", lack(crossing)),
        Resource::Inodes => format!("{} The pod was using {used}.", lack(crossing)),
        _ => format!("{} The pod was using {used}, its request is {request}.", lack(crossing)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Reading;
    use super::*;
    use crate::config::{Amount, Signal};
    use std::time::Duration;

    fn crossing(measure: Measure, below: Amount, available: u64, capacity: u64) -> Crossing {
        let none = Amount::Quantity(0);
        let rule = Rule { measure, below, lasting: Duration::ZERO, hard: true, more: none };
        Crossing { rule, reading: Reading { available, capacity } }
    }

    #[test]
    fn resource_threshold_and_what_was_seen_are_named() {
        let victim = Candidate { used: Some(3 << 20), request: 1 << 20, ..Candidate::default() };
        let memory = Measure::Of(Signal::MemoryAvailable);
        let hundred = Amount::Quantity(100 << 20);
        assert_eq!(
            verdict(&crossing(memory, hundred, 50 << 20, 1 << 30), &victim),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki of 1048576Ki \
             (memory.available). The pod was using 3072Ki, its request is 1024Ki."
        );
        let inodes = Measure::Of(Signal::NodeFsInodesFree);
        assert_eq!(
            verdict(&crossing(inodes, Amount::Share(5000), 3, 100), &victim),
            "The node was low on resource: inodes. Threshold quantity: 5%, available: 3 of 100 (nodefs.inodesFree). The \
             pod was using 3145728."
        );
        let calm = crossing(Measure::MemoryCalm, Amount::Quantity(60_000), 56_750, CALM);
        assert_eq!(
            lack(&calm),
            "The node was low on resource: memory. All processes waited for it 43.25% of the time, threshold 40.00%."
        );
        assert_eq!(
            passed(&crossing(memory, hundred, 50 << 20, 1 << 30)),
            "Attempting to reclaim memory: memory.available is below its hard threshold 100Mi."
        );
        let unknown = Candidate::default();
        assert!(
            verdict(&crossing(memory, hundred, 0, 1), &unknown).ends_with("(memory.available).")
        );
    }
}
