//! ExecSync: output, exit code, limits, and what becomes of what a command leaves behind.

use crate::harness::cri::Begun;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod, poll, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::time::{Duration, Instant};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("output_errors_and_the_code_come_back", &[], output),
        shared("a_command_runs_where_the_container_does", &[], same_place),
        shared("a_timeout_kills_the_commands_whole_tree_and_nothing_else", &[], timeout),
        shared("output_is_kept_up_to_16_mib", &[], cap),
        shared("a_child_in_the_background_does_not_hold_up_the_answer", &[], background),
        shared("a_container_that_does_not_run_refuses_commands", &[], not_running),
        shared("a_command_that_cannot_be_executed_is_an_error", &[], no_program),
        shared("fifty_commands_at_once_each_get_their_own_answer", &[], fifty),
        shared("a_command_dies_with_its_client", &[], lost_client),
        shared("a_command_ends_with_its_container", &[], container_ends),
        own("a_command_does_not_outlive_the_daemon_that_waits_for_it", &[], options, daemon_killed),
    ]
}

/// 16 MiB.
const CAP: usize = 16 << 20;

fn runs<'a>(node: &'a Node, name: &str) -> Result<Made<'a>> {
    Scene::new(node, name)?.start("main", pod::PATIENT, as_is)
}

fn output(node: &Node) -> Result<()> {
    let made = runs(node, "exec-output")?;
    let rows = [
        ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
        ("printf 'no end'", "no end", "", 0),
        ("cat", "", "", 0), // Its input is empty.
        ("kill -KILL $$; sleep 100", "", "", 137),
        ("kill -TERM $$; sleep 100", "", "", 143),
        ("seq 1 3", "1\n2\n3\n", "", 0),
    ];
    for (script, out, err, code) in rows {
        let answer = node.exec(&made.id, &["sh", "-c", script], 0)?;
        ensure!(answer == (out.into(), err.into(), code), "{script}: {answer:?}");
    }
    let binary = node.cri.exec_sync(proto::ExecSyncRequest {
        container_id: made.id.clone(),
        cmd: ["printf", "\\377\\000x"].map(String::from).to_vec(),
        timeout: 0,
    })?;
    ensure!(binary.stdout == b"\xff\0x", "bytes are not text: {:?}", binary.stdout);
    Ok(())
}

fn same_place(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "same-place")?;
    let made = scene.start("main", pod::PATIENT, |config| {
        config.working_dir = "/www".into();
        config.envs = vec![proto::KeyValue { key: "MINE".into(), value: b"yes".to_vec() }];
        pod::security(config).run_as_username = "web".into();
    })?;
    let init = made.init()?;
    ensure!(node.exec_ok(&made.id, &["sh", "-c", "echo $(id -u) $PWD $MINE"])? == "1000 /www yes");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let link = node.exec_ok(&made.id, &["readlink", &format!("/proc/self/ns/{kind}")])?;
        let expected = format!("{kind}:[{}]", kernel::namespace(init, kind)?);
        ensure!(link == expected, "{link} instead of {expected}");
    }
    let host = kernel::namespace(1, "mnt").or_else(|_| kernel::namespace(node.pid()?, "mnt"))?;
    ensure!(kernel::namespace(init, "mnt")? != host, "the control: not the host's");
    Ok(())
}

/// The processes below a container's cgroup, slots counted, whose command line has a word.
pub(crate) fn with_word(made: &Made<'_>, word: &str) -> Vec<i32> {
    let mut groups = kernel::cgroups_below(&made.cgroup());
    groups.push(made.cgroup());
    let pids = groups.iter().flat_map(|group| kernel::pids_in(group).unwrap_or_default());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    })
    .collect()
}

fn timeout(node: &Node) -> Result<()> {
    let made = runs(node, "exec-timeout")?;
    let init = made.init()?;
    let script = "sleep 71001 & setsid sleep 71001 & (trap '' TERM HUP INT; sleep 71001) & wait";
    let from = Instant::now();
    let error = node.exec(&made.id, &["sh", "-c", script], 2).err().context("it ends in time")?;
    ensure!(error.code() == Code::DeadlineExceeded, "{error}");
    ensure!(from.elapsed() >= Duration::from_secs(2), "too early: {:?}", from.elapsed());
    eventually("the tree is gone", || Ok(with_word(&made, "71001").is_empty().then_some(())))?;
    ensure!(made.init()? == init && kernel::alive(init), "the container was hit");
    ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive");
    // The control: the same kind of command within its time.
    let (out, _, code) = node.exec(&made.id, &["sh", "-c", "sleep 0.1 & wait; echo done"], 50)?;
    ensure!((out.as_str(), code) == ("done\n", 0), "{out:?} {code}");
    Ok(())
}

fn cap(node: &Node) -> Result<()> {
    let made = runs(node, "exec-cap")?;
    // The control: up to the limit all of it comes.
    for (wanted, kept) in [(1 << 20, 1 << 20), (CAP, CAP), (CAP + (1 << 20) + 1, CAP)] {
        let script = format!("head -c {wanted} /dev/zero; echo end >&2");
        let (out, err, code) = node.exec(&made.id, &["sh", "-c", &script], 0)?;
        ensure!((out.len(), code) == (kept, 0), "{wanted}: {} bytes, code {code}", out.len());
        ensure!(err == "end\n", "the command was cut off: {err:?}");
    }
    Ok(())
}

fn background(node: &Node) -> Result<()> {
    let made = runs(node, "exec-background")?;
    let answer = node.exec(&made.id, &["sh", "-c", "sleep 71002 & echo done"], 0)?;
    ensure!(answer == ("done\n".into(), String::new(), 0), "{answer:?}");
    let left = eventually("the child runs", || {
        Ok(Some(with_word(&made, "71002")).filter(|pids| pids.len() == 1))
    })?;
    // Its slot is taken; the next command gets another one.
    ensure!(node.exec_ok(&made.id, &["echo", "next"])? == "next");
    ensure!(with_word(&made, "71002") == left, "the next command disturbed it");
    node.stop_container(&made.id, Duration::from_secs(50))?;
    ensure!(!kernel::alive(left[0]), "the child outlived the container");
    Ok(())
}

fn not_running(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "exec-refused")?;
    let created = scene.create("created", pod::PATIENT, as_is)?;
    let exited = scene.script("exited", "exit 0", as_is)?;
    exited.end()?;
    for (name, id) in [("created", &created), ("exited", &exited.id)] {
        let error = node.exec(id, &["true"], 5).err().with_context(|| format!("{name} execs"))?;
        ensure!(error.code() == Code::FailedPrecondition, "{name}: {error}");
        ensure!(error.message().contains("not running"), "{name}: {error}");
    }
    let runs = scene.start("runs", pod::PATIENT, as_is)?;
    let error = node.exec(&runs.id, &[], 5).err().context("nothing is executed")?;
    ensure!(error.code() == Code::InvalidArgument, "{error}");
    node.exec_ok(&runs.id, &["true"]).map(drop)
}

fn no_program(node: &Node) -> Result<()> {
    let made = runs(node, "exec-missing")?;
    let rows = [
        ("no-such-program", "exec: no such file or directory"),
        ("/not-a-program", "exec: permission denied"),
    ];
    for (program, words) in rows {
        let error = node.exec(&made.id, &[program], 5).err().context("it is executed")?;
        ensure!(error.code() == Code::FailedPrecondition, "{program}: {error}");
        ensure!(error.message().contains(words), "{program}: no {words:?} in {error}");
    }
    ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive");
    Ok(())
}

fn fifty(node: &Node) -> Result<()> {
    let made = runs(node, "exec-fifty")?;
    let begun: Vec<_> = (0..50)
        .map(|number| {
            let mut client = node.cri.runtime();
            let script = format!("echo out {number}; echo err {number} >&2; exit {number}");
            let request = proto::ExecSyncRequest {
                container_id: made.id.clone(),
                cmd: vec!["sh".into(), "-c".into(), script],
                timeout: 0,
            };
            node.cri.begin(async move { client.exec_sync(request).await })
        })
        .collect();
    for (number, call) in begun.into_iter().enumerate() {
        let answer = node.cri.finish(call).with_context(|| format!("command {number}"))?;
        ensure!(answer.stdout == format!("out {number}\n").as_bytes(), "{number}: {answer:?}");
        ensure!(answer.stderr == format!("err {number}\n").as_bytes(), "{number}: {answer:?}");
        ensure!(usize::try_from(answer.exit_code)? == number, "{number}: {answer:?}");
    }
    Ok(())
}

/// Begins a command and waits until it runs.
fn begin(
    node: &Node,
    made: &Made<'_>,
    word: &str,
) -> Result<(i32, Begun<proto::ExecSyncResponse>)> {
    let mut client = node.cri.runtime();
    let request = proto::ExecSyncRequest {
        container_id: made.id.clone(),
        cmd: vec!["sleep".into(), word.into()],
        timeout: 0,
    };
    let call = node.cri.begin(async move { client.exec_sync(request).await });
    let pid = eventually("the command runs", || Ok(with_word(made, word).first().copied()))?;
    Ok((pid, call))
}

fn lost_client(node: &Node) -> Result<()> {
    let made = runs(node, "exec-lost")?;
    let (stays, other) = begin(node, &made, "71003")?;
    let (pid, call) = begin(node, &made, "71004")?;
    call.abort();
    poll::within(Duration::from_secs(20), "the command ends", || {
        Ok((!kernel::alive(pid)).then_some(()))
    })?;
    // The control: one whose client is there goes on.
    ensure!(kernel::alive(stays), "the other command was hit");
    ensure!(kernel::alive(made.init()?), "the container was hit");
    other.abort();
    eventually("the other one ends, too", || Ok((!kernel::alive(stays)).then_some(())))
}

fn container_ends(node: &Node) -> Result<()> {
    let made = runs(node, "exec-stopped")?;
    let (pid, call) = begin(node, &made, "71005")?;
    node.stop_container(&made.id, Duration::from_secs(50))?;
    ensure!(!kernel::alive(pid), "it outlived the container");
    match node.cri.finish(call) {
        Ok(answer) => ensure!(answer.exit_code == 137, "{answer:?}"),
        Err(error) => ensure!(error.code() != Code::DeadlineExceeded, "nobody answered: {error}"),
    }
    Ok(())
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

fn daemon_killed(node: &mut Node) -> Result<()> {
    let (pod, id, init);
    {
        let made = runs(node, "exec-daemon")?;
        (pod, id, init) = (made.pod.clone(), made.id.clone(), made.init()?);
    }
    // Control: what a command that has ended left behind is no one's to kill.
    node.exec_ok(&id, &["sh", "-c", "sleep 2001 >/dev/null 2>&1 &"])?;
    let pid_of = |node: &Node, word: &str| -> Result<Option<i32>> {
        let slots = kernel::cgroups_below(&node.container_cgroup(&pod, &id));
        let mut all = slots.iter().filter_map(|slot| kernel::pids_in(slot).ok()).flatten();
        let wanted = format!("sleep\0{word}");
        Ok(all.find(|pid| {
            kernel::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&wanted))
        }))
    };
    let mut client = node.cri.runtime();
    let request = proto::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "sleep 2002 & sleep 2003"].map(String::from).to_vec(),
        timeout: 1000,
    };
    let call = node.cri.begin(async move { client.exec_sync(request).await });
    let running =
        eventually("the command runs", || Ok(pid_of(node, "2002")?.zip(pid_of(node, "2003")?)))?;
    let left = pid_of(node, "2001")?.context("nothing was left in the background")?;
    node.kill()?;
    drop(node.cri.finish(call));
    ensure!(kernel::alive(running.0) && kernel::alive(running.1), "it died with the daemon");
    node.launch()?;
    for pid in [running.0, running.1] {
        ensure!(!kernel::alive(pid), "process {pid} of the command is there after the restart");
    }
    ensure!(kernel::alive(left), "what an earlier command left behind was killed");
    ensure!(node.init_pid(&pod, &id)? == init && kernel::alive(init), "the container was touched");
    ensure!(node.exec_ok(&id, &["echo", "again"])? == "again");
    Ok(())
}
