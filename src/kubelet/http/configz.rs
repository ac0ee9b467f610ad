//! `/configz`: the configuration in effect, in the words of `kubelet.config.k8s.io/v1beta1`. What is secret (tokens,
//! headers of requests) is not in it.

use super::summary::prune;
use crate::config;
use serde_json::{Value, json};

/// `{"kubeletconfig": {...}}`.
pub(super) fn configz(kubelet: &config::Kubelet) -> Value {
    let address = kubelet.http_address;
    // Pods are in a cgroup of this name below the root.
    let root = kubelet.cgroup_root.trim_matches('/');
    let root = root.strip_suffix("kubepods").unwrap_or(root).trim_matches('/');
    let root = format!("/{root}");
    let mut config = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": kubelet.manifest_dir,
        "staticPodURL": kubelet.manifest_url,
        "syncFrequency": seconds(kubelet.sync_seconds),
        "fileCheckFrequency": seconds(kubelet.file_check_seconds),
        "httpCheckFrequency": seconds(kubelet.http_check_seconds),
        "address": address.map(|address| address.ip().to_string()),
        // 0: not served.
        "port": address.map_or(0, |address| address.port()),
        "tlsCertFile": kubelet.http_tls_cert,
        "tlsPrivateKeyFile": kubelet.http_tls_key,
        "authentication": {
            "x509": {"clientCAFile": kubelet.client_ca},
            "webhook": {"enabled": false},
            "anonymous": {"enabled": kubelet.anonymous},
        },
        "readOnlyPort": 0,
        "clusterDomain": kubelet.cluster_domain,
        "clusterDNS": kubelet.cluster_dns,
        "resolvConf": kubelet.resolv_conf,
        "cgroupRoot": root,
        "cgroupsPerQOS": !kubelet.cgroup_root.is_empty(),
        "maxPods": kubelet.max_pods,
        "podsPerCore": kubelet.pods_per_core.unwrap_or(0),
        "allowedUnsafeSysctls": kubelet.allowed_unsafe_sysctls,
        "serializeImagePulls": kubelet.parallel_pulls == Some(1),
        "maxParallelImagePulls": kubelet.parallel_pulls,
        "registryPullQPS": kubelet.pulls_per_second.unwrap_or(0),
        "registryBurst": kubelet.pulls_burst,
        "containerLogMaxSize": kubelet.container_log_max_bytes.to_string(),
        "containerLogMaxFiles": kubelet.container_log_max_files,
        "containerLogMonitorInterval": seconds(kubelet.container_log_check_seconds),
        "podLogsDir": kubelet.pod_logs_dir,
        "containerRuntimeEndpoint": kubelet.runtime_endpoint,
        "crashLoopBackOff": {"maxContainerRestartPeriod": seconds(kubelet.crash_loop_max_seconds)},
        "enableServer": true,
        "enableDebuggingHandlers": true,
    });
    let all = config.as_object_mut();
    if let (Some(all), Value::Object(limits), Value::Object(resources)) =
        (all, limits(kubelet), resources(kubelet))
    {
        all.extend(limits);
        all.extend(resources);
    }
    // What is not set is not there.
    prune(&mut config);
    json!({"kubeletconfig": config})
}

fn seconds(seconds: u64) -> String {
    format!("{seconds}s")
}

/// When pods are evicted and images collected.
fn limits(kubelet: &config::Kubelet) -> Value {
    let (eviction, images) = (&kubelet.eviction, &kubelet.image_gc);
    json!({
        "evictionHard": map(eviction.hard.iter().map(|t| (t.signal, t.below.to_string()))),
        "evictionSoft":
            map(eviction.soft.iter().map(|s| (s.threshold.signal, s.threshold.below.to_string()))),
        "evictionSoftGracePeriod":
            map(eviction.soft.iter().map(|s| (s.threshold.signal, seconds(s.grace_seconds)))),
        "evictionMinimumReclaim":
            map(eviction.minimum_reclaim.iter().map(|m| (m.signal, m.more.to_string()))),
        "evictionPressureTransitionPeriod": seconds(eviction.pressure_transition_seconds),
        "evictionMaxPodGracePeriod": eviction.max_pod_grace_seconds,
        "imageGCHighThresholdPercent": images.high_percent,
        "imageGCLowThresholdPercent": images.low_percent,
        "imageMinimumGCAge": seconds(images.min_age_seconds),
        "imageMaximumGCAge": images.max_age_seconds.map(seconds),
    })
}

/// Values by their signals.
fn map(rows: impl Iterator<Item = (config::Signal, String)>) -> Value {
    rows.map(|(signal, value)| (signal.name().to_owned(), Value::from(value))).collect()
}

/// What of the node is for pods, and how.
fn resources(kubelet: &config::Kubelet) -> Value {
    let percent = u32::try_from(kubelet.memory_throttling_percent).unwrap_or(100);
    let groups = kubelet.shutdown_grace_by_priority.iter();
    let groups = groups.map(
        |group| json!({"priority": group.priority, "shutdownGracePeriodSeconds": group.seconds}),
    );
    json!({
        "enforceNodeAllocatable": kubelet.enforce_node_allocatable,
        "systemReserved": kubelet.system_reserved,
        "kubeReserved": kubelet.kube_reserved,
        "systemReservedCgroup": kubelet.system_reserved_cgroup,
        "kubeReservedCgroup": kubelet.kube_reserved_cgroup,
        "podPidsLimit": kubelet.pod_pids_limit.map_or(-1, |pids| i64::try_from(pids).unwrap_or(-1)),
        "featureGates": {"MemoryQoS": kubelet.memory_qos},
        "memoryThrottlingFactor": f64::from(percent) / 100.0,
        "memorySwap": {"swapBehavior": kubelet.swap_behavior},
        "failSwapOn": kubelet.fail_swap_on,
        "singleProcessOOMKill": kubelet.single_process_oom_kill,
        "seccompDefault": kubelet.seccomp_default,
        "shutdownGracePeriod": seconds(kubelet.shutdown_grace_seconds.unwrap_or(0)),
        "shutdownGracePeriodCriticalPods":
            seconds(kubelet.shutdown_grace_critical_seconds.unwrap_or(0)),
        "shutdownGracePeriodByPodPriority": groups.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_effect_is_told_and_no_secret_is() {
        let kubelet = config::Kubelet {
            manifest_dir: Some("/m".into()),
            http_address: Some("127.0.0.1:10250".parse().unwrap()),
            manifest_url_headers: [("Authorization".to_owned(), "s3cret".to_owned())].into(),
            static_tokens: Some("/etc/s3cret".into()),
            ..config::Kubelet::default()
        };
        let told = configz(&kubelet);
        let config = &told["kubeletconfig"];
        assert_eq!(config["staticPodPath"], "/m");
        assert_eq!((&config["address"], &config["port"]), (&json!("127.0.0.1"), &json!(10250)));
        assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(config["maxPods"], 110);
        assert_eq!(config["evictionHard"]["imagefs.available"], "15%");
        assert_eq!(config.get("resolvConf"), None);
        assert_eq!(config["shutdownGracePeriod"], "0s");
        assert_eq!(config["memorySwap"]["swapBehavior"], "NoSwap");
        assert_eq!(config["enforceNodeAllocatable"], json!(["pods"]));
        assert!(!told.to_string().contains("s3cret"));
    }
}
