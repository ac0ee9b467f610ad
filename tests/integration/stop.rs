//! StopContainer: the stop signal, the grace period, SIGKILL, and what init left behind.

use crate::harness::cri::Begun;
use crate::harness::machine::Machine;
use crate::harness::scene::{Made, Scene, as_is, in_shared_pids, shared_pids};
use crate::harness::{
    Node, Options, Test, eventually, image, kernel, logs, own, pod, poll, shared,
};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("the_signal_is_the_requests_then_the_images_then_term", &[], signal_order),
        shared("a_process_that_heeds_the_signal_ends_by_itself", &[], heeds),
        shared("after_the_grace_comes_sigkill", &[], sigkill),
        shared("no_grace_means_sigkill_at_once", &[], no_grace),
        shared("what_init_leaves_behind_is_killed", &[], stragglers),
        shared("a_later_shorter_timeout_wins", &[], shorter_wins),
        shared("a_later_longer_timeout_changes_nothing", &[], longer_loses),
        shared("a_stop_goes_on_without_its_client", &[], client_gone),
        shared("what_does_not_run_is_stopped_already", &[], not_running),
        own("a_stop_goes_on_after_kill_9_of_the_daemon", &[], options, daemon_killed),
        own("a_stop_asks_once_wherever_the_daemon_is_killed", &[], options, asks_once),
        own("a_stop_goes_on_over_a_broken_connection_to_the_shim", &[], options, cut_off),
    ]
}

/// More than any deadline of the tests.
const FOR_EVER: Duration = Duration::from_secs(100_000);
/// Tells which signal came, and ends.
const TELLS: &str = "for s in TERM USR1 USR2 INT; do trap \"echo got $s; exit 0\" $s; done; \
    echo ready; while :; do sleep 100000 & wait; done";
/// Tells that a signal came, and goes on.
const IGNORES: &str = "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done";

fn options(_: &Machine) -> Options {
    Options::default()
}

/// An image whose configuration names a stop signal.
fn image_with_usr1(node: &Node) -> Result<String> {
    let name = "berth.test/stop-signal:latest";
    let archive = node.path("stop-signal.tar");
    image::write_busybox_as(&archive, name, &serde_json::json!({ "StopSignal": "SIGUSR1" }))?;
    node.import(&archive)?;
    Ok(name.to_owned())
}

fn signal_order(node: &Node) -> Result<()> {
    let with_signal = image_with_usr1(node)?;
    let scene = Scene::new(node, "signals")?;
    let rows = [
        ("neither", image::BUSYBOX, proto::Signal::RuntimeDefault, "got TERM"),
        ("image", with_signal.as_str(), proto::Signal::RuntimeDefault, "got USR1"),
        ("request", image::BUSYBOX, proto::Signal::Sigint, "got INT"),
        ("both", with_signal.as_str(), proto::Signal::Sigusr2, "got USR2"),
    ];
    for (name, image, signal, expected) in rows {
        let made = scene.script(name, TELLS, |config| {
            config.image.get_or_insert_default().image = image.into();
            config.stop_signal = signal.into();
        })?;
        made.said("ready")?;
        node.stop_container(&made.id, FOR_EVER)?;
        let text = made.text()?;
        ensure!(text == format!("ready\n{expected}\n"), "{name}: {text:?}");
        ensure!(made.status()?.exit_code == 0, "{name}: {:?}", made.status()?);
    }
    let image = proto::ImageSpec { image: with_signal, ..Default::default() };
    node.remove_all()?;
    node.cri.remove_image(proto::RemoveImageRequest { image: Some(image) })?;
    Ok(())
}

fn heeds(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "heeds")?;
    let made = scene.script("main", TELLS, as_is)?;
    made.said("ready")?;
    node.stop_container(&made.id, FOR_EVER)?;
    let status = made.status()?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    Ok(())
}

fn ignoring<'a>(scene: &Scene<'a>, name: &str) -> Result<Made<'a>> {
    let made = scene.script(name, IGNORES, as_is)?;
    made.said("ready")?;
    Ok(made)
}

fn sigkill(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "sigkill")?;
    let made = ignoring(&scene, "main")?;
    let init = made.init()?;
    let from = Instant::now();
    node.stop_container(&made.id, Duration::from_secs(2))?;
    ensure!(from.elapsed() >= Duration::from_secs(2), "killed after {:?}", from.elapsed());
    ensure!(made.text()?.contains("told"), "the stop signal did not come first");
    let status = made.status()?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "Error"), "{status:?}");
    ensure!(!kernel::alive(init), "it is alive");
    Ok(())
}

fn no_grace(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "no-grace")?;
    let made = scene.script("main", TELLS, as_is)?;
    made.said("ready")?;
    node.stop_container(&made.id, Duration::ZERO)?;
    ensure!(made.text()? == "ready\n", "it had time to act: {:?}", made.text()?);
    ensure!(made.status()?.exit_code == 137, "{:?}", made.status()?);
    Ok(())
}

/// With the pod's pid namespace, so that the kernel does not end them with init.
fn stragglers(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "stragglers", shared_pids)?;
    let script = "sh -c \"trap '' TERM; echo ready; while :; do sleep 100000; done\" & \
        trap 'exit 0' TERM; while :; do sleep 100000 & wait $!; done";
    let made = scene.script("main", script, in_shared_pids)?;
    made.said("ready")?;
    let all = kernel::pids_in(&made.cgroup())?;
    ensure!(all.len() >= 3, "init and two others: {all:?}");
    node.stop_container(&made.id, FOR_EVER)?;
    ensure!(made.status()?.exit_code == 0, "init ended by itself: {:?}", made.status()?);
    for pid in all {
        ensure!(!kernel::alive(pid), "{pid} is alive after the stop");
    }
    ensure!(!made.cgroup().exists(), "the cgroup is left");

    // The same when init just ends.
    let script = "sh -c \"trap '' TERM HUP; sleep 100000\" & sleep 100000 & echo ready";
    let made = scene.script("ends", script, in_shared_pids)?;
    made.end()?;
    ensure!(!made.cgroup().exists(), "EXITED, but the cgroup is there");
    Ok(())
}

fn begin_stop(
    node: &Node,
    made: &Made<'_>,
    grace: Duration,
) -> Result<Begun<proto::StopContainerResponse>> {
    let mut client = node.cri.runtime();
    let timeout = i64::try_from(grace.as_secs())?;
    let request = proto::StopContainerRequest { container_id: made.id.clone(), timeout };
    let call = node.cri.begin(async move { client.stop_container(request).await });
    made.said("told")?;
    Ok(call)
}

fn shorter_wins(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "shorter")?;
    let made = ignoring(&scene, "main")?;
    let first = begin_stop(node, &made, FOR_EVER)?;
    ensure!(kernel::alive(made.init()?), "the long grace did not hold");
    node.stop_container(&made.id, Duration::from_secs(1))?;
    node.cri.finish(first).context("the first stop")?;
    ensure!(made.status()?.exit_code == 137, "{:?}", made.status()?);
    Ok(())
}

fn longer_loses(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "longer")?;
    let made = ignoring(&scene, "main")?;
    let first = begin_stop(node, &made, Duration::from_secs(3))?;
    node.stop_container(&made.id, FOR_EVER).context("the second stop")?;
    node.cri.finish(first).context("the first stop")?;
    ensure!(made.status()?.exit_code == 137, "{:?}", made.status()?);
    Ok(())
}

fn client_gone(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "client-gone")?;
    let made = ignoring(&scene, "main")?;
    begin_stop(node, &made, Duration::from_secs(2))?.abort();
    ensure!(made.end()?.exit_code == 137, "{:?}", made.status()?);
    Ok(())
}

fn not_running(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "not-running")?;
    let exited = scene.script("exited", "exit 5", as_is)?;
    let before = exited.end()?;
    node.stop_container(&exited.id, FOR_EVER).context("an exited one")?;
    ensure!(exited.status()? == before, "the stop changed it: {:?}", exited.status()?);
    let created = scene.create("created", pod::PATIENT, as_is)?;
    node.stop_container(&created, FOR_EVER).context("a created one")?;
    Ok(())
}

fn daemon_killed(node: &mut Node) -> Result<()> {
    let (pod, id);
    {
        let scene = Scene::new(node, "killed")?;
        let made = ignoring(&scene, "main")?;
        drop(begin_stop(node, &made, Duration::from_secs(4))?);
        (pod, id) = (made.pod.clone(), made.id.clone());
    }
    let init = node.init_pid(&pod, &id)?;
    node.kill()?;
    ensure!(kernel::alive(init), "the container died with the daemon");
    node.launch()?;
    // Nobody asks again.
    let status = node.wait_exited(&id)?;
    ensure!(status.exit_code == 137, "{status:?}");
    eventually("its process is gone", || Ok((!kernel::alive(init)).then_some(())))
}

/// How often the container was asked to end.
fn times_told(node: &Node, pod: &str) -> Result<usize> {
    let lines = logs::read(&node.log_of(pod, "main"))?;
    Ok(lines.iter().filter(|line| line.text == "told").count())
}

fn asks_once(node: &mut Node) -> Result<()> {
    let grace = Duration::from_secs(4);
    let plan = node.path("fail-plan");
    let mut asked_before_the_restart = 0;
    // The record with the deadline, the request to the shim: before and after each.
    for number in 1..=4 {
        let name = format!("once-{number}");
        let id = ignoring(&Scene::new(node, &name)?, "main")?.id;
        std::fs::remove_file(node.path("fail-plan.log")).ok();
        std::fs::write(&plan, number.to_string())?;
        let asked = SystemTime::now();
        ensure!(node.stop_container(&id, grace).is_err(), "{name}: it was stopped");
        node.wait_killed().with_context(|| name.clone())?;
        std::fs::remove_file(&plan)?;
        let points = std::fs::read_to_string(node.path("fail-plan.log"))?;
        // The grace goes on meanwhile, and so does the shim. Even a deadline that passes, the third's, is
        // no reason to kill what was never asked.
        poll::pause(if number == 3 { grace + Duration::from_secs(1) } else { grace / 2 });
        asked_before_the_restart += times_told(node, &name)?;
        node.launch()?;
        // As a client repeats it. A deadline that is recorded comes first.
        let repeated = SystemTime::now();
        node.stop_container(&id, grace)?;
        let status = node.container(&id)?;
        ensure!(status.exit_code == 137, "{name}: {status:?}\n{points}");
        let told = times_told(node, &name)?;
        ensure!(told == 1, "{name}: asked {told} times\n{points}");
        let ended = UNIX_EPOCH + Duration::from_nanos(u64::try_from(status.finished_at)?);
        let took = ended.duration_since(asked)?;
        ensure!(took >= grace, "{name}: it had {took:?}\n{points}");
        // Killed before the deadline was recorded, the repeat is the first.
        let of_the_first = ended < repeated + grace;
        ensure!(of_the_first == (number > 1), "{name}: it had {took:?}\n{points}");
    }
    ensure!(asked_before_the_restart > 0, "no point lay behind the signal");
    Ok(())
}

/// The shim lives: the container is left its grace, and its exit code is its own.
fn cut_off(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "cut-off")?;
    let script = "trap 'echo told; while ! test -e /over; do sleep 0.05; done; exit 7' TERM; echo ready; \
        while :; do sleep 0.05; done";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let init = made.init()?;
    let asked = begin_stop(node, &made, FOR_EVER)?;
    let cut = kernel::cut_connections(node.pid()?, "shim.sock")?;
    ensure!(cut == 1, "{cut} connections were cut");
    eventually("the connection is taken up again", || {
        Ok(node.exec(&made.id, &["true"], 0).is_ok_and(|ended| ended.2 == 0).then_some(()))
    })?;
    ensure!(kernel::alive(init) && !asked.is_finished(), "it was killed within its grace");
    node.exec_ok(&made.id, &["touch", "/over"])?;
    node.cri.finish(asked)?;
    let status = made.status()?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");
    ensure!(times_told(node, "cut-off")? == 1, "it was told again");
    Ok(())
}
