//! All stand still while one is dumped, and all go on afterwards, whatever comes between.

use super::stand_in::{all_go_on, ask, files, from, frozen, into, stand_in};
use crate::harness::leaks::Baseline;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod, poll};
use crate::userns;
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
        own("a_restore_that_is_cut_off_leaves_nothing", &[], plain, cut_off),
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
    let scene = Scene::new(node, "failed")?;
    let one = scene.start("one", pod::PATIENT, as_is)?.id;
    let two = scene.start("two", pod::PATIENT, as_is)?.id;
    let folder = node.volume("failed")?;
    let old = stand_in.join("version");
    std::fs::write(&old, "Version: 3.17.1\n")?;
    let words = "is criu 3.17.1, and 4.1 or newer is needed: ";
    let error = ask(node, into(&scene, &folder, &[&one, &two]), LONG).err().context("no error")?;
    let told = error.code() == Code::FailedPrecondition && error.message().contains(words);
    ensure!(told && error.message().contains("no_new_privs"), "{error}");
    super::refused(node, &scene.pod, &one, words)?;
    let check = node.berth(&["check"])?;
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    ensure!(text.lines().any(|l| l.starts_with("warn") && l.contains(words)), "{text}");
    ensure!(!stand_in.join("calls").exists(), "it was called all the same");
    std::fs::remove_file(old)?;

    // With the first container dumped or about to be, and both of them still.
    for (what, code, words) in [
        ("clash", Code::Internal, "tar archive what it has written failed"),
        ("thaw", Code::FailedPrecondition, "criu let it go on before its files were archived"),
    ] {
        std::fs::write(stand_in.join(what), "")?;
        let error = ask(node, into(&scene, &folder, &[&one, &two]), LONG).err().context(what)?;
        ensure!(error.code() == code && error.message().contains(words), "{what}: {error}");
        let left = kernel::names_in(&folder);
        ensure!(left.is_empty(), "{what}: left: {left:?}");
        all_go_on(node, &scene.pod, &[&one, &two]).context(what)?;
        std::fs::remove_file(stand_in.join(what))?;
        std::fs::remove_file(stand_in.join("calls"))?;
    }
    std::fs::write(stand_in.join("fail"), "")?;
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
    // The caller waits a second, the program longer. On a slow machine that second may end before the dump begins.
    let mut limits = [1, 4, 16, 50].map(Duration::from_secs).into_iter();
    loop {
        let limit = limits.next().context("it never stood still")?;
        let error = ask(node, request(node), limit).err().context("no error")?;
        ensure!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded), "{error}");
        if frozen(node, &pod, &one)? {
            break;
        }
    }
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
    refused(
        &|r| {
            userns::pod_from(userns::BASE)(r.config.get_or_insert_default());
            r.container_configs.iter_mut().for_each(|c| userns::from(c, userns::BASE));
        },
        "nothing comes back in a user namespace",
    )?;
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
    // The name is that of a pod now, which is no answer to another verb.
    let error = node.run_pod(&pod::pod(node, "back")).err().context("a repeat of what?")?;
    let told = error.message().contains("it comes from a checkpoint");
    ensure!(error.code() == Code::AlreadyExists && told, "{error}");
    let error = node.cri.restore_pod(from(node, &folder, "back", good())).err().context("twice")?;
    ensure!(error.code() == Code::AlreadyExists, "{error}");
    node.remove_pod(&made.pod_sandbox_id)?;
    let left = kernel::names_in(&node.state_dir().join("restores"));
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

/// The points at which a verb can be killed.
fn points(node: &Node, verb: impl FnOnce() -> Result<(), tonic::Status>) -> Result<Vec<String>> {
    let (plan, log) = (node.path("fail-plan"), node.path("fail-plan.log"));
    std::fs::remove_file(&log).ok();
    std::fs::write(&plan, "0")?;
    verb()?;
    std::fs::remove_file(&plan)?;
    node.remove_all()?;
    lines(&log)
}

fn cut_off(node: &mut Node) -> Result<()> {
    stand_in(node)?;
    let folder = node.volume("cut")?;
    let scene = Scene::new(node, "cut")?;
    let one = scene.start("one", pod::PATIENT, as_is)?.id;
    ask(node, into(&scene, &folder, &[&one]), LONG)?;
    node.remove_all()?;
    let source = files(&folder)?;
    let restore = |node: &Node| {
        let request = from(node, &folder, "cut", vec![pod::container("one", pod::PATIENT)]);
        node.cri.restore_pod(request).map(drop)
    };
    let ready = points(node, || node.run_pod(&pod::pod(node, "cut")).map(drop))?.len();
    let all = points(node, || restore(node))?;
    // From the moment on when the pod is READY: what is killed before is a RunPodSandbox that is cut off.
    let after = (ready..=all.len()).filter(|n| all[n - 1].contains(" after "));
    let mut undone = 0;
    for number in after {
        let at = &all[number - 1];
        let before = Baseline::take(node)?;
        std::fs::write(node.path("fail-plan"), number.to_string())?;
        let answered = restore(node).is_ok();
        // Tasks pass points side by side, so that their number may differ by a few.
        let wait = if answered { Duration::from_secs(2) } else { LONG };
        let killed = poll::within(wait, "killed", || node.exited()).is_ok();
        std::fs::remove_file(node.path("fail-plan"))?;
        if !killed {
            node.kill()?;
        }
        node.launch().with_context(|| at.clone())?;
        let pods = node.cri.list_pod_sandbox(Default::default())?.items;
        let containers = node.cri.list_containers(Default::default())?.containers;
        let images = kernel::names_in(&node.state_dir().join("restores"));
        let whole = [pods.len(), containers.len(), images.len()];
        ensure!(whole == [0; 3] || whole == [1; 3], "{at}: {pods:?} {containers:?} {images:?}");
        undone += usize::from(pods.is_empty());
        ensure!(containers.iter().all(|c| c.state() == ContainerState::ContainerCreated), "{at}");
        ensure!(files(&folder)? == source, "{at}: the checkpoint was changed");
        node.remove_all()?;
        before.compare(node).with_context(|| at.clone())?;
    }
    ensure!(undone > 1, "no point lies within a restore: {all:?}");
    Ok(())
}
