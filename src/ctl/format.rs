//! Numbers and times as people read them.

pub(super) use crate::clock::rfc3339;

/// The first characters of an id, as people see and type it. `sha256:` goes.
pub(super) fn short_id(id: &str) -> &str {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    bare.get(..13).unwrap_or(bare)
}

/// Bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// How long ago, in the two largest units at most.
pub(super) fn age(now_nanos: i64, then_nanos: i64) -> String {
    if then_nanos <= 0 {
        return "-".to_owned();
    }
    let seconds = now_nanos.saturating_sub(then_nanos).max(0) / 1_000_000_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_are_short() {
        let second = 1_000_000_000;
        let start = 1_700_000_000 * second;
        for (seconds, text) in
            [(-5, "0s"), (5, "5s"), (119, "119s"), (120, "2m"), (7260, "2h1m"), (180_000, "2d2h")]
        {
            assert_eq!(age(start + seconds * second, start), text);
        }
        assert_eq!(age(start, 0), "-");
    }

    #[test]
    fn times_are_dates_also_in_leap_years() {
        for (seconds, text) in [
            (1, "1970-01-01T00:00:01.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), text);
        }
        assert_eq!(rfc3339(0), "");
    }

    #[test]
    fn ids_are_cut_for_people() {
        assert_eq!(short_id(&"a".repeat(64)), "a".repeat(13));
        assert_eq!(short_id(&format!("sha256:{}", "b".repeat(64))), "b".repeat(13));
        assert_eq!(short_id("abc"), "abc");
    }
}
