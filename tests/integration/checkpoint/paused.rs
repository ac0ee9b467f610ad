//! All stand still while one is dumped, and all go on afterwards, whatever comes between.

use super::stand_in::{all_go_on, ask, files, from, frozen, into, stand_in};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState};
use std::path::Path;
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    let plain = |_: &crate::harness::machine::Machine| Options::default();
    vec![
        own("all_stand_still_while_one_is_dumped", &[], plain, dumped),
        own("a_failed_dump_lets_all_go_on_and_leaves_nothing", &[], plain, failed),
        own("all_go_on_when_the_caller_or_the_daemon_is_gone", &[], plain, gone),
        own("a_restore_takes_all_or_nothing", &[], plain, restore),
    ]
}

const LONG: Duration = Duration::from_secs(50);

fn lines(file: &Path) -> Result<Vec<String>> {
    Ok(kernel::read(file)?.lines().map(str::to_owned).collect())
}

fn dumped(node: &mut Node) -> Result<()> {
    let stand_in = stand_in(node)?;
    let scene = Scene::new(node, "dumped")?;
    let one = scene.script("one", "echo written >/file; exec sleep 100000", as_is)?.id;
    let two = scene.start("two", pod::PATIENT, as_is)?.id;
    let folder = node.volume("dumped")?;
    eventually("the file", || {
        Ok((node.exec_ok(&one, &["cat", "/file"]).ok() == Some("written".into())).then_some(()))
    })?;
    ask(node, into(&scene, &folder, &[&one, &two]), LONG)?;
    ensure!(lines(&stand_in.join("seen"))? == ["frozen 1"; 4], "not all stood still");
    all_go_on(node, &scene.pod, &[&one, &two])?;
    let mut names = kernel::names_in(&folder);
    names.sort();
    ensure!(names == ["0", "1", "pod.json"], "{names:?}");
    let saved = kernel::read(folder.join("pod.json"))?;
    let at = usize::from(saved.find("\"one\"") > saved.find("\"two\""));
    let diff = folder.join(at.to_string()).join("rootfs-diff.tar");
    let listed = std::process::Command::new("tar").arg("-tf").arg(&diff).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.lines().any(|line| line == "./file"), "{listed}");
    let request = |location: String| proto::CheckpointContainerRequest {
        container_id: one.clone(),
        location,
        timeout: 40,
    };
    let file = node.path("one.tar").to_string_lossy().into_owned();
    node.cri.checkpoint_container(request(file.clone()))?;
    let error = node.cri.checkpoint_container(request(file)).err().context("it was overwritten")?;
    ensure!(error.message().contains("exists already"), "{error}");
    node.cri.checkpoint_container(request(String::new()))?;
    let own = kernel::names_in(&node.state_dir().join("checkpoints"));
    ensure!(own.len() == 1 && own[0].ends_with(".tar"), "{own:?}");
    all_go_on(node, &scene.pod, &[&one, &two])
}

fn failed(node: &mut Node) -> Result<()> {
    let stand_in = stand_in(node)?;
    std::fs::write(stand_in.join("fail"), "")?;
    let scene = Scene::new(node, "failed")?;
    let one = scene.start("one", pod::PATIENT, as_is)?.id;
    let two = scene.start("two", pod::PATIENT, as_is)?.id;
    let folder = node.volume("failed")?;
    let error = ask(node, into(&scene, &folder, &[&one, &two]), LONG).err().context("no error")?;
    ensure!(error.code() == Code::Internal, "{error}");
    ensure!(error.message().contains("dump failed: no such luck"), "{error}");
    ensure!(lines(&stand_in.join("calls"))?.len() == 2, "the first was to succeed");
    ensure!(kernel::names_in(&folder).is_empty(), "left: {:?}", kernel::names_in(&folder));
    all_go_on(node, &scene.pod, &[&one, &two])?;
    let file = node.path("failed.tar");
    let request = proto::CheckpointContainerRequest {
        container_id: one.clone(),
        location: file.to_string_lossy().into_owned(),
        timeout: 0,
    };
    let error = node.cri.checkpoint_container(request).err().context("no error")?;
    ensure!(error.message().contains("no such luck"), "{error}");
    let own = kernel::names_in(&node.state_dir().join("checkpoints"));
    ensure!(!file.exists() && own.is_empty(), "left: {own:?}");
    all_go_on(node, &scene.pod, &[&one, &two])
}

fn gone(node: &mut Node) -> Result<()> {
    let stand_in = stand_in(node)?;
    let hold = stand_in.join("hold");
    std::fs::write(&hold, "")?;
    let (pod, one, config) = {
        let scene = Scene::new(node, "gone")?;
        let one = scene.start("one", pod::PATIENT, as_is)?.id;
        (scene.pod, one, scene.config)
    };
    let folder = node.volume("gone")?;
    let request = |node: &Node| {
        let scene = Scene { node, config: config.clone(), pod: pod.clone() };
        into(&scene, &folder, &[&one])
    };
    // The caller waits a second, the program longer.
    let error = ask(node, request(node), Duration::from_secs(1)).err().context("no error")?;
    ensure!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded), "{error}");
    eventually("it stands still", || Ok(frozen(node, &pod, &one)?.then_some(())))?;
    std::fs::remove_file(&hold)?;
    eventually("it goes on", || Ok((!frozen(node, &pod, &one)?).then_some(())))?;
    eventually("nothing is left", || Ok(kernel::names_in(&folder).is_empty().then_some(())))?;
    all_go_on(node, &pod, &[&one])?;

    // A daemon that is stopped lets the container go on first.
    std::fs::write(&hold, "")?;
    let begin = |node: &Node| {
        let mut client = node.cri.runtime();
        let mut request = tonic::Request::new(request(node));
        request.set_timeout(LONG);
        node.cri.begin(async move { client.checkpoint_pod(request).await })
    };
    let begun = begin(node);
    eventually("it stands still", || Ok(frozen(node, &pod, &one)?.then_some(())))?;
    let daemon = nix::unistd::Pid::from_raw(node.pid()?);
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGTERM)?;
    std::fs::remove_file(&hold)?;
    eventually("the daemon ends", || node.exited())?;
    ensure!(!frozen(node, &pod, &one)?, "it stands still without a daemon");
    drop(node.cri.finish(begun));
    node.launch()?;
    for name in kernel::names_in(&folder) {
        let path = folder.join(name);
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }

    // One that is killed cannot; the next one does.
    std::fs::write(&hold, "")?;
    let begun = begin(node);
    eventually("it stands still", || Ok(frozen(node, &pod, &one)?.then_some(())))?;
    eventually("it writes", || Ok((!kernel::names_in(&folder).is_empty()).then_some(())))?;
    node.kill()?;
    drop(node.cri.finish(begun));
    ensure!(frozen(node, &pod, &one)?, "who let it go on?");
    std::fs::remove_file(&hold)?;
    node.launch()?;
    eventually("it goes on", || Ok((!frozen(node, &pod, &one)?).then_some(())))?;
    eventually("nothing is left", || Ok(kernel::names_in(&folder).is_empty().then_some(())))?;
    all_go_on(node, &pod, &[&one])
}

fn restore(node: &mut Node) -> Result<()> {
    stand_in(node)?;
    let folder = node.volume("taken")?;
    let scene = Scene::new(node, "taken")?;
    let one = scene.start("one", pod::PATIENT, as_is)?.id;
    let two = scene.start("two", pod::PATIENT, as_is)?.id;
    ask(node, into(&scene, &folder, &[&one, &two]), LONG)?;
    node.remove_pod(&scene.pod)?;
    let before = files(&folder)?;
    let good = || vec![pod::container("one", pod::PATIENT), pod::container("two", pod::PATIENT)];
    let refused = |change: &dyn Fn(&mut proto::RestorePodRequest), words: &str| -> Result<()> {
        let mut request = from(node, &folder, "back", good());
        change(&mut request);
        let error = node.cri.restore_pod(request).err().context(words.to_owned())?;
        let told = error.code() == Code::FailedPrecondition && error.message().contains(words);
        ensure!(told, "{words}: {error}");
        let pods = node.cri.list_pod_sandbox(Default::default())?.items;
        ensure!(pods.is_empty(), "{words}: left: {pods:?}");
        let left = kernel::names_in(&node.state_dir().join("restores"));
        ensure!(left.is_empty(), "{words}: left: {left:?}");
        Ok(())
    };
    refused(&|r| drop(r.container_configs.pop()), "\"two\" is in the checkpoint")?;
    refused(&|r| r.container_configs.push(pod::container("x", pod::PATIENT)), "\"x\" is not in")?;
    // Found after a pod and a container were made.
    refused(&|r| r.container_configs[1].command.push("x".into()), "process.args differs")?;
    refused(
        &|r| pod::security(&mut r.container_configs[1]).no_new_privs = true,
        "process.noNewPrivileges differs",
    )?;
    refused(&|r| r.container_configs[1].tty = true, "a terminal")?;
    let made = node.cri.restore_pod(from(node, &folder, "back", good()))?;
    ensure!(files(&folder)? == before, "the checkpoint was changed");
    let names: Vec<_> = made.restored_containers.iter().map(|c| c.name.as_str()).collect();
    ensure!(names == ["one", "two"], "{names:?}");
    for one in &made.restored_containers {
        let status = node.container(&one.container_id)?;
        ensure!(status.state() == ContainerState::ContainerCreated, "{status:?}");
    }
    let id = &made.restored_containers[0].container_id;
    let error = node.start_container(id).err().context("a process of nothing")?;
    ensure!(error.message().contains("no such luck"), "{error}");
    let status = node.container(id)?;
    ensure!(status.exit_code == 128 && status.reason == "StartError", "{status:?}");
    // The name is that of a pod now.
    let error = node.cri.restore_pod(from(node, &folder, "back", good())).err().context("twice")?;
    ensure!(error.code() == Code::AlreadyExists, "{error}");
    node.remove_pod(&made.pod_sandbox_id)?;
    let left = kernel::names_in(&node.state_dir().join("restores"));
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}
