//! Every field of the v1beta1 KubeletConfiguration, and what becomes of it. docs/kubelet-configuration.md says the same.

use super::form::Form;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It sets a key of `[kubelet]`, alone or with other fields of the same key.
    Sets(&'static str, Form),
    /// It has to be what berth does anyway: one of these values, as text.
    Refused(&'static [&'static str], &'static str),
    /// Whatever it says changes nothing.
    Ignored(&'static str),
}

/// A field, by its path; one that ends in `.**` stands for all below it.
pub(super) type Field = (&'static str, Fate);

use Fate::{Ignored, Refused, Sets};

const NO_API_SERVER: &str = "there is no API server";
const NO_MANAGER: &str = "CPUs, memory nodes and devices are not managed";

/// All of them, in the order of the API's documentation.
pub(super) const FIELDS: &[Field] = &[
    ("kind", Ignored("it is always this")),
    ("apiVersion", Ignored("it is always this")),
    ("enableServer", Sets("http_address", Form::Together)),
    ("staticPodPath", Sets("manifest_dir", Form::Folder)),
    ("podLogsDir", Sets("pod_logs_dir", Form::Text)),
    ("syncFrequency", Sets("sync_seconds", Form::Seconds)),
    ("fileCheckFrequency", Sets("file_check_seconds", Form::Seconds)),
    ("httpCheckFrequency", Sets("http_check_seconds", Form::Seconds)),
    ("staticPodURL", Sets("manifest_url", Form::Text)),
    ("staticPodURLHeader", Sets("manifest_url_headers", Form::Headers)),
    ("address", Sets("http_address", Form::Together)),
    ("port", Sets("http_address", Form::Together)),
    ("readOnlyPort", Refused(&["0"], "there is no port without TLS")),
    ("tlsCertFile", Sets("http_tls_cert", Form::Text)),
    ("tlsPrivateKeyFile", Sets("http_tls_key", Form::Text)),
    (
        "tlsCipherSuites",
        Refused(
            &["[]"],
            "the suites are rustls': TLS 1.3, and of TLS 1.2 ECDHE with AES-GCM or ChaCha20",
        ),
    ),
    ("tlsCurvePreferences", Refused(&["[]"], "the curves are rustls'")),
    ("tlsMinVersion", Refused(&["", "VersionTLS12"], "TLS 1.2 and 1.3 are spoken")),
    ("rotateCertificates", Ignored(NO_API_SERVER)),
    (
        "serverTLSBootstrap",
        Ignored("the certificate is that of tlsCertFile, or one that berth signs"),
    ),
    ("authentication.x509.clientCAFile", Sets("client_ca", Form::Text)),
    (
        "authentication.webhook.enabled",
        Ignored("there is no API server to ask: tokens are those of kubelet.static_tokens"),
    ),
    ("authentication.webhook.cacheTTL", Ignored(NO_API_SERVER)),
    ("authentication.anonymous.enabled", Sets("anonymous", Form::Bool)),
    (
        "authorization.mode",
        Refused(
            &["", "Webhook"],
            "who may do what is said by kubelet.readers and kubelet.executors",
        ),
    ),
    ("authorization.webhook.cacheAuthorizedTTL", Ignored(NO_API_SERVER)),
    ("authorization.webhook.cacheUnauthorizedTTL", Ignored(NO_API_SERVER)),
    ("registryPullQPS", Sets("pulls_per_second", Form::SomeNumber)),
    ("registryBurst", Sets("pulls_burst", Form::Number)),
    (
        "imagePullCredentialsVerificationPolicy",
        Refused(&["", "NeverVerify"], "who may use an image that is here is not asked"),
    ),
    (
        "preloadedImagesVerificationAllowlist",
        Refused(&["[]"], "who may use an image that is here is not asked"),
    ),
    ("eventRecordQPS", Ignored("events are kept by berth itself")),
    ("eventBurst", Ignored("events are kept by berth itself")),
    (
        "enableDebuggingHandlers",
        Refused(&["true"], "who may run commands is said by kubelet.executors"),
    ),
    ("enableContentionProfiling", Ignored("there is no /debug/")),
    ("healthzPort", Ignored("/healthz is a part of the HTTP API")),
    ("healthzBindAddress", Ignored("/healthz is a part of the HTTP API")),
    ("oomScoreAdj", Ignored("it is the unit's that starts berth")),
    ("clusterDomain", Sets("cluster_domain", Form::Text)),
    ("clusterDNS", Sets("cluster_dns", Form::Texts)),
    ("streamingConnectionIdleTimeout", Ignored("it is streaming.idle_timeout_seconds")),
    ("nodeStatusUpdateFrequency", Ignored("the node is looked at every 10 s")),
    ("nodeStatusReportFrequency", Ignored("the node is written at a change, and every 5 minutes")),
    ("nodeLeaseDurationSeconds", Ignored(NO_API_SERVER)),
    ("imageMinimumGCAge", Sets("image_gc.min_age_seconds", Form::Seconds)),
    ("imageMaximumGCAge", Sets("image_gc.max_age_seconds", Form::Seconds)),
    ("imageGCHighThresholdPercent", Sets("image_gc.high_percent", Form::Number)),
    ("imageGCLowThresholdPercent", Sets("image_gc.low_percent", Form::Number)),
    ("volumeStatsAggPeriod", Ignored("figures are read when they are asked for")),
    ("kubeletCgroups", Ignored("who starts berth says where it is")),
    ("systemCgroups", Refused(&[""], "processes of the system are left where they are")),
    ("cgroupRoot", Sets("cgroup_root", Form::Together)),
    ("cgroupsPerQOS", Sets("cgroup_root", Form::Together)),
    ("cgroupDriver", Sets("cgroups.driver", Form::Driver)),
    ("cpuManagerPolicy", Refused(&["", "none", "None"], NO_MANAGER)),
    ("singleProcessOOMKill", Sets("single_process_oom_kill", Form::Bool)),
    ("cpuManagerPolicyOptions", Refused(&["{}"], NO_MANAGER)),
    ("cpuManagerReconcilePeriod", Ignored(NO_MANAGER)),
    ("memoryManagerPolicy", Refused(&["", "none", "None"], NO_MANAGER)),
    ("topologyManagerPolicy", Refused(&["", "none"], NO_MANAGER)),
    ("topologyManagerScope", Ignored(NO_MANAGER)),
    ("topologyManagerPolicyOptions", Refused(&["{}"], NO_MANAGER)),
    ("qosReserved", Refused(&["{}"], "no class has memory of its own")),
    ("runtimeRequestTimeout", Ignored("berth's verbs have deadlines of their own")),
    ("hairpinMode", Ignored("it is the network's, [network]")),
    ("maxPods", Sets("max_pods", Form::Number)),
    ("podCIDR", Refused(&[""], "it is network.subnet and network.subnet6")),
    ("podPidsLimit", Sets("pod_pids_limit", Form::Limit)),
    ("resolvConf", Sets("resolv_conf", Form::Text)),
    ("runOnce", Refused(&["false"], "berth keeps pods until it is stopped")),
    ("cpuCFSQuota", Refused(&["true"], "limits are enforced")),
    ("cpuCFSQuotaPeriod", Refused(&["100ms", "0.1s", "0s"], "the period is 100 ms")),
    ("nodeStatusMaxImages", Ignored("at most 50 are told")),
    ("maxOpenFiles", Ignored("it is the unit's that starts berth")),
    ("contentType", Ignored(NO_API_SERVER)),
    ("kubeAPIQPS", Ignored(NO_API_SERVER)),
    ("kubeAPIBurst", Ignored(NO_API_SERVER)),
    ("serializeImagePulls", Sets("parallel_pulls", Form::Together)),
    ("maxParallelImagePulls", Sets("parallel_pulls", Form::Together)),
    ("evictionHard", Sets("eviction.hard", Form::Together)),
    ("evictionSoft", Sets("eviction.soft", Form::Together)),
    ("evictionSoftGracePeriod", Sets("eviction.soft", Form::Together)),
    (
        "evictionPressureTransitionPeriod",
        Sets("eviction.pressure_transition_seconds", Form::Seconds),
    ),
    ("evictionMaxPodGracePeriod", Sets("eviction.max_pod_grace_seconds", Form::Number)),
    ("evictionMinimumReclaim", Sets("eviction.minimum_reclaim", Form::Together)),
    ("mergeDefaultEvictionSettings", Sets("eviction.hard", Form::Together)),
    ("podsPerCore", Sets("pods_per_core", Form::Number)),
    ("enableControllerAttachDetach", Ignored(NO_API_SERVER)),
    ("protectKernelDefaults", Ignored("berth changes none of the kernel's settings")),
    (
        "makeIPTablesUtilChains",
        Ignored("there are no such chains: the network is nftables', or CNI's"),
    ),
    ("iptablesMasqueradeBit", Ignored("it is deprecated and without effect")),
    ("iptablesDropBit", Ignored("it is deprecated and without effect")),
    ("featureGates", Sets("", Form::Gates)),
    ("failSwapOn", Sets("fail_swap_on", Form::Bool)),
    ("memorySwap.swapBehavior", Sets("swap_behavior", Form::Text)),
    ("containerLogMaxSize", Sets("container_log_max_bytes", Form::Bytes)),
    ("containerLogMaxFiles", Sets("container_log_max_files", Form::Number)),
    ("containerLogMaxWorkers", Ignored("logs are rotated one after the other")),
    ("containerLogMonitorInterval", Sets("container_log_check_seconds", Form::Seconds)),
    ("configMapAndSecretChangeDetectionStrategy", Ignored("a change is seen at once")),
    ("systemReserved", Sets("system_reserved", Form::Map)),
    ("kubeReserved", Sets("kube_reserved", Form::Map)),
    ("reservedSystemCPUs", Refused(&[""], NO_MANAGER)),
    ("showHiddenMetricsForVersion", Ignored("no metrics are hidden")),
    ("systemReservedCgroup", Sets("system_reserved_cgroup", Form::Text)),
    ("kubeReservedCgroup", Sets("kube_reserved_cgroup", Form::Text)),
    ("enforceNodeAllocatable", Sets("enforce_node_allocatable", Form::Enforced)),
    ("allowedUnsafeSysctls", Sets("allowed_unsafe_sysctls", Form::Texts)),
    ("volumePluginDir", Ignored("there are no such plugins")),
    ("providerID", Ignored(NO_API_SERVER)),
    ("kernelMemcgNotification", Ignored("the kernel is asked in any case")),
    ("logging.**", Ignored("it is [log]")),
    ("enableSystemLogHandler", Ignored("there is no /logs/")),
    ("enableSystemLogQuery", Ignored("there is no /logs/")),
    ("shutdownGracePeriod", Sets("shutdown_grace_seconds", Form::Seconds)),
    ("shutdownGracePeriodCriticalPods", Sets("shutdown_grace_critical_seconds", Form::Seconds)),
    ("shutdownGracePeriodByPodPriority", Sets("shutdown_grace_by_priority", Form::Priorities)),
    ("crashLoopBackOff.maxContainerRestartPeriod", Sets("crash_loop_max_seconds", Form::Seconds)),
    ("reservedMemory", Refused(&["[]"], NO_MANAGER)),
    ("enableProfilingHandler", Ignored("there is no /debug/")),
    ("enableDebugFlagsHandler", Ignored("there is no /debug/")),
    ("seccompDefault", Sets("seccomp_default", Form::Bool)),
    ("memoryThrottlingFactor", Sets("memory_throttling_percent", Form::Percent)),
    ("registerWithTaints", Ignored(NO_API_SERVER)),
    ("registerNode", Ignored(NO_API_SERVER)),
    ("tracing.**", Ignored("no traces are sent")),
    ("localStorageCapacityIsolation", Refused(&["true"], "limits of local storage are kept")),
    ("containerRuntimeEndpoint", Sets("runtime_endpoint", Form::Endpoint)),
    ("imageServiceEndpoint", Refused(&[""], "images are those of the runtime")),
    ("failCgroupV1", Ignored("berth needs cgroup v2 in any case")),
    ("userNamespaces.idsPerPod", Refused(&["65536"], "a pod has 65536 ids")),
];

/// The field of a path; the structures above fields are none.
pub(super) fn field(path: &str) -> Option<&'static Field> {
    let below = |known: &str| {
        let prefix = known.strip_suffix("**");
        prefix.is_some_and(|prefix| path.starts_with(prefix))
    };
    FIELDS.iter().find(|(known, _)| *known == path || below(known))
}

/// Whether there are fields below a path.
pub(super) fn is_structure(path: &str) -> bool {
    let below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    FIELDS.iter().any(|(known, _)| below(known))
}
