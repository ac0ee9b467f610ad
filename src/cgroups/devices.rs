//! Device access (OCI runtime specification, "Allowed Device list"): rules become a program that the
//! kernel runs at each open and mknod of a device. Pure; `sys::bpf` loads it.
//!
//! Rules count in order, the last match wins, bit by bit: reading may be decided by one rule and
//! writing by another. So the program walks the rules backwards and keeps the access bits that no
//! rule has decided yet; a denied bit ends it, and what is undecided at the end is denied.

use super::CgroupError;
use crate::sys::bpf::Instruction;

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The access is permitted.
    Allow,
    /// It is refused: EPERM.
    Deny,
}

/// The kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Either.
    Any,
    /// Block.
    Block,
    /// Character.
    Char,
}

/// What is done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Making a node of it (BPF_DEVCG_ACC_MKNOD).
    pub const MKNOD: Self = Self(1);
    /// Opening for reading.
    pub const READ: Self = Self(2);
    /// Opening for writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    /// Parses a subset of `rwm`; empty means all, as in the OCI specification.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for any other letter.
    pub fn parse(text: &str) -> Result<Self, CgroupError> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                _ => {
                    let reason = "expected a subset of rwm";
                    return Err(CgroupError::invalid("device permissions", text, reason));
                }
            };
        }
        Ok(if bits == 0 { Self::ALL } else { Self(bits) })
    }
}

/// One rule. `None`: every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// What it says.
    pub verdict: Verdict,
    /// Which kind of device.
    pub kind: DeviceKind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Which accesses it speaks of.
    pub permissions: Permissions,
}

impl DeviceRule {
    /// Everything is permitted: privileged containers.
    pub const ALLOW_ALL: Self = Self {
        verdict: Verdict::Allow,
        kind: DeviceKind::Any,
        major: None,
        minor: None,
        permissions: Permissions::ALL,
    };

    /// A character device that may be used in every way.
    pub const fn char(major: u32, minor: Option<u32>) -> Self {
        Self { kind: DeviceKind::Char, major: Some(major), minor, ..Self::ALLOW_ALL }
    }

    /// What every container may use: null, zero, full, random, urandom, tty, console, ptmx and the
    /// pseudo terminals. Nodes of all devices may be made; opening them is what is denied.
    pub fn defaults() -> Vec<Self> {
        let mknod = |kind| Self { kind, permissions: Permissions::MKNOD, ..Self::ALLOW_ALL };
        let mut rules = vec![mknod(DeviceKind::Char), mknod(DeviceKind::Block)];
        for minor in [3, 5, 7, 8, 9] {
            rules.push(Self::char(1, Some(minor)));
        }
        for minor in [0, 1, 2] {
            rules.push(Self::char(5, Some(minor)));
        }
        rules.push(Self::char(136, None));
        rules
    }

    /// The rules of an OCI configuration: its list as it is; what it does not speak of is denied.
    /// A negative or missing number means all.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for letters other than `rwm`, and for a kind that no rule can have.
    pub fn from_oci(
        list: &[oci_spec::runtime::LinuxDeviceCgroup],
    ) -> Result<Vec<Self>, CgroupError> {
        use oci_spec::runtime::LinuxDeviceType as Type;
        list.iter()
            .map(|rule| {
                let kind = match rule.typ() {
                    None | Some(Type::A) => DeviceKind::Any,
                    Some(Type::B) => DeviceKind::Block,
                    Some(Type::C | Type::U) => DeviceKind::Char,
                    Some(Type::P) => {
                        let reason = "a FIFO is no device";
                        return Err(CgroupError::invalid("device rule", "p", reason));
                    }
                };
                // Negative: all. Too large: a number that no device has, never all.
                let number = |n: Option<i64>| {
                    n.filter(|n| *n >= 0).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
                };
                Ok(Self {
                    verdict: if rule.allow() { Verdict::Allow } else { Verdict::Deny },
                    kind,
                    major: number(rule.major()),
                    minor: number(rule.minor()),
                    permissions: Permissions::parse(rule.access().as_deref().unwrap_or(""))?,
                })
            })
            .collect()
    }

    fn check(&self) -> Result<(), CgroupError> {
        // MAJOR and MINOR of the kernel's dev_t.
        let fits = |number: Option<u32>, bits: u32| number.is_none_or(|n| n >> bits == 0);
        if fits(self.major, 12) && fits(self.minor, 20) {
            return Ok(());
        }
        let name = format!("{:?}:{:?}", self.major, self.minor);
        Err(CgroupError::invalid("device rule", name, "no device has such numbers"))
    }
}

// Registers: the context comes in 1, the answer goes out in 0.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operations: class | operation | operand (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// `struct bpf_cgroup_dev_ctx`: access_type (kind in the low, access in the high half), major, minor.
const CTX_ACCESS_TYPE: i16 = 0;
const CTX_MAJOR: i16 = 4;
const CTX_MINOR: i16 = 8;

fn op(code: u8, register: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

/// The program that decides by `rules`.
pub(super) fn plan_program(rules: &[DeviceRule]) -> Result<Vec<Instruction>, CgroupError> {
    let load = |register, offset| Instruction {
        registers: CONTEXT << 4 | register,
        ..op(LOAD_WORD, 0, offset, 0)
    };
    let mut program = vec![
        load(KIND, CTX_ACCESS_TYPE),
        Instruction { registers: KIND << 4 | UNDECIDED, ..op(MOVE_REGISTER, 0, 0, 0) },
        op(SHIFT_RIGHT, UNDECIDED, 0, 16),
        op(AND, KIND, 0, 0xffff),
        load(MAJOR, CTX_MAJOR),
        load(MINOR, CTX_MINOR),
    ];
    for rule in rules.iter().rev() {
        rule.check()?;
        program.extend(plan_rule(rule));
    }
    program.extend(answer(Verdict::Deny));
    Ok(program)
}

/// Conditions that jump behind the rule, then the rule itself.
fn plan_rule(rule: &DeviceRule) -> Vec<Instruction> {
    let bits = i32::from(rule.permissions.0);
    let body: Vec<Instruction> = match rule.verdict {
        Verdict::Allow => {
            let mut body = vec![op(AND, UNDECIDED, 0, !bits), op(JUMP_UNEQUAL, UNDECIDED, 2, 0)];
            body.extend(answer(Verdict::Allow));
            body
        }
        Verdict::Deny => {
            let mut body = vec![op(JUMP_ANY_BIT, UNDECIDED, 1, bits), op(JUMP, 0, 2, 0)];
            body.extend(answer(Verdict::Deny));
            body
        }
    };
    let kind = match rule.kind {
        DeviceKind::Any => None,
        DeviceKind::Block => Some(1),
        DeviceKind::Char => Some(2),
    };
    let number = |n: Option<u32>| n.and_then(|n| i32::try_from(n).ok());
    let conditions: Vec<(u8, i32)> =
        [(KIND, kind), (MAJOR, number(rule.major)), (MINOR, number(rule.minor))]
            .into_iter()
            .filter_map(|(register, value)| Some((register, value?)))
            .collect();
    // At most three conditions and four instructions: distances are small.
    let mut distance = i16::try_from(conditions.len() + body.len()).unwrap_or(i16::MAX);
    let mut program = Vec::with_capacity(conditions.len() + body.len());
    for (register, value) in conditions {
        distance -= 1;
        program.push(op(JUMP_UNEQUAL, register, distance, value));
    }
    program.extend(body);
    program
}

fn answer(verdict: Verdict) -> [Instruction; 2] {
    let value = i32::from(verdict == Verdict::Allow);
    [op(MOVE, ANSWER, 0, value), op(EXIT, 0, 0, 0)]
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
