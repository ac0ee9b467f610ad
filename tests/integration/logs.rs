//! Container logs: their format, and that no byte is lost.

use crate::harness::logs::{self, Line};
use crate::harness::machine::Machine;
use crate::harness::scene::{Made, Scene, Tmpfs, as_is, bind};
use crate::harness::{Node, Options, Test, eventually, own, pod, poll, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_line_has_time_stream_and_tag", &[], format),
        shared("only_a_line_of_more_than_16_kib_is_split", &[], split),
        shared("a_last_line_without_an_end_is_kept", &[], unterminated),
        shared("all_is_written_before_the_exit_is_told", &[], flushed),
        shared("no_byte_is_lost_when_the_log_is_rotated", &[], rotated),
        shared("reopening_the_log_of_what_does_not_run_makes_no_file", &[], not_running),
        shared("a_full_disk_never_blocks_the_container_and_is_told", &[], full_disk),
        own("no_byte_is_lost_over_kill_9_of_the_daemon", &[], options, daemon_killed),
    ]
}

/// Counts, a line a number, until the file /v/stop is there.
const COUNTS: &str = "i=0; while [ ! -e /v/stop ]; do echo $i; i=$((i+1)); usleep 300; done; \
    echo end $i";

fn options(_: &Machine) -> Options {
    Options::default()
}

fn format(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "log-format")?;
    let made = scene.script("main", "echo out; echo err >&2; echo; echo ' a  b '", as_is)?;
    let status = made.end()?;
    let lines = made.lines()?;
    let of = |stream: &str| -> Vec<&str> {
        lines.iter().filter(|l| l.stream == stream).map(|l| l.text.as_str()).collect()
    };
    ensure!(of("stdout") == ["out", "", " a  b "], "{lines:?}");
    ensure!(of("stderr") == ["err"], "{lines:?}");
    for line in &lines {
        ensure!(line.tag == "F", "{line:?}");
        let shape: String =
            line.time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        ensure!(shape == "0000-00-00T00:00:00.000000000Z", "RFC 3339, nanoseconds: {line:?}");
        let at = nanos(&line.time).with_context(|| format!("{line:?}"))?;
        let slack = 2_000_000_000;
        let window = (status.started_at - slack)..=(status.finished_at + slack);
        ensure!(window.contains(&at), "{line:?} is not within {window:?}");
    }
    let mode = std::fs::metadata(&made.log)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o640, "mode {mode:o}");
    ensure!(Path::new(&status.log_path) == made.log, "{}", status.log_path);
    Ok(())
}

/// Nanoseconds since 1970, by date(1).
fn nanos(time: &str) -> Result<i64> {
    let date = std::process::Command::new("date").args(["+%s%N", "-d", time]).output()?;
    Ok(String::from_utf8(date.stdout)?.trim().parse()?)
}

fn split(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "log-split")?;
    let sizes = [16_383, 16_384, 16_385, 32_768, 40_000];
    let script: String = sizes
        .iter()
        .map(|size| format!("head -c {size} /dev/zero | tr '\\000' x; echo; "))
        .collect();
    let made = scene.script("main", &script, as_is)?;
    made.end()?;
    let found: Vec<(String, usize)> =
        made.lines()?.into_iter().map(|l| (l.tag, l.text.len())).collect();
    let expected = [
        ("F", 16_383),
        ("F", 16_384),
        ("P", 16_384),
        ("F", 1),
        ("P", 16_384),
        ("F", 16_384),
        ("P", 16_384),
        ("P", 16_384),
        ("F", 7_232),
    ];
    ensure!(found == expected.map(|(tag, size)| (tag.to_owned(), size)), "{found:?}");
    Ok(())
}

fn unterminated(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "log-tail")?;
    let made = scene.script("main", "printf 'one\\ntwo'; printf 'three' >&2", as_is)?;
    made.end()?;
    let lines = made.lines()?;
    let mut found: Vec<(&str, &str, &str)> =
        lines.iter().map(|l| (l.stream.as_str(), l.tag.as_str(), l.text.as_str())).collect();
    found.sort_unstable();
    let expected = [("stderr", "P", "three"), ("stdout", "F", "one"), ("stdout", "P", "two")];
    ensure!(found == expected, "{found:?}");
    Ok(())
}

/// The log is read as soon as the exit is told.
fn flushed(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "log-flushed")?;
    for round in 0..5 {
        let made = scene.script(&format!("main{round}"), "seq 1 30000; printf tail", as_is)?;
        made.end()?;
        let text = made.text()?;
        let expected: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
        ensure!(text == format!("{expected}tail"), "{} bytes in round {round}", text.len());
    }
    Ok(())
}

/// A container that counts, and the folder that stops it.
fn counting<'a>(node: &'a Node, name: &str) -> Result<(Made<'a>, PathBuf)> {
    let volume = node.volume(name)?;
    let scene = Scene::new(node, name)?;
    let made = scene.script("main", COUNTS, |c| c.mounts = vec![bind(&volume, "/v")])?;
    made.said("20")?;
    Ok((made, volume.join("stop")))
}

/// Every number from 0 on once, in order, up to the one that the container says is the last.
fn complete(lines: &[Line]) -> Result<usize> {
    let (last, numbers) = lines.split_last().context("nothing was written")?;
    for (expected, line) in numbers.iter().enumerate() {
        ensure!(line.text == expected.to_string(), "line {expected} is {line:?}");
    }
    ensure!(last.text == format!("end {}", numbers.len()), "the last line is {last:?}");
    Ok(numbers.len())
}

fn reopen(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = proto::ReopenContainerLogRequest { container_id: id.into() };
    node.cri.reopen_container_log(request).map(drop)
}

fn rotated(node: &Node) -> Result<()> {
    let (made, stop) = counting(node, "log-rotated")?;
    let mut files = Vec::new();
    for number in 0..8 {
        let old = made.log.with_extension(format!("{number}"));
        std::fs::rename(&made.log, &old)?;
        // Until it is told the shim goes on in the old file.
        poll::pause(Duration::from_millis(30));
        ensure!(!made.log.exists(), "a new file before anybody asked for one");
        reopen(node, &made.id).context("ReopenContainerLog")?;
        ensure!(made.log.exists(), "no new file");
        eventually("the new file is written to", || {
            Ok((std::fs::metadata(&made.log)?.len() > 0).then_some(()))
        })?;
        files.push(old);
    }
    std::fs::write(stop, "")?;
    made.end()?;
    files.push(made.log.clone());
    let mut all = Vec::new();
    for file in &files {
        all.extend(logs::read(file)?);
    }
    complete(&all).map(drop)
}

fn not_running(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "log-not-running")?;
    let created = scene.create("created", pod::PATIENT, as_is)?;
    let exited = scene.script("exited", "echo x", as_is)?;
    exited.end()?;
    let folder = exited.log.parent().context("no folder")?;
    for (id, log) in [(&created, folder.join("created.log")), (&exited.id, exited.log.clone())] {
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let error = reopen(node, id).err().context("it is reopened")?;
        ensure!(error.code() == Code::FailedPrecondition, "{error}");
        ensure!(!log.exists(), "{} was made", log.display());
    }
    // The control: a running one gets its file back.
    let runs = scene.start("runs", pod::PATIENT, as_is)?;
    std::fs::remove_file(&runs.log)?;
    reopen(node, &runs.id)?;
    ensure!(runs.log.exists(), "no file was made for a running one");
    Ok(())
}

fn full_disk(node: &Node) -> Result<()> {
    let disk = Tmpfs::at(&node.path("logs/log-full"), "64k")?;
    let volume = node.volume("log-full")?;
    let scene = Scene::new(node, "log-full")?;
    let script = "seq 1 60000; touch /v/went-on; \
        while [ ! -e /v/more ]; do usleep 1000; done; echo more; while :; do sleep 100000; done";
    let made = scene.script("main", script, |c| c.mounts = vec![bind(&volume, "/v")])?;
    eventually("the container goes on", || Ok(volume.join("went-on").exists().then_some(())))?;
    let size = std::fs::metadata(&made.log)?.len();
    ensure!(size > 0, "nothing fitted");
    // Space again, as log rotation makes it.
    let old = std::fs::read(&made.log)?;
    std::fs::remove_file(&made.log)?;
    reopen(node, &made.id)?;
    std::fs::write(volume.join("more"), "")?;
    made.said("more")?;
    let lines = made.lines()?;
    let notice = lines.iter().find(|l| l.text.starts_with("berth: ")).context("nothing is told")?;
    ensure!(notice.text.ends_with("bytes lost: No space left on device"), "{notice:?}");
    let lost: usize = notice.text.split(' ').nth(1).unwrap_or_default().parse()?;
    let wrote: usize = (1..=60_000).map(|n: u32| n.to_string().len() + 1).sum();
    // What is in neither file was counted: a torn last line may count for a little.
    let kept: usize = String::from_utf8_lossy(&old)
        .lines()
        .filter_map(|l| l.splitn(4, ' ').nth(3))
        .map(|text| text.len() + 1)
        .sum::<usize>()
        + lines
            .iter()
            .filter(|l| l.text.parse::<u32>().is_ok())
            .map(|l| l.text.len() + 1)
            .sum::<usize>();
    ensure!(wrote.abs_diff(kept + lost) <= 8, "{wrote} written, {kept} kept, {lost} lost");
    node.remove_all()?;
    disk.remove()
}

fn daemon_killed(node: &mut Node) -> Result<()> {
    let (id, log, stop);
    {
        let (made, file) = counting(node, "log-killed")?;
        (id, log, stop) = (made.id.clone(), made.log.clone(), file);
    }
    let size = |log: &Path| std::fs::metadata(log).map(|m| m.len());
    for _ in 0..3 {
        node.kill()?;
        let before = size(&log)?;
        eventually(
            "the log grows without the daemon",
            || Ok((size(&log)? > before).then_some(())),
        )?;
        node.launch()?;
    }
    // Its last lines and its end, while nobody is there.
    node.kill()?;
    std::fs::write(stop, "")?;
    eventually("the container ends", || {
        Ok(std::fs::read_to_string(&log)?.contains(" end ").then_some(()))
    })?;
    node.launch()?;
    let status = node.wait_exited(&id)?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    complete(&logs::read(&log)?).map(drop)
}
