//! Which images to remove, decided purely: oldest use first, never one that is in use or pinned.
//!
//! Layers are shared. An image frees a layer only when nothing else holds it, so what a removal
//! frees is counted along the way, and collection stops as soon as the goal is reached.

use crate::ids::ImageId;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Which images a collection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those without a tag that no container uses.
    Untagged,
    /// All that no container uses.
    Unused,
}

/// When a collection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// When nothing is left to take.
    All,
    /// Begins when the file system is used by `above` percent or more, ends when it is by `to`.
    Usage {
        /// The high threshold, percent.
        above: u8,
        /// The low threshold, percent.
        to: u8,
    },
}

/// What to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Which images.
    pub which: Which,
    /// Only those that were not used, or came, less than this ago.
    pub older_than: Duration,
    /// How many of them.
    pub goal: Goal,
}

/// A file system's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) capacity_bytes: u64,
    pub(super) used_bytes: u64,
}

/// What collection knows of an image.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: ImageId,
    /// When it came, or was last used, nanoseconds since 1970.
    pub(super) used_nanos: i64,
    pub(super) tagged: bool,
    /// In use, or pinned.
    pub(super) kept: bool,
    pub(super) document_bytes: u64,
    /// Names and bytes of its layers.
    pub(super) layers: Vec<(String, u64)>,
}

/// What is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order; with what each frees.
    pub(super) remove: Vec<(ImageId, u64)>,
    /// How much more the goal asks for.
    pub(super) missing_bytes: u64,
}

/// Decides. `held` are the names of layers that containers use.
pub(super) fn plan(
    images: &[Candidate],
    held: &HashSet<String>,
    rule: &Prune,
    space: Space,
    now_nanos: i64,
) -> Plan {
    let mut wanted = match rule.goal {
        Goal::All => u64::MAX,
        Goal::Usage { above, to } => excess(space, above, to),
    };
    let mut holders: HashMap<&str, usize> = HashMap::new();
    for image in images {
        for name in names(image) {
            *holders.entry(name).or_default() += 1;
        }
    }
    let age = i64::try_from(rule.older_than.as_nanos()).unwrap_or(i64::MAX);
    let mut oldest: Vec<&Candidate> = images
        .iter()
        .filter(|image| !image.kept && (rule.which == Which::Unused || !image.tagged))
        .filter(|image| now_nanos.saturating_sub(image.used_nanos) >= age)
        .collect();
    oldest.sort_by(|a, b| (a.used_nanos, &a.id).cmp(&(b.used_nanos, &b.id)));
    let mut plan = Plan::default();
    for image in oldest {
        if wanted == 0 {
            break;
        }
        let mut freed = image.document_bytes;
        let sizes: HashMap<&str, u64> =
            image.layers.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        for (name, bytes) in sizes {
            let left = holders.entry(name).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 && !held.contains(name) {
                freed = freed.saturating_add(bytes);
            }
        }
        wanted = wanted.saturating_sub(freed);
        plan.remove.push((image.id.clone(), freed));
    }
    plan.missing_bytes = if rule.goal == Goal::All { 0 } else { wanted };
    plan
}

/// The layers of an image, each once.
fn names(image: &Candidate) -> HashSet<&str> {
    image.layers.iter().map(|(name, _)| name.as_str()).collect()
}

/// How many bytes are above the low threshold, once the high one is reached.
fn excess(space: Space, above: u8, to: u8) -> u64 {
    let share = |percent: u8| -> u64 {
        let bytes = u128::from(space.capacity_bytes) * u128::from(percent) / 100;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    };
    if space.used_bytes < share(above) {
        return 0;
    }
    space.used_bytes.saturating_sub(share(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERYTHING: Prune =
        Prune { which: Which::Unused, older_than: Duration::ZERO, goal: Goal::All };
    const SPACE: Space = Space { capacity_bytes: 1000, used_bytes: 900 };

    fn id(number: u8) -> ImageId {
        ImageId::parse(&format!("{number:02x}").repeat(32)).unwrap()
    }

    fn image(number: u8, used: i64, layers: &[(&str, u64)]) -> Candidate {
        Candidate {
            id: id(number),
            used_nanos: used,
            tagged: true,
            kept: false,
            document_bytes: 1,
            layers: layers.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect(),
        }
    }

    fn numbers(plan: &Plan) -> Vec<(ImageId, u64)> {
        plan.remove.clone()
    }

    #[test]
    fn the_oldest_goes_first_and_a_shared_layer_is_freed_by_its_last_image() {
        let images = [
            image(1, 30, &[("base", 100), ("c", 5)]),
            image(2, 10, &[("base", 100), ("a", 7)]),
            image(3, 20, &[("base", 100)]),
        ];
        let plan = plan(&images, &HashSet::new(), &EVERYTHING, SPACE, 100);
        assert_eq!(numbers(&plan), [(id(2), 8), (id(3), 1), (id(1), 106)]);
    }

    #[test]
    fn collection_begins_at_the_high_threshold_and_ends_at_the_low_one() {
        let images: Vec<_> =
            (1..6).map(|n| image(n, i64::from(n), &[(&format!("l{n}"), 99)])).collect();
        for (above, to, removed, missing) in [
            (91, 50, 0, 0),
            (90, 80, 1, 0),
            (90, 79, 2, 0),
            (90, 50, 4, 0),
            (0, 90, 0, 0),
            (90, 0, 5, 400),
        ] {
            let rule = Prune { goal: Goal::Usage { above, to }, ..EVERYTHING };
            let plan = plan(&images, &HashSet::new(), &rule, SPACE, 100);
            assert_eq!((plan.remove.len(), plan.missing_bytes), (removed, missing), "{above} {to}");
        }
    }

    #[test]
    fn what_is_kept_young_or_tagged_stays_and_a_containers_layer_frees_nothing() {
        let mut kept = image(1, 1, &[("a", 9)]);
        kept.kept = true;
        let young = image(2, 96, &[("b", 9)]);
        let mut untagged = image(3, 3, &[("c", 9), ("c", 9)]);
        untagged.tagged = false;
        let images = [kept, young, untagged, image(4, 4, &[("d", 9)])];
        let held = HashSet::from(["d".to_owned()]);
        let rule = Prune { older_than: Duration::from_nanos(5), ..EVERYTHING };
        let all = plan(&images, &held, &rule, SPACE, 100);
        assert_eq!(numbers(&all), [(id(3), 10), (id(4), 1)]);
        let rule = Prune { which: Which::Untagged, ..rule };
        assert_eq!(numbers(&plan(&images, &held, &rule, SPACE, 100)), [(id(3), 10)]);
    }

    prop_compose! {
        fn any_image()(
            used in 0..50i64,
            kept in any::<bool>(),
            tagged in any::<bool>(),
            layers in prop::collection::vec((0..6u8, 0..200u64), 0..4),
        ) -> (i64, bool, bool, Vec<u8>) {
            (used, kept, tagged, layers.into_iter().map(|(name, _)| name).collect())
        }
    }

    proptest! {
        #[test]
        fn a_plan_keeps_its_promises(
            all in prop::collection::vec(any_image(), 0..12),
            above in 0..=100u8, to in 0..=100u8, age in 0..60u64, used in 0..2000u64,
        ) {
            let size = |layer: u8| u64::from(layer) * 40;
            let images: Vec<Candidate> = (0u8..).zip(&all).map(|(n, (used, kept, tagged, layers))| {
                Candidate {
                    id: id(n), used_nanos: *used, tagged: *tagged, kept: *kept, document_bytes: 1,
                    layers: layers.iter().map(|l| (l.to_string(), size(*l))).collect(),
                }
            }).collect();
            let held = HashSet::from(["3".to_owned()]);
            let goal = Goal::Usage { above, to };
            let rule = Prune { which: Which::Unused, older_than: Duration::from_nanos(age), goal };
            let space = Space { capacity_bytes: 1000, used_bytes: used };
            let plan = plan(&images, &held, &rule, space, 60);
            let of = |id: &ImageId| images.iter().find(|i| i.id == *id).unwrap();
            // Nothing that must stay goes, nothing goes twice, the older goes first.
            let gone: Vec<&Candidate> = plan.remove.iter().map(|(id, _)| of(id)).collect();
            prop_assert!(gone.iter().all(|i| !i.kept && 60 - i.used_nanos >= i64::try_from(age).unwrap()));
            prop_assert!(gone.windows(2).all(|w| w[0].used_nanos <= w[1].used_nanos && w[0].id != w[1].id));
            // What is freed is what no image that stays and no container has.
            let stays: HashSet<&str> = images.iter()
                .filter(|i| !gone.iter().any(|g| g.id == i.id))
                .flat_map(names).chain(held.iter().map(String::as_str)).collect();
            let freed: u64 = gone.iter().flat_map(|i| names(i)).collect::<HashSet<_>>().into_iter()
                .filter(|name| !stays.contains(name))
                .map(|name| size(name.parse().unwrap())).sum::<u64>() + gone.len() as u64;
            prop_assert_eq!(freed, plan.remove.iter().map(|(_, bytes)| bytes).sum::<u64>());
            // It stops when it is enough: without the last one it would not have been.
            let need = excess(space, above, to);
            prop_assert_eq!(plan.missing_bytes, need.saturating_sub(freed));
            if let Some((_, last)) = plan.remove.last() {
                prop_assert!(freed - last < need);
            }
        }
    }
}
