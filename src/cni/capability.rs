//! What plugins are told about a pod: CNI_ARGS, and capability arguments (CNI conventions).

use super::request::AttachRequest;
use crate::quantity::parse_whole;
use crate::sandbox::config::{PortMapping, Protocol};
use serde_json::{Map, Value, json};

/// The annotation that limits what a pod receives, bits a second.
pub const INGRESS_BANDWIDTH: &str = "kubernetes.io/ingress-bandwidth";
/// The annotation that limits what a pod sends, bits a second.
pub const EGRESS_BANDWIDTH: &str = "kubernetes.io/egress-bandwidth";

/// A bandwidth annotation that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}={value:?} is not a quantity from 1k to 1P bits a second")]
pub struct InvalidBandwidth {
    /// The annotation's key.
    pub annotation: &'static str,
    /// Its value.
    pub value: String,
}

/// CNI_ARGS of a pod, as Kubernetes' plugins expect them.
pub(super) fn cni_args(request: &AttachRequest) -> String {
    // A ';' or '=' in a value would be another argument; Kubernetes names hold neither.
    let clean = |text: &str| text.replace([';', '='], "_");
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};\
         K8S_POD_UID={}",
        clean(&request.namespace),
        clean(&request.name),
        request.sandbox,
        clean(&request.uid)
    )
}

/// All capability arguments of a pod, by capability; a plugin gets those it asks for.
///
/// # Errors
/// [`InvalidBandwidth`].
pub(super) fn capabilities(
    request: &AttachRequest,
) -> Result<Map<String, Value>, InvalidBandwidth> {
    let mut all = Map::new();
    let ports: Vec<Value> =
        request.port_mappings.iter().filter(|m| m.host_port > 0).map(port_mapping).collect();
    if !ports.is_empty() {
        all.insert("portMappings".to_owned(), Value::Array(ports));
    }
    if let Some(bandwidth) = bandwidth(request)? {
        all.insert("bandwidth".to_owned(), bandwidth);
    }
    if let Some(dns) = &request.dns {
        let dns = json!({
            "servers": dns.servers, "searches": dns.searches, "options": dns.options,
        });
        all.insert("dns".to_owned(), dns);
    }
    if let Some(cgroup) = &request.cgroup {
        all.insert("cgroupPath".to_owned(), json!(cgroup));
    }
    Ok(all)
}

fn port_mapping(mapping: &PortMapping) -> Value {
    let protocol = match mapping.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let mut value = json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": protocol,
    });
    if let (Some(ip), Some(object)) = (mapping.host_ip, value.as_object_mut()) {
        object.insert("hostIP".to_owned(), json!(ip.to_string()));
    }
    value
}

fn bandwidth(request: &AttachRequest) -> Result<Option<Value>, InvalidBandwidth> {
    let mut value = Map::new();
    for (annotation, rate_key, burst_key) in [
        (INGRESS_BANDWIDTH, "ingressRate", "ingressBurst"),
        (EGRESS_BANDWIDTH, "egressRate", "egressBurst"),
    ] {
        let Some(text) = request.annotations.get(annotation) else { continue };
        let rate = parse_whole(text)
            .ok()
            // What Kubernetes' own validation permits.
            .filter(|rate| (1_000..=1_000_000_000_000_000).contains(rate))
            .ok_or_else(|| InvalidBandwidth { annotation, value: text.clone() })?;
        value.insert(rate_key.to_owned(), json!(rate));
        value.insert(burst_key.to_owned(), json!(burst_bits(rate)));
    }
    Ok((!value.is_empty()).then_some(Value::Object(value)))
}

/// How much may be sent at once, in bits: a quarter of a second, at least four of the largest
/// segments that an interface is handed (64 KiB), at most what the plugin accepts. A limit that
/// starts only after gigabytes, as others set it, is none for short connections.
fn burst_bits(rate: u64) -> u64 {
    const LARGEST_SEGMENTS: u64 = 4 * 65_536 * 8;
    (rate / 4).clamp(LARGEST_SEGMENTS, u64::from(u32::MAX))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::SandboxId;
    use crate::sandbox::config::DnsConfig;
    use std::sync::Arc;

    /// A request that asks for nothing.
    pub(in crate::cni) fn request() -> AttachRequest {
        AttachRequest {
            sandbox: SandboxId::parse(&"ab".repeat(32)).unwrap(),
            netns: "/proc/self/ns/net".into(),
            netns_fd: Arc::new(std::fs::File::open("/proc/self/ns/net").unwrap().into()),
            name: "web".into(),
            namespace: "default".into(),
            uid: "u-1".into(),
            hostname: "web".into(),
            port_mappings: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
            dns: None,
            cgroup: None,
        }
    }

    #[test]
    fn arguments_name_the_pod_and_cannot_be_extended_by_a_name() {
        let mut request = request();
        request.name = "web;IP=1.2.3.4".into();
        let id = "ab".repeat(32);
        assert_eq!(
            cni_args(&request),
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web_IP_1.2.3.4;\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u-1"
            )
        );
    }

    #[test]
    fn a_pod_that_asks_for_nothing_has_no_capability_arguments() {
        let mut request = request();
        request.port_mappings.push(PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 0,
            host_ip: None,
        });
        assert_eq!(capabilities(&request).unwrap(), Map::new());
    }

    #[test]
    fn ports_bandwidth_dns_and_cgroup_are_told_by_capability() {
        let mut request = request();
        request.port_mappings.push(PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_ip: Some("10.0.0.1".parse().unwrap()),
        });
        request.annotations.insert(INGRESS_BANDWIDTH.into(), "10M".into());
        request.annotations.insert(EGRESS_BANDWIDTH.into(), "1G".into());
        request.dns = Some(DnsConfig { servers: vec!["10.0.0.10".into()], ..DnsConfig::default() });
        request.cgroup = Some("/berth/x".into());
        assert_eq!(
            Value::Object(capabilities(&request).unwrap()),
            json!({
                "portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp",
                    "hostIP": "10.0.0.1"}],
                "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 2_500_000,
                    "egressRate": 1_000_000_000, "egressBurst": 250_000_000},
                "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
                "cgroupPath": "/berth/x",
            })
        );
    }

    #[test]
    fn a_bandwidth_that_is_no_quantity_or_out_of_range_is_refused() {
        for bad in ["fast", "", "1", "2P", "-1M"] {
            let mut request = request();
            request.annotations.insert(EGRESS_BANDWIDTH.into(), bad.into());
            assert_eq!(capabilities(&request).unwrap_err().annotation, EGRESS_BANDWIDTH, "{bad}");
        }
    }
}
