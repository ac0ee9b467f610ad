//! Kubernetes quantities, as far as bandwidth annotations need them
//! (apimachinery/pkg/api/resource): digits with an optional fraction, then a suffix.

/// Parses a quantity into a whole number, rounded up as Kubernetes does.
///
/// `None` for anything that is not a quantity, is negative, or does not fit.
pub(super) fn parse_quantity(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let places = u32::try_from(fraction.len()).ok()?;
    // value = mantissa / 10^places * factor, all in integers, so that nothing is lost.
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiply, divide) = parse_suffix(suffix)?;
    let divide = divide.checked_mul(10_u128.checked_pow(places)?)?;
    let value = mantissa.checked_mul(multiply)?.div_ceil(divide);
    u64::try_from(value).ok()
}

/// The factor of a suffix as a fraction.
fn parse_suffix(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_means_what_kubernetes_says() {
        for (text, value) in [
            ("0", 0),
            ("10M", 10_000_000),
            ("1Mi", 1_048_576),
            ("1.5k", 1_500),
            (".5G", 500_000_000),
            ("1e6", 1_000_000),
            ("1E3", 1_000),
            ("15e-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("100m", 1),
            ("2Gi", 2_147_483_648),
        ] {
            assert_eq!(parse_quantity(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_or_does_not_fit_is_none() {
        for text in ["", ".", "-1", "+1", "1K", "1 M", "M", "1.2.3", "1e", "100E", "1e400", "0x1"] {
            assert_eq!(parse_quantity(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}") {
            parse_quantity(&text);
        }
    }
}
