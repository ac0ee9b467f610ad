use super::*;
use serde_json::{Value, json};

fn host(capabilities: &[Capability]) -> Host {
    Host { capabilities: capabilities.iter().copied().collect(), kernel: (6, 1), arch: "amd64" }
}

fn parsed(value: &Value) -> Result<LinuxSeccomp, SeccompError> {
    parse(value.to_string().as_bytes(), Path::new("/p.json"), &host(&[]))
}

/// The names that are left of a file in which each rule has one.
fn names(file: &Value, host: &Host) -> Vec<String> {
    let profile = parse(file.to_string().as_bytes(), Path::new("/p.json"), host).unwrap();
    profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
}

fn file(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
}

#[test]
fn rules_hold_where_their_terms_do() {
    let rule = |includes: Value, excludes: Value| {
        json!({
            "names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "args": null,
            "includes": includes, "excludes": excludes,
        })
    };
    let admin = [Capability::SysAdmin];
    let both = [Capability::SysAdmin, Capability::Bpf];
    let rows: [(Value, Value, &[Capability], bool); 18] = [
        (json!({}), json!({}), &[], true),
        (Value::Null, Value::Null, &[], true),
        (json!({ "caps": ["CAP_SYS_ADMIN"] }), json!({}), &[], false),
        (json!({ "caps": ["CAP_SYS_ADMIN"] }), json!({}), &admin, true),
        (json!({ "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] }), json!({}), &admin, false),
        (json!({ "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] }), json!({}), &both, true),
        (json!({ "caps": ["CAP_OF_TOMORROW"] }), json!({}), &admin, false),
        (json!({}), json!({ "caps": ["CAP_SYS_ADMIN", "CAP_BPF"] }), &admin, false),
        (json!({}), json!({ "caps": ["CAP_SYS_ADMIN"] }), &[], true),
        (json!({ "arches": ["amd64", "x32"] }), json!({}), &[], true),
        (json!({ "arches": ["arm64"] }), json!({}), &[], false),
        (json!({}), json!({ "arches": ["amd64"] }), &[], false),
        (json!({}), json!({ "arches": ["s390", "s390x"] }), &[], true),
        (json!({ "minKernel": "4.8" }), json!({}), &[], true),
        (json!({ "minKernel": "6.2" }), json!({}), &[], false),
        (json!({}), json!({ "minKernel": "6.1" }), &[], false),
        (json!({}), json!({ "minKernel": "6.10" }), &[], true),
        (json!({ "minKernel": "4.8", "arches": ["arm64"] }), json!({}), &[], false),
    ];
    for (includes, excludes, capabilities, expected) in rows {
        let row = format!("{includes} {excludes} {capabilities:?}");
        let found = names(&file(json!([rule(includes, excludes)])), &host(capabilities));
        assert_eq!(!found.is_empty(), expected, "{row}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn architectures_come_from_the_list_or_from_this_machines_entry_of_the_map() {
    let map = json!([
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
        { "architecture": "SCMP_ARCH_S390X", "subArchitectures": null },
    ]);
    let with = |key: &str, value: &Value| {
        let mut file = file(json!([]));
        file[key] = value.clone();
        parsed(&file).unwrap().architectures().clone().unwrap_or_default()
    };
    use Arch::{ScmpArchAarch64, ScmpArchX32, ScmpArchX86, ScmpArchX86_64};
    assert_eq!(with("archMap", &map), [ScmpArchX86_64, ScmpArchX86, ScmpArchX32]);
    assert_eq!(with("architectures", &json!(["SCMP_ARCH_AARCH64"])), [ScmpArchAarch64]);
    assert!(with("archMap", &Value::Null).is_empty());
    let mut both = file(json!([]));
    both["archMap"] = map;
    both["architectures"] = json!([]);
    assert!(parsed(&both).unwrap_err().to_string().contains("beside architectures"));
}

#[test]
fn error_numbers_are_given_by_number_or_name() {
    let rule = |errno: Value, number: Value| {
        file(json!([{
            "name": "read", "action": "SCMP_ACT_ERRNO", "errno": errno, "errnoRet": number
        }]))
    };
    let found = |file: &Value| {
        parsed(file).map(|p| p.syscalls().clone().unwrap_or_default()[0].errno_ret())
    };
    assert_eq!(found(&rule(json!("ENOSYS"), Value::Null)).unwrap(), Some(38));
    assert_eq!(found(&rule(json!("ENOSYS"), json!(38))).unwrap(), Some(38));
    assert_eq!(found(&rule(Value::Null, json!(22))).unwrap(), Some(22));
    assert_eq!(found(&rule(json!(""), Value::Null)).unwrap(), None);
    assert!(found(&rule(json!("ENOSYS"), json!(1))).is_err());
    assert!(found(&rule(json!("EWRONG"), Value::Null)).is_err());
}

/// The shape in which container engines share their default profiles, each of its keys used.
#[test]
fn the_widely_used_format_is_read() {
    let file = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "defaultErrno": "ENOSYS",
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] }],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["read", "write", "sync_file_range2", "riscv_flush_icache"],
                "action": "SCMP_ACT_ALLOW", "args": [], "comment": "plain",
                "includes": {}, "excludes": {},
            },
            {
                "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
                "errno": "EINVAL",
                "args": [
                    { "index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ" },
                    { "index": 2, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_EQ" },
                ],
                "includes": {}, "excludes": { "caps": ["CAP_AUDIT_WRITE"] },
            },
            {
                "names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 2, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_NE" }],
                "excludes": { "caps": ["CAP_AUDIT_WRITE"] },
            },
            {
                "names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_NE" }],
                "excludes": { "caps": ["CAP_AUDIT_WRITE"] },
            },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "includes": { "caps": ["CAP_AUDIT_WRITE"] } },
        ],
    });
    let profile = parsed(&file).unwrap();
    assert_eq!(profile.default_errno_ret(), Some(38));
    assert_eq!(profile.syscalls().as_ref().unwrap().len(), 4);
    super::super::compile(&profile).unwrap();
}

#[test]
fn what_is_no_profile_is_refused_and_told_where() {
    let rows = [
        (json!({}), "missing field `defaultAction`"),
        (json!({ "defaultAction": "SCMP_ACT_MAYBE" }), "unknown variant `SCMP_ACT_MAYBE`"),
        (json!({ "defaultAction": "SCMP_ACT_ALLOW", "sycalls": [] }), "unknown field `sycalls`"),
        (file(json!([{ "names": ["read"] }])), "missing field `action`"),
        (file(json!([{ "action": "SCMP_ACT_ALLOW" }])), "names"),
        (
            file(json!([{ "names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW" }])),
            "beside names",
        ),
        (
            file(json!([{
                "names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_ABOUT" }],
            }])),
            "unknown variant `SCMP_CMP_ABOUT`",
        ),
        (
            file(json!([{
                "names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "new" },
            }])),
            "minKernel",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"] }),
            "unknown variant `SCMP_ARCH_Z80`",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_MORE"] }),
            "unknown variant `SECCOMP_FILTER_FLAG_MORE`",
        ),
        (json!("SCMP_ACT_ALLOW"), "invalid type"),
    ];
    for (value, expected) in rows {
        let error = parsed(&value).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains(expected), "{value}: {text}");
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument, "{value}");
    }
}

#[test]
fn only_a_regular_file_of_a_reasonable_size_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("large"), vec![b' '; (1 << 20) + 1]).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, expected) in [
        ("missing", "No such file"),
        ("large", "larger than 1 MiB"),
        ("pipe", "not a regular file"),
        ("", "not a regular file"),
    ] {
        let error = read(&at(name), &host(&[])).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains(expected), "{name}: {text}");
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument, "{name}");
    }
    std::fs::write(at("good"), file(json!([])).to_string()).unwrap();
    assert!(read(&at("good"), &host(&[])).is_ok());
}

#[test]
fn versions_are_two_numbers_and_more() {
    assert_eq!(version("6.12.3-amd64"), Some((6, 12)));
    assert_eq!(version("4.8"), Some((4, 8)));
    assert_eq!(version("6.18-rc1"), Some((6, 18)));
    for wrong in ["", "6", "six.one", "6."] {
        assert_eq!(version(wrong), None, "{wrong}");
    }
}

proptest::proptest! {
    /// Whatever bytes a file has, it is a profile or an error.
    #[test]
    fn any_bytes_are_a_profile_or_an_error(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200)) {
        parse(&bytes, Path::new("/p.json"), &host(&[])).ok();
    }
}
