//! Filters as the kernel runs them, in children.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxSeccomp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::arch::{self, Arch, X32_BIT};
use super::{SeccompError, compile, numbers, runtime_default};
use crate::sys::seccomp_probe::{Answers, Call, Entry, ask};

const SIGSYS: i32 = 31;
/// Takes no arguments, ignores those it gets, and never fails.
const HARMLESS: &str = "getppid";

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// A profile by which everything that is not mentioned is allowed.
fn denying(rules: Value) -> LinuxSeccomp {
    let architectures: Vec<_> = arch::names().iter().map(ToString::to_string).collect();
    profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules
    }))
}

fn own() -> Arch {
    arch::family().unwrap()[0]
}

fn call(arch: Arch, name: &str, args: [u64; 3]) -> Call {
    let entry = if arch == Arch::X86 { Entry::Int80 } else { Entry::Native };
    Call { entry, number: numbers::number(arch, name).unwrap(), args }
}

fn run(profile: &LinuxSeccomp, calls: &[Call]) -> Answers {
    let filter = compile(profile).unwrap();
    ask(&filter.program, filter.flags, calls)
}

fn one(profile: &LinuxSeccomp, call: Call) -> Answers {
    run(profile, &[call])
}

fn results(results: &[i64]) -> Answers {
    Answers { results: results.to_vec(), killed: None }
}

fn killed() -> Answers {
    Answers { results: Vec::new(), killed: Some(SIGSYS) }
}

/// runtime-spec, config-linux.md: the actions; seccomp(2): what each does.
#[test]
fn every_action_does_what_its_name_says() {
    let asked = call(own(), HARMLESS, [0; 3]);
    let parent = i64::from(std::process::id());
    let rows = [
        (json!({ "action": "SCMP_ACT_KILL" }), killed()),
        (json!({ "action": "SCMP_ACT_KILL_THREAD" }), killed()),
        (json!({ "action": "SCMP_ACT_KILL_PROCESS" }), killed()),
        (json!({ "action": "SCMP_ACT_TRAP" }), killed()),
        (json!({ "action": "SCMP_ACT_ERRNO" }), results(&[-1])),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }), results(&[0])),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 4095 }), results(&[-4095])),
        // Without a tracer.
        (json!({ "action": "SCMP_ACT_TRACE", "errnoRet": 7 }), results(&[-38])),
        (json!({ "action": "SCMP_ACT_LOG" }), results(&[parent])),
        (json!({ "action": "SCMP_ACT_ALLOW" }), results(&[parent])),
    ];
    for (mut rule, expected) in rows {
        let row = rule.to_string();
        rule["names"] = json!([HARMLESS]);
        let mut asking = asked;
        if expected.results == [-4095] {
            // The C library takes -4095 to -1 for errors: this is the last of them.
            asking.args = [1, 2, 3];
        }
        assert_eq!(one(&denying(json!([rule])), asking), expected, "{row}");
    }
}

/// The default action and its error number hold for what is not mentioned.
#[test]
fn the_default_action_holds_for_everything_else() {
    let with = |default: &str, errno: Value| {
        profile(json!({
            "defaultAction": default, "defaultErrnoRet": errno,
            "syscalls": [{
                "names": ["write", "exit_group", "rseq", "file_setattr"], "action": "SCMP_ACT_ALLOW"
            }],
        }))
    };
    let asked = call(own(), HARMLESS, [0; 3]);
    assert_eq!(one(&with("SCMP_ACT_ERRNO", Value::Null), asked), results(&[-1]));
    assert_eq!(one(&with("SCMP_ACT_ERRNO", json!(5)), asked), results(&[-5]));
    assert_eq!(one(&with("SCMP_ACT_KILL", Value::Null), asked), killed());
    let parent = i64::from(std::process::id());
    assert_eq!(one(&with("SCMP_ACT_LOG", Value::Null), asked), results(&[parent]));
}

/// Programs ask by ENOSYS whether a call exists; a profile cannot have meant those after its time.
#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let names = ["write", "exit_group", "openat2"];
    let allow = json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }]);
    let with = |errno: u32| {
        profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno, "syscalls": allow
        }))
    };
    let above = |n: u32| Call {
        entry: Entry::Native,
        number: numbers::number(own(), "openat2").unwrap() + n,
        args: [0; 3],
    };
    let older = call(own(), "getppid", [0; 3]);
    let asked = [older, above(1), above(500)];
    assert_eq!(run(&with(1), &asked), results(&[-1, -38, -38]));
    // An error number that somebody chose is that of all.
    assert_eq!(run(&with(13), &asked), results(&[-13, -13, -13]));
}

fn condition() -> impl Strategy<Value = (String, u64, u64)> {
    let value = prop_oneof![
        0..6_u64,
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        (0..4_u64).prop_map(|n| u64::MAX - n),
        (0..4_u64).prop_map(|n| (1 << 32) - 2 + n),
        (0..64_u32).prop_map(|bit| 1 << bit),
    ];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(String::from).to_vec();
    (proptest::sample::select(operators), value.clone(), value)
}

/// The specification's operators, written down again.
fn holds(operator: &str, value: u64, second: u64, argument: u64) -> bool {
    match operator {
        "NE" => argument != value,
        "LT" => argument < value,
        "LE" => argument <= value,
        "EQ" => argument == value,
        "GE" => argument >= value,
        "GT" => argument > value,
        _ => argument & value == second,
    }
}

fn argument(index: usize, (operator, value, second): &(String, u64, u64)) -> Value {
    let two = if operator == "MASKED_EQ" { second & value } else { 0 };
    json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}") })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Two comparisons of different arguments in one rule must both hold.
    #[test]
    fn comparisons_hold_in_the_kernel_as_the_specification_says(
        first in condition(), third in condition(), further in any::<[u64; 2]>()
    ) {
        let rule = json!([{
            "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [argument(0, &first), argument(2, &third)],
        }]);
        let profile = denying(rule);
        let impossible = |(op, value, _): &(String, u64, u64)| {
            (op == "LT" && *value == 0) || (op == "GT" && *value == u64::MAX)
        };
        if impossible(&first) || impossible(&third) {
            let refused = matches!(compile(&profile), Err(SeccompError::Invalid { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        let near = |(_, value, second): &(String, u64, u64), own: u64| {
            let masked = second & value;
            [
                *value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 32),
                value ^ (1 << 63), masked, masked | !value, own,
            ]
        };
        let mut calls = Vec::new();
        let mut expected = Vec::new();
        for a in near(&first, further[0]) {
            for c in near(&third, further[1]) {
                calls.push(call(own(), HARMLESS, [a, 0, c]));
                let (op, value, second) = &first;
                let one = holds(op, *value, second & value, a);
                let (op, value, second) = &third;
                let both = one && holds(op, *value, second & value, c);
                expected.push(if both { -77 } else { i64::from(std::process::id()) });
            }
        }
        prop_assert_eq!(run(&profile, &calls), results(&expected));
    }

    /// Whatever is mentioned, each number of each architecture gets its own decision.
    #[test]
    fn every_number_finds_its_decision(seed in proptest::collection::vec(any::<bool>(), 600)) {
        let arch = own();
        let keep = ["write", "exit_group"];
        let chosen: Vec<&str> = numbers::all_names(arch)
            .into_iter()
            .zip(&seed)
            .filter_map(|(name, chosen)| (*chosen && !keep.contains(&name)).then_some(name))
            .collect();
        let profile = profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70,
            "architectures": arch::names().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "syscalls": [
                { "names": keep, "action": "SCMP_ACT_ALLOW" },
                { "names": chosen, "action": "SCMP_ACT_ERRNO", "errnoRet": 71 },
            ],
        }));
        for arch in arch::family().unwrap() {
            // Nothing of 32-bit Arm can be called from here.
            if *arch == Arch::Arm {
                continue;
            }
            let base = if *arch == Arch::X32 { X32_BIT } else { 0 };
            let kept = keep.map(|name| numbers::number(*arch, name).unwrap());
            let given: HashSet<u32> =
                chosen.iter().filter_map(|name| numbers::number(*arch, name)).collect();
            let of_socketcall = *arch == Arch::X86;
            let numbers: Vec<u32> = (0..700)
                .map(|n| base | n)
                .filter(|n| !kept.contains(n))
                .filter(|n| !of_socketcall || ![102, 117].contains(n))
                // uretprobe and uprobe: no filter is asked (Linux 6.14), and they are not for us.
                .filter(|n| *arch == Arch::X86 || ![335, 336].contains(&(*n & !X32_BIT)))
                .collect();
            let entry = if *arch == Arch::X86 { Entry::Int80 } else { Entry::Native };
            let calls: Vec<Call> =
                numbers.iter().map(|n| Call { entry, number: *n, args: [0; 3] }).collect();
            let expected: Vec<i64> =
                numbers.iter().map(|n| if given.contains(n) { -71 } else { -70 }).collect();
            let answers = run(&profile, &calls);
            let wrong = answers.results.iter().zip(&expected).position(|(is, should)| is != should);
            prop_assert_eq!(wrong.map(|n| (numbers[n], answers.results[n])), None, "{:?}", arch);
            prop_assert_eq!(answers.results.len(), expected.len(), "{:?}", arch);
        }
    }
}

/// One rule with two comparisons of one argument is two rules, as other executors have it.
#[test]
fn comparisons_of_the_same_argument_are_alternatives() {
    let equals = |value: u64| argument(0, &("EQ".into(), value, 0));
    let rule = json!([{
        "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
        "args": [equals(1), equals(2)],
    }]);
    let asked = [1, 2, 3].map(|value| call(own(), HARMLESS, [value, 0, 0]));
    let parent = i64::from(std::process::id());
    assert_eq!(run(&denying(rule), &asked), results(&[-77, -77, parent]));
}

#[test]
fn a_call_that_a_tracer_skipped_is_what_the_default_says() {
    let asked = Call { entry: Entry::Native, number: u32::MAX, args: [0; 3] };
    assert_eq!(one(&denying(json!([])), asked), results(&[-38]));
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    fn with_archs(names: &[&str]) -> LinuxSeccomp {
        profile(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": names,
            "syscalls": [{ "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 }],
        }))
    }

    #[test]
    fn an_architecture_that_the_profile_does_not_name_is_killed() {
        let asked = [Arch::X86_64, Arch::X86, Arch::X32].map(|a| call(a, HARMLESS, [0; 3]));
        let rows: [(&[&str], [Answers; 3]); 4] = [
            (&[], [results(&[-77]), killed(), killed()]),
            (&["SCMP_ARCH_X86_64"], [results(&[-77]), killed(), killed()]),
            (&["SCMP_ARCH_X86"], [results(&[-77]), results(&[-77]), killed()]),
            (
                &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                [results(&[-77]), results(&[-77]), results(&[-77])],
            ),
        ];
        for (names, expected) in rows {
            for (asked, expected) in asked.iter().zip(expected) {
                assert_eq!(one(&with_archs(names), *asked), expected, "{names:?} {asked:?}");
            }
        }
    }

    /// socketcall(2): what is said of `socket` holds for it there, too.
    #[test]
    fn what_is_refused_is_refused_through_the_call_that_does_many() {
        let socketcall = |n: u64| call(Arch::X86, "socketcall", [n, 0, 0]);
        let asked = [socketcall(1), socketcall(2), call(Arch::X86, "ipc", [23 | 1 << 16, 0, 0])];
        let errno =
            |names: &[&str]| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 77 });
        // bind with no arguments.
        let fault = -14;
        let answers = run(&denying(json!([errno(&["socket", "shmget"])])), &asked);
        assert_eq!(answers, results(&[-77, fault, -77]));
        // Of a rule with conditions it cannot be told whether they hold.
        let mut some = errno(&["socket"]);
        some["args"] = json!([argument(0, &("EQ".into(), 40, 0))]);
        assert_eq!(run(&denying(json!([some])), &asked[..2]), results(&[-77, fault]));
        // Unless the profile has a rule for it.
        let own = json!({ "names": ["socketcall"], "action": "SCMP_ACT_ALLOW" });
        assert_eq!(run(&denying(json!([some, own])), &asked[..2]), results(&[fault, fault]));
    }

    #[test]
    fn negative_numbers_are_compared_in_32_bits_too() {
        let rule = json!([{
            "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
            "args": [argument(0, &("EQ".into(), u64::MAX, 0))],
        }]);
        let asked = [
            call(Arch::X86, HARMLESS, [u64::MAX, 0, 0]),
            call(Arch::X86_64, HARMLESS, [u64::MAX, 0, 0]),
            call(Arch::X86_64, HARMLESS, [0xffff_ffff, 0, 0]),
        ];
        let parent = i64::from(std::process::id());
        assert_eq!(run(&denying(rule), &asked), results(&[-77, -77, parent]));
    }

    /// int80 from 64-bit code: the kernel takes the lower half and shows filters the whole register.
    #[test]
    fn bits_above_32_do_not_take_a_narrow_call_past_its_rule() {
        for operator in ["EQ", "LE", "GE", "MASKED_EQ"] {
            let rule = json!([{
                "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                "args": [argument(0, &(operator.into(), 40, 40))],
            }]);
            let asked = [40, 40 | 1 << 32].map(|n| call(Arch::X86, HARMLESS, [n, 0, 0]));
            assert_eq!(run(&denying(rule), &asked), results(&[-77, -77]), "{operator}");
        }
    }

    /// The calls of 32-bit and x32 programs are filtered as those of others.
    #[test]
    fn the_default_profile_filters_all_three_architectures() {
        let profile = runtime_default(&HashSet::new()).unwrap();
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            let mut asked =
                ["keyctl", "clone3", "unshare"].map(|name| call(arch, name, [0; 3])).to_vec();
            let mut newer = call(arch, "file_setattr", [0; 3]);
            newer.number += 20;
            asked.push(newer);
            assert_eq!(run(&profile, &asked), results(&[-1, -38, -1, -38]), "{arch:?}");
        }
    }
}

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;

/// Numbers and arguments for which the kernel itself has another answer than the filter.
#[test]
fn the_default_profile_refuses_what_reaches_out_and_lets_the_rest_pass() {
    let none = HashSet::new();
    let with = |capability| HashSet::from([capability]);
    let bad = u64::MAX;
    let parent = i64::from(std::process::id());
    let rows = [
        ("getppid", [0; 3], &none, Some(parent)),
        ("close", [bad, 0, 0], &none, Some(-9)),
        ("keyctl", [0, 0, 0], &none, Some(EPERM)),
        ("userfaultfd", [bad, 0, 0], &none, Some(EPERM)),
        ("io_uring_setup", [0, 0, 0], &none, Some(EPERM)),
        ("clone3", [0, 0, 0], &none, Some(ENOSYS)),
        ("clone3", [0, 0, 0], &with(Capability::SysAdmin), Some(-22)),
        // CLONE_NEWUSER, CLONE_SIGHAND without CLONE_VM.
        ("clone", [0x1000_0000, 0, 0], &none, Some(EPERM)),
        ("clone", [0x1000_0000 | 0x800, 0, 0], &with(Capability::SysAdmin), Some(-22)),
        ("clone", [0x800, 0, 0], &none, Some(-22)),
        ("unshare", [0x4000_0000_0000, 0, 0], &none, Some(EPERM)),
        ("setns", [bad, 0, 0], &none, Some(EPERM)),
        ("setns", [bad, 0, 0], &with(Capability::SysAdmin), Some(-9)),
        ("socket", [40, bad, 0], &none, Some(EPERM)),
        ("socket", [1, bad, 0], &none, Some(-22)),
        ("socket", [40 | 1 << 32, bad, 0], &none, Some(EPERM)),
        ("personality", [0xffff_ffff, 0, 0], &none, Some(0)),
        // ADDR_NO_RANDOMIZE.
        ("personality", [0x004_0000, 0, 0], &none, Some(EPERM)),
        ("bpf", [bad, 0, 1 << 20], &none, Some(EPERM)),
        ("pidfd_getfd", [bad, 0, 0], &none, Some(EPERM)),
        ("pidfd_getfd", [bad, 0, 0], &with(Capability::SysPtrace), Some(-9)),
        ("open_by_handle_at", [bad, 0, bad], &none, Some(EPERM)),
        ("syslog", [99, 0, 0], &none, Some(EPERM)),
    ];
    for (name, args, capabilities, expected) in rows {
        let row = format!("{name} {args:?} {capabilities:?}");
        let profile = runtime_default(capabilities).unwrap();
        let answers = one(&profile, call(own(), name, args));
        assert_eq!(answers.killed, None, "{row}");
        match expected {
            Some(expected) => assert_eq!(answers.results, [expected], "{row}"),
            None => assert_ne!(answers.results, [EPERM], "{row}"),
        }
        if let Some(EPERM | ENOSYS) = expected {
            // The control: without the filter it is another answer.
            let free = one(&denying(json!([])), call(own(), name, args));
            assert_ne!(free.results, answers.results, "{row} without the filter");
        }
    }
}

/// Few enough instructions that a container costs little; see docs/adr/0004-seccomp-program.md.
#[test]
fn the_default_program_is_short() {
    let filter = compile(&runtime_default(&HashSet::new()).unwrap()).unwrap();
    let instructions = filter.program.len() / 8;
    assert!((300..900).contains(&instructions), "{instructions} instructions");
}

/// BPF_MAXINSNS, include/uapi/linux/bpf_common.h.
#[test]
fn a_program_that_the_kernel_would_not_take_is_refused() {
    let args =
        |n: u64| json!([argument(0, &("EQ".into(), n, 0)), argument(1, &("EQ".into(), n, 0))]);
    let rules: Vec<Value> = (0..600)
        .map(|n| json!({ "names": [HARMLESS], "action": "SCMP_ACT_ERRNO", "args": args(n) }))
        .collect();
    assert!(matches!(compile(&denying(rules.into())), Err(SeccompError::TooLong(_))));
}

#[test]
fn flags_reach_the_kernel() {
    let mut profile = denying(json!([]));
    use oci_spec::runtime::LinuxSeccompFilterFlag as Flag;
    profile.set_flags(Some(vec![
        Flag::SeccompFilterFlagLog,
        Flag::SeccompFilterFlagSpecAllow,
        Flag::SeccompFilterFlagTsync,
    ]));
    assert_eq!(compile(&profile).unwrap().flags, 7);
    let parent = i64::from(std::process::id());
    assert_eq!(one(&profile, call(own(), HARMLESS, [0; 3])), results(&[parent]));
    profile.set_flags(Some(vec![Flag::SeccompFilterFlagWaitKillableRecv]));
    assert!(matches!(compile(&profile), Err(SeccompError::Unsupported(_))));
}
