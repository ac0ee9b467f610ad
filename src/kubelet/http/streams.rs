//! `/exec`, `/attach`, `/portForward`: the runtime is asked for a URL, and the client's connection is joined to it.

use super::answer::{Answer, Refusal, text};
use super::pods::{find_pod, instances};
use super::proxy::{Upgrade, join};
use super::query::Query;
use super::route::{ContainerPath, PodPath};
use super::shown::Shown;
use crate::cri::proto;
use crate::kubelet::observed::POD_UID_LABEL;
use crate::kubelet::spec::uid;
use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::{Request, StatusCode};
use std::collections::BTreeMap;

/// Which streams of a command a client wants. The names are the kubelet's and, behind them, those of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn parse(query: &Query) -> Result<Self, Refusal> {
        let either = |one: &str, other: &str| query.is_set(one) || query.is_set(other);
        let wanted = Self {
            stdin: either("input", "stdin"),
            stdout: either("output", "stdout"),
            stderr: either("error", "stderr"),
            tty: query.is_set("tty"),
        };
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            return Err(Refusal::bad("one of input, output and error must be asked for"));
        }
        // A terminal has one stream of output.
        let stderr = wanted.stderr && !wanted.tty;
        Ok(Self { stderr, ..wanted })
    }
}

/// The id of the container's instance that runs.
async fn running(shown: &Shown, path: &ContainerPath) -> Result<String, Refusal> {
    let (_, all) = instances(shown, path).await?;
    let runs = |c: &proto::Container| c.state() == proto::ContainerState::ContainerRunning;
    let running = all.into_iter().find(runs).map(|container| container.id);
    running.ok_or_else(|| {
        Refusal::not_found(format!(
            "container {:?} of pod {}/{} does not run",
            path.name, path.pod.namespace, path.pod.name
        ))
    })
}

/// A request that is no upgrade gets no URL of the runtime's.
fn must_upgrade(request: &Request<Incoming>) -> Result<(), Refusal> {
    match request.headers().contains_key(UPGRADE) {
        true => Ok(()),
        false => Err(Refusal::bad("the request must ask for an upgrade, to SPDY/3.1 or websocket")),
    }
}

/// Runs a command in a container.
pub(super) async fn exec(
    shown: &Shown,
    path: &ContainerPath,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let query = Query::parse(request.uri().query());
    let cmd: Vec<String> = query.all("command").map(str::to_owned).collect();
    let Wanted { stdin, stdout, stderr, tty } = Wanted::parse(&query)?;
    if cmd.is_empty() {
        return Err(Refusal::bad("a command must be given: command=NAME&command=ARGUMENT"));
    }
    let container_id = running(shown, path).await?;
    must_upgrade(&request)?;
    let asked = proto::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let url = shown.cri.exec(asked).await?.url;
    join(shown, Upgrade { url: &url, query: None }, request).await
}

/// Attaches to a container.
pub(super) async fn attach(
    shown: &Shown,
    path: &ContainerPath,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Wanted { stdin, stdout, stderr, tty } =
        Wanted::parse(&Query::parse(request.uri().query()))?;
    let container_id = running(shown, path).await?;
    must_upgrade(&request)?;
    let asked = proto::AttachRequest { container_id, stdin, tty, stdout, stderr };
    let url = shown.cri.attach(asked).await?.url;
    join(shown, Upgrade { url: &url, query: None }, request).await
}

/// Forwards ports to a pod.
pub(super) async fn port_forward(
    shown: &Shown,
    path: &PodPath,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = find_pod(shown, path)?;
    must_upgrade(&request)?;
    let text = request.uri().query().map(str::to_owned);
    let port = ports(&Query::parse(text.as_deref()))?;
    let labels = BTreeMap::from([(POD_UID_LABEL.to_owned(), uid(&pod).to_owned())]);
    let ready = proto::PodSandboxState::SandboxReady.into();
    let filter = proto::PodSandboxFilter {
        state: Some(proto::PodSandboxStateValue { state: ready }),
        label_selector: labels.into_iter().collect(),
        ..proto::PodSandboxFilter::default()
    };
    let list = proto::ListPodSandboxRequest { filter: Some(filter) };
    let mut sandboxes = shown.cri.list_pod_sandbox(list).await?.items;
    sandboxes.sort_by_key(|sandbox| sandbox.created_at);
    let Some(sandbox) = sandboxes.pop() else {
        let cause = format!("pod {}/{} does not run", path.namespace, path.name);
        return Err(Refusal::not_found(cause));
    };
    let asked = proto::PortForwardRequest { pod_sandbox_id: sandbox.id, port };
    let url = shown.cri.port_forward(asked).await?.url;
    // WebSocket clients name the ports in the query, and the runtime reads it there.
    join(shown, Upgrade { url: &url, query: text.as_deref() }, request).await
}

/// The ports of a query: several `port`, or one with commas.
fn ports(query: &Query) -> Result<Vec<i32>, Refusal> {
    let words = query.all("port").flat_map(|value| value.split(',')).map(str::trim);
    let port = |word: &str| match word.parse::<u16>() {
        Ok(port) if port > 0 => Ok(i32::from(port)),
        _ => Err(Refusal::bad(format!("port={word:?} is not a port"))),
    };
    words.filter(|word| !word.is_empty()).map(port).collect()
}

/// Runs a command and answers with what it says.
pub(super) async fn run(
    shown: &Shown,
    path: &ContainerPath,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    let query = Query::parse(query);
    let cmd: Vec<String> =
        query.all("cmd").flat_map(str::split_whitespace).map(str::to_owned).collect();
    if cmd.is_empty() {
        return Err(Refusal::bad("a command must be given: cmd=NAME%20ARGUMENT"));
    }
    let container_id = running(shown, path).await?;
    let asked = proto::ExecSyncRequest { container_id, cmd, timeout: 0 };
    let proto::ExecSyncResponse { mut stdout, stderr, exit_code } =
        shown.cri.exec_sync(asked).await?;
    stdout.extend_from_slice(&stderr);
    if exit_code == 0 {
        return Ok(text(stdout));
    }
    let said = String::from_utf8_lossy(&stdout);
    let cause = format!("the command ended with exit code {exit_code}:\n{said}");
    Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_the_kubelets_names_and_the_apis() {
        let all = |stdin, stdout, stderr, tty| Some(Wanted { stdin, stdout, stderr, tty });
        for (query, expected) in [
            ("input=1&output=1&error=1", all(true, true, true, false)),
            ("stdin=true&stdout=true&stderr=true&tty=false", all(true, true, true, false)),
            ("output=1&error=1&tty=1", all(false, true, false, true)),
            ("error=1", all(false, false, true, false)),
            ("output=0&tty=1", None),
            ("", None),
        ] {
            let wanted = Wanted::parse(&Query::parse(Some(query))).map_err(|refusal| refusal.code);
            assert_eq!(wanted, expected.ok_or(StatusCode::BAD_REQUEST), "{query}");
        }
    }

    #[test]
    fn ports_are_numbers_of_ports() {
        let read = |query| ports(&Query::parse(Some(query))).map_err(|refusal| refusal.code);
        assert_eq!(read("port=80&port=443,8080"), Ok(vec![80, 443, 8080]));
        assert_eq!(read(""), Ok(vec![]));
        for bad in ["port=0", "port=65536", "port=http", "port=-1"] {
            assert_eq!(read(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
