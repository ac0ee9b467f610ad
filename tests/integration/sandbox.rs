//! The verbs of a sandbox: repeats, removal, status, lists, many at once.

use crate::harness::pod::{PATIENT, namespaces, pod};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, PodSandboxState, PodSandboxStateValue};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_repeated_run_returns_the_same_pod", &[], repeat),
        shared("a_repeated_run_of_a_stopped_pod_is_refused", &[], repeat_of_a_stopped_pod),
        shared("the_same_name_with_another_request_is_refused_by_its_field", &[], other_request),
        shared("two_identical_runs_at_once_make_one_pod", &[], two_at_once),
        shared("stop_and_remove_succeed_again_and_for_unknown_pods", &[], stop_and_remove),
        shared("the_status_of_an_unknown_pod_is_not_found", &[], unknown_status),
        shared("the_status_tells_its_containers_and_when_it_was_so", &[], evented),
        shared("a_list_is_reduced_by_id_state_and_labels", &[], list_filters),
        shared("the_verbose_status_names_what_the_kernel_has", &[], verbose),
        shared("fifty_pods_at_once_run_and_go", &[], fifty),
    ]
}

/// The code and the words with which a run is refused.
fn refusal(node: &Node, config: &proto::PodSandboxConfig) -> Result<(Code, String)> {
    let status = node.run_pod(config).err().context("the request was accepted")?;
    Ok((status.code(), status.message().to_owned()))
}

fn list(node: &Node, filter: proto::PodSandboxFilter) -> Result<BTreeSet<String>> {
    let request = proto::ListPodSandboxRequest { filter: Some(filter) };
    Ok(node.cri.list_pod_sandbox(request)?.items.into_iter().map(|pod| pod.id).collect())
}

fn all(node: &Node) -> Result<BTreeSet<String>> {
    list(node, proto::PodSandboxFilter::default())
}

fn remove(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
    node.cri.remove_pod_sandbox(request).map(drop)
}

/// The shims that the kernel has, by sandbox.
fn shims(node: &Node) -> Vec<String> {
    kernel::names_in(&node.run_dir().join("sandboxes"))
        .into_iter()
        .filter(|id| node.shim_pid(id).is_ok())
        .collect()
}

fn repeat(node: &Node) -> Result<()> {
    let config = pod(node, "repeat");
    let id = node.run_pod(&config)?;
    let pause = node.pause_pid(&id)?;
    ensure!(node.run_pod(&config)? == id, "another id");
    ensure!(node.pause_pid(&id)? == pause, "another pause");
    ensure!(shims(node) == [id], "one shim: {:?}", shims(node));
    // Control: another attempt of the pod is another pod.
    let mut next = config;
    next.metadata.get_or_insert_default().attempt = 1;
    node.run_pod(&next)?;
    ensure!(shims(node).len() == 2, "two shims: {:?}", shims(node));
    Ok(())
}

fn repeat_of_a_stopped_pod(node: &Node) -> Result<()> {
    let config = pod(node, "stopped");
    let id = node.run_pod(&config)?;
    node.stop_pod(&id)?;
    let (code, words) = refusal(node, &config)?;
    ensure!(code == Code::AlreadyExists && words.contains(&id), "{code:?} {words}");
    // Control: the name is free when the pod is gone.
    node.remove_pod(&id)?;
    ensure!(node.run_pod(&config)? != id, "the id of the removed pod");
    Ok(())
}

fn other_request(node: &Node) -> Result<()> {
    let config = pod(node, "differs");
    let id = node.run_pod(&config)?;
    type Change = fn(&mut proto::PodSandboxConfig);
    let rows: [(&str, Change); 3] = [
        ("labels", |c| drop(c.labels.insert("a".into(), "b".into()))),
        ("dns", |c| c.dns_config.get_or_insert_default().servers = vec!["10.9.9.9".into()]),
        ("log_directory", |c| c.log_directory.push_str("-elsewhere")),
    ];
    for (field, change) in rows {
        let mut other = config.clone();
        change(&mut other);
        let (code, words) = refusal(node, &other)?;
        ensure!(code == Code::AlreadyExists, "{field}: {code:?} {words}");
        ensure!(words.contains(field) && words.contains(&id), "{field}: {words}");
    }
    ensure!(all(node)? == [id].into(), "one pod");
    Ok(())
}

fn two_at_once(node: &Node) -> Result<()> {
    let request = proto::RunPodSandboxRequest {
        config: Some(pod(node, "twins")),
        runtime_handler: String::new(),
    };
    let begin = || {
        let (mut client, request) = (node.cri.runtime(), request.clone());
        node.cri.begin(async move { client.run_pod_sandbox(request).await })
    };
    let calls = [begin(), begin()];
    let mut ids = BTreeSet::new();
    for call in calls {
        ids.insert(node.cri.finish(call)?.pod_sandbox_id);
    }
    ensure!(ids.len() == 1, "two pods: {ids:?}");
    ensure!(all(node)? == ids, "listed: {:?}", all(node)?);
    ensure!(shims(node).len() == 1, "shims: {:?}", shims(node));
    Ok(())
}

/// "This call is idempotent, and must not return an error if the sandbox has already been stopped"
/// and the same of removal.
fn stop_and_remove(node: &Node) -> Result<()> {
    let unknown = "ab".repeat(32);
    node.stop_pod(&unknown).context("stop an unknown pod")?;
    remove(node, &unknown).context("remove an unknown pod")?;
    let id = node.run_pod(&pod(node, "twice"))?;
    let pause = node.pause_pid(&id)?;
    for round in ["first", "second"] {
        node.stop_pod(&id).context(round)?;
        ensure!(!kernel::alive(pause), "{round} stop: pause is alive");
        ensure!(node.pod(&id)?.state() == PodSandboxState::SandboxNotready, "{round}: READY");
    }
    for round in ["first", "second"] {
        remove(node, &id).context(round)?;
        ensure!(all(node)?.is_empty(), "{round} removal: still listed");
    }
    node.stop_pod(&id).context("stop a removed pod")?;
    // A running pod is stopped by its removal.
    let id = node.run_pod(&pod(node, "once"))?;
    let pause = node.pause_pid(&id)?;
    remove(node, &id)?;
    ensure!(!kernel::alive(pause), "pause outlives the pod's removal");
    Ok(())
}

fn unknown_status(node: &Node) -> Result<()> {
    let rows = [
        ("cd".repeat(32), Code::NotFound),
        ("../../etc".to_owned(), Code::NotFound),
        (String::new(), Code::InvalidArgument),
    ];
    for (id, code) in rows {
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let status = node.cri.pod_sandbox_status(request).err().context("it has a status")?;
        ensure!(status.code() == code, "{id:?}: {status}");
    }
    Ok(())
}

/// As a kubelet that follows events reads it: in nanoseconds, and of one moment.
fn evented(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "evented")?;
    let exited = scene.script("exited", "exit 3", as_is)?;
    exited.end()?;
    let (running, created) =
        (scene.start("running", PATIENT, as_is)?, scene.create("created", PATIENT, as_is)?);
    // Control: another pod's container is not among them.
    node.patient_pod("other")?;
    let now =
        || anyhow::Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?);
    let mut newest = now()?;
    for _ in 0..2 {
        let request = proto::PodSandboxStatusRequest {
            pod_sandbox_id: scene.pod.clone(),
            ..Default::default()
        };
        let answer = node.cri.pod_sandbox_status(request)?;
        ensure!((newest..=now()?).contains(&answer.timestamp), "at {}", answer.timestamp);
        newest = answer.timestamp;
        let mut told = answer.containers_statuses;
        told.sort_by_key(|status| status.created_at);
        let ids = [&exited.id, &running.id, &created];
        let each = ids.map(|id| node.container(id)).into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(told == each, "{told:?} instead of {each:?}");
    }
    Ok(())
}

fn list_filters(node: &Node) -> Result<()> {
    let labelled = |name: &str, app: &str| {
        let mut config = pod(node, name);
        config.labels = [("app".to_owned(), app.to_owned()), ("all".into(), "yes".into())].into();
        node.run_pod(&config)
    };
    let (web, db, ended) = (labelled("web", "web")?, labelled("db", "db")?, labelled("e", "web")?);
    node.stop_pod(&ended)?;
    let filter = |id: &str, state: Option<PodSandboxState>, labels: &[(&str, &str)]| {
        let state = state.map(|state| PodSandboxStateValue { state: state.into() });
        let label_selector =
            labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        proto::PodSandboxFilter { id: id.to_owned(), state, label_selector }
    };
    let ready = Some(PodSandboxState::SandboxReady);
    let not_ready = Some(PodSandboxState::SandboxNotready);
    let rows = [
        ("nothing", filter("", None, &[]), vec![&web, &db, &ended]),
        ("full id", filter(&web, None, &[]), vec![&web]),
        ("short id", filter(&web[..13], None, &[]), vec![&web]),
        ("unknown id", filter("zz", None, &[]), vec![]),
        ("ready", filter("", ready, &[]), vec![&web, &db]),
        ("not ready", filter("", not_ready, &[]), vec![&ended]),
        ("a label", filter("", None, &[("app", "web")]), vec![&web, &ended]),
        ("two labels", filter("", None, &[("app", "db"), ("all", "yes")]), vec![&db]),
        ("a label's other value", filter("", None, &[("app", "x")]), vec![]),
        ("label and state", filter("", ready, &[("app", "web")]), vec![&web]),
        ("id and state", filter(&web, not_ready, &[]), vec![]),
    ];
    for (row, filter, expected) in rows {
        let expected: BTreeSet<String> = expected.into_iter().cloned().collect();
        let got = list(node, filter)?;
        ensure!(got == expected, "{row}: {got:?} instead of {expected:?}");
    }
    Ok(())
}

fn verbose(node: &Node) -> Result<()> {
    let id = node.run_pod(&pod(node, "verbose"))?;
    let ask = |verbose| {
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose };
        node.cri.pod_sandbox_status(request)
    };
    ensure!(ask(false)?.info.is_empty(), "details that were not asked for");
    let info = ask(true)?.info;
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?)?;
    ensure!(info["pid"] == node.pause_pid(&id)?, "pid {}", info["pid"]);
    ensure!(info["shimPid"] == node.shim_pid(&id)?, "shimPid {}", info["shimPid"]);
    ensure!(info["sandboxID"] == id.as_str(), "sandboxID {}", info["sandboxID"]);
    ensure!(info["cgroup"] == format!("/berth/{id}"), "cgroup {}", info["cgroup"]);
    ensure!(info["config"]["metadata"]["name"] == "verbose", "config {}", info["config"]);
    Ok(())
}

fn fifty(node: &Node) -> Result<()> {
    let mut calls = Vec::new();
    for number in 0..50 {
        let mut config = pod(node, &format!("many-{number}"));
        if let Some(linux) = &mut config.linux {
            // Half of them on the host's network.
            let host = namespaces(proto::NamespaceMode::Node);
            let options = (number % 2 == 0).then_some(host);
            let security = linux.security_context.get_or_insert_default();
            security.namespace_options = options.or(security.namespace_options.take());
        }
        let request = proto::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        let mut client = node.cri.runtime();
        calls.push(node.cri.begin(async move { client.run_pod_sandbox(request).await }));
    }
    let mut ids = BTreeSet::new();
    for call in calls {
        ids.insert(node.cri.finish(call)?.pod_sandbox_id);
    }
    ensure!(ids.len() == 50 && all(node)? == ids, "{} pods", ids.len());
    let pauses: BTreeSet<i32> = ids.iter().map(|id| node.pause_pid(id)).collect::<Result<_>>()?;
    ensure!(pauses.len() == 50, "{} pauses", pauses.len());
    let mut calls = Vec::new();
    for id in ids {
        let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id };
        let mut client = node.cri.runtime();
        calls.push(node.cri.begin(async move { client.remove_pod_sandbox(request).await }));
    }
    for call in calls {
        node.cri.finish(call)?;
    }
    ensure!(all(node)?.is_empty(), "pods are left");
    ensure!(!pauses.into_iter().any(kernel::alive), "a pause is left");
    Ok(())
}
