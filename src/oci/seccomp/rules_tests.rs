use super::*;
use serde_json::{Value, json};

fn profile(default: &str, rules: Value) -> LinuxSeccomp {
    serde_json::from_value(json!({ "defaultAction": default, "syscalls": rules })).unwrap()
}

fn decided(default: &str, rules: Value) -> Result<Decisions, SeccompError> {
    decide(&profile(default, rules), Arch::X86_64)
}

fn message(default: &str, rules: Value) -> String {
    decided(default, rules).unwrap_err().to_string()
}

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";

fn equals(value: u64) -> Value {
    json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }])
}

#[test]
fn rules_that_can_both_match_with_different_actions_are_refused() {
    let rows = [
        (equals(1), json!([]), true),
        (json!([]), equals(1), true),
        (equals(1), equals(1), true),
        (equals(1), equals(2), false),
        (equals(1), json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_NE" }]), false),
        (equals(1), json!([{ "index": 1, "value": 2, "op": "SCMP_CMP_EQ" }]), true),
    ];
    for (one, other, overlap) in rows {
        let rule = |action: &str, args: &Value| json!({ "names": ["read", "socket"], "action": action, "args": args });
        let row = format!("{one} {other}");
        let rules = json!([rule(ALLOW, &one), rule(ERRNO, &other)]);
        match decided("SCMP_ACT_LOG", rules) {
            Ok(_) => assert!(!overlap, "{row}"),
            Err(error) => {
                assert!(overlap, "{row}: {error}");
                let text = "seccomp rules for read: SCMP_ACT_ALLOW and SCMP_ACT_ERRNO(1) can both \
                    match the same call";
                assert_eq!(error.to_string(), text, "{row}");
            }
        }
        // With the same action there is nothing to choose.
        assert!(decided("SCMP_ACT_LOG", json!([rule(ERRNO, &one), rule(ERRNO, &other)])).is_ok());
    }
}

#[test]
fn of_two_rules_that_compare_nothing_the_first_counts() {
    let rule = |action: &str| json!({ "names": ["setns"], "action": action });
    for (first, second, value) in [(ALLOW, ERRNO, 0x7fff_0000), (ERRNO, ALLOW, 0x0005_0001)] {
        let decisions = decided("SCMP_ACT_LOG", json!([rule(first), rule(second)])).unwrap();
        let [only] = &decisions.calls[&308][..] else { panic!("{first}") };
        assert_eq!(only.action, Action(value), "{first}");
    }
}

#[test]
fn error_numbers_are_for_the_actions_that_have_them() {
    let rule = |action: &str, errno: Value| json!([{ "names": ["read"], "action": action, "errnoRet": errno }]);
    for (action, errno, reason) in [
        (ALLOW, 1, "takes no error number"),
        (ALLOW, 0, "takes no error number"),
        ("SCMP_ACT_KILL_PROCESS", 1, "takes no error number"),
        (ERRNO, 4096, "too large"),
        ("SCMP_ACT_TRACE", 0x1_0000, "too large"),
    ] {
        let text = message("SCMP_ACT_LOG", rule(action, json!(errno)));
        assert!(text.contains("errnoRet") && text.contains(reason), "{action} {errno}: {text}");
    }
    for (action, errno, value) in [
        (ERRNO, json!(4095), 0x0005_0fff),
        (ERRNO, Value::Null, 0x0005_0001),
        ("SCMP_ACT_TRACE", json!(0xffff), 0x7ff0_ffff),
        (ALLOW, Value::Null, 0x7fff_0000),
    ] {
        let decisions = decided("SCMP_ACT_LOG", rule(action, errno)).unwrap();
        assert_eq!(decisions.calls[&0][0].action, Action(value), "{action}");
    }
}

#[test]
fn notifications_are_refused_by_name() {
    let rule = json!([{ "names": ["read"], "action": "SCMP_ACT_NOTIFY" }]);
    let text = "seccomp action SCMP_ACT_NOTIFY is not supported";
    assert_eq!(message(ALLOW, rule), text);
    assert_eq!(message("SCMP_ACT_NOTIFY", json!([])), text);
}

#[test]
fn an_unknown_call_is_refused_where_its_rule_would_restrict() {
    let rule = |name: &str, action: &str| json!([{ "names": [name], "action": action }]);
    let text = message(ALLOW, rule("mout", ERRNO));
    assert!(text.contains("\"mout\"") && text.contains("SCMP_ACT_ERRNO(1)"), "{text}");
    // What it would permit stays refused.
    assert!(decided(ERRNO, rule("mout", ALLOW)).unwrap().calls.is_empty());
    assert_eq!(unknown_names(&profile(ERRNO, rule("mout", ALLOW))), ["mout"]);
    // A call of other machines is no mistake.
    assert!(decided(ALLOW, rule("s390_runtime_instr", ERRNO)).unwrap().calls.is_empty());
    assert!(unknown_names(&profile(ALLOW, rule("s390_runtime_instr", ERRNO))).is_empty());
}

#[test]
fn comparisons_that_cannot_be_are_refused() {
    let with = |arg: Value| json!([{ "names": ["read"], "action": ERRNO, "args": [arg] }]);
    for (arg, reason) in [
        (json!({ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }), "is not 0 to 5"),
        (json!({ "index": 0, "value": 0, "op": "SCMP_CMP_LT" }), "nothing is less"),
        (json!({ "index": 0, "value": u64::MAX, "op": "SCMP_CMP_GT" }), "nothing is greater"),
        (
            json!({ "index": 0, "value": 2, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ" }),
            "never holds",
        ),
        (json!({ "index": 0, "value": 2, "valueTwo": 1, "op": "SCMP_CMP_EQ" }), "MASKED_EQ alone"),
    ] {
        let text = message(ALLOW, with(arg.clone()));
        assert!(text.contains(reason), "{arg}: {text}");
    }
}
