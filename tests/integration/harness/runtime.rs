//! Another runtime for the pods of manifests: `BERTH_TEST_RUNTIME` names its socket, `BERTH_PEER_IMPORT` the command
//! that gives it an image, whose file is added. Without them the daemon's own engine runs the pods.
//!
//! The runtime is one for all tests, and serves them one after the other: each has to leave it empty.

use super::cri::Cri;
use super::image::{BUSYBOX, PAUSE, write_busybox, write_pause};
use super::kernel;
use super::poll;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// How long a runtime may take to begin.
const PATIENCE: Duration = Duration::from_secs(120);
/// The bridge of its network, which stays for the next pod.
pub(crate) const BRIDGE: &str = "cni0";

/// Its socket, when there is one.
pub(crate) fn socket() -> Option<PathBuf> {
    std::env::var_os("BERTH_TEST_RUNTIME").map(PathBuf::from)
}

/// A connection to it, when there is one, as soon as it answers.
///
/// # Errors
/// It does not answer.
pub(crate) fn connect() -> Result<Option<Cri>> {
    let Some(socket) = socket() else { return Ok(None) };
    let cri = Cri::new(&socket)?;
    wait(&cri)?;
    Ok(Some(cri))
}

/// Waits until a runtime answers.
///
/// # Errors
/// It does not in time.
pub(crate) fn wait(cri: &Cri) -> Result<()> {
    poll::within(PATIENCE, "the runtime answers", || {
        cri.status(proto::StatusRequest::default())?;
        Ok(Some(()))
    })
}

/// Gives it the images that tests and its sandboxes need, once.
///
/// # Errors
/// It does not take them.
pub(crate) fn prepare(cri: &Cri, folder: &Path) -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    let (busybox, pause) = (folder.join("busybox.tar"), folder.join("pause.tar"));
    write_busybox(&busybox)?;
    write_pause(&pause)?;
    import(cri, &busybox, BUSYBOX)?;
    import(cri, &pause, PAUSE)?;
    DONE.set(()).ok();
    Ok(())
}

/// Gives it the image of an archive, and waits until it has it.
///
/// # Errors
/// The command fails, or the image does not come.
pub(crate) fn import(cri: &Cri, archive: &Path, name: &str) -> Result<()> {
    let import = std::env::var("BERTH_PEER_IMPORT").context("no BERTH_PEER_IMPORT")?;
    let mut words = import.split_whitespace();
    let mut command = Command::new(words.next().context("an empty BERTH_PEER_IMPORT")?);
    let ended = command.args(words).arg(archive).output().context("run the import")?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{import}: {}: {errors}", ended.status);
    poll::within(PATIENCE, "the image is there", || {
        let image = Some(proto::ImageSpec { image: name.into(), ..Default::default() });
        let request = proto::ImageStatusRequest { image, verbose: false };
        Ok(cri.image_status(request)?.image.map(drop))
    })
}

/// The pid of the first process, as the verbose status of a container or a sandbox tells it.
///
/// # Errors
/// It is not told.
pub(crate) fn pid_of(info: &std::collections::BTreeMap<String, String>) -> Result<i32> {
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?)?;
    Ok(i32::try_from(info["pid"].as_i64().context("no pid")?)?)
}

/// Where a process is in the hierarchy that the runtime uses: version 2, or that of the memory controller.
///
/// # Errors
/// There is no such process.
pub(crate) fn cgroup_of(pid: i32) -> Result<String> {
    let text = kernel::read(format!("/proc/{pid}/cgroup"))?;
    let first = text.lines().find_map(|line| line.split_once(":memory:"));
    first.map_or_else(|| kernel::cgroup_of(pid), |(_, path)| Ok(path.to_owned()))
}
