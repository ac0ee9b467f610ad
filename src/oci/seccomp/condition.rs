//! Comparisons of arguments.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

use super::error::SeccompError;

/// One comparison of one argument, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
}

/// What an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// From the first to the second, both included.
    Within(u64, u64),
    /// The argument's bits of `mask` are `value`.
    Masked { mask: u64, value: u64 },
}

/// How much of a register a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// All 64 bits.
    Whole,
    /// 32 bits: the conditions were narrowed.
    LowerHalf,
}

/// Reads one comparison of a rule.
///
/// # Errors
/// A wrong index; a comparison that no argument can pass.
pub(super) fn parse(given: &LinuxSeccompArg) -> Result<Condition, SeccompError> {
    let argument = u8::try_from(given.index())
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| SeccompError::invalid("args.index", given.index(), "is not 0 to 5"))?;
    let never = |reason| Err(SeccompError::invalid("args.value", given.value(), reason));
    let value = given.value();
    let second = given.value_two().unwrap_or(0);
    let test = match given.op() {
        Operator::ScmpCmpEq => Test::Eq(value),
        Operator::ScmpCmpNe => Test::Ne(value),
        Operator::ScmpCmpLe => Test::Within(0, value),
        Operator::ScmpCmpGe => Test::Within(value, u64::MAX),
        Operator::ScmpCmpLt => match value.checked_sub(1) {
            Some(most) => Test::Within(0, most),
            None => return never("nothing is less than 0"),
        },
        Operator::ScmpCmpGt => match value.checked_add(1) {
            Some(least) => Test::Within(least, u64::MAX),
            None => return never("nothing is greater than the largest number"),
        },
        Operator::ScmpCmpMaskedEq if second & !value != 0 => {
            let reason = "has bits that its mask takes away: the comparison never holds";
            return Err(SeccompError::invalid("args.valueTwo", second, reason));
        }
        Operator::ScmpCmpMaskedEq => Test::Masked { mask: value, value: second },
    };
    if second != 0 && !matches!(test, Test::Masked { .. }) {
        let reason = "is for SCMP_CMP_MASKED_EQ alone";
        return Err(SeccompError::invalid("args.valueTwo", second, reason));
    }
    Ok(Condition { argument, test })
}

impl Test {
    /// Whether a value passes.
    fn holds(self, argument: u64) -> bool {
        match self {
            Self::Eq(value) => argument == value,
            Self::Ne(value) => argument != value,
            Self::Within(least, most) => (least..=most).contains(&argument),
            Self::Masked { mask, value } => argument & mask == value,
        }
    }

    /// Whether no value passes both. `false` also where that cannot be told easily.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Eq(value), test) | (test, Self::Eq(value)) => !test.holds(value),
            (Self::Within(least, most), Self::Within(low, high)) => most < low || high < least,
            (Self::Masked { mask: one, value: a }, Self::Masked { mask: two, value: b }) => {
                (a ^ b) & one & two != 0
            }
            _ => false,
        }
    }
}

/// Whether no call passes all of the one and all of the other.
pub(super) fn exclude(one: &[Condition], other: &[Condition]) -> bool {
    one.iter().any(|a| other.iter().any(|b| a.argument == b.argument && a.test.excludes(b.test)))
}

/// The comparisons for arguments of 32 bits; `None` when they cannot all hold.
///
/// The kernel takes the lower half of the registers, and shows a filter all of them: only the lower
/// half may be looked at. A negative number is its lower half, too.
pub(super) fn narrowed(conditions: &[Condition]) -> Option<Vec<Condition>> {
    let mut made = Vec::new();
    for condition in conditions {
        match narrow(condition.test) {
            Narrow::Never => return None,
            Narrow::Always => {}
            Narrow::Test(test) => made.push(Condition { test, ..*condition }),
        }
    }
    Some(made)
}

enum Narrow {
    Never,
    Always,
    Test(Test),
}

fn narrow(test: Test) -> Narrow {
    const MOST: u64 = 0xffff_ffff;
    let signed = |value: u64| if value >> 31 == 0x1_ffff_ffff { value & MOST } else { value };
    match test {
        Test::Eq(value) if signed(value) > MOST => Narrow::Never,
        Test::Eq(value) => Narrow::Test(Test::Eq(signed(value))),
        Test::Ne(value) if signed(value) > MOST => Narrow::Always,
        Test::Ne(value) => Narrow::Test(Test::Ne(signed(value))),
        Test::Within(least, _) if signed(least) > MOST => Narrow::Never,
        Test::Within(least, most) => {
            Narrow::Test(Test::Within(signed(least), signed(most).min(MOST)))
        }
        Test::Masked { value, .. } if signed(value) > MOST => Narrow::Never,
        Test::Masked { mask, value } => {
            Narrow::Test(Test::Masked { mask: mask & MOST, value: signed(value) })
        }
    }
}

/// The comparison in the terms of the compiler.
///
/// # Errors
/// Never for one that was parsed.
pub(super) fn to_compiler(
    condition: Condition,
    width: Width,
) -> Result<Vec<SeccompCondition>, SeccompError> {
    let make = |operator, value| {
        let length = match width {
            Width::Whole => SeccompCmpArgLen::Qword,
            Width::LowerHalf => SeccompCmpArgLen::Dword,
        };
        SeccompCondition::new(condition.argument, length, operator, value)
            .map_err(|_| SeccompError::invalid("args.index", condition.argument, "is not 0 to 5"))
    };
    Ok(match condition.test {
        Test::Eq(value) => vec![make(SeccompCmpOp::Eq, value)?],
        Test::Ne(value) => vec![make(SeccompCmpOp::Ne, value)?],
        Test::Within(least, u64::MAX) => vec![make(SeccompCmpOp::Ge, least)?],
        Test::Within(0, most) => vec![make(SeccompCmpOp::Le, most)?],
        Test::Within(least, most) => {
            vec![make(SeccompCmpOp::Ge, least)?, make(SeccompCmpOp::Le, most)?]
        }
        Test::Masked { mask, value } => vec![make(SeccompCmpOp::MaskedEq(mask), value)?],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(argument: u8, test: Test) -> Condition {
        Condition { argument, test }
    }

    #[test]
    fn narrow_arguments_are_compared_with_what_fits_and_with_negative_numbers() {
        let minus_one = u64::MAX;
        let large = 0x1_0000_0000;
        let masked = |mask, value| Test::Masked { mask, value };
        let rows = [
            (Test::Eq(minus_one), Some(Some(Test::Eq(0xffff_ffff)))),
            (Test::Eq(0xffff_ffff), Some(Some(Test::Eq(0xffff_ffff)))),
            (Test::Eq(large), None),
            (Test::Ne(large), Some(None)),
            (Test::Within(large, u64::MAX), None),
            (Test::Within(0, large), Some(Some(Test::Within(0, 0xffff_ffff)))),
            (masked(minus_one, 0), Some(Some(masked(0xffff_ffff, 0)))),
            (masked(minus_one, large), None),
        ];
        for (given, expected) in rows {
            let expected = expected.map(|test| test.map(|test| on(0, test)));
            let expected: Option<Vec<_>> = expected.map(|one| one.into_iter().collect());
            assert_eq!(narrowed(&[on(0, given)]), expected, "{given:?}");
        }
    }

    #[test]
    fn comparisons_that_exclude_each_other_are_recognised() {
        let masked = |mask, value| Test::Masked { mask, value };
        let rows = [
            (Test::Eq(1), Test::Eq(2), true),
            (Test::Eq(1), Test::Eq(1), false),
            (Test::Eq(40), Test::Ne(40), true),
            (Test::Eq(40), Test::Ne(41), false),
            (Test::Eq(5), Test::Within(6, u64::MAX), true),
            (Test::Eq(6), Test::Within(6, u64::MAX), false),
            (Test::Within(0, 5), Test::Within(6, 9), true),
            (Test::Within(0, 6), Test::Within(6, 9), false),
            (masked(0b11, 0b01), masked(0b01, 0), true),
            (masked(0b10, 0b10), masked(0b01, 0), false),
            (Test::Eq(4), masked(4, 0), true),
            (Test::Ne(1), Test::Ne(2), false),
        ];
        for (one, other, expected) in rows {
            for (one, other) in [(one, other), (other, one)] {
                let row = format!("{one:?} {other:?}");
                assert_eq!(exclude(&[on(2, one)], &[on(2, other)]), expected, "{row}");
                assert!(!exclude(&[on(2, one)], &[on(3, other)]), "{row}: other arguments");
            }
        }
    }
}
