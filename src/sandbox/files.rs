//! The texts of a pod's hosts, resolv.conf and hostname; pure.

use super::config::{DnsConfig, PodNamespace, SandboxConfig};
use crate::error::ErrorKind;
use std::fmt::Write as _;
use std::net::IpAddr;

/// HOST_NAME_MAX of the kernel, bytes.
const HOSTNAME_MAX: usize = 64;

/// A text that cannot stand in one of the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?}: {reason}")]
pub struct FileTextError {
    field: &'static str,
    value: String,
    reason: &'static str,
}

impl FileTextError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Checks the hostname and the DNS settings of a request.
///
/// # Errors
/// The first value that would break its file.
pub fn validate_files(sandbox: &SandboxConfig) -> Result<(), FileTextError> {
    let refuse = |field, value: &str, reason| {
        Err(FileTextError { field, value: value.chars().take(80).collect(), reason })
    };
    let word =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '\0');
    if sandbox.hostname.len() > HOSTNAME_MAX {
        return refuse("hostname", &sandbox.hostname, "is longer than 64 bytes");
    }
    if !sandbox.hostname.is_empty() && (!word(&sandbox.hostname) || sandbox.hostname.contains('/'))
    {
        return refuse("hostname", &sandbox.hostname, "is not a host name");
    }
    let Some(dns) = &sandbox.dns else { return Ok(()) };
    for (field, values) in [
        ("dns_config.servers", &dns.servers),
        ("dns_config.searches", &dns.searches),
        ("dns_config.options", &dns.options),
    ] {
        if let Some(odd) = values.iter().find(|value| !word(value)) {
            return refuse(field, odd, "is not one word");
        }
    }
    Ok(())
}

/// The name that processes of the pod see: the request's, else the host's. With the host's network
/// the pod is in the host's UTS namespace, so it is the host's, whatever was asked for.
pub fn effective_hostname<'a>(sandbox: &'a SandboxConfig, host: &'a str) -> &'a str {
    if sandbox.hostname.is_empty() || sandbox.namespaces.network == PodNamespace::Node {
        host
    } else {
        &sandbox.hostname
    }
}

/// /etc/hostname.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// /etc/hosts of a pod with its own network. One with the host's network gets the host's text.
pub fn hosts_file(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for ip in ips {
        // Writing to a String cannot fail.
        writeln!(text, "{ip}\t{hostname}").ok();
    }
    text
}

/// /etc/resolv.conf: from the settings, or the host's text when there are none.
pub fn resolv_conf(dns: Option<&DnsConfig>, host: &str) -> String {
    let Some(dns) = dns.filter(|dns| **dns != DnsConfig::default()) else {
        return host.to_owned();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        // Writing to a String cannot fail.
        writeln!(text, "search {}", dns.searches.join(" ")).ok();
    }
    for server in &dns.servers {
        writeln!(text, "nameserver {server}").ok();
    }
    if !dns.options.is_empty() {
        writeln!(text, "options {}", dns.options.join(" ")).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::sandbox;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn hosts_names_localhost_and_every_address_of_the_pod() {
        let ips = ["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = hosts_file("web-0", &ips);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(text.ends_with("\n10.88.0.2\tweb-0\nfd00::2\tweb-0\n"));
    }

    #[test]
    fn resolv_conf_is_the_settings_or_the_hosts_text() {
        let host = "nameserver 9.9.9.9\n";
        let full = DnsConfig {
            servers: words("10.0.0.10 10.0.0.11"),
            searches: words("ns.svc.local svc.local"),
            options: words("ndots:5 edns0"),
        };
        let rows = [
            ("no settings", None, host),
            ("empty settings", Some(DnsConfig::default()), host),
            (
                "all three",
                Some(full),
                "search ns.svc.local svc.local\nnameserver 10.0.0.10\nnameserver 10.0.0.11\n\
                 options ndots:5 edns0\n",
            ),
            (
                "a server alone",
                Some(DnsConfig { servers: words("1.1.1.1"), ..DnsConfig::default() }),
                "nameserver 1.1.1.1\n",
            ),
        ];
        for (row, dns, expected) in rows {
            assert_eq!(resolv_conf(dns.as_ref(), host), expected, "{row}");
        }
    }

    #[test]
    fn the_hostname_is_the_requests_except_on_the_hosts_network() {
        let mut pod = sandbox();
        assert_eq!(effective_hostname(&pod, "node"), "pod");
        pod.namespaces.network = PodNamespace::Node;
        assert_eq!(effective_hostname(&pod, "node"), "node");
        pod.namespaces.network = PodNamespace::Pod;
        pod.hostname.clear();
        assert_eq!(effective_hostname(&pod, "node"), "node");
        assert_eq!(hostname_file("node"), "node\n");
    }

    #[test]
    fn values_that_would_write_a_line_of_their_own_are_refused() {
        let with = |dns: DnsConfig| SandboxConfig { dns: Some(dns), ..sandbox() };
        let evil = || vec!["x\nnameserver 6.6.6.6".to_owned()];
        let empty = DnsConfig::default;
        let rows = [
            ("servers", with(DnsConfig { servers: evil(), ..empty() })),
            ("searches", with(DnsConfig { searches: evil(), ..empty() })),
            ("options", with(DnsConfig { options: vec![String::new()], ..empty() })),
            ("hostname", SandboxConfig { hostname: "a b".into(), ..sandbox() }),
            ("hostname", SandboxConfig { hostname: "a/b".into(), ..sandbox() }),
            ("hostname", SandboxConfig { hostname: "a".repeat(65), ..sandbox() }),
        ];
        for (field, pod) in rows {
            let error = validate_files(&pod).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        assert!(validate_files(&sandbox()).is_ok());
    }
}
