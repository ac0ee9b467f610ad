//! Names of the pod, and how it resolves those of others.

use super::names::{dns_label, dns_subdomain};
use super::problem::{At, Problems};
use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};
use std::net::IpAddr;

/// What a resolver reads: name servers, search domains, characters of all search domains.
const MOST: (usize, usize, usize) = (3, 32, 2048);
/// Of a host name in the kernel.
const HOST_NAME: usize = 64;

/// `dnsPolicy` and `dnsConfig`.
pub(super) fn dns(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let policy = spec.dns_policy.as_deref();
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    problems.one_of(&at.field("dnsPolicy"), policy, &policies);
    let at = at.field("dnsConfig");
    if policy == Some("None") {
        let servers = spec.dns_config.as_ref().and_then(|config| config.nameservers.as_ref());
        if spec.dns_config.is_none() {
            problems.required(&at, "the policy None leaves it to this");
        } else if servers.is_none_or(Vec::is_empty) {
            problems.required(&at.field("nameservers"), "the policy None leaves it to this");
        }
    }
    if let Some(config) = &spec.dns_config {
        resolver(problems, &at, config);
    }
}

fn resolver(problems: &mut Problems, at: &At, config: &PodDNSConfig) {
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if servers.len() > MOST.0 {
        let why = format_args!("must be no more than {} name servers", MOST.0);
        problems.invalid(&at.field("nameservers"), servers.len(), why);
    }
    for (at, server) in at.field("nameservers").each(servers) {
        address(problems, &at, server);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    // The spaces between them count.
    let length = searches.iter().map(|search| search.len() + 1).sum::<usize>().saturating_sub(1);
    if searches.len() > MOST.1 {
        let why = format_args!("must be no more than {} search domains", MOST.1);
        problems.invalid(&at.field("searches"), searches.len(), why);
    }
    if length > MOST.2 {
        let why = format_args!("must be no more than {} characters together", MOST.2);
        problems.invalid(&at.field("searches"), length, why);
    }
    for (at, search) in at.field("searches").each(searches) {
        // A dot at the end, or alone, is the root of the DNS; services may begin with '_'.
        let name = search.strip_suffix('.').unwrap_or(search);
        let plain: Vec<&str> = name.split('.').map(|part| part.trim_start_matches('_')).collect();
        if search != "." {
            problems.check(&at, search, dns_subdomain(&plain.join(".")));
        }
    }
    for (at, option) in at.field("options").each_of(&config.options) {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            problems.required(&at.field("name"), "an option has a name");
        }
    }
}

fn address(problems: &mut Problems, at: &At, text: &str) {
    if text.parse::<IpAddr>().is_err() {
        problems.invalid(at, text, "must be an IP address");
    }
}

/// `hostAliases`.
pub(super) fn host_aliases(problems: &mut Problems, at: &At, spec: &PodSpec) {
    for (at, alias) in at.field("hostAliases").each_of(&spec.host_aliases) {
        address(problems, &at.field("ip"), &alias.ip);
        for (at, name) in at.field("hostnames").each_of(&alias.hostnames) {
            problems.check(&at, name, dns_subdomain(name));
        }
    }
}

/// `hostname`, `subdomain`, and what overrides them.
pub(super) fn host_names(problems: &mut Problems, at: &At, spec: &PodSpec) {
    for (name, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            problems.check(&at.field(name), value, dns_label(value));
        }
    }
    let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) else {
        return;
    };
    let field = at.field("hostnameOverride");
    problems.check(&field, name, dns_subdomain(name));
    if name.len() > HOST_NAME {
        problems.invalid(
            &field,
            name,
            format_args!("must be no longer than {HOST_NAME} characters"),
        );
    }
    if spec.set_hostname_as_fqdn == Some(true) {
        problems.forbidden(&field, "cannot be together with setHostnameAsFQDN");
    }
    if spec.host_network == Some(true) {
        problems.forbidden(&field, "on the node's network the host name is the node's");
    }
}
