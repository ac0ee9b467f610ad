//! Which files of a log are to be packed, and which are too many; pure.
//!
//! `0.log` is written to, `0.log.20261122-093000` was until that moment, `0.log.20261122-092000.gz` before.

/// What is to be done with the rotated files of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Leftovers of packing that was cut off.
    pub(super) leftovers: Vec<String>,
    /// Files to be packed, the oldest first.
    pub(super) pack: Vec<String>,
    /// Files that are too many, packed or not, the oldest first.
    pub(super) remove: Vec<String>,
}

/// The end of a packed file.
pub(super) const PACKED: &str = ".gz";
/// The end of a file that is being packed.
pub(super) const PACKING: &str = ".gz.tmp";

/// The plan for the files of the log `base` among `names`, of which `most` may be, `base` itself counted. The newest
/// rotated file is not packed: who follows the log may still read it.
pub(super) fn plan(base: &str, names: &[String], most: usize) -> Plan {
    let mut plan = Plan::default();
    let mut rotated: Vec<&String> = Vec::new();
    for name in names {
        let Some(rest) = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        if name.ends_with(PACKING) {
            plan.leftovers.push(name.clone());
        } else if is_time(rest.strip_suffix(PACKED).unwrap_or(rest)) {
            rotated.push(name);
        }
    }
    // Their names are their times.
    rotated.sort();
    // A file that was packed and not yet removed is there twice.
    let twice: Vec<String> = rotated
        .iter()
        .filter(|name| rotated.iter().any(|other| ***other == format!("{name}{PACKED}")))
        .map(|name| (*name).clone())
        .collect();
    rotated.retain(|name| !twice.contains(name));
    plan.remove.extend(twice);
    let many = rotated.len().saturating_sub(most.saturating_sub(1));
    plan.remove.extend(rotated.drain(..many).cloned());
    rotated.pop();
    plan.pack = rotated.into_iter().filter(|name| !name.ends_with(PACKED)).cloned().collect();
    plan
}

/// `20261122-093000`.
fn is_time(text: &str) -> bool {
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('-').is_some_and(|(date, time)| digits(date, 8) && digits(time, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], most: usize) -> Plan {
        plan("0.log", &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), most)
    }

    #[test]
    fn all_but_the_newest_are_packed_and_the_oldest_are_too_many() {
        let names = [
            "0.log",
            "0.log.20260101-000003",
            "0.log.20260101-000001.gz",
            "0.log.20260101-000002",
            "0.log.20260101-000004",
        ];
        let plan = of(&names, 5);
        assert_eq!(plan.pack, ["0.log.20260101-000002", "0.log.20260101-000003"]);
        assert_eq!(plan.remove, Vec::<String>::new());
        let plan = of(&names, 3);
        assert_eq!(plan.pack, ["0.log.20260101-000003"]);
        assert_eq!(plan.remove, ["0.log.20260101-000001.gz", "0.log.20260101-000002"]);
    }

    #[test]
    fn what_was_cut_off_is_tidied_up() {
        let names = [
            "0.log.20260101-000001",
            "0.log.20260101-000001.gz",
            "0.log.20260101-000002.gz.tmp",
            "0.log.20260101-000002",
            "0.log.20260101-000003",
        ];
        let plan = of(&names, 5);
        assert_eq!(plan.leftovers, ["0.log.20260101-000002.gz.tmp"]);
        assert_eq!(plan.remove, ["0.log.20260101-000001"], "it is packed already");
        assert_eq!(plan.pack, ["0.log.20260101-000002"]);
    }

    #[test]
    fn other_files_are_left_alone() {
        let names = ["1.log.20260101-000001", "0.log.bak", "0.logs", "0.log.2026-1", "x"];
        assert_eq!(of(&names, 1), Plan::default());
    }
}
