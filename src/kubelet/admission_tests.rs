use super::*;
use serde_json::{Value, json};

fn pod(name: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap()
}

fn asks(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

fn ports(ports: Value) -> Value {
    json!({"containers": [{"name": "c", "ports": ports}]})
}

fn node() -> NodeFacts {
    let mut node = NodeFacts::default();
    node.allocatable.cpu_milli = 2000;
    node.allocatable.memory_bytes = 1 << 30;
    node.allocatable.ephemeral_storage_bytes = 1000;
    node.allocatable.pods = 3;
    node.allocatable.hugepages = [(2 << 20, 8 << 20)].into();
    node
}

/// The reason of a refusal; empty for none.
fn reason(pod: &Pod, others: &[Pod]) -> String {
    let allowed = ["fs.mqueue.*".to_owned(), "net/core/somaxconn".to_owned()];
    match admit(pod, &others.iter().collect::<Vec<_>>(), &node(), &allowed) {
        Admitted::Yes => String::new(),
        Admitted::No(verdict) => verdict.reason,
    }
}

#[test]
fn what_is_more_than_the_node_has_left_is_refused_by_its_name() {
    let other = pod("o", asks("1500m", "512Mi"));
    for (name, spec, expected) in [
        ("fits", asks("500m", "512Mi"), ""),
        ("one too many", asks("501m", "1"), "OutOfcpu"),
        ("too much memory", asks("0", "513Mi"), "OutOfmemory"),
        ("nothing", json!({"containers": [{"name": "c"}]}), ""),
        (
            "an init container that is large alone",
            json!({"initContainers": [{"name": "i", "resources": {"limits": {"cpu": "2"}}}],
                "containers": [{"name": "c"}]}),
            "OutOfcpu",
        ),
    ] {
        assert_eq!(reason(&pod("p", spec), std::slice::from_ref(&other)), expected, "{name}");
    }
    let storage = |bytes: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"ephemeral-storage": bytes}}}]});
    let other = pod("o", storage("600"));
    assert_eq!(reason(&pod("p", storage("400")), std::slice::from_ref(&other)), "");
    assert_eq!(reason(&pod("p", storage("401")), &[other]), "OutOfephemeral-storage");
    let full: Vec<Pod> = (0..3).map(|n| pod(&n.to_string(), json!({"containers": []}))).collect();
    assert_eq!(reason(&pod("p", json!({"containers": []})), &full), "OutOfpods");
}

#[test]
fn huge_pages_are_counted_by_their_size() {
    let pages = |list: Value| json!({"containers": [{"name": "c", "resources": {"limits": list}}]});
    let other = pod("o", pages(json!({"cpu": "1m", "hugepages-2Mi": "6Mi"})));
    for (name, list, expected) in [
        ("what is left", json!({"hugepages-2Mi": "2Mi"}), ""),
        ("more than is left", json!({"hugepages-2Mi": "4Mi"}), "OutOfhugepages-2Mi"),
        ("the same in another unit", json!({"hugepages-2048Ki": "4Mi"}), "OutOfhugepages-2Mi"),
        ("a size that there is none of", json!({"hugepages-1Gi": "1Gi"}), "OutOfhugepages-1Gi"),
        ("none of such a size", json!({"hugepages-1Gi": "0"}), ""),
        ("the processor first", json!({"cpu": "3", "hugepages-2Mi": "4Mi"}), "OutOfcpu"),
    ] {
        let refused = reason(&pod("p", pages(list)), std::slice::from_ref(&other));
        assert_eq!(refused, expected, "{name}");
    }
    assert_eq!(reason(&pod("p", pages(json!({"hugepages-2Mi": "8Mi"}))), &[]), "");
}

#[test]
fn a_device_that_nothing_brings_is_not_left_out() {
    let devices = |list: &str, count: &str| json!({"containers": [{"name": "c", "resources": {list: {"example.com/gpu": count}}}]});
    for (list, count, expected) in [
        ("limits", "1", "OutOfexample.com/gpu"),
        ("requests", "2", "OutOfexample.com/gpu"),
        ("limits", "0", ""),
    ] {
        assert_eq!(reason(&pod("p", devices(list, count)), &[]), expected, "{list} {count}");
    }
}

#[test]
fn a_host_port_has_one_pod() {
    let other = pod("o", ports(json!([{"containerPort": 80, "hostPort": 8080}])));
    for (name, wanted, expected) in [
        ("the same", json!([{"containerPort": 1, "hostPort": 8080}]), "NodePorts"),
        ("another", json!([{"containerPort": 80, "hostPort": 8081}]), ""),
        (
            "of another protocol",
            json!([{"containerPort": 1, "hostPort": 8080, "protocol": "UDP"}]),
            "",
        ),
        (
            "at one address",
            json!([{"containerPort": 1, "hostPort": 8080, "hostIP": "127.0.0.1"}]),
            "NodePorts",
        ),
        ("none", json!([{"containerPort": 8080}]), ""),
    ] {
        let refused = reason(&pod("p", ports(wanted)), std::slice::from_ref(&other));
        assert_eq!(refused, expected, "{name}");
    }
    let in_host = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]});
    assert_eq!(reason(&pod("p", in_host), &[other]), "NodePorts");
}

#[test]
fn other_systems_and_unsafe_sysctls_are_refused() {
    let sysctl = |name: &str| json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    for (spec, expected) in [
        (json!({"os": {"name": "windows"}, "containers": []}), "PodOSNotSupported"),
        (json!({"os": {"name": "linux"}, "containers": []}), ""),
        (sysctl("kernel.msgmax"), "SysctlForbidden"),
        (sysctl("net.ipv4.tcp_syncookies"), ""),
        (sysctl("net/ipv4/tcp_syncookies"), ""),
        (sysctl("net.core.somaxconn"), ""),
        (sysctl("net.core.somaxconns"), "SysctlForbidden"),
        (sysctl("fs.mqueue.msg_max"), ""),
    ] {
        assert_eq!(reason(&pod("p", spec.clone()), &[]), expected, "{spec}");
    }
}
