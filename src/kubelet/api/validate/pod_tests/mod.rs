//! Each violation by its path and its kind; the sound pod that the rows change is the control.

mod containers;
mod life;
mod probes;
mod security;
mod variables;
mod volumes;

use super::super::super::{default_pod, name_after_node, samples, static_identity};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn problems(changes: &Value) -> Vec<FieldError> {
    let mut value = samples::sound();
    merge(&mut value, changes);
    let mut pod = samples::pod(value);
    static_identity(&mut pod, "n", "file", "origin");
    name_after_node(&mut pod, "n");
    default_pod(&mut pod);
    validate_pod(&pod)
}

/// `path: kind of problem` of each.
fn told(changes: &Value) -> Vec<String> {
    let kind = |error: &FieldError| error.problem.split(':').next().unwrap_or_default().to_owned();
    problems(changes).iter().map(|error| format!("{}: {}", error.path, kind(error))).collect()
}

type Rows = Vec<(Value, Vec<&'static str>)>;

fn check(rows: Rows, place: fn(Value) -> Value) {
    assert_eq!(told(&json!({})), [""; 0], "the control");
    for (change, expected) in rows {
        assert_eq!(told(&place(change.clone())), expected, "{change}");
    }
}

fn of_pod(change: Value) -> Value {
    change
}

fn of_spec(change: Value) -> Value {
    json!({"spec": change})
}

/// The only container, with a volume `v` in its pod.
fn of_container(change: Value) -> Value {
    let mut container = json!({"name": "c", "image": "web:1"});
    merge(&mut container, &change);
    json!({"spec": {"containers": [container], "volumes": [{"name": "v"}, {"name": "i", "image": {"reference": "a:1"}}]}})
}

/// An init container that ends.
fn of_init(change: Value) -> Value {
    let mut container = json!({"name": "i", "image": "web:1"});
    merge(&mut container, &change);
    json!({"spec": {"initContainers": [container]}})
}

fn of_volume(change: Value) -> Value {
    let mut volume = json!({"name": "v"});
    merge(&mut volume, &change);
    json!({"spec": {"volumes": [volume]}})
}

proptest! {
    #[test]
    fn no_pod_makes_it_panic(mut pod in samples::pods()) {
        static_identity(&mut pod, "n", "file", "origin");
        name_after_node(&mut pod, "n");
        default_pod(&mut pod);
        validate_pod(&pod);
    }
}
