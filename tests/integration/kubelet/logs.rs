//! Logs that are rotated while they are written: no line is lost, none is there twice.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{pod, sh};
use crate::harness::machine::Machine;
use crate::harness::{Node, Options, Test, eventually, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_rotated_log_is_whole_though_the_daemon_is_killed", NETWORK, small, killed),
        own("who_follows_a_log_reads_every_line_of_it_once", NETWORK, small, followed),
        own("old_parts_of_a_log_are_packed_and_go", NETWORK, few, few_parts),
    ]
}

/// How many lines are written.
const LINES: u64 = 1_000_000;
/// In how many portions, with a pause after each: rotations are no more than one a second.
const PORTIONS: u64 = 40;

fn limits(files: u32) -> Options {
    let text = format!(
        "container_log_max_bytes = 65536\ncontainer_log_max_files = {files}\n\
         container_log_check_seconds = 1\n"
    );
    Options { kubelet: Some(text), ..Options::default() }
}

/// Far more files than there will be: nothing is dropped.
fn small(_: &Machine) -> Options {
    limits(1000)
}

fn few(_: &Machine) -> Options {
    limits(3)
}

/// Writes its number into each line, and then stays.
fn counting(lines: u64, portions: u64) -> serde_json::Value {
    let each = lines / portions;
    let script = format!(
        "n=0; while [ $n -lt {portions} ]; do seq $((n * {each} + 1)) $(((n + 1) * {each})); \
         n=$((n + 1)); sleep 0.2; done; echo end; sleep 100000"
    );
    pod("many", json!({"terminationGracePeriodSeconds": 1, "containers": [sh("c", &script)]}))
}

/// The parts of a log in the order in which they were written.
fn parts(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    // The one without a time is the newest.
    names.sort_by_key(|name| (name == "0.log", name.clone()));
    Ok(names)
}

/// The lines of one part, without their heads.
fn lines(path: &Path) -> Result<Vec<String>> {
    let file = std::fs::File::open(path)?;
    let content: Box<dyn Read> = match path.extension().is_some_and(|end| end == "gz") {
        true => Box::new(flate2::read::GzDecoder::new(file)),
        false => Box::new(file),
    };
    let line = |line: std::io::Result<String>| -> Result<String> {
        Ok(line?.splitn(4, ' ').nth(3).context("a line without a head")?.to_owned())
    };
    BufReader::new(content).lines().map(line).collect()
}

/// Every number once, in order, and the end.
fn whole(found: impl IntoIterator<Item = String>) -> Result<()> {
    let mut next = 1;
    for line in found {
        let expected = if next <= LINES { next.to_string() } else { "end".to_owned() };
        ensure!(line == expected, "after {} comes {line:?}", next - 1);
        next += 1;
    }
    ensure!(next == LINES + 2, "the log ends with {}", next - 1);
    Ok(())
}

fn is_over(folder: &Path) -> Result<Option<()>> {
    let last = lines(&folder.join("0.log")).unwrap_or_default();
    Ok((last.last().is_some_and(|line| line == "end")).then_some(()))
}

fn killed(node: &mut Node) -> Result<()> {
    node.manifest("many.yaml", &counting(LINES, PORTIONS))?;
    let shown = node.wait_ready("many")?;
    let folder = node.pod_logs(&shown).join("c");
    for rotations in [2, 4, 6] {
        eventually("the log is rotated", || Ok((parts(&folder)?.len() > rotations).then_some(())))?;
        node.kill()?;
        node.launch()?;
    }
    poll::within(Duration::from_secs(120), "everything is written", || is_over(&folder))?;
    // The last part may be rotated and packed still while it is read.
    let all = eventually("the log is read between two rotations", || {
        let parts = parts(&folder)?;
        let read: Result<Vec<_>> = parts.iter().map(|part| lines(&folder.join(part))).collect();
        let packed = parts.iter().any(|name| name.ends_with(".gz"));
        Ok((packed && parts == self::parts(&folder)?).then_some(read.ok()).flatten())
    })?;
    whole(all.into_iter().flatten())
}

fn followed(node: &mut Node) -> Result<()> {
    node.manifest("many.yaml", &counting(LINES, PORTIONS))?;
    let shown = node.wait_ready("many")?;
    let folder = node.pod_logs(&shown).join("c");
    let mut reader = node.command(&["logs", "many", "--follow"])?.stdout(Stdio::piped()).spawn()?;
    let output = reader.stdout.take().context("no output")?;
    let mut found = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let over = line == "end";
        found.push(line);
        if over {
            break;
        }
    }
    reader.kill()?;
    reader.wait()?;
    let count = parts(&folder)?.len();
    ensure!(count > 3, "the log was hardly rotated: {count} parts");
    whole(found)
}

fn few_parts(node: &mut Node) -> Result<()> {
    node.manifest("many.yaml", &counting(LINES / 2, PORTIONS / 2))?;
    let shown = node.wait_ready("many")?;
    let folder = node.pod_logs(&shown).join("c");
    let mut most = 0;
    poll::within(Duration::from_secs(120), "everything is written", || {
        most = most.max(parts(&folder)?.len());
        is_over(&folder)
    })?;
    eventually("the last part is packed", || {
        let parts = parts(&folder)?;
        let packed = parts.iter().filter(|name| name.ends_with(".gz")).count();
        Ok((packed == 1 && parts.len() == 3).then_some(()))
    })?;
    // One more while one is packed, and one more before the oldest goes.
    ensure!(most <= 5, "{most} parts at once");
    Ok(())
}
