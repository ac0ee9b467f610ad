//! /etc/hosts of a pod; pure.

use super::hostname::PodHostname;
use crate::cri::proto;
use k8s_openapi::api::core::v1::{Container, HostAlias, Pod};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// Where it is in a container.
const HOSTS: &str = "/etc/hosts";
/// Tools look for these lines.
const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_OF_NODE: &str = "# Kubernetes-managed hosts file (host network).\n";
const ALIASES: &str = "\n# Entries added by HostAliases.\n";

/// The hosts of a pod with its own network: itself under its addresses, and its aliases.
pub fn hosts_of_pod(pod: &Pod, name: &PodHostname, ips: &[IpAddr]) -> String {
    let mut text = String::from(HEADER);
    text.push_str(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let hostname = &name.hostname;
        // Writing to a String cannot fail.
        match &name.domain {
            Some(domain) => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
            None => writeln!(text, "{ip}\t{hostname}"),
        }
        .ok();
    }
    add_aliases(&mut text, pod);
    text
}

/// The hosts of a pod with the node's network: the node's text, and the pod's aliases.
pub fn hosts_of_node(pod: &Pod, node: &str) -> String {
    let mut text = format!("{HEADER_OF_NODE}{node}");
    add_aliases(&mut text, pod);
    text
}

fn add_aliases(text: &mut String, pod: &Pod) {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref());
    let aliases = aliases.unwrap_or_default();
    if aliases.is_empty() {
        return;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(ALIASES);
    for HostAlias { ip, hostnames } in aliases {
        let names = hostnames.as_deref().unwrap_or_default().join("\t");
        // Writing to a String cannot fail.
        writeln!(text, "{ip}\t{names}").ok();
    }
}

/// The mount of the file at `host_path`; none when the container mounts something of its own there.
pub fn hosts_mount(container: &Container, host_path: &Path) -> Option<proto::Mount> {
    let own = container.volume_mounts.iter().flatten();
    let mut own = own.map(|mount| Path::new("/").join(&mount.mount_path));
    // Paths compare without what means nothing: /etc//hosts/ is the same.
    if own.any(|path| path == Path::new(HOSTS)) {
        return None;
    }
    Some(proto::Mount {
        container_path: HOSTS.to_owned(),
        host_path: host_path.to_str()?.to_owned(),
        selinux_relabel: true,
        ..proto::Mount::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pod(aliases: Value) -> Pod {
        from_value(json!({"spec": {"containers": [], "hostAliases": aliases}})).unwrap()
    }

    fn aliases() -> Value {
        json!([
            {"ip": "10.9.0.1", "hostnames": ["a.example", "b.example"]},
            {"ip": "10.9.0.2", "hostnames": ["c.example"]},
        ])
    }

    fn name(domain: Option<&str>) -> PodHostname {
        PodHostname { hostname: "web-0".into(), domain: domain.map(Into::into), kernel: "x".into() }
    }

    #[test]
    fn a_pod_is_told_its_own_names_under_each_address() {
        let ips = ["10.1.0.2".parse().unwrap(), "fd01::2".parse().unwrap()];
        let text = hosts_of_pod(&pod(json!([])), &name(None), &ips);
        let expected = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
            fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
            10.1.0.2\tweb-0\nfd01::2\tweb-0\n";
        assert_eq!(text, expected);
        let text = hosts_of_pod(&pod(json!([])), &name(Some("web.shop.svc.c.local")), &ips);
        assert!(text.contains("\n10.1.0.2\tweb-0.web.shop.svc.c.local\tweb-0\n"), "{text}");
    }

    #[test]
    fn aliases_are_a_block_at_the_end() {
        let block = "\n# Entries added by HostAliases.\n10.9.0.1\ta.example\tb.example\n\
            10.9.0.2\tc.example\n";
        let text = hosts_of_pod(&pod(aliases()), &name(None), &[]);
        assert!(text.ends_with(&format!("ip6-allrouters\n{block}")), "{text}");
        let text = hosts_of_node(&pod(aliases()), "192.0.2.1 node");
        let header = "# Kubernetes-managed hosts file (host network).\n";
        assert_eq!(text, format!("{header}192.0.2.1 node\n{block}"));
    }

    #[test]
    fn a_containers_own_hosts_are_left_alone() {
        let container = |path: &str| -> Container {
            let mounts = json!([{"name": "v", "mountPath": path}]);
            from_value(json!({"name": "app", "volumeMounts": mounts})).unwrap()
        };
        let rows = [
            ("/etc/hosts", false),
            ("/etc//hosts/", false),
            ("etc/hosts", false),
            ("/etc", true),
            ("/etc/hosts.d", true),
        ];
        for (path, mounted) in rows {
            let mount = hosts_mount(&container(path), Path::new("/pod/etc-hosts"));
            assert_eq!(mount.is_some(), mounted, "{path}");
        }
    }
}
