use super::*;
use crate::kubelet::node::{Amounts, NodeFacts};
use crate::kubelet::objects::Objects;
use serde_json::{Value, from_value, json};

fn pod() -> Pod {
    from_value(json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": "u-1",
            "labels": {"tier": "front", "app": "web"},
            "annotations": {"example.com/note": "a \"b\"\\\n\u{1}é\u{a0}\u{1d173}e\u{301}"},
        },
        "spec": {
            "serviceAccountName": "robot",
            "containers": [
                {"name": "free"},
                {"name": "bound", "resources": {
                    "requests": {"cpu": "250m", "memory": "10Mi", "hugepages-2Mi": "4Mi"},
                    "limits": {"cpu": "1500m", "memory": "100000001", "ephemeral-storage": "1Gi",
                        "hugepages-2Mi": "4Mi"},
                }},
            ],
            "initContainers": [{"name": "init", "resources": {"limits": {"cpu": "2"}}}],
        },
    }))
    .unwrap()
}

fn node() -> NodeFacts {
    let allocatable = Amounts {
        cpu_milli: 3900,
        memory_bytes: 8 << 30,
        ephemeral_storage_bytes: 20 << 30,
        ..Amounts::default()
    };
    NodeFacts { name: "node-1".into(), allocatable, ..NodeFacts::default() }
}

fn with_input<T>(pod: &Pod, test: impl FnOnce(&EnvInput<'_>) -> T) -> T {
    let (objects, node) = (Objects::default(), node());
    let pod_ips = ["10.1.0.2", "fd01::2"].map(|ip| ip.parse().unwrap());
    let host_ips = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    test(&EnvInput { pod, objects: &objects, node: &node, pod_ips: &pod_ips, host_ips: &host_ips })
}

#[test]
fn every_field_of_the_downward_api_is_told() {
    let rows = [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", "app=\"web\"\ntier=\"front\""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1,2001:db8::1"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd01::2"),
    ];
    let pod = pod();
    for (path, expected) in rows {
        let value = with_input(&pod, |input| field_value(path, input));
        assert_eq!(value.as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn a_value_with_odd_characters_stays_one_line() {
    let pod = pod();
    let value = with_input(&pod, |input| field_value("metadata.annotations", input)).unwrap();
    let expected = r#"example.com/note="a \"b\"\\\n\x01é\u00a0\U0001d173e"#;
    assert_eq!(value, format!("{expected}\u{301}\""));
}

#[test]
fn other_fields_are_refused_by_name() {
    let pod = pod();
    let rows = [
        "",
        "metadata",
        "spec.hostname",
        "metadata.labels['']",
        "metadata.labels[app]",
        "status.phase",
    ];
    for path in rows {
        let error = with_input(&pod, |input| field_value(path, input)).unwrap_err();
        assert_eq!(error, DownwardError::Field { path: path.to_owned() });
    }
}

fn resource(pod: &Pod, selector: Value, own: &str) -> Result<String, DownwardError> {
    let selector = from_value(selector).unwrap();
    with_input(pod, |input| resource_value(&selector, find(pod, own), input))
}

#[test]
fn amounts_are_rounded_up_in_units_of_the_divisor() {
    let rows = [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", "1", "100000001"),
        ("limits.memory", "1M", "101"),
        ("limits.memory", "1Mi", "96"),
        ("requests.memory", "1Ki", "10240"),
        ("limits.ephemeral-storage", "1Gi", "1"),
        ("requests.ephemeral-storage", "1", "0"),
        ("requests.hugepages-2Mi", "1Mi", "4"),
        ("limits.hugepages-1Gi", "1", "0"),
    ];
    let pod = pod();
    for (name, divisor, expected) in rows {
        let selector = json!({"resource": name, "divisor": divisor});
        assert_eq!(
            resource(&pod, selector, "bound").as_deref(),
            Ok(expected),
            "{name} / {divisor}"
        );
    }
}

#[test]
fn a_container_without_a_limit_is_bounded_by_its_pod_else_by_the_node() {
    let rows = [
        ("limits.cpu", "1m", "3900"),
        ("limits.memory", "1Gi", "8"),
        ("limits.ephemeral-storage", "1Gi", "20"),
    ];
    let mut pod = pod();
    for (name, divisor, expected) in rows {
        let selector = json!({"resource": name, "divisor": divisor});
        assert_eq!(resource(&pod, selector, "free").as_deref(), Ok(expected), "{name}");
    }
    pod.spec.as_mut().unwrap().resources =
        Some(from_value(json!({"limits": {"cpu": "700m"}})).unwrap());
    let selector = json!({"resource": "limits.cpu", "divisor": "1m"});
    assert_eq!(resource(&pod, selector, "free").as_deref(), Ok("700"));
}

#[test]
fn a_zero_limit_is_none() {
    let mut pod = pod();
    let limits = json!({"limits": {"memory": "0"}});
    pod.spec.as_mut().unwrap().containers[0].resources = Some(from_value(limits).unwrap());
    let selector = json!({"resource": "limits.memory", "divisor": "1Gi"});
    assert_eq!(resource(&pod, selector, "free").as_deref(), Ok("8"));
}

#[test]
fn a_named_container_is_asked_instead_of_the_own() {
    let pod = pod();
    for (name, expected) in [("bound", "1500"), ("init", "2000")] {
        let selector = json!({"containerName": name, "resource": "limits.cpu", "divisor": "1m"});
        assert_eq!(resource(&pod, selector, "free").as_deref(), Ok(expected), "{name}");
    }
    let selector = json!({"containerName": "nobody", "resource": "limits.cpu"});
    let error = resource(&pod, selector, "free").unwrap_err();
    assert_eq!(error, DownwardError::Container { container: "nobody".into() });
    // A file must name one.
    let error = resource(&pod, json!({"resource": "limits.cpu"}), "").unwrap_err();
    assert_eq!(error, DownwardError::Container { container: String::new() });
}

#[test]
fn other_resources_and_divisors_are_refused() {
    let pod = pod();
    for name in ["cpu", "limits.gpu", "limits.hugepages-", "capacity.cpu", ""] {
        let error = resource(&pod, json!({"resource": name}), "bound").unwrap_err();
        assert_eq!(error, DownwardError::Resource { resource: name.to_owned() });
    }
    let error = resource(&pod, json!({"resource": "limits.cpu", "divisor": "-1"}), "bound");
    assert!(matches!(error, Err(DownwardError::Divisor { .. })), "{error:?}");
}
