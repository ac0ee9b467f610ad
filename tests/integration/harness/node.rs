//! A daemon with folders, a socket and a bridge of its own.

use super::cri::Cri;
use super::machine::{Machine, Need, PLUGIN_DIR};
use super::poll::{self, eventually};
use super::{image, kernel, runtime};
use anyhow::{Context as _, Result, bail, ensure};
use berth::cri::proto;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What is not as usual with a daemon.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The text of a conflist: CNI mode with it. Empty: CNI mode without one.
    pub(crate) conflist: Option<String>,
    /// Further lines of `config.toml`.
    pub(crate) config: String,
    /// What runs the daemon: a program and arguments to put before its own.
    pub(crate) wrapper: Vec<String>,
    /// Environment of the daemon beside the usual.
    pub(crate) env: Vec<(String, String)>,
    /// The daemon is the installed unit, `berth.service`, with the systemd cgroup driver.
    pub(crate) unit: bool,
    /// The daemon keeps pods of its own folder of manifests; further lines of `[kubelet]`.
    pub(crate) kubelet: Option<String>,
}

/// The installed unit.
pub(crate) const UNIT: &str = "berth.service";
/// Where the installed unit reads its configuration.
const UNIT_CONFIG: &str = "/etc/berth/config.toml";

/// Runs systemctl; what it prints.
///
/// # Errors
/// It fails.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("systemctl")
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemctl {arguments:?}: {}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running daemon. Dropping it ends the daemon, its pods, and removes all folders.
pub(crate) struct Node {
    /// What this machine can do.
    pub(crate) machine: Machine,
    /// CRI calls to whatever runs the pods: it, or where it keeps pods of manifests perhaps another runtime.
    pub(crate) cri: Cri,
    /// CRI calls to it, where [`Self::cri`] is another runtime's.
    own: Option<Cri>,
    /// The runtime handler of the pods that [`Node::run_pod`] makes; empty: the native one.
    pub(crate) handler: &'static str,
    root: PathBuf,
    number: u32,
    options: Options,
    /// Whether it serves more than it did at its start.
    pub(super) reconfigured: bool,
    daemon: Option<Child>,
}

impl Node {
    /// Starts a daemon, waits until it answers, and imports the busybox image.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub(crate) fn start(machine: &Machine, options: &Options) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
        let base = std::env::var_os("BERTH_TEST_ROOT").map_or_else(std::env::temp_dir, Into::into);
        let root = base.join(format!("berth-{}-{number}", std::process::id()));
        for folder in ["etc/net.d", "logs", "manifests", "volumes"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let own = Cri::new(&root.join("run/berth.sock"))?;
        let other = if options.kubelet.is_some() { runtime::connect()? } else { None };
        let (cri, own) = match other {
            Some(other) => (other, Some(own)),
            None => (own, None),
        };
        let mut node = Self {
            machine: machine.clone(),
            cri,
            own,
            handler: "",
            root,
            number,
            options: options.clone(),
            reconfigured: false,
            daemon: None,
        };
        std::fs::write(node.config_file(), node.config())?;
        if let Some(conflist) = options.conflist.as_deref().filter(|text| !text.is_empty()) {
            std::fs::write(node.conflist_file(), conflist)?;
        }
        node.launch().map_err(|error| anyhow::anyhow!("{error:#}\n{}", node.last_words()))?;
        node.has_busybox().map_err(|error| anyhow::anyhow!("{error:#}\n{}", node.last_words()))?;
        if node.is_kubelet() {
            node.prepared_for_pods()?;
        }
        Ok(node)
    }

    /// A path below the node's own folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The folder of live state.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// The folder of what outlives a boot.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// The layers that are unpacked; not the empty one, which every snapshot may begin with.
    pub(crate) fn layers(&self) -> Vec<String> {
        let names = kernel::names_in(&self.state_dir().join("images/layers"));
        names.into_iter().filter(|name| name != "empty").collect()
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/berth.sock")
    }

    /// Where CNI mode looks for the conflist.
    pub(crate) fn conflist_file(&self) -> PathBuf {
        self.path("etc/net.d/10-test.conflist")
    }

    /// The bridge of the built-in network.
    pub(crate) fn bridge(&self) -> String {
        format!("bt{}n{}", std::process::id() % 100_000, self.number)
    }

    /// A folder on the host for a volume; made when it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn volume(&self, name: &str) -> Result<PathBuf> {
        let path = self.path("volumes").join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The daemon's pid.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn pid(&self) -> Result<i32> {
        if self.options.unit {
            let pid = systemctl(&["show", "--value", "-p", "MainPID", UNIT])?.parse()?;
            ensure!(pid != 0, "the unit does not run");
            return Ok(pid);
        }
        let child = self.daemon.as_ref().context("the daemon does not run")?;
        let pid = i32::try_from(child.id())?;
        Ok(pid)
    }

    /// The daemon's configuration.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("etc/config.toml")
    }

    /// Whether the daemon keeps pods of manifests.
    pub(crate) fn is_kubelet(&self) -> bool {
        self.options.kubelet.is_some()
    }

    /// The number of this node among those of the process.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the daemon is the installed unit.
    pub(crate) fn is_unit(&self) -> bool {
        self.options.unit
    }

    fn config(&self) -> String {
        let stage = std::env::var("BERTH_STAGE").unwrap_or_else(|_| "target/stage".into());
        let machine = &self.machine;
        let enforce = |met| if met { "required" } else { "best-effort" };
        let octet = self.number % 250;
        let mut text = String::new();
        // The unit finds its programs where they are installed.
        let libexec =
            if self.options.unit { String::new() } else { format!("libexec = {stage:?}\n") };
        let driver = if self.options.unit { "systemd" } else { "cgroupfs" };
        let mode = if self.options.conflist.is_some() { "cni" } else { "builtin" };
        writeln!(
            text,
            "[server]\nsocket = {socket:?}\n[paths]\nrun = {run:?}\nstate = {state:?}\n{libexec}\
             [cgroups]\ndriver = {driver:?}\nenforce = {controllers:?}\nroot = {cgroup_root:?}\n\
             [process]\nprivileges = {resources:?}\n\
             [network]\nmode = {mode:?}\ncni_conf_dir = {net:?}\ncni_bin_dirs = [{plugins:?}, {PLUGIN_DIR:?}]\n\
             bridge = {bridge:?}\nsubnet = \"10.213.{octet}.0/24\"\nsubnet6 = \"fd00:be27:{octet}::/64\"",
            socket = self.socket(),
            run = self.run_dir(),
            state = self.state_dir(),
            controllers = enforce(machine.has(Need::Controllers)),
            cgroup_root = machine.cgroup_root,
            resources = enforce(machine.has(Need::Resources)),
            net = self.path("etc/net.d"),
            plugins = self.path("etc/plugins"),
            bridge = self.bridge(),
        )
        .ok();
        text.push_str(&self.options.config);
        if let Some(further) = &self.options.kubelet {
            text.push_str(&self.kubelet_config(further));
        }
        text
    }

    /// Starts the daemon anew with other lines of `[kubelet]`. Its pods go on meanwhile.
    ///
    /// # Errors
    /// It does not end, or does not start.
    pub(crate) fn reconfigure(&mut self, kubelet: &str) -> Result<()> {
        self.stop_for(kubelet)?;
        self.launch()?;
        self.prepared_for_pods()
    }

    fn stop_for(&mut self, kubelet: &str) -> Result<()> {
        self.stop()?;
        self.reconfigured = true;
        self.options.kubelet = Some(kubelet.to_owned());
        Ok(std::fs::write(self.config_file(), self.config())?)
    }

    /// Starts the daemon anew with lines of `[kubelet]` for which it ends, and says `why` in its log.
    ///
    /// # Errors
    /// It runs all the same, or says something else.
    pub(crate) fn refuses(&mut self, kubelet: &str, why: &str) -> Result<()> {
        self.stop_for(kubelet)?;
        // It may answer for a moment.
        self.launch().ok();
        eventually("the daemon ends", || {
            self.exited()?;
            Ok(self.daemon.is_none().then_some(()))
        })?;
        let log = kernel::read(self.log_file())?;
        ensure!(log.contains(why), "no {why:?} in {}", self.last_words());
        Ok(())
    }

    /// Environment of the daemon's next start.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.options.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the daemon and waits until it has recovered.
    ///
    /// # Errors
    /// It does not start, ends at once, or does not answer in time.
    pub(crate) fn launch(&mut self) -> Result<()> {
        if self.options.unit {
            std::fs::create_dir_all("/etc/berth")?;
            std::fs::copy(self.config_file(), UNIT_CONFIG)?;
            systemctl(&["start", UNIT])?;
            return self.answers();
        }
        ensure!(self.daemon.is_none(), "the daemon runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut words = self.options.wrapper.clone();
        words.push(binary()?.to_string_lossy().into_owned());
        let (program, before) = words.split_first().context("no program")?;
        let daemon = Command::new(program)
            .args(before)
            .arg("--config")
            .arg(self.config_file())
            .args(["serve", "--log-level", "debug"])
            .env("BERTH_FAIL_PLAN", self.path("fail-plan"))
            .envs(self.options.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        self.daemon = Some(daemon);
        self.answers()
    }

    /// Waits until the daemon answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time.
    pub(crate) fn answers(&mut self) -> Result<()> {
        eventually("the daemon answers", || {
            if let Some(status) = self.exited()? {
                return Ok(Some(Err(status)));
            }
            let own = self.own.as_ref().unwrap_or(&self.cri);
            own.list_pod_sandbox(proto::ListPodSandboxRequest::default())?;
            Ok(Some(Ok(())))
        })?
        .map_err(|status| anyhow::anyhow!("the daemon ended with {status}"))
    }

    /// How the daemon ended, if it did.
    ///
    /// # Errors
    /// It cannot be told.
    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        let status = daemon.try_wait()?;
        if status.is_some() {
            self.daemon = None;
        }
        Ok(status)
    }

    /// Starts the daemon unless it runs.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        self.exited()?;
        if self.daemon.is_none() || self.options.unit { self.launch() } else { Ok(()) }
    }

    /// SIGKILL, and wait.
    ///
    /// # Errors
    /// The daemon does not run.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        daemon.kill()?;
        let status = daemon.wait()?;
        ensure!(status.signal() == Some(9), "the daemon had ended before: {status}");
        Ok(())
    }

    /// Waits until the daemon was killed by SIGKILL, as a kill point does.
    ///
    /// # Errors
    /// It goes on running, or ended in another way.
    pub(crate) fn wait_killed(&mut self) -> Result<()> {
        let mut end = None;
        eventually("the daemon is killed", || {
            end = self.exited()?.or(end);
            Ok(end)
        })
        .and_then(|status| {
            ensure!(status.signal() == Some(9), "the daemon ended with {status}");
            Ok(())
        })
    }

    /// SIGTERM, and wait for the daemon's own exit.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let pid = Pid::from_raw(self.pid()?);
        nix::sys::signal::kill(pid, Signal::SIGTERM)?;
        eventually("the daemon ends after SIGTERM", || self.exited())
    }

    /// The command line with this node's configuration, not yet run.
    ///
    /// # Errors
    /// The program is missing.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--config").arg(self.config_file()).args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs the command line against this daemon.
    ///
    /// # Errors
    /// It cannot be run at all.
    pub(crate) fn berth(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?.output().with_context(|| format!("run berth {arguments:?}"))
    }

    /// [`Self::berth`], which must succeed; its standard output.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn berth_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.berth(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "berth {arguments:?}: {}: {errors}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Whether another runtime runs its pods.
    pub(crate) fn has_other_runtime(&self) -> bool {
        self.own.is_some()
    }

    fn has_busybox(&self) -> Result<()> {
        if self.has_other_runtime() {
            return runtime::prepare(&self.cri, &self.root);
        }
        let archive = self.path("busybox.tar");
        image::write_busybox(&archive)?;
        self.import(&archive).map(drop)
    }

    /// Gives an image to whatever runs its pods.
    ///
    /// # Errors
    /// The runtime does not take it.
    pub(crate) fn has_image(&self, archive: &Path, name: &str) -> Result<()> {
        match self.own {
            Some(_) => runtime::import(&self.cri, archive, name),
            None => self.import(archive).map(drop),
        }
    }

    /// Imports an image archive.
    ///
    /// # Errors
    /// The command fails.
    pub(crate) fn import(&self, archive: &Path) -> Result<String> {
        let archive = archive.to_str().context("archive's name")?;
        self.berth_ok(&["image", "import", archive])
    }

    /// Where the daemon's log goes.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.path("daemon.log")
    }

    /// The end of the daemon's log, for a failure's message. Kept whole where logs are collected.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        if let Some(folder) = std::env::var_os("BERTH_VM_OUT") {
            let name = format!("daemon-{}.log", self.number);
            std::fs::write(PathBuf::from(folder).join(name), &text).ok();
        }
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(25);
        format!("the daemon's last words:\n{}\n", lines.get(from..).unwrap_or_default().join("\n"))
    }

    /// Removes every pod.
    ///
    /// # Errors
    /// A pod that cannot be stopped or removed.
    pub(crate) fn remove_all(&self) -> Result<()> {
        let pods = self.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
        for pod in pods {
            self.remove_pod(&pod.id)?;
        }
        Ok(())
    }

    /// Ends what a failed test left behind: the cgroups of the sandboxes that have a folder.
    fn sweep(&self) {
        if self.has_other_runtime() {
            self.remove_all().ok();
        }
        if self.is_kubelet() {
            self.sweep_kubelet();
        }
        let mut ids: Vec<String> = Vec::new();
        for folder in ["run/sandboxes", "state/sandboxes"] {
            for name in kernel::names_in(&self.path(folder)) {
                ids.push(name.trim_end_matches(".json").to_owned());
            }
        }
        for group in kernel::cgroups_below(&self.machine.cgroup_root) {
            let ours = group
                .file_name()
                .is_some_and(|n| ids.iter().any(|id| n.to_string_lossy().contains(id.as_str())));
            if ours {
                std::fs::write(group.join("cgroup.kill"), "1").ok();
                poll::within(Duration::from_secs(5), "sweep", || {
                    kernel::remove_cgroup(&group);
                    Ok((!group.exists()).then_some(()))
                })
                .ok();
            }
        }
        let below = format!("{}/", self.root.display());
        let mut mounts = kernel::mounts("self").unwrap_or_default();
        mounts.reverse();
        for mount in mounts.iter().filter(|m| m.point.starts_with(&below)) {
            nix::mount::umount2(mount.point.as_str(), nix::mount::MntFlags::MNT_DETACH).ok();
        }
        Command::new("ip").args(["link", "del", &self.bridge()]).output().ok();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.options.unit {
            systemctl(&["stop", UNIT]).ok();
        } else if self.daemon.is_some() && self.stop().is_err() {
            self.kill().ok();
        }
        self.sweep();
        std::fs::remove_dir_all(&self.root).ok();
    }
}

/// The daemon's program as it was staged.
///
/// # Errors
/// It is not there.
pub(crate) fn binary() -> Result<PathBuf> {
    let stage =
        std::env::var_os("BERTH_STAGE").map_or_else(|| "target/stage".into(), PathBuf::from);
    let path = stage.join("berth");
    ensure!(path.exists(), "{} is missing: run make build-tests", path.display());
    Ok(path)
}
