//! A Pod file, read field by field. A field that is not named here is refused.

use super::containers::parse_container;
use super::model::{HostAlias, Pod};
use super::volumes::parse_volume;
use super::yaml::{Fields, Node, PodError};
use serde::Deserialize as _;
use serde_yaml_ng::{Deserializer, Value};

/// Seconds that Kubernetes gives a container to end when the file does not say.
const DEFAULT_GRACE_SECONDS: u32 = 30;

/// Reads one Pod.
///
/// # Errors
/// [`PodError`]: no YAML, no Pod, a wrong value, or a field that is not supported, by its path.
pub fn parse_pod(text: &str) -> Result<Pod, PodError> {
    let documents = Deserializer::from_str(text)
        .map(Value::deserialize)
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(PodError::Yaml)?;
    let [document] = documents.as_slice() else {
        return Err(PodError::Documents(documents.len()));
    };
    let root = Node::root(document);
    if document.as_mapping().is_none() {
        return Err(PodError::field("the file", "must hold a Pod"));
    }
    // What it is comes first: another kind has other fields.
    for (field, value) in [("apiVersion", "v1"), ("kind", "Pod")] {
        let found = document.get(field).and_then(Value::as_str);
        if found != Some(value) {
            let found = found.map_or_else(|| "absent".to_owned(), |text| format!("{text:?}"));
            return Err(PodError::field(field, format!("is {found}; {value:?} is expected")));
        }
    }
    let fields = root.fields(&["apiVersion", "kind", "metadata", "spec"])?;
    let pod = parse_metadata(&fields.required("metadata")?)?;
    let pod = parse_spec(&fields.required("spec")?, pod)?;
    validate(&pod)?;
    Ok(pod)
}

fn parse_metadata(node: &Node<'_>) -> Result<Pod, PodError> {
    let fields = node.fields(&["name", "namespace", "uid", "labels", "annotations"])?;
    let name = dns_name(&fields.required("name")?, 253)?;
    let namespace = match fields.get("namespace") {
        Some(node) => dns_name(&node, 63)?,
        None => "default".to_owned(),
    };
    let uid = match fields.get("uid") {
        Some(node) => Some(uid(&node)?),
        None => None,
    };
    let map = |field: &str| fields.get(field).map_or(Ok(Default::default()), |n| n.text_map());
    Ok(Pod {
        // What the kernel takes as a host name.
        hostname: name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
        labels: map("labels")?,
        annotations: map("annotations")?,
        name,
        namespace,
        uid,
        host_network: false,
        host_ipc: false,
        host_pid: false,
        share_pid: false,
        host_aliases: Vec::new(),
        restart_policy_absent: false,
        grace_seconds: DEFAULT_GRACE_SECONDS,
        containers: Vec::new(),
        volumes: Vec::new(),
    })
}

fn parse_spec(node: &Node<'_>, pod: Pod) -> Result<Pod, PodError> {
    let fields = node.fields(&[
        "containers",
        "volumes",
        "hostname",
        "hostNetwork",
        "hostIPC",
        "hostPID",
        "shareProcessNamespace",
        "hostAliases",
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "dnsPolicy",
    ])?;
    if let Some(policy) = fields.get("dnsPolicy")
        && policy.text()? != "Default"
    {
        return Err(policy.error("can only be Default: the pod gets the host's resolv.conf"));
    }
    let hostname = match fields.get("hostname") {
        Some(node) => dns_name(&node, 63)?,
        None => pod.hostname.clone(),
    };
    let grace_seconds = match fields.get("terminationGracePeriodSeconds") {
        Some(node) => node.number(0, 86_400)?,
        None => DEFAULT_GRACE_SECONDS,
    };
    let containers = fields.required("containers")?;
    let all = containers.list()?;
    if all.is_empty() {
        return Err(containers.error("must hold a container"));
    }
    let all = |nodes: &[Node<'_>]| nodes.iter().map(parse_container).collect::<Result<_, _>>();
    Ok(Pod {
        hostname,
        grace_seconds,
        host_network: fields.flag("hostNetwork")?,
        host_ipc: fields.flag("hostIPC")?,
        host_pid: fields.flag("hostPID")?,
        share_pid: fields.flag("shareProcessNamespace")?,
        host_aliases: parse_aliases(&fields)?,
        restart_policy_absent: parse_restart_policy(&fields)?,
        containers: all(&containers.list()?)?,
        volumes: fields.items("volumes")?.iter().map(parse_volume).collect::<Result<_, _>>()?,
        ..pod
    })
}

/// Whether the policy is absent. Restarting is a kubelet's work.
fn parse_restart_policy(fields: &Fields<'_>) -> Result<bool, PodError> {
    let Some(node) = fields.get("restartPolicy") else { return Ok(true) };
    match node.text()? {
        "Never" => Ok(false),
        other => Err(node.error(format!(
            "{other} is not supported yet: `berth run` restarts nothing; use Never"
        ))),
    }
}

fn parse_aliases(fields: &Fields<'_>) -> Result<Vec<HostAlias>, PodError> {
    let mut aliases = Vec::new();
    for node in fields.items("hostAliases")? {
        let fields = node.fields(&["ip", "hostnames"])?;
        let ip = fields.required("ip")?;
        let mut hostnames = Vec::new();
        for name in fields.items("hostnames")? {
            hostnames.push(dns_name(&name, 253)?);
        }
        aliases.push(HostAlias {
            ip: ip.text()?.parse().map_err(|_| ip.error("must be an IP address"))?,
            hostnames,
        });
    }
    Ok(aliases)
}

/// What no field can tell alone.
fn validate(pod: &Pod) -> Result<(), PodError> {
    if pod.host_pid && pod.share_pid {
        let problem = "cannot go together with spec.hostPID";
        return Err(PodError::field("spec.shareProcessNamespace", problem));
    }
    let mut host_ports = Vec::new();
    for (index, container) in pod.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}]");
        if pod.containers.iter().take(index).any(|other| other.name == container.name) {
            let problem = format!("{:?} is the name of another container", container.name);
            return Err(PodError::field(format!("{path}.name"), problem));
        }
        for (number, mount) in container.mounts.iter().enumerate() {
            let path = format!("{path}.volumeMounts[{number}]");
            if !pod.volumes.iter().any(|volume| volume.name == mount.volume) {
                let problem = format!("{:?} is not a volume of the pod", mount.volume);
                return Err(PodError::field(format!("{path}.name"), problem));
            }
            if container.mounts.iter().take(number).any(|other| other.path == mount.path) {
                return Err(PodError::field(format!("{path}.mountPath"), "is used twice"));
            }
        }
        for (number, port) in container.ports.iter().enumerate() {
            let path = format!("{path}.ports[{number}].hostPort");
            let Some(host_port) = port.host_port else { continue };
            if pod.host_network && host_port != port.container_port {
                let problem = "must be containerPort with spec.hostNetwork";
                return Err(PodError::field(path, problem));
            }
            let key = (host_port, port.protocol, port.host_ip);
            if host_ports.contains(&key) {
                return Err(PodError::field(path, format!("{host_port} is used twice")));
            }
            host_ports.push(key);
        }
    }
    for (index, volume) in pod.volumes.iter().enumerate() {
        if pod.volumes.iter().take(index).any(|other| other.name == volume.name) {
            let problem = format!("{:?} is the name of another volume", volume.name);
            return Err(PodError::field(format!("spec.volumes[{index}].name"), problem));
        }
    }
    Ok(())
}

/// A name of lower-case letters, digits and `-`, with dots if it may be longer than a label.
pub(super) fn dns_name(node: &Node<'_>, longest: usize) -> Result<String, PodError> {
    let text = node.text()?;
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let dots = longest > 63 || !text.contains('.');
    if text.len() > longest || !dots || !text.split('.').all(label) {
        let problem = format!(
            "{text:?} must be lower-case letters, digits and '-', at most {longest} characters"
        );
        return Err(node.error(problem));
    }
    Ok(text.to_owned())
}

/// Becomes the name of a folder.
fn uid(node: &Node<'_>) -> Result<String, PodError> {
    let text = node.text()?;
    let sound = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if sound { Ok(text.to_owned()) } else { Err(node.error("must be letters, digits and '-'")) }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
