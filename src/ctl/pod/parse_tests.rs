use super::*;
use crate::ctl::pod::{
    HostPathKind, Port, Protocol, PullPolicy, Requests, Volume, VolumeMount, VolumeSource,
};

const FULL: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {note: "1"}
  creationTimestamp: null
spec:
  hostname: shop-web
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  shareProcessNamespace: true
  hostAliases:
  - ip: 10.1.2.3
    hostnames: [db.local, db]
  containers:
  - name: server
    image: web:1
    imagePullPolicy: Never
    command: [httpd, -p, "$(PORT)"]
    args: ["$$(PORT)"]
    workingDir: /www
    env:
    - {name: PORT, value: "8080"}
    - {name: URL, value: "http://localhost:$(PORT)"}
    - {name: EMPTY}
    ports:
    - {name: http, containerPort: 8080, hostPort: 18080, hostIP: 127.0.0.1}
    - {containerPort: 53, protocol: UDP}
    resources:
      requests: {cpu: 100m}
      limits: {cpu: 1, memory: 64Mi}
    volumeMounts:
    - {name: content, mountPath: /www, readOnly: true}
    - {name: host, mountPath: /host, mountPropagation: HostToContainer}
  - name: client
    image: client:1
    resources: {}
    livenessProbe: null
  volumes:
  - {name: content, emptyDir: {}}
  - {name: host, hostPath: {path: /srv, type: Directory}}
status: {}
"#;

#[test]
fn every_supported_field_is_read() {
    let pod = parse_pod(FULL).unwrap();
    assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("web", "shop"));
    assert_eq!(pod.labels["app"], "web");
    assert_eq!(pod.annotations["note"], "1");
    assert_eq!(pod.hostname, "shop-web");
    assert_eq!((pod.grace_seconds, pod.restart_policy_absent), (5, false));
    assert!(pod.share_pid && !pod.host_network && !pod.host_ipc && !pod.host_pid);
    let alias =
        HostAlias { ip: [10, 1, 2, 3].into(), hostnames: vec!["db.local".into(), "db".into()] };
    assert_eq!(pod.host_aliases, [alias]);
    let [server, client] = pod.containers.as_slice() else { panic!("two containers") };
    assert_eq!(server.pull, PullPolicy::Never);
    assert_eq!(server.command, ["httpd", "-p", "8080"]);
    assert_eq!(server.args, ["$(PORT)"]);
    assert_eq!(server.working_dir, "/www");
    let env: Vec<_> = server.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(env, ["PORT=8080", "URL=http://localhost:8080", "EMPTY="]);
    let local = "127.0.0.1".parse().ok();
    assert_eq!(
        server.ports,
        [
            Port {
                container_port: 8080,
                host_port: Some(18080),
                host_ip: local,
                protocol: Protocol::Tcp
            },
            Port { container_port: 53, host_port: None, host_ip: None, protocol: Protocol::Udp },
        ]
    );
    let resources = Requests {
        cpu_request: Some(100),
        cpu_limit: Some(1000),
        memory_request: None,
        memory_limit: Some(64 << 20),
    };
    assert_eq!(server.resources, resources);
    assert_eq!(
        server.mounts,
        [
            VolumeMount {
                volume: "content".into(),
                path: "/www".into(),
                read_only: true,
                host_to_container: false
            },
            VolumeMount {
                volume: "host".into(),
                path: "/host".into(),
                read_only: false,
                host_to_container: true
            },
        ]
    );
    assert_eq!((client.pull, client.resources), (PullPolicy::IfNotPresent, Requests::default()));
    let host = VolumeSource::HostPath { path: "/srv".into(), kind: HostPathKind::Directory };
    assert_eq!(
        pod.volumes,
        [
            Volume { name: "content".into(), source: VolumeSource::EmptyDir },
            Volume { name: "host".into(), source: host },
        ]
    );
}

/// The smallest pod with `spec` and `container` lines added.
fn with(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {spec}\n  containers:\n  \
         - name: c\n    image: i\n    {container}\n"
    )
}

#[test]
fn defaults_are_kubernetes() {
    let pod = parse_pod(&with("", "")).unwrap();
    assert_eq!((pod.namespace.as_str(), pod.hostname.as_str()), ("default", "p"));
    assert_eq!((pod.grace_seconds, pod.restart_policy_absent), (30, true));
}

#[test]
fn what_is_not_supported_is_refused_by_its_path() {
    let rows = [
        ("initContainers: [{name: x}]", "", "spec.initContainers is not supported yet"),
        ("nodeName: here", "", "spec.nodeName is not supported yet"),
        ("dnsPolicy: ClusterFirst", "", "spec.dnsPolicy can only be Default"),
        ("securityContext: {runAsUser: 1}", "", "spec.securityContext is not supported yet"),
        ("restartPolicy: Always", "", "spec.restartPolicy Always is not supported yet"),
        (
            "volumes: [{name: v, configMap: {name: x}}]",
            "",
            "spec.volumes[0].configMap is not supported yet",
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: Memory}}]",
            "",
            "spec.volumes[0].emptyDir.medium Memory is not supported yet",
        ),
        (
            "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]",
            "",
            "spec.volumes[0].emptyDir.sizeLimit is not supported yet",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [x]}}",
            "spec.containers[0].livenessProbe is not supported yet",
        ),
        (
            "",
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: x}}}]",
            "spec.containers[0].env[0].valueFrom is not supported yet",
        ),
        (
            "",
            "resources: {limits: {nvidia.com/gpu: 1}}",
            "spec.containers[0].resources.limits.nvidia.com/gpu is not supported yet",
        ),
        ("", "securityContext: {privileged: true}", "spec.containers[0].securityContext is not"),
        ("imagePullSecrets: [{name: x}]", "", "spec.imagePullSecrets is not supported yet"),
    ];
    for (spec, container, expected) in rows {
        let error = parse_pod(&with(spec, container)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn wrong_values_are_refused_by_their_path() {
    let rows = [
        ("hostname: A_b", "", "spec.hostname \"A_b\" must be"),
        ("hostNetwork: 1", "", "spec.hostNetwork must be true or false"),
        ("hostAliases: [{ip: x}]", "", "spec.hostAliases[0].ip must be an IP address"),
        ("{hostPID: true, x", "", "read YAML"),
        ("volumes: [{name: v}]", "", "spec.volumes[0] needs a source"),
        (
            "volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]",
            "",
            "spec.volumes[0] has more than one source",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]",
            "",
            "spec.volumes[1].name \"v\" is the name of another volume",
        ),
        ("volumes: [{name: v, hostPath: {path: x}}]", "", "spec.volumes[0].hostPath.path must be"),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b}}]",
            "",
            "spec.volumes[0].hostPath.path must be",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a, type: Dir}}]",
            "",
            "spec.volumes[0].hostPath.type \"Dir\" is not one of",
        ),
        (
            "",
            "volumeMounts: [{name: x, mountPath: /x}]",
            "spec.containers[0].volumeMounts[0].name \"x\" is not a volume of the pod",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}]",
            "volumeMounts: [{name: v, mountPath: /x}, {name: v, mountPath: /x}]",
            "spec.containers[0].volumeMounts[1].mountPath is used twice",
        ),
        ("", "ports: [{containerPort: 0}]", "spec.containers[0].ports[0].containerPort must be"),
        ("", "ports: [{containerPort: 70000}]", "spec.containers[0].ports[0].containerPort must"),
        (
            "hostNetwork: true",
            "ports: [{containerPort: 80, hostPort: 81}]",
            "spec.containers[0].ports[0].hostPort must be containerPort",
        ),
        (
            "",
            "ports: [{containerPort: 80, hostPort: 81}, {containerPort: 82, hostPort: 81}]",
            "spec.containers[0].ports[1].hostPort 81 is used twice",
        ),
        (
            "",
            "resources: {limits: {memory: 1Q}}",
            "spec.containers[0].resources.limits.memory \"1Q\" is not a quantity",
        ),
        (
            "",
            "resources: {requests: {cpu: 2}, limits: {cpu: 1}}",
            "spec.containers[0].resources.requests.cpu is above the limit",
        ),
        ("", "command: text", "spec.containers[0].command must be a list"),
        ("", "args: [1]", "spec.containers[0].args[0] must be text"),
        ("", "env: [{name: A=B}]", "spec.containers[0].env[0].name is not the name"),
        ("", "- {name: c, image: i}", "read YAML"),
    ];
    for (spec, container, expected) in rows {
        let error = parse_pod(&with(spec, container)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn the_file_holds_one_pod_and_nothing_else() {
    let pod = with("", "");
    let rows = [
        (String::new(), "the file holds 0 documents"),
        (format!("{pod}---\n{pod}"), "the file holds 2 documents"),
        (pod.replace("kind: Pod", "kind: Deployment"), "kind is \"Deployment\""),
        (pod.replace("apiVersion: v1\n", ""), "apiVersion is absent"),
        (pod.replace("{name: p}", "{}"), "metadata.name is required"),
        (pod.replace("{name: p}", "{name: p, uid: ../x}"), "metadata.uid must be"),
        (pod.replace("{name: p}", "{name: P}"), "metadata.name \"P\" must be"),
        (format!("{pod}- name: c\n"), "read YAML"),
        ("- a\n".to_owned(), "the file must hold a Pod"),
        (": : :".to_owned(), ""),
    ];
    for (text, expected) in rows {
        let error = parse_pod(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }
    // An empty document between marks is nothing.
    assert!(parse_pod(&format!("---\n{pod}---\n")).is_ok());
}

#[test]
fn two_containers_of_one_name_are_refused() {
    let text = with("", "").replace("  - name: c", "  - {name: c, image: i}\n  - name: c");
    let error = parse_pod(&text).unwrap_err().to_string();
    assert_eq!(error, "spec.containers[1].name \"c\" is the name of another container");
}

#[test]
fn a_long_name_becomes_a_host_name_the_kernel_takes() {
    let name = format!("{}.b", "a".repeat(62));
    let pod = parse_pod(&with("", "").replace("name: p", &format!("name: {name}"))).unwrap();
    assert_eq!(pod.hostname, "a".repeat(62));
}
