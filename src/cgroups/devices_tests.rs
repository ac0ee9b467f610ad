//! The programs are run by a small interpreter of the few operations they use; what the rules mean
//! is said a second time, naively, and both must agree.

use super::*;
use proptest::prelude::*;

/// One access: kind as the kernel numbers it (1 block, 2 char), numbers, access bits.
#[derive(Clone, Copy, Debug)]
struct Access {
    kind: u32,
    major: u32,
    minor: u32,
    bits: u32,
}

fn run(program: &[Instruction], access: Access) -> bool {
    let mut registers = [0_u64; 11];
    let context = [access.kind | access.bits << 16, access.major, access.minor];
    let mut at = 0;
    loop {
        let i = program[at];
        let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        let value = i64::from(i.immediate).cast_unsigned();
        at += 1;
        let jump = match i.code {
            LOAD_WORD => {
                assert_eq!(from, usize::from(CONTEXT));
                let word = usize::try_from(i.offset).unwrap() / 4;
                registers[to] = u64::from(context[word]);
                false
            }
            MOVE => {
                registers[to] = value;
                false
            }
            MOVE_REGISTER => {
                registers[to] = registers[from];
                false
            }
            AND => {
                registers[to] &= value;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= value;
                false
            }
            JUMP => true,
            JUMP_UNEQUAL => registers[to] != value,
            JUMP_ANY_BIT => registers[to] & value != 0,
            EXIT => return registers[usize::from(ANSWER)] == 1,
            other => panic!("unknown operation {other:#x}"),
        };
        if jump {
            at += usize::try_from(i.offset).unwrap();
        }
    }
}

/// Each bit by itself: the last rule that speaks of it decides; no rule, denied.
fn naive(rules: &[DeviceRule], access: Access) -> bool {
    [1, 2, 4].into_iter().filter(|bit| access.bits & bit != 0).all(|bit| {
        let speaks = |rule: &&DeviceRule| {
            let kind = match rule.kind {
                DeviceKind::Any => true,
                DeviceKind::Block => access.kind == 1,
                DeviceKind::Char => access.kind == 2,
            };
            kind && rule.major.is_none_or(|n| n == access.major)
                && rule.minor.is_none_or(|n| n == access.minor)
                && u32::from(rule.permissions.0) & bit != 0
        };
        rules.iter().rev().find(speaks).is_some_and(|rule| rule.verdict == Verdict::Allow)
    })
}

fn allowed(rules: &[DeviceRule], kind: u32, major: u32, minor: u32, bits: u32) -> bool {
    run(&plan_program(rules).unwrap(), Access { kind, major, minor, bits })
}

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

#[test]
fn the_defaults_permit_the_usual_devices_and_mknod_and_nothing_else() {
    let rules = DeviceRule::defaults();
    for (major, minor) in
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)]
    {
        assert!(allowed(&rules, 2, major, minor, READ | WRITE), "c {major}:{minor}");
    }
    for (kind, major, minor) in [(2, 1, 1), (2, 10, 200), (1, 8, 0), (1, 1, 3), (2, 5, 3)] {
        assert!(!allowed(&rules, kind, major, minor, READ), "{kind} {major}:{minor}");
        assert!(allowed(&rules, kind, major, minor, MKNOD), "{kind} {major}:{minor}");
    }
}

#[test]
fn no_rule_permits_nothing_and_a_privileged_container_everything() {
    assert!(!allowed(&[], 2, 1, 3, READ));
    assert!(allowed(&[DeviceRule::ALLOW_ALL], 1, 8, 0, READ | WRITE | MKNOD));
}

#[test]
fn reading_and_writing_may_be_permitted_by_different_rules() {
    let half = |permissions| DeviceRule { permissions, ..DeviceRule::char(10, Some(200)) };
    let both = [half(Permissions::READ), half(Permissions::WRITE)];
    assert!(allowed(&both, 2, 10, 200, READ | WRITE));
    assert!(!allowed(&both[..1], 2, 10, 200, READ | WRITE));
}

#[test]
fn a_later_rule_overrides_an_earlier_one() {
    let deny = DeviceRule { verdict: Verdict::Deny, ..DeviceRule::char(1, Some(3)) };
    assert!(!allowed(&[DeviceRule::ALLOW_ALL, deny], 2, 1, 3, READ));
    assert!(allowed(&[DeviceRule::ALLOW_ALL, deny], 2, 1, 5, READ));
    assert!(allowed(&[deny, DeviceRule::ALLOW_ALL], 2, 1, 3, READ));
}

#[test]
fn numbers_that_no_device_has_are_refused() {
    assert!(plan_program(&[DeviceRule::char(1 << 12, None)]).is_err());
    assert!(plan_program(&[DeviceRule::char(1, Some(1 << 20))]).is_err());
}

#[test]
fn letters_other_than_rwm_are_refused_and_none_means_all() {
    assert_eq!(Permissions::parse("").unwrap(), Permissions::ALL);
    assert_eq!(Permissions::parse("mrw").unwrap(), Permissions::ALL);
    assert_eq!(Permissions::parse("r").unwrap(), Permissions::READ);
    assert!(Permissions::parse("rx").unwrap_err().to_string().contains("\"rx\""));
}

#[test]
fn an_oci_list_keeps_its_order_and_negative_numbers_mean_all() {
    let json = r#"[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":136,"minor":-1,"access":"rw"}]"#;
    let rules = DeviceRule::from_oci(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
    let deny_all = DeviceRule { verdict: Verdict::Deny, ..DeviceRule::ALLOW_ALL };
    let pts = DeviceRule { permissions: Permissions(6), ..DeviceRule::char(136, None) };
    assert_eq!(rules, [deny_all, pts]);
}

#[test]
fn an_oci_number_that_is_too_large_never_becomes_all() {
    let json = r#"[{"allow":true,"type":"c","major":4294967296,"minor":0}]"#;
    let rules = DeviceRule::from_oci(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
    assert!(plan_program(&rules).is_err());
}

fn rule() -> impl Strategy<Value = DeviceRule> {
    let kind = prop_oneof![Just(DeviceKind::Any), Just(DeviceKind::Block), Just(DeviceKind::Char)];
    let verdict = prop_oneof![Just(Verdict::Allow), Just(Verdict::Deny)];
    let number = || proptest::option::of(0_u32..3);
    (verdict, kind, number(), number(), 1_u8..8).prop_map(|(verdict, kind, major, minor, bits)| {
        DeviceRule { verdict, kind, major, minor, permissions: Permissions(bits) }
    })
}

proptest! {
    #[test]
    fn the_program_says_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..8),
        kind in 1_u32..3, major in 0_u32..3, minor in 0_u32..3, bits in 1_u32..8,
    ) {
        let access = Access { kind, major, minor, bits };
        prop_assert_eq!(run(&plan_program(&rules).unwrap(), access), naive(&rules, access));
    }
}
