use super::*;
use crate::config::{MinimumReclaim, SoftThreshold, Threshold};

fn hard(text: &str) -> Threshold {
    Threshold::try_from(text.to_owned()).unwrap()
}

fn soft(text: &str) -> SoftThreshold {
    SoftThreshold::try_from(text.to_owned()).unwrap()
}

fn config(hards: &[&str], softs: &[&str], minimum: &[&str]) -> Eviction {
    Eviction {
        hard: hards.iter().map(|text| hard(text)).collect(),
        soft: softs.iter().map(|text| soft(text)).collect(),
        minimum_reclaim: minimum
            .iter()
            .map(|text| MinimumReclaim::try_from((*text).to_owned()).unwrap())
            .collect(),
        ..Eviction::default()
    }
}

fn readings(rows: &[(Measure, u64)]) -> Readings {
    let reading = |available| Reading { available, capacity: 1000 };
    rows.iter().map(|(measure, available)| (*measure, reading(*available))).collect()
}

const MEMORY: Measure = Measure::Of(Signal::MemoryAvailable);
const NODEFS: Measure = Measure::Of(Signal::NodeFsAvailable);
const INODES: Measure = Measure::Of(Signal::NodeFsInodesFree);
const IMAGEFS: Measure = Measure::Of(Signal::ImageFsAvailable);
const PIDS: Measure = Measure::Of(Signal::PidAvailable);

/// The clock of a machine, and what it came to at seconds from its start.
struct Clock(Machine, Instant);

impl Clock {
    fn new(config: &Eviction) -> Self {
        Self(Machine::new(config), Instant::now())
    }

    fn at(&mut self, second: u64, rows: &[(Measure, u64)]) -> Decision {
        self.0.look(&readings(rows), self.1 + Duration::from_secs(second))
    }

    /// The measure that is acted on.
    fn acts(&mut self, second: u64, rows: &[(Measure, u64)]) -> Option<Measure> {
        self.at(second, rows).acts.first().map(|crossing| crossing.rule.measure)
    }
}

#[test]
fn a_hard_threshold_is_acted_on_at_once_and_below_it_alone() {
    let mut clock = Clock::new(&config(&["memory.available<100"], &[], &[]));
    assert_eq!(clock.at(0, &[(MEMORY, 100)]), Decision::default());
    let decision = clock.at(10, &[(MEMORY, 99)]);
    assert_eq!(decision.acts[0].reading, Reading { available: 99, capacity: 1000 });
    assert!(decision.pressure.memory && !decision.pressure.disk && !decision.pressure.pid);
    assert_eq!(clock.acts(20, &[(MEMORY, 100)]), None);
}

#[test]
fn a_share_is_of_what_the_node_has() {
    let mut clock = Clock::new(&config(&["nodefs.available<10%"], &[], &[]));
    assert_eq!(clock.acts(0, &[(NODEFS, 100)]), None);
    assert_eq!(clock.acts(10, &[(NODEFS, 99)]), Some(NODEFS));
}

#[test]
fn a_soft_threshold_has_to_last_for_its_grace_without_a_break() {
    let mut clock = Clock::new(&config(&[], &["memory.available<100 for 30s"], &[]));
    for second in [0, 10, 20, 29] {
        let decision = clock.at(second, &[(MEMORY, 50)]);
        assert_eq!(decision.acts, [], "{second}");
        assert!(decision.pressure.memory, "the condition does not wait for the grace");
    }
    assert_eq!(clock.acts(29, &[(MEMORY, 100)]), None);
    assert_eq!(clock.acts(30, &[(MEMORY, 50)]), None, "it began anew");
    assert_eq!(clock.acts(59, &[(MEMORY, 50)]), None);
    let crossing = clock.at(60, &[(MEMORY, 50)]).acts[0];
    assert!(!crossing.rule.hard);
}

#[test]
fn what_was_acted_on_is_brought_its_minimum_beyond_the_threshold() {
    let config = config(&["nodefs.available<100"], &[], &["nodefs.available=50"]);
    let mut clock = Clock::new(&config);
    assert_eq!(clock.acts(0, &[(NODEFS, 120)]), None, "never below the threshold");
    let crossing = clock.at(10, &[(NODEFS, 99)]).acts[0];
    assert!(!crossing.is_resolved(&readings(&[(NODEFS, 149)])));
    assert!(crossing.is_resolved(&readings(&[(NODEFS, 150)])));
    assert_eq!(clock.acts(20, &[(NODEFS, 149)]), Some(NODEFS));
    assert_eq!(clock.acts(30, &[(NODEFS, 150)]), None);
    assert_eq!(clock.acts(40, &[(NODEFS, 149)]), None, "it is over");
}

#[test]
fn a_pressure_is_told_for_the_transition_period() {
    let mut clock = Clock::new(&config(&["pid.available<100"], &[], &[]));
    assert!(clock.at(0, &[(PIDS, 1)]).pressure.pid);
    let later = clock.at(299, &[(PIDS, 500)]);
    assert!(later.pressure.pid && later.acts.is_empty());
    assert!(!clock.at(300, &[(PIDS, 500)]).pressure.pid);
    let mut config = config(&["pid.available<100"], &[], &[]);
    config.pressure_transition_seconds = 0;
    let mut clock = Clock::new(&config);
    assert!(clock.at(0, &[(PIDS, 1)]).pressure.pid);
    assert!(!clock.at(1, &[(PIDS, 500)]).pressure.pid);
}

#[test]
fn memory_goes_first_and_hard_before_soft() {
    let rows = &["pid.available<100", "imagefs.available<100", "nodefs.inodesFree<100"];
    let mut of = config(rows, &["memory.available<100 for 0s", "nodefs.available<100 for 0s"], &[]);
    of.hard.push(hard("nodefs.available<50"));
    let mut clock = Clock::new(&of);
    let all = [(PIDS, 1), (IMAGEFS, 1), (INODES, 1), (NODEFS, 1), (MEMORY, 1)];
    let expected = [MEMORY, NODEFS, INODES, IMAGEFS, PIDS];
    for (second, (without, measure)) in (0..).zip(expected.iter().enumerate()) {
        let rows: Vec<_> =
            all.iter().filter(|(m, _)| !expected[..without].contains(m)).copied().collect();
        assert_eq!(clock.acts(second, &rows), Some(*measure));
    }
    let crossing = clock.at(9, &[(NODEFS, 1)]).acts[0];
    assert!(crossing.rule.hard, "the hard one of two");
}

#[test]
fn no_crossing_hides_another() {
    let rows = &["memory.available<100", "nodefs.available<100", "pid.available<100"];
    let mut clock = Clock::new(&config(rows, &["imagefs.available<100 for 10s"], &[]));
    let all = [(MEMORY, 1), (NODEFS, 1), (IMAGEFS, 1), (PIDS, 100)];
    let measures = |decision: Decision| -> Vec<Measure> {
        decision.acts.iter().map(|crossing| crossing.rule.measure).collect()
    };
    assert_eq!(measures(clock.at(0, &all)), [MEMORY, NODEFS]);
    assert_eq!(measures(clock.at(10, &all)), [MEMORY, NODEFS, IMAGEFS]);
}

#[test]
fn what_cannot_be_read_passes_nothing_and_keeps_no_grace() {
    let mut clock = Clock::new(&config(&[], &["memory.available<100 for 10s"], &[]));
    clock.at(0, &[(MEMORY, 1)]);
    assert_eq!(clock.acts(10, &[]), None);
    assert_eq!(clock.acts(11, &[(MEMORY, 1)]), None);
    assert_eq!(clock.acts(21, &[(MEMORY, 1)]), Some(MEMORY));
}

#[test]
fn waiting_for_memory_is_a_lack_of_it_when_it_is_asked_for() {
    let mut of = config(&[], &[], &[]);
    let calm = |stalled: u64| {
        let reading = Reading { available: CALM - stalled * 1000, capacity: CALM };
        Readings::from([(Measure::MemoryCalm, reading)])
    };
    let mut machine = Machine::new(&of);
    let now = Instant::now();
    assert_eq!(machine.look(&calm(99), now), Decision::default(), "off unless configured");
    of.memory_stall_percent = Some(40);
    of.memory_stall_seconds = 20;
    let mut machine = Machine::new(&of);
    let at = |second| now + Duration::from_secs(second);
    assert!(!machine.look(&calm(40), at(0)).pressure.memory);
    assert!(machine.look(&calm(41), at(10)).pressure.memory);
    assert_eq!(machine.look(&calm(41), at(29)).acts, []);
    assert!(!machine.look(&calm(41), at(30)).acts.is_empty());
}

#[test]
fn after_an_eviction_waiting_for_memory_has_to_last_anew() {
    let mut of = config(&["nodefs.available<100"], &[], &[]);
    of.memory_stall_percent = Some(40);
    of.memory_stall_seconds = 20;
    let stalled = Reading { available: CALM - 41_000, capacity: CALM };
    let full = Reading { available: 1, capacity: 1000 };
    let both = Readings::from([(Measure::MemoryCalm, stalled), (NODEFS, full)]);
    let mut machine = Machine::new(&of);
    let start = Instant::now();
    let acts = |machine: &mut Machine, second| -> Vec<Measure> {
        let decision = machine.look(&both, start + Duration::from_secs(second));
        assert!(decision.pressure.memory, "{second}");
        decision.acts.iter().map(|crossing| crossing.rule.measure).collect()
    };
    assert_eq!(acts(&mut machine, 0), [NODEFS]);
    assert_eq!(acts(&mut machine, 20), [Measure::MemoryCalm, NODEFS]);
    machine.evicted_for(Resource::Bytes);
    assert_eq!(acts(&mut machine, 21), [Measure::MemoryCalm, NODEFS], "it went for a disk");
    machine.evicted_for(Resource::Memory);
    assert_eq!(acts(&mut machine, 22), [NODEFS]);
    assert_eq!(acts(&mut machine, 41), [NODEFS]);
    assert_eq!(acts(&mut machine, 42), [Measure::MemoryCalm, NODEFS]);
}

#[test]
fn thresholds_of_nothing_and_of_all_are_never_passed() {
    let mut clock = Clock::new(&config(&["nodefs.available<0%", "pid.available<100%"], &[], &[]));
    assert_eq!(clock.at(0, &[(NODEFS, 0), (PIDS, 0)]), Decision::default());
}
