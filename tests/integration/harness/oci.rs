//! `berth-oci` as a caller uses it: bundles, verbs, and what the verbs said.

use super::node::{Node, binary};
use super::{eventually, kernel};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What one call came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Its standard output so far; a container that it made may write more.
    pub(crate) out: String,
    /// Its standard error so far.
    pub(crate) err: String,
    /// Where its standard output goes.
    pub(crate) out_file: PathBuf,
}

/// A runtime with a root folder of its own. Dropping it removes every container.
pub(crate) struct Runtime<'n> {
    node: &'n Node,
    dir: PathBuf,
    calls: Cell<u32>,
}

/// A program that lasts until it is ended.
pub(crate) const SLEEPS: &str = "exec sleep 100000";

/// An executable script for a hook; it may use everything of the host.
pub(crate) fn script(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

impl<'n> Runtime<'n> {
    /// A runtime for one test. Containers' first processes become children of this process.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn new(node: &'n Node, name: &str) -> Result<Self> {
        let dir = node.path(&format!("oci-{name}"));
        fs::create_dir_all(&dir)?;
        symlink(binary()?.canonicalize()?, dir.join("berth-oci"))?;
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Self { node, dir, calls: Cell::new(0) })
    }

    /// A path below the test's folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// The program.
    pub(crate) fn program(&self) -> PathBuf {
        self.path("berth-oci")
    }

    /// The cgroup at a path, as a folder.
    pub(crate) fn cgroup(&self, path: &str) -> PathBuf {
        self.node.machine.cgroup_root.join(path.trim_start_matches('/'))
    }

    /// A bundle with busybox that runs `script`; `change` has the last word on its config.json.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn bundle(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<PathBuf> {
        let bundle = self.path(name);
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(bundle.join("rootfs/tmp"))?;
        fs::copy("/bin/busybox", bin.join("busybox"))?;
        let applets = Command::new("/bin/busybox").arg("--list").output()?.stdout;
        for applet in String::from_utf8(applets)?.lines().filter(|name| *name != "busybox") {
            symlink("busybox", bin.join(applet))?;
        }
        let done = self.call(&["spec", "--bundle", text(&bundle)?])?;
        ensure!(done.code == Some(0), "{done:?}");
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["process"]["env"] = json!(["PATH=/bin", "OF_CONTAINER=yes"]);
        config["root"]["readonly"] = json!(false);
        change(&mut config);
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }

    /// A call that can still be changed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command
            .arg("--config")
            .arg(self.node.config_file())
            .arg("--root")
            .arg(self.path("root"))
            .arg("--log")
            .arg(self.path("log.json"))
            .args(["--log-format", "json"])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Calls it. Its output is a file: a container keeps it open.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<Outcome> {
        self.finish(self.command(arguments))
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn finish(&self, mut command: Command) -> Result<Outcome> {
        let number = self.calls.replace(self.calls.get() + 1);
        let out_file = self.path(&format!("out-{number}"));
        let err_file = self.path(&format!("err-{number}"));
        command.stdout(File::create(&out_file)?).stderr(File::create(&err_file)?);
        let code = command.status().with_context(|| format!("run {command:?}"))?.code();
        let (out, err) = (fs::read_to_string(&out_file)?, fs::read_to_string(&err_file)?);
        Ok(Outcome { code, out, err, out_file })
    }

    /// A call that must succeed; its standard output.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.done(arguments)?.out)
    }

    /// A call that must succeed.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn done(&self, arguments: &[&str]) -> Result<Outcome> {
        let outcome = self.call(arguments)?;
        ensure!(outcome.code == Some(0), "{arguments:?}: {outcome:?}");
        Ok(outcome)
    }

    /// A call that must fail and say so on standard error and in the log; the log's words.
    ///
    /// # Errors
    /// It succeeds, or the log has other words.
    pub(crate) fn fails(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.call(arguments)?;
        ensure!(outcome.code != Some(0), "{arguments:?} succeeded: {outcome:?}");
        let log = fs::read_to_string(self.path("log.json")).context("read the log")?;
        let last: Value = serde_json::from_str(log.lines().last().context("an empty log")?)?;
        let message = last["msg"].as_str().context("no message")?.to_owned();
        ensure!(last["level"] == "error", "{last}");
        ensure!(last["time"].as_str().is_some_and(|t| t.ends_with('Z')), "{last}");
        ensure!(outcome.err.contains(&message), "{outcome:?}, the log: {message}");
        Ok(message)
    }

    /// Creates a container of a bundle.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn create(&self, id: &str, bundle: &Path) -> Result<Outcome> {
        self.done(&["create", "--bundle", text(bundle)?, id])
    }

    /// Creates and starts a container that runs `script`.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn running(&self, id: &str, script: &str) -> Result<Outcome> {
        let bundle = self.bundle(id, script, |_| ())?;
        let created = self.create(id, &bundle)?;
        self.ok(&["start", id])?;
        Ok(created)
    }

    /// The state of a container.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ok(&["state", id])?)?)
    }

    /// The status of a container.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn status(&self, id: &str) -> Result<String> {
        Ok(self.state(id)?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The pid of a container's first process.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn pid(&self, id: &str) -> Result<i32> {
        let pid = self.state(id)?["pid"].as_i64().context("no pid")?;
        let pid = i32::try_from(pid)?;
        ensure!(pid > 0, "no process");
        Ok(pid)
    }

    /// Waits until a container has this status.
    ///
    /// # Errors
    /// It does not get it.
    pub(crate) fn becomes(&self, id: &str, status: &str) -> Result<()> {
        eventually(&format!("{id} is {status}"), || Ok((self.status(id)? == status).then_some(())))
    }

    /// Waits until a file has this text.
    ///
    /// # Errors
    /// It does not get it.
    pub(crate) fn says(&self, file: &Path, expected: &str) -> Result<()> {
        let mut last = String::new();
        eventually("the output", || {
            last = fs::read_to_string(file).unwrap_or_default();
            Ok((last == expected).then_some(()))
        })
        .with_context(|| format!("{expected:?} was expected, and there is {last:?}"))
    }

    /// Nothing of a container is left: no folder, no cgroup, no process.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn nothing_of(&self, id: &str, cgroup: &str) -> Result<()> {
        let names = kernel::names_in(&self.path("root"));
        ensure!(!names.iter().any(|name| name == id), "the folder of {id} is left");
        let cgroup = self.cgroup(cgroup);
        ensure!(!cgroup.exists(), "{} is left", cgroup.display());
        ensure!(
            !cgroup.parent().is_some_and(|p| p.ends_with("berth-oci")
                && p.exists()
                && kernel::cgroups_below(p).is_empty()),
            "the cgroup above is left"
        );
        Ok(())
    }
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        for id in kernel::names_in(&self.path("root")) {
            self.command(&["delete", "--force", &id]).output().ok();
        }
        self.reap_orphans(None);
        nix::sys::prctl::set_child_subreaper(false).ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Runtime<'_> {
    /// Reaps ended processes whose parent has gone: they are ours. Not `but`, whom somebody waits for.
    pub(crate) fn reap_orphans(&self, but: Option<u32>) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        let but = but.and_then(|pid| i32::try_from(pid).ok());
        for id in self.orphans().into_iter().filter(|pid| Some(*pid) != but) {
            let pid = nix::unistd::Pid::from_raw(id);
            while let Ok(WaitStatus::StillAlive) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                super::poll::pause(std::time::Duration::from_millis(5));
            }
        }
    }

    /// Ended children of this process that no `Child` knows: they are zombies.
    fn orphans(&self) -> Vec<i32> {
        let own = std::process::id().to_string();
        kernel::names_in(Path::new("/proc"))
            .iter()
            .filter_map(|name| name.parse::<i32>().ok())
            .filter(|pid| {
                let field = |name| kernel::status_field(*pid, name).unwrap_or_default();
                field("PPid") == own && field("State").starts_with('Z')
            })
            .collect()
    }
}

/// Adds a user namespace whose ids begin at 200000 on the host.
pub(crate) fn mapped(config: &mut Value, path: Option<&str>) {
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    let namespace = match path {
        None => json!({ "type": "user" }),
        Some(path) => json!({ "type": "user", "path": path }),
    };
    let list = config["linux"]["namespaces"].as_array_mut();
    list.into_iter().for_each(|list| list.push(namespace.clone()));
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}
