//! The resolver of a pod; pure.

use super::resolv_conf::ResolvConf;
use crate::cri::proto;
use crate::kubelet::spec;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

/// Servers that resolvers ask; more they ignore.
const SERVERS_MAX: usize = 3;
/// Domains that are searched.
const SEARCHES_MAX: usize = 32;
/// All of them, with a blank between two, bytes.
const SEARCHES_BYTES_MAX: usize = 2048;
/// Names of fewer dots are searched in the cluster first.
const CLUSTER_OPTIONS: [&str; 1] = ["ndots:5"];

/// The cluster's own resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Its servers (`clusterDNS`); none: there is no such resolver.
    pub servers: Vec<String>,
    /// The cluster's domain; may be empty.
    pub domain: String,
}

/// Something that a user should know of a pod's resolver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsWarning {
    /// The event MissingClusterDNS.
    #[error("the node has no clusterDNS: dnsPolicy {policy} is as Default")]
    MissingClusterDns {
        /// The pod's policy.
        policy: &'static str,
    },
    /// The event DNSConfigForming.
    #[error("servers beyond the third are left out: {}", left_out.join(" "))]
    Servers {
        /// Those that are.
        left_out: Vec<String>,
    },
    /// The event DNSConfigForming.
    #[error("search domains beyond 32, or 2048 bytes, are left out: {}", left_out.join(" "))]
    Searches {
        /// Those that are.
        left_out: Vec<String>,
    },
}

impl DnsWarning {
    /// The reason that its event has.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingClusterDns { .. } => "MissingClusterDNS",
            Self::Servers { .. } | Self::Searches { .. } => "DNSConfigForming",
        }
    }
}

/// The resolver of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsResult {
    /// For its sandbox.
    pub config: proto::DnsConfig,
    /// For its events.
    pub warnings: Vec<DnsWarning>,
}

/// Whose resolver a pod begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Cluster(&'static str),
    Node,
    None,
}

/// The resolver that a pod asks for; `host` is the node's own.
pub fn dns(pod: &Pod, cluster: &ClusterDns, host: &ResolvConf) -> DnsResult {
    let mut warnings = Vec::new();
    let mut conf = match base(pod) {
        Base::Cluster(policy) if cluster.servers.is_empty() => {
            warnings.push(DnsWarning::MissingClusterDns { policy });
            host.clone()
        }
        Base::Cluster(_) => of_cluster(pod, cluster, host),
        Base::Node => host.clone(),
        Base::None => ResolvConf::default(),
    };
    if let Some(own) = pod.spec.as_ref().and_then(|spec| spec.dns_config.as_ref()) {
        merge(&mut conf, own);
    }
    once(&mut conf.servers);
    once(&mut conf.searches);
    let left_out = conf.servers.split_off(conf.servers.len().min(SERVERS_MAX));
    if !left_out.is_empty() {
        warnings.push(DnsWarning::Servers { left_out });
    }
    let left_out = conf.searches.split_off(fitting(&conf.searches));
    if !left_out.is_empty() {
        warnings.push(DnsWarning::Searches { left_out });
    }
    let ResolvConf { servers, searches, options } = conf;
    DnsResult { config: proto::DnsConfig { servers, searches, options }, warnings }
}

fn base(pod: &Pod) -> Base {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
    match spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or_default() {
        "None" => Base::None,
        "Default" => Base::Node,
        "ClusterFirstWithHostNet" => Base::Cluster("ClusterFirstWithHostNet"),
        // ClusterFirst, which is the default.
        _ if host_network => Base::Node,
        _ => Base::Cluster("ClusterFirst"),
    }
}

fn of_cluster(pod: &Pod, cluster: &ClusterDns, host: &ResolvConf) -> ResolvConf {
    let mut searches = Vec::new();
    if !cluster.domain.is_empty() {
        let namespace = spec::namespace(pod);
        let domain = &cluster.domain;
        searches.extend([
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ]);
    }
    searches.extend(host.searches.iter().cloned());
    ResolvConf {
        servers: cluster.servers.clone(),
        searches,
        options: CLUSTER_OPTIONS.map(str::to_owned).to_vec(),
    }
}

/// Adds the pod's own; an option replaces the one of its name.
fn merge(conf: &mut ResolvConf, own: &PodDNSConfig) {
    conf.servers.extend(own.nameservers.iter().flatten().cloned());
    conf.searches.extend(own.searches.iter().flatten().cloned());
    for option in own.options.iter().flatten() {
        let Some(name) = option.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        let same = |has: &&mut String| has.split(':').next() == Some(name);
        match conf.options.iter_mut().find(same) {
            Some(has) => *has = text,
            None => conf.options.push(text),
        }
    }
}

/// The first of equals stays.
fn once(words: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|word| seen.insert(word.clone()));
}

/// How many of the domains fit.
fn fitting(searches: &[String]) -> usize {
    let mut bytes = 0;
    let fits = searches.iter().take(SEARCHES_MAX).take_while(|domain| {
        bytes += domain.len() + usize::from(bytes > 0);
        bytes <= SEARCHES_BYTES_MAX
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, from_value, json};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn host() -> ResolvConf {
        ResolvConf {
            servers: words("192.0.2.53"),
            searches: words("corp.example"),
            options: words("timeout:1"),
        }
    }

    fn cluster() -> ClusterDns {
        ClusterDns { servers: words("10.0.0.10"), domain: "c.local".into() }
    }

    fn made(spec: Value, cluster: &ClusterDns) -> DnsResult {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        dns(&from_value(pod).unwrap(), cluster, &host())
    }

    fn config(servers: &str, searches: &str, options: &str) -> proto::DnsConfig {
        proto::DnsConfig {
            servers: words(servers),
            searches: words(searches),
            options: words(options),
        }
    }

    #[test]
    fn the_policy_says_whose_resolver_it_is() {
        let of_cluster = || {
            let searches = "shop.svc.c.local svc.c.local c.local corp.example";
            config("10.0.0.10", searches, "ndots:5")
        };
        let of_host = || config("192.0.2.53", "corp.example", "timeout:1");
        let policy = |policy: &str, host_network: bool| json!({"dnsPolicy": policy, "hostNetwork": host_network});
        let rows = [
            (json!({}), of_cluster()),
            (policy("ClusterFirst", false), of_cluster()),
            (policy("ClusterFirst", true), of_host()),
            (policy("ClusterFirstWithHostNet", true), of_cluster()),
            (policy("ClusterFirstWithHostNet", false), of_cluster()),
            (policy("Default", false), of_host()),
            (policy("None", false), config("", "", "")),
        ];
        for (spec, expected) in rows {
            let made = made(spec.clone(), &cluster());
            assert_eq!(made, DnsResult { config: expected, warnings: Vec::new() }, "{spec}");
        }
    }

    #[test]
    fn without_a_cluster_resolver_the_nodes_is_used_and_told() {
        for policy in ["ClusterFirst", "ClusterFirstWithHostNet"] {
            let made = made(json!({"dnsPolicy": policy}), &ClusterDns::default());
            assert_eq!(made.config.servers, ["192.0.2.53"]);
            assert_eq!(made.warnings, [DnsWarning::MissingClusterDns { policy }]);
            assert_eq!(made.warnings[0].reason(), "MissingClusterDNS");
        }
    }

    #[test]
    fn a_cluster_without_a_domain_adds_no_searches() {
        let cluster = ClusterDns { domain: String::new(), ..cluster() };
        assert_eq!(made(json!({}), &cluster).config.searches, ["corp.example"]);
    }

    #[test]
    fn the_pods_own_settings_are_added_and_its_options_win() {
        let own = json!({
            "nameservers": ["10.0.0.10", "1.1.1.1"],
            "searches": ["c.local", "own.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "timeout", "value": ""}],
        });
        let got = made(json!({"dnsConfig": own}), &cluster()).config;
        let searches = "shop.svc.c.local svc.c.local c.local corp.example own.example";
        assert_eq!(got, config("10.0.0.10 1.1.1.1", searches, "ndots:2 edns0 timeout"));
        let got = made(json!({"dnsPolicy": "None", "dnsConfig": own}), &cluster()).config;
        assert_eq!(got.servers, ["10.0.0.10", "1.1.1.1"]);
    }

    #[test]
    fn what_is_beyond_the_limits_is_left_out_and_told() {
        let domains = |count: usize, bytes: usize| -> Vec<String> {
            (0..count).map(|n| format!("{n:0>bytes$}")).collect()
        };
        let own = |servers: &str, searches: Vec<String>| {
            let own = json!({"nameservers": words(servers), "searches": searches});
            made(json!({"dnsPolicy": "None", "dnsConfig": own}), &cluster())
        };
        let servers = own("1.1.1.1 1.1.1.2 1.1.1.1 1.1.1.3 1.1.1.4", Vec::new());
        assert_eq!(servers.config.servers, ["1.1.1.1", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(servers.warnings, [DnsWarning::Servers { left_out: words("1.1.1.4") }]);
        let rows = [
            ("as many as may be", domains(32, 10), 32),
            ("one more", domains(33, 10), 32),
            // 8 × 255 + 7 blanks = 2047.
            ("as long as may be", domains(8, 255), 8),
            ("longer", domains(9, 255), 8),
        ];
        for (row, searches, kept) in rows {
            let left_out: Vec<_> = searches.iter().skip(kept).cloned().collect();
            let made = own("", searches);
            assert_eq!(made.config.searches.len(), kept, "{row}");
            let warned = made.warnings == [DnsWarning::Searches { left_out: left_out.clone() }];
            assert_eq!(warned, !left_out.is_empty(), "{row}");
        }
    }

    proptest! {
        #[test]
        fn no_resolver_is_beyond_the_limits(
            servers in prop::collection::vec("[0-9.]{1,8}", 0..8),
            searches in prop::collection::vec("[a-c]{1,300}", 0..40),
        ) {
            let own = json!({"dnsConfig": {"nameservers": servers, "searches": searches}});
            let config = made(own, &cluster()).config;
            prop_assert!(config.servers.len() <= 3 && config.searches.len() <= 32);
            prop_assert!(config.searches.join(" ").len() <= 2048);
        }
    }
}
