//! The variables that tell a container of the Services it may use. Pure.

use crate::kubelet::objects::{DEFAULT_NAMESPACE, Objects};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// The Service of the API server, which every pod is told of.
const MASTER: &str = "kubernetes";

/// Whether a pod is told of the Services of its own namespace (`enableServiceLinks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLinks {
    /// Of all of them.
    Namespace,
    /// Of the API server's only.
    None,
}

/// The variables, by the Services' names. Of the namespace's own Services, and of `kubernetes` of the
/// default namespace; a namespace's own Service of that name wins.
pub fn service_variables(
    objects: &Objects,
    namespace: &str,
    links: ServiceLinks,
) -> Vec<(String, String)> {
    let mut services: BTreeMap<&str, &Service> = BTreeMap::new();
    if let Some(master) = objects.service(DEFAULT_NAMESPACE, MASTER)
        && address(master).is_some()
    {
        services.insert(MASTER, master);
    }
    if links == ServiceLinks::Namespace {
        let own = objects.services(namespace).filter(|service| address(service).is_some());
        services.extend(own.filter_map(|s| Some((s.metadata.name.as_deref()?, s.as_ref()))));
    }
    services.into_iter().flat_map(|(name, service)| variables(name, service)).collect()
}

/// The cluster's address; headless Services, and those that are another name, have none.
fn address(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn variables(name: &str, service: &Service) -> Vec<(String, String)> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let (Some(host), Some(first)) = (address(service), ports.first()) else { return Vec::new() };
    let prefix = upper(name);
    let mut vars = vec![
        (format!("{prefix}_SERVICE_HOST"), host.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            vars.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    vars.push((format!("{prefix}_PORT"), url(host, first)));
    for port in ports {
        let protocol = protocol(port);
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        vars.push((link.clone(), url(host, port)));
        vars.push((format!("{link}_PROTO"), protocol));
        vars.push((format!("{link}_PORT"), port.port.to_string()));
        vars.push((format!("{link}_ADDR"), host.to_owned()));
    }
    vars
}

/// Lower case; TCP when none is given.
fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP").to_lowercase()
}

fn url(host: &str, port: &ServicePort) -> String {
    let (protocol, port) = (protocol(port), port.port);
    match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("{protocol}://[{host}]:{port}"),
        Err(_) => format!("{protocol}://{host}:{port}"),
    }
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn objects(services: &[(&str, &str, Value)]) -> Objects {
        let mut objects = Objects::default();
        for (namespace, name, spec) in services {
            let service = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
            objects.put_service(from_value(service).unwrap());
        }
        objects
    }

    fn told(objects: &Objects, links: ServiceLinks) -> Vec<String> {
        let vars = service_variables(objects, "shop", links);
        vars.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn one(ip: &str) -> Value {
        json!({"clusterIP": ip, "ports": [{"port": 80}]})
    }

    #[test]
    fn a_service_is_told_in_both_forms() {
        let redis = json!({"clusterIP": "10.0.0.11", "ports": [
            {"name": "main", "port": 6379, "protocol": "TCP"}, {"name": "dns-x", "port": 53, "protocol": "UDP"},
        ]});
        let told = told(&objects(&[("shop", "redis-master", redis)]), ServiceLinks::Namespace);
        let expected = [
            "REDIS_MASTER_SERVICE_HOST=10.0.0.11",
            "REDIS_MASTER_SERVICE_PORT=6379",
            "REDIS_MASTER_SERVICE_PORT_MAIN=6379",
            "REDIS_MASTER_SERVICE_PORT_DNS_X=53",
            "REDIS_MASTER_PORT=tcp://10.0.0.11:6379",
            "REDIS_MASTER_PORT_6379_TCP=tcp://10.0.0.11:6379",
            "REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
            "REDIS_MASTER_PORT_6379_TCP_PORT=6379",
            "REDIS_MASTER_PORT_6379_TCP_ADDR=10.0.0.11",
            "REDIS_MASTER_PORT_53_UDP=udp://10.0.0.11:53",
            "REDIS_MASTER_PORT_53_UDP_PROTO=udp",
            "REDIS_MASTER_PORT_53_UDP_PORT=53",
            "REDIS_MASTER_PORT_53_UDP_ADDR=10.0.0.11",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_urls_alone() {
        let told = told(&objects(&[("shop", "v6", one("fd00::1"))]), ServiceLinks::Namespace);
        assert!(told.contains(&"V6_SERVICE_HOST=fd00::1".to_owned()), "{told:?}");
        assert!(told.contains(&"V6_PORT=tcp://[fd00::1]:80".to_owned()), "{told:?}");
    }

    #[test]
    fn a_pod_is_told_of_its_namespace_and_of_the_api_server() {
        let objects = objects(&[
            ("default", "kubernetes", one("10.0.0.1")),
            ("default", "other", one("10.0.0.2")),
            ("shop", "web", one("10.0.0.3")),
            ("shop", "headless", one("None")),
            ("shop", "external", json!({"type": "ExternalName", "externalName": "x.example"})),
            ("shop", "portless", json!({"clusterIP": "10.0.0.4"})),
        ]);
        let hosts = |links| -> Vec<String> {
            told(&objects, links).into_iter().filter(|v| v.contains("_SERVICE_HOST=")).collect()
        };
        let master = "KUBERNETES_SERVICE_HOST=10.0.0.1".to_owned();
        assert_eq!(hosts(ServiceLinks::None), std::slice::from_ref(&master));
        assert_eq!(
            hosts(ServiceLinks::Namespace),
            [master, "WEB_SERVICE_HOST=10.0.0.3".to_owned()]
        );
    }

    #[test]
    fn the_namespaces_own_kubernetes_wins_when_it_is_linked() {
        let objects = objects(&[
            ("default", "kubernetes", one("10.0.0.1")),
            ("shop", "kubernetes", one("10.0.0.9")),
        ]);
        for (links, host) in
            [(ServiceLinks::None, "10.0.0.1"), (ServiceLinks::Namespace, "10.0.0.9")]
        {
            let told = told(&objects, links);
            assert_eq!(told.first().unwrap(), &format!("KUBERNETES_SERVICE_HOST={host}"));
        }
    }
}
