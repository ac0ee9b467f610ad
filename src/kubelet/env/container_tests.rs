use super::*;
use crate::error::{ErrorKind, chain};
use serde_json::{Value, from_value, json};

fn objects() -> Objects {
    let mut objects = Objects::default();
    let maps = [
        ("one", json!({"A": "one", "B": "one", "not=it": "x", "é": "x"})),
        ("two", json!({"B": "two", "WEB_SERVICE_HOST": "mine"})),
    ];
    for (name, data) in maps {
        let map = json!({"metadata": {"name": name, "namespace": "shop"}, "data": data});
        objects.put_config_map(from_value(map).unwrap());
    }
    let secret = json!({"metadata": {"name": "keys", "namespace": "shop"},
        "data": {"token": "c2VjcmV0", "blob": "/w=="}});
    objects.put_secret(from_value(secret).unwrap());
    let web = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 80}]}});
    objects.put_service(from_value(web).unwrap());
    objects
}

fn made_in(spec: Value, container: Value) -> Result<Environment, EnvError> {
    let mut container: Container = from_value(container).unwrap();
    container.name = "app".into();
    let mut spec = spec;
    spec["containers"] = json!([container]);
    let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
    let pod = from_value(pod).unwrap();
    let (objects, node) = (objects(), NodeFacts::default());
    let input = EnvInput { pod: &pod, objects: &objects, node: &node, pod_ips: &[], host_ips: &[] };
    environment(&container, &input)
}

/// Without the Services'.
fn made(container: Value) -> Result<Environment, EnvError> {
    made_in(json!({"enableServiceLinks": false}), container)
}

fn vars(environment: &Environment) -> Vec<String> {
    environment.vars.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn from_map(name: &str) -> Value {
    json!({"configMapRef": {"name": name}})
}

#[test]
fn a_later_source_wins_and_prefixes_count() {
    let prefixed = json!({"prefix": "P_", "configMapRef": {"name": "one"}});
    let made = made(json!({"envFrom": [from_map("one"), from_map("two"), prefixed]})).unwrap();
    assert_eq!(vars(&made), ["A=one", "B=two", "WEB_SERVICE_HOST=mine", "P_A=one", "P_B=one"]);
}

#[test]
fn names_that_no_variable_can_have_are_left_out_and_listed() {
    let made = made(json!({"envFrom": [from_map("one"), from_map("two")]})).unwrap();
    let names = vec!["not=it".to_owned(), "é".to_owned()];
    assert_eq!(made.invalid, [("ConfigMap shop/one".to_owned(), names)]);
}

#[test]
fn a_services_variable_gives_way_to_any_other() {
    let host = |container: Value| {
        let made = made_in(json!({}), container).unwrap();
        made.vars.into_iter().find(|(name, _)| name == "WEB_SERVICE_HOST").unwrap().1
    };
    assert_eq!(host(json!({})), "10.0.0.3");
    assert_eq!(host(json!({"envFrom": [from_map("two")]})), "mine");
    let env = json!([{"name": "WEB_SERVICE_HOST", "value": "own"}]);
    assert_eq!(host(json!({"envFrom": [from_map("two")], "env": env})), "own");
}

#[test]
fn a_reference_sees_what_is_above_it_and_the_services() {
    let env = json!([
        {"name": "BELOW", "value": "$(LATER)"},
        {"name": "LATER", "value": "$(A)/$(WEB_SERVICE_PORT)"},
        {"name": "A", "value": "$(A)+"},
        {"name": "LITERAL", "value": "$$(A)"},
        {"name": "LAST", "value": "$(A)"},
    ]);
    let made = made_in(json!({}), json!({"envFrom": [from_map("one")], "env": env})).unwrap();
    let vars = vars(&made);
    for expected in ["BELOW=$(LATER)", "LATER=one/80", "A=one+", "LITERAL=$(A)", "LAST=one+"] {
        assert!(vars.contains(&expected.to_owned()), "{expected} in {vars:?}");
    }
}

#[test]
fn values_come_from_keys_and_from_the_pod() {
    let env = json!([
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "A"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
        {"name": "EMPTY"},
    ]);
    let made = made(json!({"env": env})).unwrap();
    assert_eq!(vars(&made), ["MAP=one", "SECRET=secret", "POD=p", "CPU=0", "EMPTY="]);
}

#[test]
fn what_is_optional_may_be_missing() {
    let key = |name: &str, key: &str| json!({"name": name, "key": key, "optional": true});
    let made = made(json!({
        "envFrom": [
            {"configMapRef": {"name": "none", "optional": true}},
            {"secretRef": {"name": "none", "optional": true}},
        ],
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": key("none", "A")}},
            {"name": "B", "valueFrom": {"configMapKeyRef": key("one", "none")}},
            {"name": "C", "valueFrom": {"secretKeyRef": key("keys", "none")}},
        ],
    }));
    assert_eq!(made, Ok(Environment::default()));
}

#[test]
fn what_is_missing_or_cannot_be_is_named() {
    let one = |source: Value| json!({"env": [{"name": "V", "valueFrom": source}]});
    let at = "variable \"V\" of container \"app\": ";
    let rows = [
        (
            json!({"envFrom": [from_map("none")]}),
            "envFrom of container \"app\": ConfigMap shop/none does not exist".to_owned(),
            ErrorKind::NotFound,
        ),
        (
            one(json!({"secretKeyRef": {"name": "none", "key": "k"}})),
            format!("{at}Secret shop/none does not exist"),
            ErrorKind::NotFound,
        ),
        (
            one(json!({"configMapKeyRef": {"name": "one", "key": "k"}})),
            format!("{at}ConfigMap shop/one has no key \"k\""),
            ErrorKind::NotFound,
        ),
        (
            one(json!({"secretKeyRef": {"name": "keys", "key": "blob"}})),
            format!("{at}key \"blob\" of Secret shop/keys is not text: it is not UTF-8"),
            ErrorKind::InvalidArgument,
        ),
        (
            one(json!({"fieldRef": {"fieldPath": "spec.x"}})),
            format!("{at}fieldRef \"spec.x\" is not a field of the downward API"),
            ErrorKind::InvalidArgument,
        ),
        (
            one(json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}})),
            format!("{at}fileKeyRef is not supported"),
            ErrorKind::Unimplemented,
        ),
        (one(json!({})), format!("{at}valueFrom names no source"), ErrorKind::Unimplemented),
    ];
    for (container, expected, kind) in rows {
        let error = made(container).unwrap_err();
        assert_eq!(chain(&error), expected);
        assert_eq!(error.kind(), kind, "{expected}");
    }
}

#[test]
fn the_command_is_expanded_with_all_variables() {
    let container = json!({"name": "app", "command": ["run", "$(A)"], "args": ["$(B)", "$(C)"]});
    let vars = [("A".to_owned(), "1".to_owned()), ("C".to_owned(), "$(A)".to_owned())];
    let made = expand_command(&from_value(container).unwrap(), &vars);
    assert_eq!(made.command, ["run", "1"]);
    assert_eq!(made.args, ["$(B)", "$(A)"]);
}
