//! A node for tests on the real kernel: a network namespace of its own on a thread of its own, which
//! everything started from that thread shares, and pods that are network namespaces without
//! processes. All of it goes with the last descriptor.

use super::network::Inner;
use super::request::AttachRequest;
use crate::cgroups::Cgroups;
use crate::config::{self, Enforce, NetworkMode};
use crate::ids::{SandboxId, random_hex};
use crate::store::Layout;
use crate::watch::Watcher;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Runs `test` on a thread in a new network namespace, with `lo` up.
pub(super) fn on_a_node(test: impl FnOnce(&Node) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            sh("ip link set lo up");
            test(&Node::new());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A node's folders, cgroups and configuration.
pub(super) struct Node {
    dir: tempfile::TempDir,
    pub(super) layout: Layout,
    pub(super) cgroups: Cgroups,
    pub(super) config: config::Network,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("run"), dir.path().join("state"));
        layout.create().unwrap();
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        let root = if unified.is_dir() { unified } else { PathBuf::from("/sys/fs/cgroup") };
        let cgroups = Cgroups::open(&config::Cgroups {
            root,
            enforce: Enforce::BestEffort,
            ..config::Cgroups::default()
        });
        let config = config::Network {
            mode: NetworkMode::Builtin,
            cni_conf_dir: dir.path().join("net.d"),
            cni_bin_dirs: vec![dir.path().join("bin"), "/usr/lib/cni".into()],
            cni_timeout_seconds: 10,
            subnet: "10.77.0.0/24".parse().unwrap(),
            subnet6: Some("fd77::/64".parse().unwrap()),
            ..config::Network::default()
        };
        Self { layout, cgroups: cgroups.unwrap(), config, dir }
    }

    /// A folder for the test's own files.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The network as a daemon that just started has it.
    pub(super) fn open(&self) -> Inner {
        Inner::open(&self.config, self.layout.clone(), self.cgroups.clone(), &Watcher::default())
            .unwrap()
    }

    /// As [`Node::open`], with a changed configuration.
    pub(super) fn open_with(&self, change: impl FnOnce(&mut config::Network)) -> Inner {
        let mut config = self.config.clone();
        change(&mut config);
        Inner::open(&config, self.layout.clone(), self.cgroups.clone(), &Watcher::default())
            .unwrap()
    }

    /// A pod's request, with a network namespace of its own.
    pub(super) fn pod(&self, name: &str) -> AttachRequest {
        let netns_fd: Arc<OwnedFd> = Arc::new(new_netns().into());
        let netns = format!("/proc/{}/fd/{}", std::process::id(), netns_fd.as_raw_fd());
        let sandbox = SandboxId::parse(&random_hex().unwrap()).unwrap();
        std::fs::create_dir_all(self.layout.sandbox(&sandbox)).unwrap();
        let mut request = super::capability::tests::request();
        (request.sandbox, request.name) = (sandbox, name.to_owned());
        (request.netns_fd, request.netns) = (netns_fd, netns.into());
        request
    }

    /// What is left of pods: interfaces beside `lo`, leases, journals, tables, helpers cgroups.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = sh("ip -o link show")
            .lines()
            .filter(|line| !line.contains(": lo:"))
            .map(str::to_owned)
            .collect();
        let leases = std::fs::read_dir(self.layout.leases()).unwrap();
        left.extend(leases.map(|entry| entry.unwrap().path().display().to_string()));
        left.extend(sh("nft list tables").lines().map(str::to_owned));
        for entry in std::fs::read_dir(self.layout.sandboxes()).unwrap() {
            let id = entry.unwrap().file_name().into_string().unwrap();
            let id = SandboxId::parse(&id).unwrap();
            let journal = self.layout.network_journal(&id);
            left.extend(journal.exists().then(|| journal.display().to_string()));
            let group = self.cgroups.helpers(&id);
            left.extend(group.exists().then(|| group.path().to_string()));
        }
        left
    }
}

/// A network namespace that lives as long as the descriptor.
pub(super) fn new_netns() -> File {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    thread.join().unwrap()
}

/// Runs `work` inside a pod.
pub(super) fn inside<T: Send>(pod: &AttachRequest, work: impl FnOnce() -> T + Send) -> T {
    crate::sys::netns::inside(pod.netns_fd.as_fd(), work).unwrap()
}

/// Runs a line of shell in the calling thread's namespaces; what it printed. It must succeed.
pub(super) fn sh(line: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
