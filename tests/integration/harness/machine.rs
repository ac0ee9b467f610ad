//! What this machine can do. A test names what it needs; in the virtual machine all of it is there.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Something a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The cgroup controllers cpu, memory, pids and cpuset, in version 2.
    Controllers,
    /// veth pairs, bridges and nftables.
    PodNetwork,
    /// Lowering oom_score_adj and raising hard limits.
    Resources,
    /// The reference CNI plugins.
    Plugins,
    /// FUSE.
    Fuse,
    /// Python with grpcio.
    Grpcio,
    /// node with spdy-transport, and Python with websocket-client.
    StreamPeers,
    /// containerd and podman, unpacked.
    Engines,
    /// Prometheus, unpacked.
    Prometheus,
    /// systemd, and berth installed as its unit, to be used by tests.
    Systemd,
    /// A kernel that enforces AppArmor.
    AppArmor,
    /// A kernel that maps the ids of a tmpfs, where the tests keep everything: from 6.3 on.
    MappedTmpfs,
    /// A criu whose own check succeeds.
    Criu,
    /// A kernel that enforces the SELinux policy of the tests.
    Selinux,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The virtual machine: nothing may be missing.
    pub(crate) virtual_machine: bool,
    /// Where cgroup v2 is mounted.
    pub(crate) cgroup_root: PathBuf,
    /// Python with grpcio.
    pub(crate) python: Option<PathBuf>,
    /// Where containerd and podman are unpacked.
    pub(crate) peers: Option<PathBuf>,
    /// Prometheus, where it is unpacked.
    pub(crate) prometheus: Option<PathBuf>,
    /// criu, where it works.
    pub(crate) criu: Option<PathBuf>,
    stream_peers: bool,
    controllers: bool,
    pod_network: bool,
    resources: bool,
    plugins: bool,
}

/// Where Debian puts the reference CNI plugins.
pub(crate) const PLUGIN_DIR: &str = "/usr/lib/cni";
const CAP_SYS_RESOURCE: u32 = 24;

impl Machine {
    /// Looks around.
    pub(crate) fn probe() -> Self {
        let cgroup_root = cgroup_root();
        let controllers =
            std::fs::read_to_string(cgroup_root.join("cgroup.controllers")).unwrap_or_default();
        let has = |wanted: &str| controllers.split_whitespace().any(|c| c == wanted);
        let python = std::env::var_os("BERTH_PYTHON")
            .map(PathBuf::from)
            .filter(|python| succeeds(Command::new(python).args(["-c", "import grpc"])));
        let stream_peers = succeeds(Command::new("node").args(["-e", "require('spdy-transport')"]))
            && python
                .as_ref()
                .is_some_and(|p| succeeds(Command::new(p).args(["-c", "import websocket"])));
        Self {
            stream_peers,
            virtual_machine: std::env::var_os("BERTH_TEST_VM").is_some(),
            controllers: ["cpu", "memory", "pids", "cpuset"].into_iter().all(has),
            pod_network: pod_network(),
            resources: has_capability(CAP_SYS_RESOURCE),
            plugins: Path::new(PLUGIN_DIR).join("bridge").exists(),
            cgroup_root,
            python,
            prometheus: std::env::var_os("BERTH_PROMETHEUS")
                .map(PathBuf::from)
                .filter(|program| program.exists()),
            criu: std::env::var_os("BERTH_CRIU")
                .map(PathBuf::from)
                .filter(|criu| succeeds(Command::new(criu).arg("check"))),
            peers: std::env::var_os("BERTH_PEERS")
                .map(PathBuf::from)
                .filter(|peers| peers.join("usr/bin/podman").exists()),
        }
    }

    /// Whether a need is met.
    pub(crate) fn has(&self, need: Need) -> bool {
        match need {
            Need::Controllers => self.controllers,
            Need::StreamPeers => self.stream_peers,
            Need::PodNetwork => self.pod_network,
            Need::Resources => self.resources,
            Need::Plugins => self.plugins,
            Need::Fuse => Path::new("/sys/module/fuse").exists() && Path::new("/dev/fuse").exists(),
            Need::Grpcio => self.python.is_some(),
            Need::Engines => self.peers.is_some(),
            Need::Prometheus => self.prometheus.is_some(),
            Need::Criu => self.criu.is_some(),
            Need::Systemd => std::env::var_os("BERTH_TEST_SYSTEMD").is_some(),
            Need::Selinux => std::env::var_os("BERTH_TEST_SELINUX").is_some(),
            Need::AppArmor => std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            Need::MappedTmpfs => {
                let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
                let numbers: Vec<u32> = release
                    .unwrap_or_default()
                    .split(|c: char| !c.is_ascii_digit())
                    .map_while(|number| number.parse().ok())
                    .collect();
                numbers >= vec![6, 3]
            }
        }
    }
}

/// The v2 hierarchy: the only one, or the one beside the old ones.
fn cgroup_root() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() { unified.into() } else { "/sys/fs/cgroup".into() }
}

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << number) != 0)
}

/// Tries it, in a network namespace that goes away with the command.
fn pod_network() -> bool {
    let script = "ip link add a0 type veth peer name a1 && ip link add b0 type bridge \
        && nft 'add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; \
        add rule inet t c masquerade'";
    succeeds(Command::new("unshare").args(["--net", "sh", "-c", script]))
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
