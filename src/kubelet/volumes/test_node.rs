//! A node of the tests': folders below a temporary one, which takes its mounts with it.

use super::error::VolumeErrors;
use super::remove::unmount_below;
use super::verbs::{VolumeInput, Volumes};
use crate::blocking::Wanted;
use crate::kubelet::node::{Amounts, NodeFacts};
use crate::kubelet::objects::Objects;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, from_value, json};
use std::path::{Path, PathBuf};

/// The uid of the tests' pod.
pub(super) const UID: &str = "uid-1";

/// Folders, objects and facts.
pub(super) struct Node {
    temp: tempfile::TempDir,
    pub(super) objects: Objects,
    pub(super) facts: NodeFacts,
    /// Whether anybody waits for what is made.
    pub(super) wanted: Wanted,
}

impl Node {
    /// With its tmpfs mounted.
    pub(super) fn new() -> Self {
        let allocatable = Amounts { memory_bytes: 64 << 20, ..Amounts::default() };
        let facts = NodeFacts { name: "node".into(), allocatable, ..NodeFacts::default() };
        let (temp, objects) = (tempfile::tempdir().unwrap(), Objects::default());
        let node = Self { temp, objects, facts, wanted: Wanted::default() };
        node.volumes().prepare_node().unwrap();
        node
    }

    pub(super) fn volumes(&self) -> Volumes {
        Volumes::new(self.path("pods"), self.path("payload"))
    }

    /// A path below the temporary folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    /// A path below the pod's folder.
    pub(super) fn pod_path(&self, path: &str) -> PathBuf {
        self.path("pods").join(UID).join(path)
    }

    /// A path below the pod's written volumes.
    pub(super) fn payload_path(&self, path: &str) -> PathBuf {
        self.path("payload").join(UID).join(path)
    }

    pub(super) fn put_map(&mut self, name: &str, data: Value) {
        let map = json!({"metadata": {"name": name, "namespace": "shop"}, "data": data});
        self.objects.put_config_map(from_value(map).unwrap());
    }

    pub(super) fn put_secret(&mut self, name: &str, data: Value) {
        let secret = json!({"metadata": {"name": name, "namespace": "shop"}, "stringData": data});
        self.objects.put_secret(from_value(secret).unwrap());
    }

    pub(super) fn input<'a>(&'a self, pod: &'a Pod) -> VolumeInput<'a> {
        VolumeInput { pod, objects: &self.objects, node: &self.facts, wanted: &self.wanted }
    }

    /// How many mounts are below the temporary folder.
    pub(super) fn mounts(&self) -> usize {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.temp.path().to_str().unwrap().to_owned();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&format!("{own}/"))).count()
    }

    /// Mounts a tmpfs of the test's own.
    pub(super) fn mount(&self, at: &Path) {
        std::fs::create_dir_all(at).unwrap();
        let tmpfs = super::mount_point::Tmpfs { mode: "755", ..Default::default() };
        super::mount_point::mount_tmpfs(at, &tmpfs).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let errors = unmount_below(self.temp.path());
        if !errors.is_empty() && !std::thread::panicking() {
            panic!("{}", VolumeErrors(errors));
        }
    }
}

/// A pod with those volumes, and what else its `spec` has.
pub(super) fn pod_with(volumes: Value, rest: Value) -> Pod {
    let mut spec = json!({"containers": [{"name": "app"}], "volumes": volumes});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let metadata = json!({"name": "p", "namespace": "shop", "uid": UID, "labels": {"app": "web"}});
    from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A pod with those volumes.
pub(super) fn pod(volumes: Value) -> Pod {
    pod_with(volumes, json!({}))
}
