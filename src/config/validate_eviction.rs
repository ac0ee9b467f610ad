//! `[kubelet.eviction]` and `[kubelet.image_gc]`: values that cannot be meant.

use super::validate::Check;
use super::{ConfigError, Kubelet, Signal};
use std::collections::BTreeSet;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Checks both tables.
///
/// # Errors
/// The first value that cannot be.
pub(super) fn eviction(check: &Check<'_>, kubelet: &Kubelet) -> Result<(), ConfigError> {
    let c = &kubelet.eviction;
    let lists: [(&'static str, Vec<Signal>); 3] = [
        ("kubelet.eviction.hard", c.hard.iter().map(|t| t.signal).collect()),
        ("kubelet.eviction.soft", c.soft.iter().map(|t| t.threshold.signal).collect()),
        ("kubelet.eviction.minimum_reclaim", c.minimum_reclaim.iter().map(|m| m.signal).collect()),
    ];
    for (key, signals) in lists {
        let mut seen = BTreeSet::new();
        for signal in signals {
            check.that(seen.insert(signal), key, signal, "named twice")?;
        }
    }
    let images = &kubelet.image_gc;
    for (key, seconds, (least, most), reason) in [
        ("kubelet.eviction.check_seconds", c.check_seconds, (1, HOUR), "not 1 to 3600"),
        (
            "kubelet.eviction.pressure_transition_seconds",
            c.pressure_transition_seconds,
            (0, DAY),
            "more than a day",
        ),
        (
            "kubelet.eviction.max_pod_grace_seconds",
            c.max_pod_grace_seconds.unwrap_or(0),
            (0, DAY),
            "more than a day",
        ),
        (
            "kubelet.eviction.memory_stall_seconds",
            c.memory_stall_seconds,
            (0, DAY),
            "more than a day",
        ),
        ("kubelet.image_gc.check_seconds", images.check_seconds, (1, DAY), "not 1 to 86400"),
    ] {
        check.that((least..=most).contains(&seconds), key, seconds, reason)?;
    }
    if let Some(percent) = c.memory_stall_percent {
        let some = (1..=99).contains(&percent);
        check.that(some, "kubelet.eviction.memory_stall_percent", percent, "not 1 to 99")?;
    }
    let (high, low) = (images.high_percent, images.low_percent);
    check.that(high <= 100, "kubelet.image_gc.high_percent", high, "more than 100")?;
    check.that(
        low < high,
        "kubelet.image_gc.low_percent",
        low,
        "not less than kubelet.image_gc.high_percent",
    )?;
    if let Some(most) = images.max_age_seconds {
        check.that(
            most > images.min_age_seconds,
            "kubelet.image_gc.max_age_seconds",
            most,
            "not more than kubelet.image_gc.min_age_seconds",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overrides, merge};

    fn told(lines: &str) -> String {
        let text = format!("[kubelet]\n{lines}\n");
        let loaded = merge(&[("/c".into(), text)], &Overrides::default());
        loaded.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (lines, expected) in [
            ("[kubelet.eviction]\nhard = []", ""),
            ("[kubelet.eviction]\nhard = [\"memory.available<1Gi\", \"pid.available<5%\"]", ""),
            ("[kubelet.image_gc]\nhigh_percent = 100", ""),
            (
                "[kubelet.eviction]\nhard = [\"memory.available<1Gi\", \"memory.available<5%\"]",
                "kubelet.eviction.hard = memory.available (/c:3): named twice",
            ),
            (
                "[kubelet.eviction]\nhard = [\"memory.free<1Gi\"]",
                "/c:3: \"memory.free\" is none of the signals memory.available, ",
            ),
            (
                "[kubelet.eviction]\nsoft = [\"memory.available<1Gi\"]",
                "/c:3: \"memory.available<1Gi\" is not SIGNAL<AMOUNT for TIME",
            ),
            (
                "[kubelet.eviction]\ncheck_seconds = 0",
                "kubelet.eviction.check_seconds = 0 (/c:3): not 1 to 3600",
            ),
            (
                "[kubelet.eviction]\nmemory_stall_percent = 100",
                "kubelet.eviction.memory_stall_percent = 100 (/c:3): not 1 to 99",
            ),
            (
                "[kubelet.image_gc]\nlow_percent = 85",
                "kubelet.image_gc.low_percent = 85 (/c:3): not less than kubelet.image_gc.high_percent",
            ),
            (
                "[kubelet.image_gc]\nmax_age_seconds = 60",
                "kubelet.image_gc.max_age_seconds = 60 (/c:3): not more than kubelet.image_gc.min_age_seconds",
            ),
        ] {
            let told = told(lines);
            assert!(
                told.starts_with(expected) && told.is_empty() == expected.is_empty(),
                "{lines}: {told}"
            );
        }
    }
}
