//! Checkpoints: what is refused, with which code, and that nothing is paused or left by it.

use crate::harness::machine::Machine;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::time::Duration;
use tonic::{Code, Status};

pub(crate) fn tests() -> Vec<Test> {
    let none = |_: &Machine| with("/no/such/criu");
    let broken = |_: &Machine| with("/bin/false");
    vec![
        own("a_checkpoint_of_a_container_is_refused_for_its_reason", &[], none, |node| {
            container(node, "criu is not installed: it is at none of /no/such/criu")
        }),
        own("a_checkpoint_of_a_pod_names_what_is_wrong", &[], broken, |node| {
            of_pod(node, "/bin/false does not work on this kernel")
        }),
        own("a_restore_names_what_is_wrong", &[], none, |node| restore(node)),
    ]
}

fn with(criu: &str) -> Options {
    Options { config: format!("[checkpoint]\ncriu = {criu:?}\n"), ..Options::default() }
}

/// What is left to say when the request is right.
fn by_criu(error: &Status, words: &str) -> Result<()> {
    ensure!(error.code() == Code::FailedPrecondition && error.message().contains(words), "{error}");
    Ok(())
}

fn container(node: &Node, criu: &str) -> Result<()> {
    let ask = |id: &str, location: &str, timeout| {
        let request = proto::CheckpointContainerRequest {
            container_id: id.into(),
            location: location.into(),
            timeout,
        };
        node.cri.checkpoint_container(request).err().context("a checkpoint of nothing")
    };
    let scene = Scene::new(node, "checkpoint")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    for (id, location, timeout, code) in [
        ("", "", 0, Code::InvalidArgument),
        (made.id.as_str(), "relative.tar", 0, Code::InvalidArgument),
        (made.id.as_str(), "/no/such/folder/x.tar", 0, Code::FailedPrecondition),
        (made.id.as_str(), "", -1, Code::InvalidArgument),
        ("ffffffffffff", "", 0, Code::NotFound),
    ] {
        let error = ask(id, location, timeout)?;
        ensure!(error.code() == code, "{id} {location} {timeout}: {error}");
    }
    let terminal = scene.start("terminal", pod::PATIENT, |c| c.tty = true)?.id;
    super::refused(node, &scene.pod, &terminal, "has a terminal")?;
    let others = scene.start("others", pod::PATIENT, |c| {
        let options = pod::security(c).namespace_options.get_or_insert_default();
        options.pid = proto::NamespaceMode::Target.into();
        options.target_id.clone_from(&made.id);
    })?;
    super::refused(node, &scene.pod, &others.id, "a pid namespace that is not its own")?;
    let file = node.path("checkpoint.tar");
    by_criu(&ask(&made.id, &file.to_string_lossy(), 30)?, criu)?;
    by_criu(&ask(&made.id, "", 0)?, criu)?;
    ensure!(!file.exists(), "a file is left");
    ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive", "it is paused");
    node.stop_container(&made.id, Duration::ZERO)?;
    let error = ask(&made.id, "", 0)?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    ensure!(error.message().contains("is not running"), "{error}");
    Ok(())
}

fn of_pod(node: &Node, criu: &str) -> Result<()> {
    let scene = Scene::new(node, "checkpoint-pod")?;
    let one = scene.start("one", pod::PATIENT, as_is)?.id;
    let two = scene.start("two", pod::PATIENT, as_is)?.id;
    let other = Scene::new(node, "checkpoint-other")?;
    let foreign = other.start("main", pod::PATIENT, as_is)?.id;
    let folder = node.volume("checkpoint")?;
    let good = proto::CheckpointPodRequest {
        pod_sandbox_id: scene.pod.clone(),
        output_path: folder.to_string_lossy().into_owned(),
        container_ids: vec![one.clone(), two.clone()],
        ..Default::default()
    };
    let ask = |request: proto::CheckpointPodRequest, deadline: bool| {
        let mut client = node.cri.runtime();
        let mut request = tonic::Request::new(request);
        if deadline {
            request.set_timeout(Duration::from_secs(50));
        }
        let answer = node.cri.wait(async move { client.checkpoint_pod(request).await });
        answer.err().context("a checkpoint of nothing")
    };
    let request = |change: &dyn Fn(&mut proto::CheckpointPodRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let named = |ids: &[&String]| -> proto::CheckpointPodRequest {
        request(&|r| r.container_ids = ids.iter().map(|&id| id.clone()).collect())
    };
    let error = ask(good.clone(), false)?;
    ensure!(
        error.code() == Code::InvalidArgument && error.message().contains("deadline"),
        "{error}"
    );
    for (request, code, words) in [
        (request(&|r| r.output_path = "here".into()), Code::InvalidArgument, "not absolute"),
        (request(&|r| r.output_path.push_str("/none")), Code::FailedPrecondition, "No such file"),
        (
            request(&|r| drop(r.options.insert("x".into(), "y".into()))),
            Code::InvalidArgument,
            "\"x\"",
        ),
        (request(&|r| r.pod_sandbox_id = "f".repeat(64)), Code::NotFound, "does not exist"),
        (named(&[]), Code::InvalidArgument, "required"),
        (named(&[&one, &one]), Code::InvalidArgument, "twice"),
        (named(&[&one]), Code::FailedPrecondition, "is not named"),
        (named(&[&one, &two, &foreign]), Code::InvalidArgument, "another pod"),
    ] {
        let error = ask(request, true)?;
        ensure!(error.code() == code && error.message().contains(words), "{words}: {error}");
    }
    by_criu(&ask(good.clone(), true)?, criu)?;
    ensure!(kernel::names_in(&folder).is_empty(), "left: {:?}", kernel::names_in(&folder));
    std::fs::write(folder.join("old"), "")?;
    let error = ask(good.clone(), true)?;
    ensure!(error.message().contains("is not empty"), "{error}");
    std::fs::remove_file(folder.join("old"))?;
    for id in [&one, &two] {
        ensure!(node.exec_ok(id, &["echo", "alive"])? == "alive", "{id} is paused");
    }
    node.stop_container(&two, Duration::ZERO)?;
    let error = ask(good.clone(), true)?;
    ensure!(error.message().contains("is not running"), "{error}");
    node.stop_pod(&scene.pod)?;
    let error = ask(good, true)?;
    ensure!(error.code() == Code::FailedPrecondition, "{error}");
    Ok(())
}

fn restore(node: &Node) -> Result<()> {
    let folder = node.volume("restored")?;
    std::fs::write(folder.join("image"), "process images")?;
    let good = proto::RestorePodRequest {
        checkpoint_path: folder.to_string_lossy().into_owned(),
        config: Some(pod::pod(node, "restored")),
        container_configs: vec![pod::container("main", pod::PATIENT)],
        ..Default::default()
    };
    let ask = |change: &dyn Fn(&mut proto::RestorePodRequest)| {
        let mut request = good.clone();
        change(&mut request);
        node.cri.restore_pod(request).err().context("a pod of nothing")
    };
    type Change = fn(&mut proto::RestorePodRequest);
    let cases: [(Change, Code, &str); 6] = [
        (|r| r.checkpoint_path = "here".into(), Code::InvalidArgument, "checkpoint_path"),
        (|r| r.checkpoint_path.push_str("/none"), Code::FailedPrecondition, "is no folder"),
        (|r| r.config = None, Code::InvalidArgument, "config"),
        (|r| r.runtime_handler = "none".into(), Code::InvalidArgument, "runtime_handler"),
        (|r| drop(r.options.insert("x".into(), "y".into())), Code::InvalidArgument, "\"x\""),
        (
            |r| r.container_configs.push(pod::container("main", &["true"])),
            Code::InvalidArgument,
            "container_configs[1]",
        ),
    ];
    for (change, code, words) in cases {
        let error = ask(&change)?;
        ensure!(error.code() == code && error.message().contains(words), "{words}: {error}");
    }
    by_criu(&ask(&as_is)?, "checkpoint_path: read")?;
    ensure!(kernel::read(folder.join("image"))? == "process images", "the source was touched");
    let listed = node.cri.list_pod_sandbox(Default::default())?.items;
    ensure!(listed.is_empty(), "a pod of nothing: {listed:?}");
    Ok(())
}
