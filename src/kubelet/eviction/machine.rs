//! What is short, since when, and whether something has to be done about it; pure, the clock is given.
//!
//! A rule is passed when its measure is below its threshold. A hard one is acted on at once, a soft one when it was
//! passed at every look for its grace. A rule that was acted on counts as passed until its measure is its minimum beyond
//! the threshold, so that what hovers at the threshold does not cost a pod each time. A pressure is told from the first look
//! at which a rule was passed, grace or not, until none of its rules was for the transition period.

use super::Pressure;
use crate::config::{Amount, Eviction, Signal};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// A signal of a kubelet.
    Of(Signal),
    /// The share of time for which some process did not wait for memory, thousandths of a percent (`full avg10` of PSI,
    /// taken from the whole).
    MemoryCalm,
}

/// The whole of [`Measure::MemoryCalm`].
pub(super) const CALM: u64 = 100_000;

/// What is short when a measure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Memory,
    Bytes,
    Inodes,
    Pids,
}

impl Measure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Of(signal) => signal.name(),
            Self::MemoryCalm => "memory.stall",
        }
    }

    pub(super) fn resource(self) -> Resource {
        match self {
            Self::Of(Signal::MemoryAvailable) | Self::MemoryCalm => Resource::Memory,
            Self::Of(Signal::NodeFsAvailable | Signal::ImageFsAvailable) => Resource::Bytes,
            Self::Of(Signal::NodeFsInodesFree | Signal::ImageFsInodesFree) => Resource::Inodes,
            Self::Of(Signal::PidAvailable) => Resource::Pids,
        }
    }

    /// Whether it is about a file system: nobody has to go for it if removing what nobody needs does.
    pub(super) fn of_disks(self) -> bool {
        matches!(self.resource(), Resource::Bytes | Resource::Inodes)
    }

    /// Whether it is about the file system of images.
    pub(super) fn of_images(self) -> bool {
        matches!(self, Self::Of(Signal::ImageFsAvailable | Signal::ImageFsInodesFree))
    }
}

/// A measure as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

/// What was seen. What cannot be read is not there, and passes nothing.
pub(super) type Readings = BTreeMap<Measure, Reading>;

/// A threshold with all that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) measure: Measure,
    pub(super) below: Amount,
    /// For how long it has to be passed.
    pub(super) lasting: Duration,
    /// Whether the victim gets the shortest grace there is.
    pub(super) hard: bool,
    /// How far beyond the threshold the measure is brought.
    pub(super) more: Amount,
}

impl Rule {
    /// Whether its measure is below the threshold, or not yet its minimum beyond it again.
    fn is_passed(&self, readings: &Readings, acted_on: bool) -> bool {
        readings.get(&self.measure).is_some_and(|reading| {
            let threshold = self.below.of(reading.capacity);
            let more = if acted_on { self.more.of(reading.capacity) } else { 0 };
            reading.available < threshold.saturating_add(more)
        })
    }

    /// Memory goes before all else, what is hard before what is soft.
    fn order(&self) -> (bool, Measure, bool) {
        (self.measure.resource() != Resource::Memory, self.measure, !self.hard)
    }
}

/// The rules of a configuration.
pub(super) fn rules(config: &Eviction) -> Vec<Rule> {
    let more = |signal| {
        let own = config.minimum_reclaim.iter().find(|minimum| minimum.signal == signal);
        own.map_or(Amount::Quantity(0), |minimum| minimum.more)
    };
    let rule = |signal, below, lasting: Option<Duration>| Rule {
        measure: Measure::Of(signal),
        below,
        lasting: lasting.unwrap_or_default(),
        hard: lasting.is_none(),
        more: more(signal),
    };
    let hard = config.hard.iter().map(|threshold| rule(threshold.signal, threshold.below, None));
    let soft = config.soft.iter().map(|soft| {
        let grace = Duration::from_secs(soft.grace_seconds);
        rule(soft.threshold.signal, soft.threshold.below, Some(grace))
    });
    let stall = config.memory_stall_percent.map(|percent| Rule {
        measure: Measure::MemoryCalm,
        below: Amount::Quantity(CALM.saturating_sub(u64::from(percent) * 1000)),
        lasting: Duration::from_secs(config.memory_stall_seconds),
        // Who waits for memory ends slowly.
        hard: true,
        more: Amount::Quantity(0),
    });
    let mut all: Vec<Rule> = hard.chain(soft).chain(stall).collect();
    all.sort_by_key(Rule::order);
    all
}

/// A rule that has to be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) rule: Rule,
    pub(super) reading: Reading,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) pressure: Pressure,
    /// What to do something about, the first of them first.
    pub(super) acts: Vec<Crossing>,
}

/// What is remembered of a rule.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// Since when it is passed without a break.
    since: Option<Instant>,
    /// When it was last passed.
    last: Option<Instant>,
    /// Whether it was acted on and is not resolved.
    acted_on: bool,
}

/// The rules, and what was seen of them.
#[derive(Debug)]
pub(super) struct Machine {
    rules: Vec<(Rule, Memory)>,
    transition: Duration,
}

impl Machine {
    pub(super) fn new(config: &Eviction) -> Self {
        Self {
            rules: rules(config).into_iter().map(|rule| (rule, Memory::default())).collect(),
            transition: Duration::from_secs(config.pressure_transition_seconds),
        }
    }

    /// Takes in what was seen at a moment no earlier than the last.
    pub(super) fn look(&mut self, readings: &Readings, now: Instant) -> Decision {
        let mut decision = Decision::default();
        for (rule, memory) in &mut self.rules {
            if rule.is_passed(readings, memory.acted_on) {
                let since = *memory.since.get_or_insert(now);
                memory.last = Some(now);
                let lasted = now.saturating_duration_since(since);
                memory.acted_on |= lasted >= rule.lasting;
            } else {
                memory.since = None;
                memory.acted_on = false;
            }
            if let Some(reading) = readings.get(&rule.measure).filter(|_| memory.acted_on) {
                decision.acts.push(Crossing { rule: *rule, reading: *reading });
            }
            let recent = |last: Instant| {
                last == now || now.saturating_duration_since(last) < self.transition
            };
            if memory.last.is_some_and(recent) {
                match rule.measure.resource() {
                    Resource::Memory => decision.pressure.memory = true,
                    Resource::Bytes | Resource::Inodes => decision.pressure.disk = true,
                    Resource::Pids => decision.pressure.pid = true,
                }
            }
        }
        decision
    }

    /// Takes in that a pod was evicted. An average of stalls decays slowly: after one for memory the waiting for it has
    /// to last anew, so that a stall that is over costs nobody else.
    pub(super) fn evicted_for(&mut self, resource: Resource) {
        if resource != Resource::Memory {
            return;
        }
        for (_, memory) in self.rules.iter_mut().filter(|(r, _)| r.measure == Measure::MemoryCalm) {
            memory.since = None;
            memory.acted_on = false;
        }
    }
}

impl Crossing {
    /// Whether nothing has to be done about it any more.
    pub(super) fn is_resolved(&self, readings: &Readings) -> bool {
        !self.rule.is_passed(readings, true)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
