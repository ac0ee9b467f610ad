use super::read::parse;
use super::table::{FIELDS, Fate, field, is_structure};
use super::*;
use crate::config::CgroupDriver;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn of(text: &str) -> Result<KubeletFile, String> {
    parse(Path::new("/k"), format!("{HEAD}{text}").as_bytes()).map_err(|e| e.to_string())
}

/// The keys with their values as TOML.
fn keys(text: &str) -> BTreeMap<&'static str, String> {
    let keys = of(text).unwrap().keys;
    keys.into_iter().map(|(key, (value, _))| (key, value.to_string())).collect()
}

/// As the usual installers write it.
const USUAL: &str = "
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: \"\"
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

#[test]
fn the_file_of_a_usual_node_is_taken() {
    let file = of(USUAL).unwrap();
    assert_eq!(file.driver, Some(CgroupDriver::Systemd));
    let set: Vec<_> = file.keys.iter().map(|(key, (value, _))| (*key, value.to_string())).collect();
    assert_eq!(
        set,
        [
            ("anonymous", "false".to_owned()),
            ("client_ca", "\"/etc/kubernetes/pki/ca.crt\"".into()),
            ("cluster_dns", "[\"10.96.0.10\"]".into()),
            ("cluster_domain", "\"cluster.local\"".into()),
            ("manifest_dir", "\"/etc/kubernetes/manifests\"".into()),
            ("resolv_conf", "\"/run/systemd/resolve/resolv.conf\"".into()),
        ]
    );
    assert!(file.ignored.iter().any(|line| line.starts_with("rotateCertificates is ignored: ")));
    assert!(file.ignored.iter().any(|line| line.starts_with("logging.")), "{:?}", file.ignored);
}

#[test]
fn json_is_read_as_well() {
    let text = r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","maxPods":9,"address":null}"#;
    let file = parse(Path::new("/k"), text.as_bytes()).unwrap();
    assert_eq!(file.keys["max_pods"].0.as_integer(), Some(9));
}

#[test]
fn fields_that_belong_together_make_one_key() {
    for (text, key, value) in [
        ("port: 10250", "http_address", Some("\"0.0.0.0:10250\"")),
        ("address: 127.0.0.1", "http_address", Some("\"127.0.0.1:10250\"")),
        ("address: '::'\nport: 7", "http_address", Some("\"[::]:7\"")),
        ("port: 10250\nenableServer: false", "http_address", None),
        ("enableServer: true", "http_address", None),
        ("cgroupRoot: /a/b/", "cgroup_root", Some("\"a/b/kubepods\"")),
        ("cgroupRoot: /", "cgroup_root", Some("\"kubepods\"")),
        ("cgroupRoot: /a\ncgroupsPerQOS: false", "cgroup_root", Some("\"\"")),
        ("serializeImagePulls: true", "parallel_pulls", Some("1")),
        ("serializeImagePulls: false", "parallel_pulls", None),
        ("serializeImagePulls: false\nmaxParallelImagePulls: 4", "parallel_pulls", Some("4")),
    ] {
        assert_eq!(keys(text).get(key).map(String::as_str), value, "{text}");
    }
}

#[test]
fn what_cannot_be_is_told_by_its_path() {
    for (text, wanted) in [
        ("maxPod: 7", "maxPod: there is no such field"),
        ("MaxPods: 7", "MaxPods: there is no such field"),
        (
            "authentication:\n  x509:\n    caFile: /a",
            "authentication.x509.caFile: there is no such",
        ),
        ("authentication: 7", "authentication: it is no object"),
        ("maxPods: 7\nmaxPods: 8", "field maxPods is there twice"),
        ("maxPods: \"7\"", "maxPods: \"7\" is not a whole number"),
        ("syncFrequency: 10", "syncFrequency: 10 is not a text"),
        ("cgroupDriver: upstart", "cgroupDriver: neither"),
        ("reservedSystemCPUs: 0-3", "reservedSystemCPUs: \"0-3\" is refused: "),
        ("cpuManagerPolicy: static", "cpuManagerPolicy: \"static\" is refused: "),
        ("readOnlyPort: 10255", "readOnlyPort: 10255 is refused: "),
        ("port: 70000", "port: it is not 1 to 65535"),
        ("address: here", "address: it is no IP address"),
        ("serializeImagePulls: true\nmaxParallelImagePulls: 4", "maxParallelImagePulls: it cannot"),
        ("featureGates:\n  A: 1", "featureGates.A: 1 is neither true nor false"),
        ("a: [", "not YAML"),
        ("---\nkind: Pod", "it is not one document"),
    ] {
        let message = of(text).expect_err(text);
        assert!(message.starts_with("/k: ") && message.contains(wanted), "{text}: {message}");
    }
    let other = "apiVersion: kubelet.config.k8s.io/v1alpha1\nkind: KubeletConfiguration\n";
    let message = parse(Path::new("/k"), other.as_bytes()).unwrap_err().to_string();
    assert!(message.contains("v1alpha1"), "{message}");
}

#[test]
fn a_refused_field_that_says_what_is_done_anyway_is_fine() {
    for text in
        ["readOnlyPort: 0", "cpuManagerPolicy: none", "runOnce: false", "tlsCipherSuites: []"]
    {
        assert_eq!(of(text).unwrap(), KubeletFile::default(), "{text}");
    }
}

#[test]
fn what_is_reserved_and_the_gates_of_memory_become_keys() {
    let found = keys(
        "systemReserved: {cpu: 200m, memory: 1Gi}\nenforceNodeAllocatable: [pods, kube-reserved]\n\
        kubeReservedCgroup: /kube\npodPidsLimit: -1\nmemoryThrottlingFactor: 0.8\n\
        featureGates: {MemoryQoS: true, NodeSwap: false}\nmemorySwap: {swapBehavior: LimitedSwap}\n",
    );
    let expected = [
        ("enforce_node_allocatable", "[\"pods\", \"kube-reserved\"]"),
        ("kube_reserved_cgroup", "\"/kube\""),
        ("memory_qos", "true"),
        ("memory_throttling_percent", "80"),
        ("swap_behavior", "\"NoSwap\""),
        ("system_reserved", "{ cpu = \"200m\", memory = \"1Gi\" }"),
    ];
    let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn periods_of_a_shutdown_become_keys() {
    let found = keys(
        "shutdownGracePeriodByPodPriority:\n- priority: 10\n  shutdownGracePeriodSeconds: 5\n\
        shutdownGracePeriod: 0s\n",
    );
    let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(found, [("shutdown_grace_by_priority", "[{ priority = 10, seconds = 5 }]")]);
    let found = keys("shutdownGracePeriod: 1m30s\nshutdownGracePeriodCriticalPods: 10s\n");
    assert_eq!(found["shutdown_grace_seconds"], "90");
    assert_eq!(found["shutdown_grace_critical_seconds"], "10");
}

#[test]
fn thresholds_become_keys() {
    let found = keys(
        "evictionHard: {memory.available: 5%, nodefs.available: 1Gi}\n\
        evictionSoft: {memory.available: 300Mi}\n\
        evictionSoftGracePeriod: {memory.available: 1m30s}\n\
        evictionMinimumReclaim: {imagefs.available: 2Gi}\n\
        evictionPressureTransitionPeriod: 30s\nevictionMaxPodGracePeriod: 0\n\
        imageMinimumGCAge: 3m\n",
    );
    let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let expected = [
        ("eviction.hard", "[\"memory.available<5%\", \"nodefs.available<1Gi\"]"),
        ("eviction.minimum_reclaim", "[\"imagefs.available=2Gi\"]"),
        ("eviction.pressure_transition_seconds", "30"),
        ("eviction.soft", "[\"memory.available<300Mi for 90s\"]"),
        ("image_gc.min_age_seconds", "180"),
    ];
    assert_eq!(found, expected);
    let merged = keys("evictionHard: {memory.available: 5%}\nmergeDefaultEvictionSettings: true\n");
    let hard = &merged["eviction.hard"];
    assert!(
        hard.contains("memory.available<5%") && hard.contains("nodefs.available<10%"),
        "{hard}"
    );
    assert!(!hard.contains("100Mi"), "{hard}");
    for (text, wanted) in [
        ("evictionHard: {memory: 5%}", "evictionHard: \"memory\" is none of the signals"),
        ("evictionHard: {memory.available: x}", "evictionHard: \"x\" is neither"),
        ("evictionSoft: {memory.available: 5%}", "evictionSoft: memory.available has no"),
    ] {
        let message = of(text).unwrap_err();
        assert!(message.contains(wanted), "{text}: {message}");
    }
}

#[test]
fn unknown_gates_are_told_and_change_nothing() {
    let file = of("featureGates:\n  NewThing: true\n").unwrap();
    assert!(file.keys.is_empty());
    assert_eq!(file.ignored, ["featureGates.NewThing is ignored: there is no such gate"]);
}

#[test]
fn no_field_is_there_twice_and_none_is_a_structure_of_others() {
    let mut seen = BTreeSet::new();
    for (path, _) in FIELDS {
        assert!(seen.insert(path), "{path}");
        assert!(!is_structure(path), "{path}");
        assert!(field(path).is_some_and(|(found, _)| found == path));
    }
}

#[test]
fn every_key_that_a_field_sets_is_one() {
    let known: BTreeSet<String> = crate::config::keys().unwrap().into_iter().collect();
    for (path, fate) in FIELDS {
        if let Fate::Sets(key, _) = fate
            && !key.is_empty()
        {
            let own = format!("kubelet.{key}");
            let key = if *key == "cgroups.driver" { (*key).to_owned() } else { own };
            assert!(known.contains(&key), "{path}: {key}");
        }
    }
}

/// `| field | fate | meaning |`, as the table says it.
fn line((path, fate): &table::Field) -> String {
    let (word, meaning) = match fate {
        Fate::Sets("", _) => ("honoured", String::new()),
        Fate::Sets("cgroups.driver", _) => {
            ("honoured", "has to be `cgroups.driver`, else an error".to_owned())
        }
        Fate::Sets(key, _) => ("honoured", format!("`{key}`")),
        Fate::Refused(fine, why) => {
            let fine: Vec<String> = fine
                .iter()
                .map(|value| if value.is_empty() { "empty".into() } else { format!("`{value}`") })
                .collect();
            ("refused", format!("{why}; {} is fine", fine.join(" or ")))
        }
        Fate::Ignored(why) => ("ignored", (*why).to_owned()),
    };
    format!("| `{path}` | {word} | {meaning} |")
}

#[test]
fn the_documentation_has_every_field_as_the_table_does() {
    let text = include_str!("../../../docs/kubelet-configuration.md");
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let lines: Vec<String> = FIELDS.iter().map(line).collect();
    let documented: Vec<String> = documented.iter().map(|line| without_remark(line)).collect();
    for (found, wanted) in documented.iter().zip(&lines) {
        assert_eq!(found, wanted);
    }
    assert_eq!(documented.len(), lines.len());
}

/// Gates are explained in the text, at their own length.
fn without_remark(line: &str) -> String {
    match line.starts_with("| `featureGates` |") {
        true => "| `featureGates` | honoured |  |".to_owned(),
        false => line.to_owned(),
    }
}
