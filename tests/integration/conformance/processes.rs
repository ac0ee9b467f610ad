//! What a container's request asks for of its process.

use super::target::{Peer, Target, cases};
use crate::harness::kernel;
use crate::harness::machine::Need::PodNetwork;
use crate::harness::pod::resources;
use anyhow::{Result, ensure};
use berth::cri::proto;

cases! {
    "a_process_is_the_one_that_was_asked_for", &[PodNetwork], Peer::Agrees, process;
    "a_container_is_told_as_it_was_asked_for", &[PodNetwork], Peer::Agrees, told;
    // The field is younger than Debian's containerd, which drops it as unknown.
    "a_container_is_told_with_the_image_that_its_user_named", &[PodNetwork],
        Peer::Differs("user_specified_image came after 1.6"), named;
    "a_log_is_where_the_containers_own_request_says", &[PodNetwork], Peer::Agrees, moved_log;
    "a_process_has_an_input_when_asked", &[PodNetwork], Peer::Agrees, input;
    "a_process_has_its_oom_score", &[PodNetwork], Peer::Agrees, oom_score;
    "a_process_has_a_terminal_when_asked", &[PodNetwork], Peer::Agrees, terminal;
    // The field is younger than Debian's containerd, which sends SIGTERM.
    "a_stop_sends_the_signal_that_was_asked_for", &[PodNetwork],
        Peer::Differs("stop_signal came after 1.6"), stop_signal;
    "a_stop_waits_as_long_as_asked", &[PodNetwork], Peer::Agrees, grace;
}

fn process(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("process", |_| {})?;
    let main = pod.start("main", |c| {
        let script = "echo \"$0 $1 $(pwd) $WORD\"; sleep 100000";
        c.command = ["sh", "-c", script].map(String::from).into();
        c.args = ["first", "second"].map(String::from).into();
        c.working_dir = "/www".into();
        c.envs = vec![proto::KeyValue { key: "WORD".into(), value: b"a=b c".to_vec() }];
    })?;
    main.logs("first second /www a=b c")
}

fn told(target: &Target<'_>) -> Result<()> {
    let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let pod = target.pod("told", |_| {})?;
    let main = pod.start("main", |c| {
        c.metadata.get_or_insert_default().attempt = 4;
        c.labels = pair("tier", "front");
        c.annotations = pair("example.test/note", "kept");
    })?;
    let status = main.status()?;
    let metadata = proto::ContainerMetadata { name: "main".into(), attempt: 4 };
    ensure!(status.metadata == Some(metadata.clone()), "{status:?}");
    ensure!(status.labels == pair("tier", "front"), "{status:?}");
    ensure!(status.annotations == pair("example.test/note", "kept"), "{status:?}");
    ensure!(status.log_path == main.log.to_string_lossy(), "{status:?}");
    let image = status.image.unwrap_or_default().image;
    ensure!(image == crate::harness::image::BUSYBOX, "{image}");
    let listed = target.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(listed.len() == 1 && listed[0].metadata == Some(metadata), "{listed:?}");
    ensure!(listed[0].annotations == pair("example.test/note", "kept"), "{listed:?}");
    let ask = |verbose| {
        let container_id = main.id.clone();
        target.cri.container_status(proto::ContainerStatusRequest { container_id, verbose })
    };
    ensure!(ask(false)?.info.is_empty() && !ask(true)?.info.is_empty());
    Ok(())
}

fn named(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("named", |_| {})?;
    let main = pod.start("main", |c| {
        c.image.get_or_insert_default().user_specified_image = "busybox:by-the-user".into();
    })?;
    let image = main.status()?.image.unwrap_or_default();
    ensure!(image.user_specified_image == "busybox:by-the-user", "{image:?}");
    Ok(())
}

fn oom_score(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("score", |_| {})?;
    let main = pod.start("main", |c| resources(c).oom_score_adj = 321)?;
    let score = kernel::read(format!("/proc/{}/oom_score_adj", main.pid()?))?;
    ensure!(score == "321", "{score}");
    Ok(())
}

fn terminal(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("terminal", |_| {})?;
    let script = "test -t 0 && test -t 1 && echo terminal || echo none; sleep 100000";
    for (name, tty, line) in [("with", true, "terminal"), ("without", false, "none")] {
        let main = pod.start(name, |c| {
            c.tty = tty;
            c.command = ["sh", "-c", script].map(String::from).into();
        })?;
        main.logs(line)?;
    }
    Ok(())
}

/// Ends with 11 on SIGUSR1, with 22 on SIGTERM.
const TRAPS: &str =
    "trap 'exit 11' USR1; trap 'exit 22' TERM; echo ready; while true; do sleep 0.1; done";

fn stop_signal(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("signal", |_| {})?;
    let script = || ["sh", "-c", TRAPS].map(String::from).into();
    let asked = pod.start("asked", |c| {
        c.command = script();
        c.stop_signal = proto::Signal::Sigusr1.into();
    })?;
    let usual = pod.start("usual", |c| c.command = script())?;
    for (main, code) in [(asked, 11), (usual, 22)] {
        main.logs("ready")?;
        let request = proto::StopContainerRequest { container_id: main.id.clone(), timeout: 60 };
        target.cri.stop_container(request)?;
        let status = main.ended()?;
        ensure!(status.exit_code == code, "{status:?}");
    }
    Ok(())
}

/// One that heeds no SIGTERM is killed, early or late; one that does ends by itself where there is
/// time.
fn grace(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("grace", |_| {})?;
    for (name, timeout, code) in [("now", 0, 137), ("later", 60, 22)] {
        let main = pod.start(name, |c| c.command = ["sh", "-c", TRAPS].map(String::from).into())?;
        main.logs("ready")?;
        let request = proto::StopContainerRequest { container_id: main.id.clone(), timeout };
        target.cri.stop_container(request)?;
        let status = main.ended()?;
        ensure!(status.exit_code == code, "{name}: {status:?}");
    }
    Ok(())
}

/// A copy of the sandbox's configuration comes with each container; it may name another folder for
/// logs by then.
fn moved_log(target: &Target<'_>) -> Result<()> {
    let mut pod = target.pod("moved", |_| {})?;
    let folder = target.folder.join("logs/elsewhere");
    std::fs::create_dir_all(&folder)?;
    pod.config.log_directory = folder.to_string_lossy().into_owned();
    let main = pod.start("main", |c| c.command = ["echo", "here"].map(String::from).into())?;
    ensure!(main.log.starts_with(&folder), "{}", main.log.display());
    main.logs("here")?;
    ensure!(main.status()?.log_path == main.log.to_string_lossy(), "{:?}", main.status()?);
    Ok(())
}

fn input(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("input", |_| {})?;
    let script = "case $(readlink /proc/self/fd/0) in /dev/null) echo none;; *) echo open;; esac";
    for (name, stdin, line) in [("with", true, "open"), ("without", false, "none")] {
        let main = pod.start(name, |c| {
            c.stdin = stdin;
            c.command = ["sh", "-c", script].map(String::from).into();
        })?;
        main.logs(line)?;
    }
    Ok(())
}
