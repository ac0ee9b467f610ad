//! `spec.containers[]`.

use super::model::{Container, Port, Protocol, PullPolicy, Requests, VolumeMount};
use super::parse::dns_name;
use super::yaml::{Fields, Node, PodError};
use crate::kubelet::env::expand;
use crate::quantity::{QuantityError, parse_milli, parse_whole};
use std::path::PathBuf;

/// Reads one container.
pub(super) fn parse_container(node: &Node<'_>) -> Result<Container, PodError> {
    let fields = node.fields(&[
        "name",
        "image",
        "imagePullPolicy",
        "command",
        "args",
        "workingDir",
        "env",
        "ports",
        "resources",
        "volumeMounts",
        "stdin",
        "tty",
    ])?;
    let image = fields.required("image")?;
    if image.text()?.is_empty() {
        return Err(image.error("must not be empty"));
    }
    let env = parse_env(&fields)?;
    let words = |name: &str| -> Result<Vec<String>, PodError> {
        let words = fields.get(name).map_or(Ok(Vec::new()), |node| node.texts())?;
        Ok(words.iter().map(|word| expand(word, &env)).collect())
    };
    let policies = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    Ok(Container {
        name: dns_name(&fields.required("name")?, 63)?,
        image: image.text()?.to_owned(),
        pull: match fields.get("imagePullPolicy") {
            Some(node) => node.choice(&policies)?,
            None => PullPolicy::default(),
        },
        command: words("command")?,
        args: words("args")?,
        working_dir: match fields.get("workingDir") {
            Some(node) => node.text()?.to_owned(),
            None => String::new(),
        },
        ports: fields.items("ports")?.iter().map(parse_port).collect::<Result<_, _>>()?,
        resources: match fields.get("resources") {
            Some(node) => parse_resources(&node)?,
            None => Requests::default(),
        },
        mounts: fields.items("volumeMounts")?.iter().map(parse_mount).collect::<Result<_, _>>()?,
        stdin: fields.flag("stdin")?,
        tty: fields.flag("tty")?,
        env,
    })
}

/// A value may refer to variables above it.
fn parse_env(fields: &Fields<'_>) -> Result<Vec<(String, String)>, PodError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for node in fields.items("env")? {
        let fields = node.fields(&["name", "value"])?;
        let name = fields.required("name")?;
        let text = name.text()?;
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err(name.error("is not the name of a variable"));
        }
        let value = match fields.get("value") {
            Some(node) => expand(node.text()?, &env),
            None => String::new(),
        };
        env.push((text.to_owned(), value));
    }
    Ok(env)
}

fn parse_port(node: &Node<'_>) -> Result<Port, PodError> {
    let fields = node.fields(&["name", "containerPort", "hostPort", "hostIP", "protocol"])?;
    let port = |node: &Node<'_>| {
        let number = node.number(1, u16::MAX.into())?;
        u16::try_from(number).map_err(|_| node.error("must be a port"))
    };
    let protocols = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
    Ok(Port {
        container_port: port(&fields.required("containerPort")?)?,
        host_port: fields.get("hostPort").map(|node| port(&node)).transpose()?,
        host_ip: match fields.get("hostIP") {
            Some(node) => {
                Some(node.text()?.parse().map_err(|_| node.error("must be an IP address"))?)
            }
            None => None,
        },
        protocol: match fields.get("protocol") {
            Some(node) => node.choice(&protocols)?,
            None => Protocol::default(),
        },
    })
}

fn parse_resources(node: &Node<'_>) -> Result<Requests, PodError> {
    let fields = node.fields(&["requests", "limits"])?;
    let (requests_cpu, requests_memory) = parse_amounts(&fields, "requests")?;
    let (limits_cpu, limits_memory) = parse_amounts(&fields, "limits")?;
    for (name, request, limit) in
        [("cpu", requests_cpu, limits_cpu), ("memory", requests_memory, limits_memory)]
    {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let path = format!("{}.requests.{name}", node.path);
            return Err(PodError::field(path, "is above the limit"));
        }
    }
    Ok(Requests {
        cpu_request: requests_cpu,
        cpu_limit: limits_cpu,
        memory_request: requests_memory,
        memory_limit: limits_memory,
    })
}

/// Thousandths of a CPU, and bytes.
fn parse_amounts(fields: &Fields<'_>, name: &str) -> Result<(Option<u64>, Option<u64>), PodError> {
    let Some(node) = fields.get(name) else { return Ok((None, None)) };
    let fields = node.fields(&["cpu", "memory"])?;
    let amount = |name: &str, parse: fn(&str) -> Result<u64, QuantityError>| {
        let Some(node) = fields.get(name) else { return Ok(None) };
        let text = node.scalar()?;
        parse(&text).map(Some).map_err(|error| node.error(format!("{text:?} {error}")))
    };
    Ok((amount("cpu", parse_milli)?, amount("memory", parse_whole)?))
}

fn parse_mount(node: &Node<'_>) -> Result<VolumeMount, PodError> {
    let fields = node.fields(&["name", "mountPath", "readOnly", "mountPropagation"])?;
    let path = fields.required("mountPath")?;
    let text = path.text()?;
    if !text.starts_with('/') || text.contains([':', '\0']) || text.trim_matches('/').is_empty() {
        return Err(path.error("must be an absolute path below the root, without ':'"));
    }
    Ok(VolumeMount {
        volume: fields.required("name")?.text()?.to_owned(),
        path: PathBuf::from(text),
        read_only: fields.flag("readOnly")?,
        host_to_container: match fields.get("mountPropagation") {
            // Bidirectional needs a privileged container.
            Some(node) => node.choice(&[("None", false), ("HostToContainer", true)])?,
            None => false,
        },
    })
}
