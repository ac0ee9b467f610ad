//! The kernel's list format: `0-3,8` (cpuset(7), "Formats").

use super::CgroupError;
use std::fmt;

/// A set of CPUs or memory nodes, as sorted ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuList(Vec<(u32, u32)>);

impl CpuList {
    /// Parses a list; blanks around it are forgiven, an empty one is the empty set.
    pub(super) fn parse(text: &str) -> Result<Self, CgroupError> {
        let refuse = || {
            let reason = "expected numbers and ranges, as in 0-3,8, none above 65535";
            CgroupError::invalid("CPU or memory node list", text, reason)
        };
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(n) if n <= 65_535 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            _ => Err(refuse()),
        };
        let mut ranges = Vec::new();
        if !text.trim().is_empty() {
            for item in text.trim().split(',') {
                let (first, last) = match item.split_once('-') {
                    Some((first, last)) => (number(first)?, number(last)?),
                    None => (number(item)?, number(item)?),
                };
                if first > last {
                    return Err(refuse());
                }
                ranges.push((first, last));
            }
        }
        Ok(Self::normalised(ranges))
    }

    fn normalised(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Every member, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = u16> {
        // None is above 65535.
        let ends = |(first, last): &(u32, u32)| (u16::try_from(*first), u16::try_from(*last));
        self.0
            .iter()
            .map(ends)
            .flat_map(|(first, last)| first.unwrap_or(u16::MAX)..=last.unwrap_or(u16::MAX))
    }

    /// Whether every member of `self` is one of `other`, too.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(first, last)| other.0.iter().any(|(a, b)| a <= first && last <= b))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged_and_printed_in_the_kernels_format() {
        for (text, printed) in
            [("0", "0"), ("3,1,2", "1-3"), ("0-3,2-5,8", "0-5,8"), (" 1,3 \n", "1,3"), ("", "")]
        {
            assert_eq!(CpuList::parse(text).unwrap().to_string(), printed, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["a", "1-", "-1", "3-1", "1,,2", "1 2", "99999999999", "70000", "+1", "0x1"] {
            assert!(CpuList::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn members_are_those_of_all_ranges() {
        let members: Vec<u16> = CpuList::parse("8,0-2").unwrap().members().collect();
        assert_eq!(members, [0, 1, 2, 8]);
    }

    #[test]
    fn containment_is_by_member_and_not_by_range() {
        let within = |a, b| CpuList::parse(a).unwrap().is_within(&CpuList::parse(b).unwrap());
        assert!(within("1-2", "0-1,2-3"));
        assert!(within("", "0"));
        assert!(!within("0,4", "0-3"));
        assert!(!within("0", ""));
    }
}
