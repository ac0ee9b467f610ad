//! Which images may go, and in what order; pure, the clock is given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An image of the runtime's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) id: String,
    /// Its names and digests.
    pub(super) names: Vec<String>,
    pub(super) bytes: u64,
    /// Whether the runtime says that it must stay.
    pub(super) pinned: bool,
}

impl Image {
    /// Whether a container names it: by id, digest or tag.
    pub(super) fn is_named_by(&self, words: &BTreeSet<String>) -> bool {
        words.contains(&self.id) || self.names.iter().any(|name| words.contains(name))
    }
}

/// What is remembered of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// When a container had it last; none: none ever did.
    used: Option<Instant>,
    /// When it was first seen; none: it was there at the start, and nobody knows since when.
    found: Option<Instant>,
}

/// What was seen of images since the start.
#[derive(Debug)]
pub(super) struct Ledger {
    start: Instant,
    looked: bool,
    seen: BTreeMap<String, Seen>,
}

impl Ledger {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, looked: false, seen: BTreeMap::new() }
    }

    /// Takes in what there is. `named` is what containers say of their images.
    pub(super) fn note(&mut self, images: &[Image], named: &BTreeSet<String>, now: Instant) {
        let there: BTreeSet<&String> = images.iter().map(|image| &image.id).collect();
        self.seen.retain(|id, _| there.contains(id));
        let found = self.looked.then_some(now);
        for image in images {
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen { used: None, found });
            if image.is_named_by(named) {
                seen.used = Some(now);
            }
        }
        self.looked = true;
    }

    /// Those that nobody uses and that are old enough: the longest unused first, of those the one that came first.
    pub(super) fn unused<'a>(
        &self,
        images: &'a [Image],
        named: &BTreeSet<String>,
        (now, least): (Instant, Duration),
    ) -> Vec<&'a Image> {
        let old = |found: Option<Instant>| {
            found.is_none_or(|found| now.saturating_duration_since(found) >= least)
        };
        let free = images.iter().filter(|image| !image.pinned && !image.is_named_by(named));
        let mut rows: Vec<(Seen, &Image)> = free
            .filter_map(|image| Some((*self.seen.get(&image.id)?, image)))
            .filter(|(seen, _)| old(seen.found))
            .collect();
        rows.sort_by_key(|(seen, image)| (*seen, &image.id));
        rows.into_iter().map(|(_, image)| image).collect()
    }

    /// Of those, who was unused for longer than `most`, as far as is known since the start.
    pub(super) fn outdated<'a>(
        &self,
        unused: &[&'a Image],
        (now, most): (Instant, Duration),
    ) -> Vec<&'a Image> {
        let idle = |image: &Image| {
            let seen = self.seen.get(&image.id);
            let since = seen.and_then(|seen| seen.used.max(seen.found)).unwrap_or(self.start);
            now.saturating_duration_since(since) > most
        };
        unused.iter().filter(|image| idle(image)).copied().collect()
    }
}

/// How many bytes have to go: none below the high threshold, else down to the low one.
pub(super) fn excess(capacity: u64, available: u64, (high, low): (u8, u8)) -> u64 {
    let share = |percent: u8| {
        let part = u128::from(capacity) * u128::from(percent) / 100;
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let used = capacity.saturating_sub(available);
    if high >= 100 || used < share(high) { 0 } else { used.saturating_sub(share(low)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str) -> Image {
        Image { id: id.to_owned(), names: vec![format!("{id}:tag")], ..Image::default() }
    }

    fn words(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    fn ids<'a>(images: &[&'a Image]) -> Vec<&'a str> {
        images.iter().map(|image| image.id.as_str()).collect()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_longest_unused_goes_first_and_nothing_that_is_used_or_pinned() {
        let start = Instant::now();
        let at = |minutes: u32| start + MINUTE * minutes;
        let mut ledger = Ledger::new(start);
        let mut all = vec![image("early"), image("used"), image("pinned"), image("once")];
        all[2].pinned = true;
        ledger.note(&all, &words(&["used:tag", "once"]), at(0));
        all.push(image("late"));
        ledger.note(&all, &words(&["used:tag", "once"]), at(10));
        all.push(image("later"));
        ledger.note(&all, &words(&["used:tag"]), at(20));
        let unused = |now, least| ids(&ledger.unused(&all, &words(&["used:tag"]), (now, least)));
        assert_eq!(unused(at(22), 2 * MINUTE), ["early", "late", "later", "once"]);
        assert_eq!(unused(at(22), 3 * MINUTE), ["early", "late", "once"], "later is too young");
        assert_eq!(
            unused(at(10), 2 * MINUTE),
            ["early", "once"],
            "what was there at the start is old"
        );
    }

    #[test]
    fn what_was_unused_for_too_long_is_outdated_and_a_start_begins_anew() {
        let start = Instant::now();
        let at = |minutes: u32| start + MINUTE * minutes;
        let mut ledger = Ledger::new(start);
        let all = vec![image("never"), image("once")];
        ledger.note(&all, &words(&[]), at(0));
        ledger.note(&all, &words(&["once"]), at(30));
        let outdated = |now| {
            let unused = ledger.unused(&all, &words(&[]), (now, Duration::ZERO));
            ids(&ledger.outdated(&unused, (now, 60 * MINUTE)))
        };
        assert!(outdated(at(60)).is_empty());
        assert_eq!(outdated(at(61)), ["never"]);
        assert_eq!(outdated(at(91)), ["never", "once"]);
    }

    #[test]
    fn an_image_that_is_gone_and_comes_again_is_new() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        ledger.note(&[image("a")], &words(&[]), start);
        ledger.note(&[], &words(&[]), start + MINUTE);
        ledger.note(&[image("a")], &words(&[]), start + 2 * MINUTE);
        let all = [image("a")];
        let unused = ledger.unused(&all, &words(&[]), (start + 3 * MINUTE, 2 * MINUTE));
        assert!(unused.is_empty());
    }

    #[test]
    fn room_is_made_from_the_high_threshold_down_to_the_low_one() {
        for (available, expected) in [(151, 0), (150, 50), (0, 200), (1000, 0)] {
            assert_eq!(excess(1000, available, (85, 80)), expected, "{available}");
        }
        assert_eq!(excess(1000, 0, (100, 80)), 0, "100 is never");
        assert_eq!(excess(0, 0, (85, 80)), 0);
    }
}
