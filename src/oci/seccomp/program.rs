//! Decisions → one BPF program.
//!
//! The program first looks at the architecture; then a search tree over ranges of numbers with the
//! same decision ends in a return, or in the comparisons of one call, which seccompiler compiles. A
//! range costs two instructions. docs/adr/0004-seccomp-program.md has why seccompiler compiles no
//! more than the comparisons.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompRule, sock_filter};

use super::arch::{Arch, X32_BIT};
use super::condition;
use super::error::SeccompError;
use super::rules::{Action, Decisions, Rule};

/// Load a word of `seccomp_data`.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
/// What a tracer leaves that skips a call; -1 is no number of any architecture.
const SKIPPED: u32 = u32::MAX;
/// The longest program of the kernel (BPF_MAXINSNS).
const MOST: usize = 4096;

/// The program for all architectures given; others are killed.
///
/// # Errors
/// [`SeccompError::TooLong`].
pub(super) fn assemble(
    archs: &BTreeMap<Arch, Decisions>,
) -> Result<Vec<sock_filter>, SeccompError> {
    let mut program = ret(Action::KILL_PROCESS);
    for (arch, decisions) in archs {
        let block = match arch {
            // Not told apart by the kernel's name for it, but by the number.
            Arch::X32 => continue,
            Arch::X86_64 => wide_x86(decisions, archs.get(&Arch::X32))?,
            Arch::X86 | Arch::Aarch64 | Arch::Arm => by_number(decisions)?,
        };
        let block = [vec![statement(LOAD, NUMBER_AT)], block].concat();
        program = when(JUMP_EQUAL, arch.audit(), block, program);
    }
    let program = [vec![statement(LOAD, ARCH_AT)], program].concat();
    if program.len() > MOST { Err(SeccompError::TooLong(program.len())) } else { Ok(program) }
}

fn wide_x86(own: &Decisions, x32: Option<&Decisions>) -> Result<BpfProgram, SeccompError> {
    let x32 = x32.map_or_else(|| Ok(ret(Action::KILL_PROCESS)), by_number)?;
    let numbered = when(JUMP_GREATER_EQUAL, X32_BIT, x32, by_number(own)?);
    Ok(when(JUMP_EQUAL, SKIPPED, ret(own.otherwise), numbered))
}

/// From this number on, until the next one.
struct Range<'a> {
    first: u32,
    what: What<'a>,
}

#[derive(PartialEq)]
enum What<'a> {
    Return(Action),
    Rules(&'a [Rule]),
}

/// Expects the number in the accumulator.
fn by_number(decisions: &Decisions) -> Result<BpfProgram, SeccompError> {
    let mut ranges = Vec::new();
    let mut push = |first, what| {
        if ranges.last().is_none_or(|last: &Range<'_>| last.what != what) {
            ranges.push(Range { first, what });
        }
    };
    let mut next = 0;
    for (number, rules) in &decisions.calls {
        for (first, action) in gap(decisions, next, *number) {
            push(first, What::Return(action));
        }
        push(*number, what(rules));
        next = number.saturating_add(1);
    }
    for (first, action) in gap(decisions, next, u32::MAX) {
        push(first, What::Return(action));
    }
    tree(&ranges, decisions)
}

/// The ranges from `next` to below `until`, where nothing is mentioned.
fn gap(
    decisions: &Decisions,
    next: u32,
    until: u32,
) -> impl Iterator<Item = (u32, Action)> + use<> {
    let fresh = decisions.newest.saturating_add(1).max(next);
    let old = (next < fresh.min(until)).then_some((next, decisions.otherwise));
    let new = (fresh < until).then_some((fresh, decisions.newer));
    old.into_iter().chain(new)
}

fn what(rules: &[Rule]) -> What<'_> {
    match rules {
        [Rule { conditions, action }] if conditions.is_empty() => What::Return(*action),
        rules => What::Rules(rules),
    }
}

fn tree(ranges: &[Range<'_>], decisions: &Decisions) -> Result<BpfProgram, SeccompError> {
    match ranges {
        [] => Ok(ret(decisions.otherwise)),
        [Range { what: What::Return(action), .. }] => Ok(ret(*action)),
        [Range { what: What::Rules(rules), .. }] => chain(rules, decisions),
        _ => {
            let (below, from) = ranges.split_at(ranges.len() / 2);
            let first = from.first().map_or(0, |range| range.first);
            Ok(when(JUMP_GREATER_EQUAL, first, tree(from, decisions)?, tree(below, decisions)?))
        }
    }
}

/// The rules of one call, one after the other; they exclude each other.
fn chain(rules: &[Rule], decisions: &Decisions) -> Result<BpfProgram, SeccompError> {
    let mut program = BpfProgram::new();
    for rule in rules {
        let mut conditions = Vec::new();
        for one in &rule.conditions {
            conditions.extend(condition::to_compiler(*one, decisions.width)?);
        }
        // Ends by falling through where all hold, and by jumping over the next instruction else.
        if !conditions.is_empty() {
            let compiled = SeccompRule::new(conditions)
                .map_err(|_| SeccompError::invalid("args", "", "cannot be compiled"))?;
            program.extend(BpfProgram::from(compiled));
        }
        program.extend(ret(rule.action));
    }
    program.extend(ret(decisions.otherwise));
    Ok(program)
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn ret(action: Action) -> BpfProgram {
    vec![statement(RETURN, action.0)]
}

/// A comparison of the accumulator with `k`. Both branches end in returns.
fn when(code: u16, k: u32, holds: BpfProgram, otherwise: BpfProgram) -> BpfProgram {
    let head = match u8::try_from(holds.len()) {
        Ok(over) => vec![sock_filter { code, jt: 0, jf: over, k }],
        // Further than a conditional jump goes.
        Err(_) => {
            let over = u32::try_from(holds.len()).unwrap_or(u32::MAX);
            vec![sock_filter { code, jt: 1, jf: 0, k }, statement(JUMP, over)]
        }
    };
    [head, holds, otherwise].concat()
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
