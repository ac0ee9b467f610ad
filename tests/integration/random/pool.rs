//! What random requests name: objects, paths and words, and requests that work.

use crate::harness::Node;
use crate::harness::image::BUSYBOX;
use anyhow::Result;
use berth::cri::proto;
use prost_reflect::MethodDescriptor;
use prost_reflect::prost::Message;
use prost_reflect::prost::bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// The most identifiers that are remembered.
const MOST_IDS: usize = 60;
/// Paths inside of a container.
const INSIDE: &[&str] =
    &["/data", "/", "relative", "/proc/sys", "/a/../b", "/dev/null", "", "/etc/hosts"];
const IMAGES: &[&str] = &[
    BUSYBOX,
    BUSYBOX,
    BUSYBOX,
    "berth.test/none:v1",
    "",
    "UPPER:case:case",
    "127.0.0.1:1/none:v1",
];
/// What a pull may ask for: nothing that leads off this machine.
const PULLS: &[&str] = &["", "UPPER:case:case", "127.0.0.1:1/none:v1", "127.0.0.1:1/none@sha256:0"];
const CGROUPS: &[&str] =
    &["", "", "/berth-test-random", "relative/random", "/../random", "a.slice", "/a\nb"];
const KEYS: &[&str] = &[
    "net.ipv4.ip_unprivileged_port_start",
    "kernel.shm_rmid_forced",
    "vm.swappiness",
    "memory.high",
    "pids.max",
    "../cgroup.procs",
    "io.kubernetes.pod.name",
    "a",
    "",
];
const WORDS: &[&str] = &[
    "",
    "a",
    "name-1",
    "name-1",
    "web",
    "root",
    "ALL",
    "SYS_ADMIN",
    "NET_RAW",
    "rwm",
    "rw",
    "0",
    "1",
    "0-1",
    "99999999999999999999",
    "-1",
    "SIGTERM",
    "runtime/default",
    "10.0.0.1",
    "::1",
    "not/ok",
    "../..",
    "nul\0byte",
    "line\nbreak",
    "\u{e4}\u{20ac}\u{1f980}",
    " ",
    "%s%n",
    "a=b=c",
];

/// The pools of one round.
pub(super) struct Pool {
    ids: Mutex<Vec<String>>,
    paths: Vec<String>,
    bases: Vec<(&'static str, Vec<u8>)>,
    long: String,
}

/// A request that works.
pub(super) fn base(method: &'static str, request: &impl Message) -> (&'static str, Vec<u8>) {
    (method, request.encode_to_vec())
}

impl Pool {
    pub(super) fn new(
        node: &Node,
        ids: [String; 2],
        bases: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<Self> {
        let folder = node.volume("random")?;
        std::fs::write(folder.join("file"), "text")?;
        let below = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let mut paths: Vec<String> =
            ["", "file", "file/below", "new/folder", "../random"].into_iter().map(below).collect();
        paths.extend(["", "relative", "/dev/null", "/dev/zero"].map(String::from));
        Ok(Self { ids: Mutex::new(ids.into()), paths, bases, long: "x".repeat(5_000) })
    }

    /// The request of a method that works.
    pub(super) fn base_of(&self, method: &MethodDescriptor) -> Option<&[u8]> {
        self.bases.iter().find(|(name, _)| *name == method.name()).map(|(_, bytes)| &bytes[..])
    }

    /// Remembers what an answer made.
    pub(super) fn learn(&self, method: &MethodDescriptor, answer: Bytes) {
        let id = match method.name() {
            "RunPodSandbox" => {
                proto::RunPodSandboxResponse::decode(answer).map(|answer| answer.pod_sandbox_id)
            }
            "CreateContainer" => {
                proto::CreateContainerResponse::decode(answer).map(|answer| answer.container_id)
            }
            _ => return,
        };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = id.ok().filter(|id| !id.is_empty() && ids.len() < MOST_IDS) {
            ids.push(id);
        }
    }

    /// A text for a field; `number` chooses.
    pub(super) fn text(&self, method: &str, field: &str, number: usize) -> String {
        let of = |texts: &[&str]| texts[number % texts.len()].to_owned();
        match field {
            "cgroup_parent" => of(CGROUPS),
            "image" | "image_ref" | "user_specified_image" if method == "PullImage" => of(PULLS),
            "image" | "image_ref" | "user_specified_image" => of(IMAGES),
            "container_path" => of(INSIDE),
            "host_path" | "log_directory" | "location" | "path" => {
                self.paths[number % self.paths.len()].clone()
            }
            _ if field.ends_with("id") && !number.is_multiple_of(4) => self.id(number / 4),
            "key" => of(KEYS),
            _ if number.is_multiple_of(97) => self.long.clone(),
            _ => of(WORDS),
        }
    }

    /// An identifier, or the beginning of one.
    fn id(&self, number: usize) -> String {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = ids[number % ids.len()].clone();
        if number.is_multiple_of(5) {
            id.truncate(13);
        }
        id
    }
}
