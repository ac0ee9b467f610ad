//! How long something took or is ago, in the units that users of `kubectl` know; pure.

/// Seconds in the unit that fits: `90s`, `2m5s`, `15m`, `3h20m`, `30h`, `3d4h`, `40d`, `2y30d`.
pub(in crate::ctl) fn duration(seconds: i64) -> String {
    const DAY: i64 = 24 * 60;
    const YEAR: i64 = 365 * DAY;
    let seconds = seconds.max(0);
    let minutes = seconds / 60;
    let of = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match minutes {
        0..=1 => format!("{seconds}s"),
        2..=9 => of(minutes, "m", seconds % 60, "s"),
        10..=179 => format!("{minutes}m"),
        180..=479 => of(minutes / 60, "h", minutes % 60, "m"),
        480..=2879 => format!("{}h", minutes / 60),
        _ if minutes < 8 * DAY => of(minutes / DAY, "d", minutes % DAY / 60, "h"),
        _ if minutes < 2 * YEAR => format!("{}d", minutes / DAY),
        _ if minutes < 8 * YEAR => of(minutes / YEAR, "y", minutes % YEAR / DAY, "d"),
        _ => format!("{}y", minutes / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most() {
        let (minute, hour, day) = (60, 3600, 86_400);
        for (seconds, text) in [
            (-3, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (10 * minute + 7, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 20 * minute, "3h20m"),
            (8 * hour + 20 * minute, "8h"),
            (47 * hour, "47h"),
            (2 * day + 4 * hour, "2d4h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (2 * 365 * day + 30 * day, "2y30d"),
            (9 * 365 * day, "9y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
