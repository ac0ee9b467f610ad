//! Kubernetes quantities (apimachinery/pkg/api/resource): `500m`, `64Mi`, `1.5`, `2e3`.

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    #[error("is not a quantity such as 500m, 1.5 or 64Mi")]
    Form,
    #[error("is negative")]
    Negative,
    #[error("is too large")]
    TooLarge,
}

/// Thousandths of the unit, rounded up.
pub(crate) fn parse_milli(text: &str) -> Result<u64, QuantityError> {
    parse(text, 1000)
}

/// Whole units, rounded up.
pub(crate) fn parse_whole(text: &str) -> Result<u64, QuantityError> {
    parse(text, 1)
}

/// `text` in units of `1 / scale`, rounded up; at most what fits an `i64`.
fn parse(text: &str, scale: u128) -> Result<u64, QuantityError> {
    if text.starts_with('-') {
        return Err(QuantityError::Negative);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.is_empty() && fraction.is_empty() {
        return Err(QuantityError::Form);
    }
    // Zeros at the end say nothing, and would make long fractions overflow.
    let fraction = fraction.trim_end_matches('0');
    let (multiplier, divisor) = parse_suffix(suffix)?;
    let decimals = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let digits: u128 =
        if digits.is_empty() { 0 } else { digits.parse().map_err(|_| QuantityError::TooLarge)? };
    let top = digits
        .checked_mul(multiplier)
        .and_then(|top| top.checked_mul(scale))
        .ok_or(QuantityError::TooLarge)?;
    let bottom = 10_u128
        .checked_pow(decimals)
        .and_then(|bottom| bottom.checked_mul(divisor))
        .ok_or(QuantityError::TooLarge)?;
    let value = top.div_ceil(bottom);
    let fits = value <= u128::from(i64::MAX.unsigned_abs());
    u64::try_from(value).ok().filter(|_| fits).ok_or(QuantityError::TooLarge)
}

/// What a suffix multiplies with, as a fraction.
fn parse_suffix(suffix: &str) -> Result<(u128, u128), QuantityError> {
    let factor = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
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
            let digits = exponent.strip_prefix(['e', 'E']).ok_or(QuantityError::Form)?;
            let (negative, digits) = match digits.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, digits.strip_prefix('+').unwrap_or(digits)),
            };
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(QuantityError::Form);
            }
            let power = digits.parse().map_err(|_| QuantityError::TooLarge)?;
            let power = 10_u128.checked_pow(power).ok_or(QuantityError::TooLarge)?;
            if negative { (1, power) } else { (power, 1) }
        }
    };
    Ok(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_what_kubernetes_says() {
        let rows = [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("500m", 500, 1),
            ("0.5", 500, 1),
            (".5", 500, 1),
            ("1.5", 1500, 2),
            ("2.", 2000, 2),
            ("1u", 1, 1),
            ("64Mi", 64 * 1024 * 1024 * 1000, 64 * 1024 * 1024),
            ("1.5Gi", 1536 * 1024 * 1024 * 1000, 1536 * 1024 * 1024),
            ("128M", 128_000_000_000, 128_000_000),
            ("2e3", 2_000_000, 2000),
            ("2E3", 2_000_000, 2000),
            ("5e-1", 500, 1),
            ("15e-1", 1500, 2),
            ("1E3", 1_000_000, 1000),
            ("+3", 3000, 3),
            ("0.10000000000000000000000000000000000000000", 100, 1),
        ];
        for (text, milli, whole) in rows {
            assert_eq!(parse_milli(text), Ok(milli), "{text}");
            assert_eq!(parse_whole(text), Ok(whole), "{text}");
        }
        assert_eq!(parse_whole("1E"), Ok(1_000_000_000_000_000_000));
        assert_eq!(parse_milli("1E"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn other_texts_are_refused() {
        use QuantityError::{Form, Negative, TooLarge};
        for (text, error) in [
            ("", Form),
            (".", Form),
            ("1.2.3", Form),
            ("Mi", Form),
            ("1mi", Form),
            ("1 Mi", Form),
            ("1K", Form),
            ("0x1", Form),
            ("1e", Form),
            ("1e1.5", Form),
            ("-1", Negative),
            ("1e99", TooLarge),
            ("9Ei", TooLarge),
            ("999999999999999999999999999999999999999999", TooLarge),
        ] {
            assert_eq!(parse_whole(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eEimKMGTP]{0,40}") {
            parse_milli(&text).ok();
        }

        #[test]
        fn millis_are_a_thousandth(number in 0..1_000_000_u64) {
            prop_assert_eq!(parse_milli(&format!("{number}m")), Ok(number));
            prop_assert_eq!(parse_whole(&format!("{number}")), Ok(number));
        }
    }
}
