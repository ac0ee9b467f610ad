use super::*;
use proptest::prelude::*;
use proptest::sample::select;

fn tracker(kind: Kind, successes: u32, failures: u32) -> Tracker {
    let timing = Timing {
        initial_delay: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        period: Duration::from_secs(1),
        successes,
        failures,
    };
    Tracker::new(kind, &timing)
}

/// With a container that has just begun.
fn begun(kind: Kind, successes: u32, failures: u32) -> Tracker {
    let mut tracker = tracker(kind, successes, failures);
    tracker.begin(Tracker::first(kind));
    tracker
}

const LATE: Duration = Duration::from_secs(100);

/// The results after each of `attempts`: `+` and `-` are what they came to.
fn results(tracker: &mut Tracker, attempts: &str) -> String {
    let step = |attempt| {
        tracker.record(if attempt == '+' { Outcome::Success } else { Outcome::Failure });
        match tracker.recorded() {
            Recorded::Unknown => '?',
            Recorded::Success => '+',
            Recorded::Failure => '-',
        }
    };
    attempts.chars().map(step).collect()
}

#[test]
fn a_result_changes_after_as_many_equal_attempts_as_its_threshold() {
    for (row, kind, successes, failures, attempts, expected) in [
        ("ready at once", Kind::Readiness, 1, 3, "+", "+"),
        ("ready after three", Kind::Readiness, 3, 1, "+++", "--+"),
        ("the count begins anew", Kind::Readiness, 3, 3, "++-+++", "-----+"),
        ("unready after three", Kind::Readiness, 1, 3, "+--+---", "++++++-"),
        ("dead after three", Kind::Liveness, 1, 3, "--+---", "+++++-"),
        ("dead at once", Kind::Liveness, 1, 1, "-", "-"),
        ("started", Kind::Startup, 1, 3, "--+", "??+"),
        ("never started", Kind::Startup, 1, 3, "---", "??-"),
    ] {
        let mut tracker = begun(kind, successes, failures);
        assert_eq!(results(&mut tracker, attempts), expected, "{row}");
    }
}

#[test]
fn a_change_is_told_once() {
    let mut tracker = begun(Kind::Readiness, 1, 1);
    let told: Vec<_> = [Outcome::Failure, Outcome::Success, Outcome::Success, Outcome::Failure]
        .map(|outcome| tracker.record(outcome))
        .into();
    assert_eq!(told, [None, Some(Outcome::Success), None, Some(Outcome::Failure)]);
}

#[test]
fn each_kind_waits_for_its_phase() {
    for (kind, phase, expected) in [
        (Kind::Liveness, Phase::Starting, Due::No),
        (Kind::Liveness, Phase::Started, Due::Yes),
        (Kind::Readiness, Phase::Starting, Due::No),
        (Kind::Readiness, Phase::Started, Due::Yes),
        (Kind::Startup, Phase::Starting, Due::Yes),
        (Kind::Startup, Phase::Started, Due::No),
    ] {
        assert_eq!(begun(kind, 1, 1).due(phase, LATE), expected, "{kind} {phase:?}");
    }
}

#[test]
fn the_initial_delay_counts_whole_seconds_from_the_start() {
    let tracker = begun(Kind::Readiness, 1, 1);
    for (millis, expected) in [
        (0, Due::In(Duration::from_secs(3))),
        (1500, Due::In(Duration::from_millis(1500))),
        (2999, Due::In(Duration::from_millis(1))),
        (3000, Due::Yes),
    ] {
        let due = tracker.due(Phase::Started, Duration::from_millis(millis));
        assert_eq!(due, expected, "{millis} ms");
    }
}

#[test]
fn a_failure_that_ends_the_container_holds_the_probe_until_there_is_another() {
    for (kind, phase, after) in [
        (Kind::Liveness, Phase::Started, Due::No),
        (Kind::Startup, Phase::Starting, Due::No),
        (Kind::Readiness, Phase::Started, Due::Yes),
    ] {
        let mut tracker = begun(kind, 1, 1);
        tracker.record(Outcome::Failure);
        assert_eq!(tracker.due(phase, LATE), after, "{kind}");
        tracker.gone();
        tracker.begin(Tracker::first(kind));
        assert_eq!(tracker.due(phase, LATE), Due::Yes, "{kind} of the next one");
    }
}

#[test]
fn a_container_that_is_gone_has_failed_and_is_not_probed() {
    for kind in Kind::ALL {
        let mut tracker = begun(kind, 1, 1);
        tracker.record(Outcome::Success);
        tracker.gone();
        assert_eq!(tracker.recorded(), Recorded::Failure, "{kind}");
        for phase in [Phase::Starting, Phase::Started] {
            assert_eq!(tracker.due(phase, LATE), Due::No, "{kind}");
        }
    }
}

#[test]
fn the_failures_of_one_container_are_not_counted_to_the_next() {
    let mut tracker = begun(Kind::Liveness, 1, 3);
    results(&mut tracker, "--");
    tracker.begin(Recorded::Success);
    assert_eq!(results(&mut tracker, "--"), "++");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Gone,
    Attempt(Outcome),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use Event::{Attempt, Begin, Gone};
    let event = select(vec![Begin, Gone, Attempt(Outcome::Success), Attempt(Outcome::Failure)]);
    prop::collection::vec(event, 0..40)
}

proptest! {
    /// An attempt is made only where one is due. What is recorded is always what the last attempts on this container
    /// say, or the first result when they say nothing.
    #[test]
    fn any_order_of_events_keeps_to_the_rules(
        kind in select(Kind::ALL.to_vec()), successes in 1..4_u32, failures in 1..4_u32,
        events in events(),
    ) {
        let mut tracker = tracker(kind, successes, failures);
        let phase = if kind == Kind::Startup { Phase::Starting } else { Phase::Started };
        // The attempts on this container, if one is there.
        let mut attempts: Option<Vec<Outcome>> = Some(Vec::new());
        for event in events {
            let before = tracker.recorded();
            match event {
                Event::Begin => {
                    tracker.begin(Tracker::first(kind));
                    attempts = Some(Vec::new());
                }
                Event::Gone => {
                    tracker.gone();
                    attempts = None;
                }
                Event::Attempt(outcome) if tracker.due(phase, LATE) == Due::Yes => {
                    let told = tracker.record(outcome);
                    attempts.as_mut().unwrap().push(outcome);
                    let changed = (before != tracker.recorded()).then_some(outcome);
                    prop_assert_eq!(told, changed);
                }
                Event::Attempt(_) => {}
            }
            prop_assert_eq!(tracker.recorded(), expected(kind, (successes, failures), attempts.as_deref()));
            // A failure that ends its container is the last that is tried on it.
            let ended = kind != Kind::Readiness && tracker.recorded() == Recorded::Failure;
            prop_assert!(!ended || tracker.due(phase, LATE) == Due::No);
        }
    }
}

/// The result by the definition: the last run of equal attempts that was as long as its threshold.
fn expected(kind: Kind, thresholds: (u32, u32), attempts: Option<&[Outcome]>) -> Recorded {
    let Some(attempts) = attempts else { return Recorded::Failure };
    let mut recorded = Tracker::first(kind);
    for end in 1..=attempts.len() {
        let last = attempts[end - 1];
        let run = attempts[..end].iter().rev().take_while(|outcome| **outcome == last).count();
        let threshold = if last == Outcome::Success { thresholds.0 } else { thresholds.1 };
        if u32::try_from(run).unwrap() >= threshold {
            recorded = last.into();
        }
    }
    recorded
}
