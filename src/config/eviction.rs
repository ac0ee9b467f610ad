//! `[kubelet.eviction]` and `[kubelet.image_gc]`: when pods and images have to make room.
//!
//! A threshold is written as a kubelet's `--eviction-hard` has it: `memory.available<100Mi`, `nodefs.available<10%`.

use crate::quantity::{parse_milli, parse_whole};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a threshold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory that the node's processes have not in use, bytes.
    MemoryAvailable,
    /// Free bytes of the file system that pods use.
    NodeFsAvailable,
    /// Its free inodes.
    NodeFsInodesFree,
    /// Free bytes of the file system of images.
    ImageFsAvailable,
    /// Its free inodes.
    ImageFsInodesFree,
    /// Process ids that are left.
    PidAvailable,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodeFsAvailable,
        Self::NodeFsInodesFree,
        Self::ImageFsAvailable,
        Self::ImageFsInodesFree,
        Self::PidAvailable,
    ];

    /// Its name, as kubelets have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodeFsAvailable => "nodefs.available",
            Self::NodeFsInodesFree => "nodefs.inodesFree",
            Self::ImageFsAvailable => "imagefs.available",
            Self::ImageFsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    fn parse(name: &str) -> Result<Self, BadThreshold> {
        let known = Self::ALL.into_iter().find(|signal| signal.name() == name);
        known.ok_or_else(|| BadThreshold::Signal(name.to_owned()))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadThreshold {
    /// It has no operator in it.
    #[error("{text:?} is not SIGNAL{form}")]
    Form {
        /// The text.
        text: String,
        /// What comes behind the signal.
        form: &'static str,
    },
    /// There is no such signal.
    #[error("{0:?} is none of the signals {names}", names = names())]
    Signal(String),
    /// The amount is neither a quantity nor a share.
    #[error("{0:?} is neither a quantity such as 100Mi nor 0% to 100%")]
    Amount(String),
    /// The time is none.
    #[error("{0:?} is no time such as 90s or 1m30s")]
    Time(String),
}

fn names() -> String {
    Signal::ALL.map(Signal::name).join(", ")
}

/// Thousandths of a percent in a whole.
const WHOLE: u32 = 100_000;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes, inodes or process ids.
    Quantity(u64),
    /// A share of the capacity, thousandths of a percent.
    Share(u32),
}

impl Amount {
    /// So many of a capacity. Shares of nothing and of everything are none, as with kubelets: nothing is ever less.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Quantity(value) => value,
            Self::Share(WHOLE) => 0,
            Self::Share(share) => {
                let part = u128::from(capacity) * u128::from(share) / u128::from(WHOLE);
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }

    fn parse(text: &str) -> Result<Self, BadThreshold> {
        let bad = || BadThreshold::Amount(text.to_owned());
        let Some(number) = text.strip_suffix('%') else {
            return parse_whole(text).map(Self::Quantity).map_err(|_| bad());
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let share = plain.then(|| parse_milli(number).ok()).flatten();
        let share = share.and_then(|share| u32::try_from(share).ok());
        share.filter(|share| *share <= WHOLE).map(Self::Share).ok_or_else(bad)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Quantity(value) => f.write_str(&binary(value)),
            Self::Share(share) => {
                let (whole, rest) = (share / 1000, format!("{:03}", share % 1000));
                match rest.trim_end_matches('0') {
                    "" => write!(f, "{whole}%"),
                    rest => write!(f, "{whole}.{rest}%"),
                }
            }
        }
    }
}

/// A whole number with the largest binary suffix that changes nothing.
fn binary(value: u64) -> String {
    let fits = |(shift, _): &(u32, &str)| value > 0 && value.trailing_zeros() >= *shift;
    let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    match units.into_iter().find(fits) {
        Some((shift, unit)) => format!("{}{unit}", value >> shift),
        None => value.to_string(),
    }
}

/// A signal that is less than it may be: `memory.available<100Mi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    /// Which signal.
    pub signal: Signal,
    /// Below how much.
    pub below: Amount,
}

impl TryFrom<String> for Threshold {
    type Error = BadThreshold;

    fn try_from(text: String) -> Result<Self, BadThreshold> {
        let parts = text.split_once('<');
        let form = || BadThreshold::Form { text: text.clone(), form: "<AMOUNT" };
        let (signal, amount) = parts.ok_or_else(form)?;
        Ok(Self { signal: Signal::parse(signal.trim())?, below: Amount::parse(amount.trim())? })
    }
}

impl From<Threshold> for String {
    fn from(of: Threshold) -> Self {
        format!("{}<{}", of.signal, of.below)
    }
}

/// A threshold that has to be passed for a time: `memory.available<300Mi for 1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SoftThreshold {
    /// The threshold.
    pub threshold: Threshold,
    /// For how long, seconds.
    pub grace_seconds: u64,
}

impl TryFrom<String> for SoftThreshold {
    type Error = BadThreshold;

    fn try_from(text: String) -> Result<Self, BadThreshold> {
        let form = || BadThreshold::Form { text: text.clone(), form: "<AMOUNT for TIME" };
        let (threshold, time) = text.split_once(" for ").ok_or_else(form)?;
        Ok(Self {
            threshold: Threshold::try_from(threshold.to_owned())?,
            grace_seconds: seconds(time.trim())?,
        })
    }
}

impl From<SoftThreshold> for String {
    fn from(of: SoftThreshold) -> Self {
        format!("{} for {}s", String::from(of.threshold), of.grace_seconds)
    }
}

/// Whole seconds of `1h2m3s`.
fn seconds(text: &str) -> Result<u64, BadThreshold> {
    let bad = || BadThreshold::Time(text.to_owned());
    let (mut sum, mut rest) = (0_u64, text);
    if rest.is_empty() {
        return Err(bad());
    }
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = rest.split_at(end);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let mut unit = unit.chars();
        let each = match unit.next() {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(bad()),
        };
        let more = number.checked_mul(each).and_then(|more| sum.checked_add(more));
        sum = more.ok_or_else(bad)?;
        rest = unit.as_str();
    }
    if rest.is_empty() { Ok(sum) } else { Err(bad()) }
}

/// How much more than its threshold a signal is to be after a reclaim: `nodefs.available=500Mi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinimumReclaim {
    /// Which signal.
    pub signal: Signal,
    /// How much more.
    pub more: Amount,
}

impl TryFrom<String> for MinimumReclaim {
    type Error = BadThreshold;

    fn try_from(text: String) -> Result<Self, BadThreshold> {
        let form = || BadThreshold::Form { text: text.clone(), form: "=AMOUNT" };
        let (signal, amount) = text.split_once('=').ok_or_else(form)?;
        Ok(Self { signal: Signal::parse(signal.trim())?, more: Amount::parse(amount.trim())? })
    }
}

impl From<MinimumReclaim> for String {
    fn from(of: MinimumReclaim) -> Self {
        format!("{}={}", of.signal, of.more)
    }
}

/// `[kubelet.eviction]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eviction {
    /// Thresholds below which a pod is evicted at once. Any list replaces the default one as a whole.
    pub hard: Vec<Threshold>,
    /// Those below which one is when it has lasted for a time.
    pub soft: Vec<SoftThreshold>,
    /// How far beyond its threshold a signal is brought.
    pub minimum_reclaim: Vec<MinimumReclaim>,
    /// How often signals are looked at, seconds.
    pub check_seconds: u64,
    /// For how long a pressure is told after it was last seen, seconds.
    pub pressure_transition_seconds: u64,
    /// The longest grace of a pod that a soft threshold evicts, seconds; none: its own.
    pub max_pod_grace_seconds: Option<u64>,
    /// The share of time, percent, for which all processes may wait for memory; none: any.
    pub memory_stall_percent: Option<u8>,
    /// For how long they have to wait that much, seconds.
    pub memory_stall_seconds: u64,
}

impl Default for Eviction {
    fn default() -> Self {
        let share =
            |signal, percent: u32| Threshold { signal, below: Amount::Share(percent * 1000) };
        let memory = Amount::Quantity(100 << 20);
        Self {
            hard: vec![
                Threshold { signal: Signal::MemoryAvailable, below: memory },
                share(Signal::NodeFsAvailable, 10),
                share(Signal::NodeFsInodesFree, 5),
                share(Signal::ImageFsAvailable, 15),
            ],
            soft: Vec::new(),
            minimum_reclaim: Vec::new(),
            check_seconds: 10,
            pressure_transition_seconds: 300,
            max_pod_grace_seconds: None,
            memory_stall_percent: None,
            memory_stall_seconds: 30,
        }
    }
}

impl Eviction {
    /// How much of a signal's capacity is kept from pods: its hard threshold, if it has one.
    pub fn hard_of(&self, signal: Signal, capacity: u64) -> u64 {
        let own = self.hard.iter().find(|threshold| threshold.signal == signal);
        own.map_or(0, |threshold| threshold.below.of(capacity))
    }
}

/// `[kubelet.image_gc]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageGc {
    /// From which use of their file system on unused images are removed, percent; 100: never.
    pub high_percent: u8,
    /// Down to which use, percent.
    pub low_percent: u8,
    /// How long an image stays at least, seconds.
    pub min_age_seconds: u64,
    /// How long an image stays that nobody uses, seconds; none: for ever.
    pub max_age_seconds: Option<u64>,
    /// How often images are looked at, seconds.
    pub check_seconds: u64,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            min_age_seconds: 120,
            max_age_seconds: None,
            check_seconds: 300,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(text: &str) -> Result<Threshold, String> {
        Threshold::try_from(text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn thresholds_are_those_of_kubelets_and_are_written_as_they_are_read() {
        for (text, signal, below) in [
            ("memory.available<100Mi", Signal::MemoryAvailable, Amount::Quantity(100 << 20)),
            ("nodefs.available<10%", Signal::NodeFsAvailable, Amount::Share(10_000)),
            ("nodefs.inodesFree<5.25%", Signal::NodeFsInodesFree, Amount::Share(5250)),
            ("imagefs.available<1500", Signal::ImageFsAvailable, Amount::Quantity(1500)),
            ("imagefs.inodesFree<0%", Signal::ImageFsInodesFree, Amount::Share(0)),
            ("pid.available<1Ki", Signal::PidAvailable, Amount::Quantity(1024)),
        ] {
            let read = threshold(text).unwrap();
            assert_eq!(read, Threshold { signal, below }, "{text}");
            assert_eq!(String::from(read), text);
        }
        for (text, expected) in [
            ("memory.available", "\"memory.available\" is not SIGNAL<AMOUNT"),
            ("memory<1", "\"memory\" is none of the signals memory.available, "),
            ("pid.available<1%%", "\"1%%\" is neither"),
            ("pid.available<100.001%", "\"100.001%\" is neither"),
            ("pid.available<-1", "\"-1\" is neither"),
            ("pid.available<1k%", "\"1k%\" is neither"),
        ] {
            let told = threshold(text).unwrap_err();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }

    #[test]
    fn a_soft_threshold_has_a_time() {
        let soft = |text: &str| SoftThreshold::try_from(text.to_owned());
        for (text, seconds) in [("90s", 90), ("1m30s", 90), ("2h", 7200), ("0s", 0)] {
            let read = soft(&format!("memory.available<1Gi for {text}")).unwrap();
            assert_eq!(read.grace_seconds, seconds, "{text}");
        }
        let read = soft("pid.available<7 for 2m").unwrap();
        assert_eq!(String::from(read), "pid.available<7 for 120s");
        for text in ["", "s", "90", "1d", "1m30", "99999999999999999h"] {
            assert!(soft(&format!("memory.available<1Gi for {text}")).is_err(), "{text}");
        }
        assert!(soft("memory.available<1Gi").is_err());
    }

    #[test]
    fn a_share_is_of_the_capacity_and_none_or_all_of_it_is_nothing() {
        assert_eq!(Amount::Share(5250).of(1000), 52);
        assert_eq!(Amount::Quantity(7).of(1), 7);
        assert_eq!((Amount::Share(0).of(1000), Amount::Share(100_000).of(1000)), (0, 0));
        let defaults = Eviction::default();
        assert_eq!(defaults.hard_of(Signal::MemoryAvailable, 1 << 40), 100 << 20);
        assert_eq!(defaults.hard_of(Signal::NodeFsAvailable, 1000), 100);
        assert_eq!(defaults.hard_of(Signal::PidAvailable, 1000), 0);
    }

    #[test]
    fn a_minimum_has_a_signal_and_an_amount() {
        let minimum = |text: &str| MinimumReclaim::try_from(text.to_owned());
        let read = minimum("nodefs.available = 500Mi").unwrap();
        assert_eq!(
            (read.signal, read.more),
            (Signal::NodeFsAvailable, Amount::Quantity(500 << 20))
        );
        assert_eq!(String::from(read), "nodefs.available=500Mi");
        assert!(minimum("nodefs.available<500Mi").is_err());
    }
}
