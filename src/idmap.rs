//! Ranges of ids, as a user namespace or an id-mapped mount maps them (user_namespaces(7)). Pure.

#[cfg(feature = "daemon")]
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The kernel takes as many ranges (UID_GID_MAP_MAX_EXTENTS).
const RANGES_MAX: usize = 340;

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "daemon", derive(Serialize, Deserialize))]
pub struct IdRange {
    /// Its first id inside; of a mount: in the file system.
    pub container: u32,
    /// Its first id on the host.
    pub host: u32,
    /// How many ids.
    pub length: u32,
}

impl IdRange {
    fn to_host(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container).filter(|offset| *offset < self.length)?;
        self.host.checked_add(offset)
    }
}

/// The maps of users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "daemon", derive(Serialize, Deserialize))]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdRange>,
    /// Of groups.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// The host's id of a user inside.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        self.uids.iter().find_map(|range| range.to_host(uid))
    }

    /// The host's id of a group inside.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        self.gids.iter().find_map(|range| range.to_host(gid))
    }

    /// The first of a process's ids that is not mapped: it could not have it.
    pub fn unmapped(&self, uid: u32, gids: impl IntoIterator<Item = u32>) -> Option<Unmapped> {
        match self.host_uid(uid) {
            None => Some(Unmapped::User(uid)),
            Some(_) => {
                let gid = gids.into_iter().find(|gid| self.host_gid(*gid).is_none());
                gid.map(Unmapped::Group)
            }
        }
    }

    /// The host's ids of the user and the group 0 inside.
    pub fn host_root(&self) -> Option<(u32, u32)> {
        self.host_uid(0).zip(self.host_gid(0))
    }
}

/// An id that a process is to have and its user namespace does not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// The user.
    User(u32),
    /// One of its groups.
    Group(u32),
}

/// Why ranges are no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRanges {
    /// None, or more than the kernel takes.
    #[error("needs 1 to 340 ranges, not {0}")]
    Count(usize),
    /// A range without ids.
    #[error("a range has the length 0")]
    Empty,
    /// A range that goes beyond the last id. The number 2³² − 1 is no id.
    #[error("a range goes beyond the id 4294967294")]
    Beyond,
    /// An id is mapped twice.
    #[error("two ranges overlap")]
    Overlap,
}

/// Checks ranges as the kernel would, with words instead of EINVAL.
///
/// # Errors
/// [`BadRanges`].
pub fn check(ranges: &[IdRange]) -> Result<(), BadRanges> {
    if ranges.is_empty() || ranges.len() > RANGES_MAX {
        return Err(BadRanges::Count(ranges.len()));
    }
    let overlap = |a: u32, a_length: u32, b: u32, b_length: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_length)
            && u64::from(b) < u64::from(a) + u64::from(a_length)
    };
    for (n, range) in ranges.iter().enumerate() {
        if range.length == 0 {
            return Err(BadRanges::Empty);
        }
        for first in [range.container, range.host] {
            if u64::from(first) + u64::from(range.length) > u64::from(u32::MAX) {
                return Err(BadRanges::Beyond);
            }
        }
        if ranges.iter().take(n).any(|other| {
            overlap(range.container, range.length, other.container, other.length)
                || overlap(range.host, range.length, other.host, other.length)
        }) {
            return Err(BadRanges::Overlap);
        }
    }
    Ok(())
}

/// The text of /proc/PID/uid_map or gid_map.
pub fn file_text(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        // Writing to a String cannot fail.
        writeln!(text, "{} {} {}", range.container, range.host, range.length).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(container: u32, host: u32, length: u32) -> IdRange {
        IdRange { container, host, length }
    }

    #[test]
    fn an_id_is_found_in_its_range_alone() {
        let maps = IdMaps {
            uids: vec![range(0, 100_000, 10), range(20, 5, 1)],
            gids: vec![range(0, 200_000, 5)],
        };
        assert_eq!(maps.host_root(), Some((100_000, 200_000)));
        assert_eq!(maps.host_uid(9), Some(100_009));
        assert_eq!(maps.host_uid(10), None);
        assert_eq!(maps.host_uid(20), Some(5));
        assert_eq!(maps.host_gid(5), None);
        assert_eq!(maps.unmapped(20, [0, 4]), None);
        assert_eq!(maps.unmapped(10, [5]), Some(Unmapped::User(10)));
        assert_eq!(maps.unmapped(20, [0, 5, 6]), Some(Unmapped::Group(5)));
        assert_eq!(file_text(&maps.uids), "0 100000 10\n20 5 1\n");
    }

    #[test]
    fn ranges_that_are_no_map_are_told_why() {
        let rows = [
            (vec![], BadRanges::Count(0)),
            (vec![range(0, 1, 0)], BadRanges::Empty),
            (vec![range(0, u32::MAX, 1)], BadRanges::Beyond),
            (vec![range(u32::MAX, 0, 1)], BadRanges::Beyond),
            (vec![range(0, 10, u32::MAX)], BadRanges::Beyond),
            (vec![range(0, 10, 5), range(4, 20, 5)], BadRanges::Overlap),
            (vec![range(0, 10, 5), range(5, 14, 5)], BadRanges::Overlap),
        ];
        for (ranges, expected) in rows {
            assert_eq!(check(&ranges), Err(expected), "{ranges:?}");
        }
        assert_eq!(check(&[range(0, 10, 5), range(5, 15, 5)]), Ok(()));
        assert_eq!(check(&[range(0, 0, u32::MAX)]), Ok(()));
        let many = |n: u32| (0..n).map(|i| range(i, i, 1)).collect::<Vec<_>>();
        assert_eq!(check(&many(340)), Ok(()));
        assert_eq!(check(&many(341)), Err(BadRanges::Count(341)));
    }

    proptest! {
        #[test]
        fn no_two_ids_of_checked_ranges_are_one_on_the_host(
            ranges in proptest::collection::vec((0u32..40, 0u32..40, 0u32..12), 1..4)
        ) {
            let uids: Vec<_> = ranges.into_iter().map(|(c, h, l)| range(c, h, l)).collect();
            prop_assume!(check(&uids).is_ok());
            let maps = IdMaps { uids, gids: Vec::new() };
            let hosts: Vec<u32> = (0..60).filter_map(|id| maps.host_uid(id)).collect();
            let unique: std::collections::BTreeSet<_> = hosts.iter().collect();
            prop_assert_eq!(unique.len(), hosts.len());
        }
    }
}
