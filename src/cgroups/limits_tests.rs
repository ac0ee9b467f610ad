//! Requests and limits against the files and values that the kernel must get.

use super::*;
use std::collections::BTreeMap;

fn plan(resources: &Resources) -> Vec<(String, String)> {
    plan_limits(resources).unwrap().into_iter().map(|s| (s.file, s.value)).collect()
}

fn message(resources: &Resources) -> String {
    plan_limits(resources).unwrap_err().to_string()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn nothing_asked_for_writes_nothing() {
    assert!(plan(&Resources::default()).is_empty());
}

#[test]
fn shares_become_weights_by_the_newer_formula() {
    for (shares, weight) in [
        (0, None),
        (1, Some(1)),
        (2, Some(1)),
        (3, Some(2)),
        (102, Some(17)),
        (512, Some(59)),
        (1024, Some(100)),
        (2048, Some(174)),
        (262_143, Some(10_000)),
        (262_144, Some(10_000)),
        (u64::MAX, Some(10_000)),
    ] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
    let weights: Vec<u64> = (2..4096).filter_map(cpu_weight).collect();
    assert!(weights.is_sorted(), "more shares never weigh less");
}

#[test]
fn every_kind_of_request_is_written_in_order_and_unified_last() {
    let resources = Resources {
        cpu_shares: Some(1024),
        cpu_quota: Some(Limit::Value(50_000)),
        cpu_period: None,
        memory_limit: Some(Limit::Value(64 << 20)),
        memory_swap_limit: Some(Limit::Value(96 << 20)),
        oom_score_adj: Some(5),
        cpuset_cpus: Some("1,0".into()),
        cpuset_mems: Some("0".into()),
        hugepage_limits: BTreeMap::from([("2MB".to_owned(), 4 << 20)]),
        unified: BTreeMap::from([("memory.high".to_owned(), "60000000".to_owned())]),
        pids_limit: Some(Limit::Value(100)),
    };
    let expected = [
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("memory.swap.max", "33554432"),
        ("memory.max", "67108864"),
        ("pids.max", "100"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("memory.high", "60000000"),
    ];
    assert_eq!(plan(&resources), pairs(&expected));
}

#[test]
fn a_memory_limit_alone_forbids_swap() {
    let resources = Resources { memory_limit: Some(Limit::Value(1 << 20)), ..Resources::default() };
    assert_eq!(plan(&resources), pairs(&[("memory.swap.max", "0"), ("memory.max", "1048576")]));
    let resources = Resources {
        memory_swap_limit: Some(Limit::Max),
        memory_limit: Some(Limit::Max),
        ..Resources::default()
    };
    assert_eq!(plan(&resources), pairs(&[("memory.swap.max", "max"), ("memory.max", "max")]));
}

#[test]
fn a_period_alone_leaves_the_quota_unlimited() {
    let resources = Resources { cpu_period: Some(10_000), ..Resources::default() };
    assert_eq!(plan(&resources), pairs(&[("cpu.max", "max 10000")]));
}

#[test]
fn absurd_values_are_refused_with_the_field_and_the_value() {
    let none = Resources::default;
    let value = |n| Some(Limit::Value(n));
    for (resources, words) in [
        (Resources { memory_limit: value(1), ..none() }, "memory limit \"1\""),
        (Resources { memory_limit: value(u64::MAX), ..none() }, "63 bits"),
        (Resources { memory_swap_limit: value(1 << 30), ..none() }, "needs a memory limit"),
        (
            Resources { memory_limit: value(2 << 20), memory_swap_limit: value(1 << 20), ..none() },
            "below the memory limit",
        ),
        (Resources { cpu_quota: value(0), ..none() }, "CPU quota \"0\""),
        (Resources { cpu_quota: value(1 << 44), ..none() }, "CPU quota"),
        (Resources { cpu_period: Some(999), ..none() }, "CPU period \"999\""),
        (Resources { cpu_period: Some(1_000_001), ..none() }, "CPU period"),
        (Resources { pids_limit: value(0), ..none() }, "pids limit \"0\""),
        (Resources { pids_limit: value(1 << 23), ..none() }, "pids limit"),
        (Resources { cpuset_cpus: Some("0-".into()), ..none() }, "\"0-\""),
        (
            Resources { hugepage_limits: BTreeMap::from([("2Mi".into(), 1)]), ..none() },
            "huge page size \"2Mi\"",
        ),
        (
            Resources { hugepage_limits: BTreeMap::from([("../x.2MB".into(), 1)]), ..none() },
            "huge page size",
        ),
    ] {
        let message = message(&resources);
        assert!(message.contains(words), "{message} should hold {words}");
    }
}

#[test]
fn a_unified_key_is_a_setting_and_never_a_path_or_an_action() {
    for key in [
        "../cgroup.procs",
        "a/b.c",
        "cgroup.procs",
        "cgroup.kill",
        "cgroup.freeze",
        "memory",
        ".x",
        "memory.",
        "",
    ] {
        let unified = BTreeMap::from([(key.to_owned(), "1".to_owned())]);
        let message = message(&Resources { unified, ..Resources::default() });
        assert!(message.contains(&format!("unified key {key:?}")), "{message}");
    }
    let unified = BTreeMap::from([("memory.high".to_owned(), " \n".to_owned())]);
    assert!(message(&Resources { unified, ..Resources::default() }).contains("empty"));
}

#[test]
fn a_zero_for_a_huge_page_size_is_no_request_but_a_number_is() {
    let sizes = BTreeMap::from([("1GB".to_owned(), 0), ("2MB".to_owned(), 2 << 20)]);
    let plan = plan_limits(&Resources { hugepage_limits: sizes, ..Resources::default() }).unwrap();
    let absent = |file: &str| plan.iter().find(|s| s.file == file).map(|s| s.absent);
    assert_eq!(absent("hugetlb.1GB.max"), Some(Absent::Ignore));
    assert_eq!(absent("hugetlb.2MB.max"), Some(Absent::Fail));
}
