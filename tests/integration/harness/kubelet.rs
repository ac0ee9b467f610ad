//! A node that keeps pods of a folder of manifests, and what it shows of them.

use super::image::BUSYBOX;
use super::kernel;
use super::logs;
use super::machine::Machine;
use super::node::{Node, Options};
use super::poll;
use super::runtime;
use anyhow::{Context as _, Result, bail, ensure};
use berth::cri::proto;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The node's name, which every pod's name ends with.
const NODE_NAME: &str = "node";
/// How long a pod may take for anything that no test waits for on purpose.
const WITHIN: Duration = Duration::from_secs(90);

/// A daemon that keeps pods.
pub(crate) fn kubelet(_: &Machine) -> Options {
    Options { kubelet: Some(String::new()), ..Options::default() }
}

/// A shell script as a container.
pub(crate) fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script]})
}

/// A container that runs until it is asked to end, and ends with 0 then.
pub(crate) fn patient(name: &str) -> Value {
    sh(name, "trap 'exit 0' TERM; sleep 100000 & wait")
}

/// An object with further keys.
pub(crate) fn with(mut base: Value, further: Value) -> Value {
    if let (Some(base), Value::Object(further)) = (base.as_object_mut(), further) {
        base.extend(further);
    }
    base
}

/// A pod with a short grace.
pub(crate) fn pod(name: &str, spec: Value) -> Value {
    let short = json!({"terminationGracePeriodSeconds": 3});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": with(short, spec),
    })
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A folder of the host as a volume of a pod.
pub(crate) fn host_folder(volume: &str, path: &std::path::Path) -> Value {
    json!({"name": volume, "hostPath": {"path": path}})
}

/// A pod as its status file shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown(pub(crate) Value);

impl Shown {
    /// Its uid.
    pub(crate) fn uid(&self) -> &str {
        self.text("/pod/metadata/uid")
    }

    /// Its full name, with the node's.
    pub(crate) fn name(&self) -> &str {
        self.text("/pod/metadata/name")
    }

    /// Its phase.
    pub(crate) fn phase(&self) -> &str {
        self.text("/pod/status/phase")
    }

    /// Its address; empty without one.
    pub(crate) fn ip(&self) -> &str {
        self.text("/pod/status/podIP")
    }

    /// A text of the record; empty without it.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether a condition is True.
    pub(crate) fn condition(&self, kind: &str) -> bool {
        let all = self.0.pointer("/pod/status/conditions").and_then(Value::as_array);
        all.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
    }

    /// The status of a container of any list; null without one.
    pub(crate) fn container(&self, name: &str) -> &Value {
        let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
        let of = |list: &str| self.0["pod"]["status"][list].as_array();
        let mut all = lists.iter().filter_map(|list| of(list)).flatten();
        all.find(|container| container["name"] == name).unwrap_or(&Value::Null)
    }

    /// The id of a container's newest instance, as CRI has it.
    pub(crate) fn id(&self, name: &str) -> String {
        let id = self.container(name)["containerID"].as_str().unwrap_or_default();
        id.split_once("://").map_or(id, |(_, id)| id).to_owned()
    }

    /// How often a container was restarted.
    pub(crate) fn restarts(&self, name: &str) -> u64 {
        self.container(name)["restartCount"].as_u64().unwrap_or(0)
    }

    /// Whether a container is ready.
    pub(crate) fn ready(&self, name: &str) -> bool {
        self.container(name)["ready"] == true
    }

    /// Whether a container runs.
    pub(crate) fn running(&self, name: &str) -> bool {
        self.container(name)["state"]["running"].is_object()
    }

    /// Why a container waits.
    pub(crate) fn waiting(&self, name: &str) -> &str {
        self.container(name)["state"]["waiting"]["reason"].as_str().unwrap_or_default()
    }

    /// How often something was told, and the last sentence of it.
    pub(crate) fn event(&self, reason: &str) -> Option<(u64, String)> {
        let all = self.0["events"].as_array().into_iter().flatten();
        let of = all.filter(|event| event["reason"] == reason);
        of.fold(None, |sum, event| {
            let count = sum.map_or(0, |(count, _)| count) + event["count"].as_u64().unwrap_or(0);
            Some((count, event["message"].as_str().unwrap_or_default().to_owned()))
        })
    }

    /// The status and the reasons of all events, for a failure's message.
    fn brief(&self) -> String {
        let all = self.0["events"].as_array().into_iter().flatten();
        let events: Vec<String> =
            all.map(|event| format!("{}: {}", event["reason"], event["message"])).collect();
        format!("{}\n  {}", self.0["pod"]["status"], events.join("\n  "))
    }
}

impl Node {
    /// The section of the configuration.
    pub(super) fn kubelet_config(&self, further: &str) -> String {
        // A machine whose disk is full tests all the same, but for the tests that ask for thresholds.
        let rest = match further.contains("[kubelet.eviction]") {
            true => "",
            false => "[kubelet.eviction]\nhard = []\n[kubelet.image_gc]\nhigh_percent = 100\n",
        };
        let named = further.contains("runtime_endpoint");
        let other = runtime::socket().filter(|_| self.has_other_runtime() && !named);
        let endpoint = other.map(|socket| format!("runtime_endpoint = {socket:?}\n"));
        format!(
            "\n[kubelet]\n{}manifest_dir = {:?}\npod_logs_dir = {:?}\ncontainer_logs_dir = {:?}\n\
             node_name = {NODE_NAME:?}\ncgroup_root = {:?}\n{further}\n{rest}",
            endpoint.unwrap_or_default(),
            self.path("manifests"),
            self.path("pod-logs"),
            self.path("container-logs"),
            format!("{}/kubepods", self.kubelet_group()),
        )
    }

    fn kubelet_group(&self) -> String {
        format!("berth-tests-{}-{}", std::process::id(), self.number())
    }

    /// The cgroup below which its pods are.
    pub(crate) fn kubelet_cgroup(&self) -> PathBuf {
        self.machine.cgroup_root.join(self.kubelet_group()).join("kubepods")
    }

    /// Waits until what the node has for all pods is there, so that it is there before a test, too.
    ///
    /// # Errors
    /// It is not in time.
    pub(super) fn prepared_for_pods(&self) -> Result<()> {
        let payload = self.path("run/kubelet/payload").to_string_lossy().into_owned();
        poll::eventually("the node is prepared for pods", || {
            Ok(kernel::mounts("self")?.iter().any(|mount| mount.point == payload).then_some(()))
        })
    }

    /// Ends what a failed test left in its pods' cgroups.
    pub(super) fn sweep_kubelet(&self) {
        let group = self.machine.cgroup_root.join(self.kubelet_group());
        std::fs::write(group.join("cgroup.kill"), "1").ok();
        poll::within(Duration::from_secs(5), "sweep", || {
            kernel::remove_cgroup(&group);
            Ok((!group.exists()).then_some(()))
        })
        .ok();
    }

    /// A file among the manifests.
    pub(crate) fn manifest_file(&self, name: &str) -> PathBuf {
        self.path("manifests").join(name)
    }

    /// Writes a manifest, all at once.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn manifest(&self, name: &str, object: &Value) -> Result<()> {
        self.manifest_text(name, &object.to_string())
    }

    /// [`Self::manifest`] of any text.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn manifest_text(&self, name: &str, text: &str) -> Result<()> {
        let file = self.manifest_file(name);
        let new = self.manifest_file(&format!(".{name}.new"));
        std::fs::create_dir_all(self.path("manifests"))?;
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &file)?;
        Ok(())
    }

    /// Removes a manifest.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn remove_manifest(&self, name: &str) -> Result<()> {
        let file = self.manifest_file(name);
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
    }

    /// All pods, by their status files.
    ///
    /// # Errors
    /// One that is no JSON: they are replaced at once.
    pub(crate) fn shown(&self) -> Result<Vec<Shown>> {
        let folder = self.state_dir().join("kubelet/status");
        let mut all = Vec::new();
        for name in kernel::names_in(&folder).iter().filter(|name| name.ends_with(".json")) {
            // It may go while it is looked at.
            let Ok(text) = std::fs::read_to_string(folder.join(name)) else { continue };
            all.push(Shown(serde_json::from_str(&text).with_context(|| format!("in {name}"))?));
        }
        Ok(all)
    }

    /// The status of a pod by the name in its manifest, be it one of a folder or one that was applied.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn find(&self, pod: &str) -> Result<Option<Shown>> {
        let name = format!("{pod}-{NODE_NAME}");
        Ok(self.shown()?.into_iter().find(|shown| [&*name, pod].contains(&shown.name())))
    }

    /// Waits until the status of a pod is so.
    ///
    /// # Errors
    /// It is not in time.
    pub(crate) fn wait_for(
        &self,
        pod: &str,
        what: &str,
        is_so: impl Fn(&Shown) -> bool,
    ) -> Result<Shown> {
        poll::within(WITHIN, what, || match self.find(pod)? {
            Some(shown) if is_so(&shown) => Ok(Some(shown)),
            Some(shown) => bail!("{pod} is {}", shown.brief()),
            None => bail!("{pod} has no status"),
        })
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub(crate) fn wait_ready(&self, pod: &str) -> Result<Shown> {
        self.wait_for(pod, "the pod is ready", |shown| {
            shown.phase() == "Running" && shown.condition("Ready")
        })
    }

    /// Waits until a pod is in a phase.
    ///
    /// # Errors
    /// It is not in time.
    pub(crate) fn wait_phase(&self, pod: &str, phase: &str) -> Result<Shown> {
        self.wait_for(pod, &format!("the pod is {phase}"), |shown| shown.phase() == phase)
    }

    /// Waits until a pod has no status any more.
    ///
    /// # Errors
    /// It has one for too long.
    pub(crate) fn wait_gone(&self, pod: &str) -> Result<()> {
        poll::within(WITHIN, "the pod is gone", || match self.find(pod)? {
            Some(shown) => bail!("{pod} is {}", shown.brief()),
            None => Ok(Some(())),
        })
    }

    /// The cgroup of a pod.
    pub(crate) fn kubelet_pod_cgroup(&self, pod: &Shown) -> PathBuf {
        let name = format!("pod{}", pod.uid());
        let root = self.kubelet_cgroup();
        match pod.text("/pod/status/qosClass") {
            "Guaranteed" => root.join(name),
            class => root.join(class.to_lowercase()).join(name),
        }
    }

    /// The cgroup of a process of a pod, below the root of the hierarchy.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn cgroup_in_pod(&self, pid: i32) -> Result<String> {
        if self.has_other_runtime() { runtime::cgroup_of(pid) } else { kernel::cgroup_of(pid) }
    }

    /// The folder of a pod's logs.
    pub(crate) fn pod_logs(&self, pod: &Shown) -> PathBuf {
        let namespace = pod.text("/pod/metadata/namespace");
        self.path("pod-logs").join(format!("{namespace}_{}_{}", pod.name(), pod.uid()))
    }

    /// What an instance of a container wrote to its standard output; nothing when it has no log.
    pub(crate) fn log_text(&self, pod: &Shown, container: &str, number: u64) -> String {
        let file = self.pod_logs(pod).join(container).join(format!("{number}.log"));
        logs::read(&file).map(|lines| logs::stream(&lines, "stdout")).unwrap_or_default()
    }

    /// The pid of a container's first process, on the host.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn first_pid(&self, pod: &Shown, container: &str) -> Result<i32> {
        let id = pod.id(container);
        ensure!(!id.is_empty(), "{container} has no id");
        if self.has_other_runtime() {
            let request = proto::ContainerStatusRequest { container_id: id, verbose: true };
            return runtime::pid_of(&self.cri.container_status(request)?.info);
        }
        let groups = kernel::cgroups_below(&self.kubelet_pod_cgroup(pod));
        let own = groups.iter().find(|group| group.ends_with(&id)).context("no cgroup")?;
        let first = |pid: &i32| {
            let ids = kernel::status_field(*pid, "NSpid").unwrap_or_default();
            ids.split_whitespace().last() == Some("1")
        };
        let pids = kernel::pids_in(own)?;
        pids.iter().copied().find(first).or(pids.first().copied()).context("no process")
    }

    /// Removes all manifests and waits until nothing is left of their pods.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn end_pods(&self) -> Result<()> {
        for name in kernel::names_in(&self.path("manifests")) {
            let path = self.manifest_file(&name);
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path))?;
        }
        poll::within(WITHIN, "nothing is left of the pods", || {
            let mut left = Vec::new();
            for folder in ["state/kubelet/status", "state/kubelet/pods", "run/kubelet/payload"] {
                let names = kernel::names_in(&self.path(folder));
                left.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
            }
            for folder in ["pod-logs", "container-logs"] {
                let names = kernel::names_in(&self.path(folder));
                left.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
            }
            let sandboxes = proto::ListPodSandboxRequest::default();
            let sandboxes = self.cri.list_pod_sandbox(sandboxes)?.items;
            left.extend(sandboxes.into_iter().map(|sandbox| format!("sandbox {}", sandbox.id)));
            ensure!(left.is_empty(), "left behind: {left:?}");
            Ok(Some(()))
        })
    }
}
