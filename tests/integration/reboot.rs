//! Records of another boot: told as what they are, and nothing of theirs is ever signalled.
//!
//! A reboot is played: the daemon and everything of the pods is killed, and the records are written
//! anew with another boot id, naming a process that exists now by its pid and start time.

use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{ContainerState, PodSandboxState};
use berth::sys::process::InitPid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const OTHER_BOOT: &str = "00000000-1111-4222-8333-444444444444";

pub(crate) fn tests() -> Vec<Test> {
    let options = |_: &crate::harness::machine::Machine| Options::default();
    vec![
        own("records_of_another_boot_signal_nobody", &[], options, |node| {
            reboot(node, RunFolder::Stays)
        }),
        own("what_ended_before_a_reboot_keeps_its_exit_code", &[], options, |node| {
            reboot(node, RunFolder::Empty)
        }),
        own("a_damaged_record_hides_nothing_but_itself", &[], options, damaged),
    ]
}

/// What a reboot finds: /run is a tmpfs, but nothing may depend on that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunFolder {
    Stays,
    Empty,
}

/// A process that is none of berth's; ends with the value.
struct Bystander(Child);

impl Bystander {
    fn start() -> Result<Self> {
        Ok(Self(Command::new("sleep").arg("100000").spawn()?))
    }

    fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.0.id())?)
    }

    fn ensure_untouched(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "a process of nobody's was ended");
        let pending = kernel::status_field(self.pid()?, "ShdPnd")?;
        ensure!(pending.chars().all(|c| c == '0'), "a signal is pending: {pending}");
        Ok(())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn reboot(node: &mut Node, run: RunFolder) -> Result<()> {
    let mut bystander = Bystander::start()?;
    let config = pod(node, "rebooted");
    let sandbox = node.run_pod(&config)?;
    let running = node.launch_container(&sandbox, &config, &container("running", PATIENT))?;
    let created = node.create(&sandbox, &config, &container("created", PATIENT))?;
    let failed =
        node.launch_container(&sandbox, &config, &container("failed", &["sh", "-c", "exit 3"]))?;
    let before = node.wait_exited(&failed)?;
    // Records that outlive a boot are written behind.
    let durable = node.state_dir().join(format!("containers/{failed}.json"));
    eventually("the exit is on disk", || {
        Ok(std::fs::read_to_string(&durable)?.contains("\"exited\"").then_some(()))
    })?;
    let durable = node.state_dir().join(format!("containers/{running}.json"));
    eventually("the start is on disk", || {
        Ok(std::fs::read_to_string(&durable)?.contains("\"running\"").then_some(()))
    })?;
    power_off(node, &sandbox)?;
    if run == RunFolder::Empty {
        std::fs::remove_dir_all(node.run_dir())?;
    }
    let written = rewrite_records(node, bystander.pid()?)?;
    ensure!(written > 0, "no record was found to be written anew");

    node.launch()?;
    ensure!(node.pod(&sandbox)?.state() == PodSandboxState::SandboxNotready);
    let status = node.container(&running)?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!(status.exit_code == 255 && status.reason == "Unknown", "{status:?}");
    ensure!(status.message.contains("rebooted"), "{status:?}");
    ensure!(status.finished_at >= status.started_at && status.started_at > 0, "{status:?}");
    let after = node.container(&failed)?;
    ensure!(after.state() == ContainerState::ContainerExited, "{after:?}");
    ensure!(after.exit_code == 3 && after.reason == "Error", "{after:?}");
    ensure!(after.finished_at == before.finished_at && after.started_at == before.started_at);
    ensure!(node.container(&created)?.state() == ContainerState::ContainerExited);
    bystander.ensure_untouched()?;

    // A kubelet makes the pod anew, with the next attempt; nothing of the old one is in its way.
    let mut again = config.clone();
    again.metadata.get_or_insert_default().attempt = 1;
    let second = node.run_pod(&again)?;
    let id = node.launch_container(&second, &again, &container("running", PATIENT))?;
    ensure!(node.exec_ok(&id, &["echo", "new"])? == "new");

    // Stopping and removing what is of another boot ends nobody either.
    node.stop_container(&running, std::time::Duration::ZERO)?;
    node.remove_pod(&sandbox)?;
    bystander.ensure_untouched()?;
    ensure!(node.pod(&sandbox).is_err(), "the removed sandbox is still there");
    ensure!(node.exec_ok(&id, &["echo", "still"])? == "still", "the new pod went with the old");
    Ok(())
}

/// One record that cannot be read: the other pods are served, and nothing is swept away unseen.
fn damaged(node: &mut Node) -> Result<()> {
    let (whole, whole_container) = node.patient_pod("whole")?;
    let (torn, torn_container) = node.patient_pod("torn")?;
    let init = node.init_pid(&torn, &torn_container)?;
    let copy = node.state_dir().join(format!("sandboxes/{torn}.json"));
    eventually("the copy is on disk", || Ok(copy.exists().then_some(())))?;
    node.kill()?;
    let record = node.run_dir().join(format!("sandboxes/{torn}/record.json"));
    let bytes = std::fs::read(&record)?;
    std::fs::write(&record, bytes.get(..bytes.len() / 2).unwrap_or_default())?;
    node.launch()?;
    ensure!(node.container(&whole_container)?.state() == ContainerState::ContainerRunning);
    ensure!(node.pod(&whole)?.state() == PodSandboxState::SandboxReady);
    // Its copy on disk tells what it was.
    ensure!(node.pod(&torn)?.state() == PodSandboxState::SandboxReady, "the copy is not used");
    ensure!(kernel::alive(init) && node.init_pid(&torn, &torn_container)? == init);
    Ok(())
}

/// Ends everything as a power cut does, and takes away what the kernel forgets.
fn power_off(node: &mut Node, sandbox: &str) -> Result<()> {
    node.kill()?;
    let root = &node.machine.cgroup_root;
    for group in [root.join("berth-shims").join(sandbox), node.pod_cgroup(sandbox)] {
        std::fs::write(group.join("cgroup.kill"), "1")
            .with_context(|| format!("kill {}", group.display()))?;
        eventually("the cgroup is gone", || {
            kernel::remove_cgroup(&group);
            Ok((!group.exists()).then_some(()))
        })?;
    }
    Ok(())
}

/// Gives every record another boot id, and lets every process in them be `pid`. How many there were.
fn rewrite_records(node: &Node, pid: i32) -> Result<usize> {
    let process = InitPid::of(pid)?;
    let mut written = 0;
    for path in files_below(&node.run_dir()).into_iter().chain(files_below(&node.state_dir())) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Some((header, body)) = text.split_once('\n') else { continue };
        let words: Vec<&str> = header.split(' ').collect();
        let ["berth", version, boot, _] = words.as_slice() else { continue };
        ensure!(*boot == process.boot_id, "{} is of another boot already", path.display());
        let mut value: Value = serde_json::from_str(body)
            .with_context(|| format!("the body of {}", path.display()))?;
        replace_processes(&mut value, &process);
        let body = serde_json::to_string(&value)?;
        let mut crc = flate2::Crc::new();
        crc.update(body.as_bytes());
        let record = format!("berth {version} {OTHER_BOOT} {:08x}\n{body}\n", crc.sum());
        std::fs::write(&path, record)?;
        written += 1;
    }
    Ok(written)
}

fn replace_processes(value: &mut Value, process: &InitPid) {
    match value {
        Value::Object(map) if map.contains_key("start_time") && map.contains_key("pid") => {
            map.insert("pid".into(), process.pid.into());
            map.insert("start_time".into(), process.start_time.into());
            map.insert("boot_id".into(), OTHER_BOOT.into());
        }
        Value::Object(map) => map.values_mut().for_each(|v| replace_processes(v, process)),
        Value::Array(list) => list.iter_mut().for_each(|v| replace_processes(v, process)),
        _ => {}
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !path.ends_with("layers") => {
                files.extend(files_below(&path))
            }
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|e| e == "json") => {
                files.push(path);
            }
            _ => {}
        }
    }
    files
}
