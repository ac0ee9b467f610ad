//! Values that have the right type and still cannot be meant.

use super::{ConfigError, Enforced, Kubelet, Loaded, ShutdownGrace};
use crate::cri::streaming::detach::DetachKeys;
use std::path::Path;
use tracing_subscriber::EnvFilter;

/// The longest path that fits `sockaddr_un` with its terminating zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// The longest interface name (IFNAMSIZ less the terminating zero).
const MAX_INTERFACE: usize = 15;
/// The smallest MTU that IPv6 allows; IPv4 alone would allow less, and nobody means it.
const MIN_MTU: u32 = 1280;
const MAX_MTU: u32 = 65_535;
/// The longest prefix of an IPv4 range for pods: six addresses.
pub const MAX_PREFIX4: u8 = 29;
/// The longest prefix of an IPv6 range for pods: sixteen addresses.
pub const MAX_PREFIX6: u8 = 124;
/// The kernel's ceiling of RLIMIT_NOFILE (fs.nr_open) when nobody raised it.
const MAX_NOFILE: u64 = 1_048_576;

/// Checks every value of the loaded configuration.
///
/// # Errors
/// The first value that cannot be.
pub(super) fn validate(loaded: &Loaded) -> Result<(), ConfigError> {
    paths(loaded)?;
    let c = &loaded.config;
    let check = Check { loaded };
    let socket = c.server.socket.as_os_str().len();
    check.that(
        socket <= MAX_SOCKET_PATH,
        "server.socket",
        c.server.socket.display(),
        "longer than 107 bytes",
    )?;
    let drain = c.server.drain_seconds;
    check.that(drain <= 3600, "server.drain_seconds", drain, "more than an hour")?;
    let (soft, hard) = (c.process.nofile_soft, c.process.nofile_hard);
    check.that(soft >= 16, "process.nofile_soft", soft, "too few for any program")?;
    check.that(soft <= hard, "process.nofile_soft", soft, "more than process.nofile_hard")?;
    check.that(
        hard <= MAX_NOFILE,
        "process.nofile_hard",
        hard,
        "more than the kernel's 1048576",
    )?;
    let timeout = c.network.cni_timeout_seconds;
    check.that(
        (1..=3600).contains(&timeout),
        "network.cni_timeout_seconds",
        timeout,
        "not 1 to 3600",
    )?;
    let bridge = &c.network.bridge;
    let fits = (1..=MAX_INTERFACE).contains(&bridge.len())
        && bridge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !bridge.starts_with('.');
    check.that(
        fits,
        "network.bridge",
        bridge,
        "not an interface name of 1 to 15 letters and digits",
    )?;
    let mtu = c.network.mtu;
    check.that((MIN_MTU..=MAX_MTU).contains(&mtu), "network.mtu", mtu, "not 1280 to 65535")?;
    let subnet = c.network.subnet;
    check.that(
        subnet.prefix_len() <= MAX_PREFIX4,
        "network.subnet",
        subnet,
        "fewer than six addresses",
    )?;
    if let Some(subnet) = c.network.subnet6 {
        let prefix = subnet.prefix_len();
        check.that(
            prefix <= MAX_PREFIX6,
            "network.subnet6",
            subnet,
            "fewer than sixteen addresses",
        )?;
    }
    streaming(loaded)?;
    kubelet(loaded)?;
    selinux(loaded)?;
    let layers = c.image.parallel_layers;
    check.that((1..=64).contains(&layers), "image.parallel_layers", layers, "not 1 to 64")?;
    for pattern in &c.image.pinned {
        let named = !pattern.is_empty() && !pattern.contains(char::is_whitespace);
        check.that(named, "image.pinned", pattern, "no image's name or glob")?;
    }
    let silence = c.image.progress_timeout_seconds;
    check.that(
        (1..=3600).contains(&silence),
        "image.progress_timeout_seconds",
        silence,
        "not 1 to 3600",
    )?;
    runtimes(loaded)?;
    blockio(loaded)?;
    let level = &c.log.level;
    let filter = EnvFilter::try_new(crate::telemetry::directives(level));
    check.that(
        !level.is_empty() && filter.is_ok(),
        "log.level",
        level,
        "no level or tracing filter",
    )
}

/// The longest time without a byte, seconds: a day.
const MAX_IDLE: u64 = 86_400;

fn streaming(loaded: &Loaded) -> Result<(), ConfigError> {
    let c = &loaded.config.streaming;
    let check = Check { loaded };
    let idle = c.idle_timeout_seconds;
    check.that(
        (1..=MAX_IDLE).contains(&idle),
        "streaming.idle_timeout_seconds",
        idle,
        "not 1 to 86400",
    )?;
    let keys = &c.detach_keys;
    let known = DetachKeys::parse(keys).is_some();
    check.that(
        known,
        "streaming.detach_keys",
        keys,
        "not keys like 'a' or 'ctrl-p', joined by ','",
    )?;
    match (&c.tls_cert, &c.tls_key) {
        (Some(cert), None) => {
            check.that(false, "streaming.tls_cert", cert.display(), "without streaming.tls_key")
        }
        (None, Some(key)) => {
            check.that(false, "streaming.tls_key", key.display(), "without streaming.tls_cert")
        }
        _ => Ok(()),
    }
}

fn kubelet(loaded: &Loaded) -> Result<(), ConfigError> {
    let Some(c) = &loaded.config.kubelet else { return Ok(()) };
    let check = Check { loaded };
    for (key, seconds, most) in [
        ("kubelet.file_check_seconds", c.file_check_seconds, 3600),
        ("kubelet.http_check_seconds", c.http_check_seconds, 3600),
        ("kubelet.sync_seconds", c.sync_seconds, 3600),
        ("kubelet.container_log_check_seconds", c.container_log_check_seconds, 3600),
        ("kubelet.crash_loop_max_seconds", c.crash_loop_max_seconds, 300),
    ] {
        let reason = if most == 300 { "not 1 to 300" } else { "not 1 to 3600" };
        check.that((1..=most).contains(&seconds), key, seconds, reason)?;
    }
    if let Some(name) = &c.node_name {
        let label =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        let named = (1..=253).contains(&name.len()) && name.bytes().all(label);
        check.that(
            named,
            "kubelet.node_name",
            name,
            "not lower-case letters, digits, '-' and '.'",
        )?;
    }
    if let Some(url) = &c.manifest_url {
        let known = url.starts_with("http://") || url.starts_with("https://");
        check.that(known, "kubelet.manifest_url", url, "not an http:// or https:// address")?;
    }
    let (bytes, files) = (c.container_log_max_bytes, c.container_log_max_files);
    check.that(bytes >= 1024, "kubelet.container_log_max_bytes", bytes, "less than 1024")?;
    let some = (2..=1000).contains(&files);
    check.that(some, "kubelet.container_log_max_files", files, "not 2 to 1000")?;
    for (key, number) in [
        ("kubelet.pods_per_core", c.pods_per_core),
        ("kubelet.parallel_pulls", c.parallel_pulls.map(|n| u64::try_from(n).unwrap_or(u64::MAX))),
        ("kubelet.pulls_per_second", c.pulls_per_second),
        ("kubelet.pulls_burst", Some(c.pulls_burst)),
    ] {
        let number = number.unwrap_or(1);
        check.that((1..=10_000).contains(&number), key, number, "not 1 to 10000")?;
    }
    sysctls(loaded, c)?;
    reserved(loaded, c)?;
    shutdown(loaded, c)?;
    let servers = c.cluster_dns.len();
    check.that(servers <= 3, "kubelet.cluster_dns", servers, "more than three servers")?;
    let root = crate::cgroups::CgroupPath::parse(&c.cgroup_root).is_ok();
    check.that(root, "kubelet.cgroup_root", &c.cgroup_root, "not a cgroup's path")?;
    super::validate_eviction::eviction(&check, c)?;
    kubelet_http(loaded, c)
}

/// Those of the namespaces of a pod; others are the node's.
fn sysctls(loaded: &Loaded, c: &Kubelet) -> Result<(), ConfigError> {
    let check = Check { loaded };
    for name in &c.allowed_unsafe_sysctls {
        let own = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.", "net."];
        let namespaced = own.iter().any(|prefix| name.replace('/', ".").starts_with(prefix));
        let stars = name.matches('*').count();
        let fits = namespaced && (stars == 0 || stars == 1 && name.ends_with('*'));
        let reason = "not a sysctl of a pod's namespaces, or such with a '*' at its end";
        check.that(fits, "kubelet.allowed_unsafe_sysctls", name, reason)?;
    }
    Ok(())
}

/// The largest number of processes that the kernel knows (PID_MAX_LIMIT).
const MAX_PIDS: u64 = 4_194_304;

fn reserved(loaded: &Loaded, c: &Kubelet) -> Result<(), ConfigError> {
    let check = Check { loaded };
    for (key, list) in [
        ("kubelet.system_reserved", &c.system_reserved),
        ("kubelet.kube_reserved", &c.kube_reserved),
    ] {
        for (name, quantity) in list {
            let known = ["cpu", "memory", "ephemeral-storage", "pid"].contains(&name.as_str());
            let value = format!("{name}: {quantity}");
            check.that(known, key, &value, "not cpu, memory, ephemeral-storage or pid")?;
            let read = crate::quantity::parse_milli(quantity).is_ok();
            check.that(read, key, &value, "not a quantity such as 500m or 1Gi")?;
        }
    }
    let key = "kubelet.enforce_node_allocatable";
    let enforced = |what: &Enforced| c.enforce_node_allocatable.contains(what);
    let system = [Enforced::SystemReserved, Enforced::SystemReservedCompressible];
    let kube = [Enforced::KubeReserved, Enforced::KubeReservedCompressible];
    for (both, group, missing) in [
        (system, &c.system_reserved_cgroup, "without kubelet.system_reserved_cgroup"),
        (kube, &c.kube_reserved_cgroup, "without kubelet.kube_reserved_cgroup"),
    ] {
        let some = both.iter().filter(|what| enforced(what)).count();
        let list = format!("{:?}", c.enforce_node_allocatable);
        check.that(some < 2, key, &list, "of a group both all and its CPU alone")?;
        check.that(some == 0 || group.is_some(), key, &list, missing)?;
    }
    for (key, group) in [
        ("kubelet.system_reserved_cgroup", &c.system_reserved_cgroup),
        ("kubelet.kube_reserved_cgroup", &c.kube_reserved_cgroup),
    ] {
        let Some(group) = group else { continue };
        let path = crate::cgroups::CgroupPath::parse(group);
        let fits = path.is_ok_and(|path| path.as_str() != "/");
        check.that(fits, key, group, "not a cgroup's path below the root")?;
    }
    let percent = c.memory_throttling_percent;
    let fits = (1..=100).contains(&percent);
    check.that(fits, "kubelet.memory_throttling_percent", percent, "not 1 to 100")?;
    if let Some(pids) = c.pod_pids_limit {
        let key = "kubelet.pod_pids_limit";
        check.that((1..=MAX_PIDS).contains(&pids), key, pids, "not 1 to 4194304")?;
        check.that(!c.cgroup_root.is_empty(), key, pids, "without kubelet.cgroup_root")?;
    }
    Ok(())
}

fn shutdown(loaded: &Loaded, c: &Kubelet) -> Result<(), ConfigError> {
    let check = Check { loaded };
    let (all, critical) = (c.shutdown_grace_seconds, c.shutdown_grace_critical_seconds);
    for (key, seconds) in [
        ("kubelet.shutdown_grace_seconds", all),
        ("kubelet.shutdown_grace_critical_seconds", critical),
    ] {
        let seconds = seconds.unwrap_or(1);
        check.that((1..=86_400).contains(&seconds), key, seconds, "not 1 to 86400")?;
    }
    let (key, seconds) = ("kubelet.shutdown_grace_critical_seconds", critical.unwrap_or(0));
    let within = seconds <= all.unwrap_or(0);
    check.that(within, key, seconds, "more than kubelet.shutdown_grace_seconds")?;
    let key = "kubelet.shutdown_grace_by_priority";
    let list = &c.shutdown_grace_by_priority;
    let told = format!("{} groups", list.len());
    let alone = list.is_empty() || all.is_none();
    check.that(alone, key, &told, "beside kubelet.shutdown_grace_seconds")?;
    let once = |of: &ShutdownGrace| list.iter().filter(|o| o.priority == of.priority).count() == 1;
    check.that(list.iter().all(once), key, &told, "a priority is there twice")?;
    let sum = list.iter().map(|of| of.seconds).fold(0, u64::saturating_add);
    check.that(sum <= 86_400, key, &told, "more than a day together")
}

fn kubelet_http(loaded: &Loaded, c: &Kubelet) -> Result<(), ConfigError> {
    let check = Check { loaded };
    for (key, subjects) in [("kubelet.readers", &c.readers), ("kubelet.executors", &c.executors)] {
        for subject in subjects {
            let name = subject.strip_prefix("user:").or_else(|| subject.strip_prefix("group:"));
            let named = name.is_some_and(|name| !name.is_empty());
            check.that(named, key, subject, "not user:NAME or group:NAME")?;
        }
    }
    match (&c.http_tls_cert, &c.http_tls_key) {
        (Some(file), None) => {
            check.that(false, "kubelet.http_tls_cert", file.display(), "without its http_tls_key")
        }
        (None, Some(file)) => {
            check.that(false, "kubelet.http_tls_key", file.display(), "without its http_tls_cert")
        }
        _ => Ok(()),
    }
}

/// How many categories the policies of distributions know.
const MAX_CATEGORIES: u32 = 1024;

fn selinux(loaded: &Loaded) -> Result<(), ConfigError> {
    let c = &loaded.config.selinux;
    let check = Check { loaded };
    for (key, name) in [
        ("selinux.process_type", &c.process_type),
        ("selinux.privileged_type", &c.privileged_type),
        ("selinux.file_type", &c.file_type),
    ] {
        let named = crate::selinux::is_name(name);
        check.that(named, key, name, "not a type's name of letters, digits and '_'")?;
    }
    let range = c.category_range;
    let fits = (2..=MAX_CATEGORIES).contains(&range);
    check.that(fits, "selinux.category_range", range, "not 2 to 1024")
}

fn paths(loaded: &Loaded) -> Result<(), ConfigError> {
    let c = &loaded.config;
    let check = Check { loaded };
    let mut paths = vec![
        ("server.socket", &c.server.socket),
        ("paths.run", &c.paths.run),
        ("paths.state", &c.paths.state),
        ("cgroups.root", &c.cgroups.root),
        ("network.cni_conf_dir", &c.network.cni_conf_dir),
    ];
    paths.extend(c.network.cni_conf_template.as_ref().map(|p| ("network.cni_conf_template", p)));
    paths.extend(c.paths.libexec.as_ref().map(|p| ("paths.libexec", p)));
    paths.extend(c.network.cni_bin_dirs.iter().map(|p| ("network.cni_bin_dirs", p)));
    paths.extend(c.streaming.tls_cert.iter().map(|p| ("streaming.tls_cert", p)));
    paths.extend(c.streaming.tls_key.iter().map(|p| ("streaming.tls_key", p)));
    paths.extend(c.checkpoint.criu.iter().map(|p| ("checkpoint.criu", p)));
    paths.extend(c.image.hosts_dirs.iter().map(|p| ("image.hosts_dirs", p)));
    paths.extend(c.image.docker_config.iter().map(|p| ("image.docker_config", p)));
    paths.extend(c.image.policy.iter().map(|p| ("image.policy", p)));
    paths.extend(c.cdi.dirs.iter().map(|p| ("cdi.dirs", p)));
    if let Some(k) = &c.kubelet {
        paths.extend(k.config_file.iter().map(|p| ("kubelet.config_file", p)));
        paths.extend(k.manifest_dir.iter().map(|p| ("kubelet.manifest_dir", p)));
        paths.extend(k.runtime_endpoint.iter().map(|p| ("kubelet.runtime_endpoint", p)));
        paths.extend(k.http_tls_cert.iter().map(|p| ("kubelet.http_tls_cert", p)));
        paths.extend(k.http_tls_key.iter().map(|p| ("kubelet.http_tls_key", p)));
        paths.extend(k.client_ca.iter().map(|p| ("kubelet.client_ca", p)));
        paths.extend(k.static_tokens.iter().map(|p| ("kubelet.static_tokens", p)));
        paths.extend(k.resolv_conf.iter().map(|p| ("kubelet.resolv_conf", p)));
        paths.push(("kubelet.pod_logs_dir", &k.pod_logs_dir));
        paths.push(("kubelet.container_logs_dir", &k.container_logs_dir));
        paths.push(("kubelet.seccomp_dir", &k.seccomp_dir));
    }
    for (key, path) in paths {
        check.that(plain(path), key, path.display(), "not an absolute path without '..'")?;
    }
    Ok(())
}

/// The longest name of a RuntimeClass' handler: a label of DNS.
const MAX_HANDLER: usize = 63;

fn runtimes(loaded: &Loaded) -> Result<(), ConfigError> {
    for (name, runtime) in &loaded.config.runtimes {
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let named = (1..=MAX_HANDLER).contains(&name.len())
            && name.bytes().all(label)
            && !name.starts_with('-')
            && !name.ends_with('-');
        let reason = match (named, plain(&runtime.path)) {
            (false, _) => "not a name of lower-case letters, digits and '-'",
            (true, false) => "not an absolute path without '..'",
            (true, true) => continue,
        };
        return Err(ConfigError::Value {
            key: "runtimes",
            value: format!("{name}: {}", runtime.path.display()),
            origin: loaded.origin(&format!("runtimes.{name}.path")).to_string(),
            reason,
        });
    }
    Ok(())
}

fn blockio(loaded: &Loaded) -> Result<(), ConfigError> {
    for (name, class) in &loaded.config.blockio {
        let check = |fits: bool, key: &str, value: String, reason| match fits {
            true => Ok(()),
            false => Err(ConfigError::Value {
                key: "blockio",
                value: format!("{name}: {value}"),
                origin: loaded.origin(&format!("blockio.{name}.{key}")).to_string(),
                reason,
            }),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let named = !name.is_empty() && name.bytes().all(plain);
        check(named, "weight", "...".to_owned(), "not a name of letters, digits, '-' and '_'")?;
        if let Some(weight) = class.weight {
            check((1..=10_000).contains(&weight), "weight", weight.to_string(), "not 1 to 10000")?;
        }
        for limit in &class.max {
            const REASON: &str = "not a device and rbps=, wbps=, riops= or wiops= with a number";
            check(is_io_limit(limit), "max", limit.clone(), REASON)?;
        }
    }
    Ok(())
}

fn is_io_limit(limit: &str) -> bool {
    let (device, limits) = limit.split_once(' ').unwrap_or((limit, ""));
    let numbers = device
        .split_once(':')
        .is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
    let each = |word: &str| {
        word.split_once('=').is_some_and(|(key, value)| {
            matches!(key, "rbps" | "wbps" | "riops" | "wiops")
                && (value == "max" || value.parse::<u64>().is_ok_and(|value| value > 0))
        })
    };
    (numbers || plain(Path::new(device))) && !limits.is_empty() && limits.split(' ').all(each)
}

fn plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|c| c == std::path::Component::ParentDir)
}

pub(super) struct Check<'a> {
    loaded: &'a Loaded,
}

impl Check<'_> {
    pub(super) fn that(
        &self,
        holds: bool,
        key: &'static str,
        value: impl ToString,
        reason: &'static str,
    ) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        let origin = self.loaded.origin(key).to_string();
        Err(ConfigError::Value { key, value: value.to_string(), origin, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overrides, merge};

    #[test]
    fn each_impossible_value_is_refused_by_its_key() {
        for (text, key) in [
            ("[server]\nsocket = \"berth.sock\"", "server.socket"),
            ("[server]\ndrain_seconds = 99999", "server.drain_seconds"),
            ("[paths]\nstate = \"/var/../etc\"", "paths.state"),
            ("[paths]\nlibexec = \"here\"", "paths.libexec"),
            ("[process]\nnofile_soft = 1", "process.nofile_soft"),
            ("[process]\nnofile_soft = 600000", "process.nofile_soft"),
            ("[process]\nnofile_hard = 9999999", "process.nofile_hard"),
            ("[network]\ncni_timeout_seconds = 0", "network.cni_timeout_seconds"),
            ("[network]\ncni_bin_dirs = [\"/a\", \"b\"]", "network.cni_bin_dirs"),
            ("[network]\ncni_conf_template = \"a\"", "network.cni_conf_template"),
            ("[network]\nbridge = \"a-very-long-name\"", "network.bridge"),
            ("[network]\nbridge = \"a/b\"", "network.bridge"),
            ("[network]\nmtu = 100", "network.mtu"),
            ("[network]\nsubnet = \"10.0.0.0/30\"", "network.subnet"),
            ("[network]\nsubnet6 = \"fd00::/127\"", "network.subnet6"),
            ("[image]\nparallel_layers = 0", "image.parallel_layers"),
            ("[image]\npinned = [\"a b\"]", "image.pinned"),
            ("[image]\nprogress_timeout_seconds = 0", "image.progress_timeout_seconds"),
            ("[image]\nhosts_dirs = [\"certs.d\"]", "image.hosts_dirs"),
            ("[image]\ndocker_config = \"config.json\"", "image.docker_config"),
            ("[image]\npolicy = \"policy.toml\"", "image.policy"),
            (
                "[streaming]\naddress = \"127.0.0.1:0\"\nidle_timeout_seconds = 0",
                "streaming.idle_timeout_seconds",
            ),
            ("[streaming]\ndetach_keys = \"ctrl-P\"", "streaming.detach_keys"),
            ("[streaming]\ntls_cert = \"/a\"", "streaming.tls_cert"),
            ("[streaming]\ntls_key = \"/a\"", "streaming.tls_key"),
            ("[streaming]\ntls_cert = \"a\"\ntls_key = \"/a\"", "streaming.tls_cert"),
            ("[selinux]\nprocess_type = \"a:b\"", "selinux.process_type"),
            ("[selinux]\nprivileged_type = \"\"", "selinux.privileged_type"),
            ("[selinux]\nfile_type = \"a b\"", "selinux.file_type"),
            ("[selinux]\ncategory_range = 1", "selinux.category_range"),
            ("[selinux]\ncategory_range = 1025", "selinux.category_range"),
            ("[runtimes.runc]\npath = \"runc\"", "runtimes"),
            ("[runtimes.Runc]\npath = \"/usr/bin/runc\"", "runtimes"),
            ("[blockio.slow]\nweight = 0", "blockio"),
            ("[blockio.\"a.b\"]\nweight = 1", "blockio"),
            ("[blockio.slow]\nmax = [\"/dev/sda\"]", "blockio"),
            ("[blockio.slow]\nmax = [\"sda rbps=1\"]", "blockio"),
            ("[blockio.slow]\nmax = [\"8:0 speed=1\"]", "blockio"),
            ("[kubelet]\nparallel_pulls = 0", "kubelet.parallel_pulls"),
            ("[kubelet]\npods_per_core = 0", "kubelet.pods_per_core"),
            ("[kubelet]\nallowed_unsafe_sysctls = [\"vm.x\"]", "kubelet.allowed_unsafe_sysctls"),
            ("[kubelet]\nallowed_unsafe_sysctls = [\"net.*.x\"]", "kubelet.allowed_unsafe_sysctls"),
            ("[kubelet.system_reserved]\ngpu = \"1\"", "kubelet.system_reserved"),
            ("[kubelet.kube_reserved]\nmemory = \"1 GB\"", "kubelet.kube_reserved"),
            (
                "[kubelet]\nenforce_node_allocatable = [\"system-reserved\"]",
                "kubelet.enforce_node_allocatable",
            ),
            ("[kubelet]\nkube_reserved_cgroup = \"/\"", "kubelet.kube_reserved_cgroup"),
            ("[kubelet]\nmemory_throttling_percent = 0", "kubelet.memory_throttling_percent"),
            ("[kubelet]\npod_pids_limit = 0", "kubelet.pod_pids_limit"),
            ("[kubelet]\npod_pids_limit = 9\ncgroup_root = \"\"", "kubelet.pod_pids_limit"),
            ("[kubelet]\nshutdown_grace_seconds = 0", "kubelet.shutdown_grace_seconds"),
            (
                "[kubelet]\nshutdown_grace_seconds = 5\nshutdown_grace_critical_seconds = 6",
                "kubelet.shutdown_grace_critical_seconds",
            ),
            (
                "[kubelet]\nshutdown_grace_seconds = 5\n\
                shutdown_grace_by_priority = [{ priority = 0, seconds = 1 }]",
                "kubelet.shutdown_grace_by_priority",
            ),
            ("[log]\nlevel = \"berth=lots\"", "log.level"),
            ("[log]\nlevel = \"loud\"", "log.level"),
        ] {
            let result = merge(&[("/c".into(), text.into())], &Overrides::default());
            let message = result.expect_err(key).to_string();
            assert!(message.starts_with(&format!("{key} = ")), "{text}: {message}");
        }
    }

    #[test]
    fn the_defaults_are_possible() {
        merge(&[], &Overrides::default()).unwrap();
    }
}
