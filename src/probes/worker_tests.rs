use super::*;
use proptest::prelude::*;

const PERIOD: Duration = Duration::from_secs(10);

fn at(begin: Instant, seconds: u64) -> Instant {
    begin + Duration::from_secs(seconds)
}

#[test]
fn a_missed_tick_is_made_up_for_at_once_and_once() {
    let begin = Instant::now();
    for (row, now, expected) in [
        ("at once", 0, 10),
        ("soon", 3, 10),
        ("just in time", 10, 10),
        ("late", 13, 10),
        ("very late", 37, 30),
    ] {
        assert_eq!(after(begin, PERIOD, at(begin, now)), at(begin, expected), "{row}");
    }
}

#[test]
fn ticks_go_on_as_they_were_while_nothing_was_due() {
    let begin = Instant::now();
    for (row, time, expected) in
        [("before", 0, 5), ("the same", 5, 5), ("after", 6, 15), ("long after", 105, 105)]
    {
        let tick = not_before(at(begin, time), at(begin, 5), PERIOD);
        assert_eq!(tick, at(begin, expected), "{row}");
    }
}

proptest! {
    #[test]
    fn the_next_tick_is_the_first_of_them_that_is_not_before(millis in 0..100_000_u64) {
        let begin = Instant::now();
        let time = begin + Duration::from_millis(millis);
        let tick = not_before(time, begin, PERIOD);
        prop_assert!(tick >= time && tick < time + PERIOD);
        prop_assert_eq!(tick.duration_since(begin).as_millis() % PERIOD.as_millis(), 0);
    }
}
