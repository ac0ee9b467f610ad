//! Spec → plan and descriptors, in the daemon.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{
    Linux, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec,
};

use super::create::LEVEL;
use super::error::OciError;
use super::hooks::{self, HookHome, Outside};
use super::maps::{self, NewUserns, UserSpaces};
use super::options::{self, Options};
use super::plan::{self, Node};
use super::selinux;
use super::source::{clone_source, take_volume};
use super::sysctl;
use super::validate;
use crate::config::Enforce;
use crate::idmap::{IdMaps, Unmapped};
use crate::shim::wire::{
    DevicePlan, ExecPlan, FilesystemPlan, HooksPlan, InitPlan, MountPlan, NamespacePlan,
    ProcessPlan, SettingPlan, UserPlan, mount_plan, namespace_plan,
};
use crate::sys::mount::{Propagation, Reach};
use crate::sys::process::InitPid;

/// What an executor must understand of a plan with neither hooks nor a user namespace nor labels: a shim
/// that runs may be older.
const PLAIN: u32 = 1;
/// The same of a plan with hooks, and of one with a user namespace. One with labels takes the newest.
const WITH_HOOKS: u32 = 2;
const WITH_USERNS: u32 = 3;

/// The source of a bind mount that means the pod's /dev/shm, in the shim.
pub const SHM_SOURCE: &str = "berth:shm";

/// What a shim needs to start a container: the plan and the descriptors it names.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: InitPlan,
    /// Its descriptors, in order; the first is the root file system.
    pub fds: Vec<OwnedFd>,
    /// The caller's part in the container's hooks, when it has any.
    pub outside: Option<Outside>,
}

/// The pod around a container.
#[derive(Clone, Debug)]
pub struct PodContext {
    /// The pause process, when the pod has one.
    pub pause: Option<InitPid>,
    /// What a missing privilege does.
    pub privileges: Enforce,
    /// The process whose pid namespace is joined (namespace mode TARGET).
    pub target: Option<InitPid>,
    /// Detached mounts that bind mounts name as their source.
    pub volumes: Volumes,
    /// Where the container is for its hooks; `None`: a spec with hooks is refused.
    pub hooks: Option<HookHome>,
    /// Who makes user namespaces, where one is asked for that is not there.
    pub new_userns: NewUserns,
}

/// Detached mounts by the source that stands for them in the spec.
pub type Volumes = Arc<BTreeMap<PathBuf, OwnedFd>>;

/// The plan for a container's first process. `rootfs` is the detached mount of its root.
///
/// Blocks: it resolves the sources of bind mounts.
///
/// # Errors
/// [`OciError`]: what the spec asks and cannot be done, by name.
pub fn prepare(spec: &Spec, rootfs: OwnedFd, pod: &PodContext) -> Result<Prepared, OciError> {
    validate::check(spec)?;
    let process = spec.process().as_ref().ok_or(OciError::Missing { field: "process" })?;
    validate::check_process(process)?;
    let linux = spec.linux().as_ref().ok_or(OciError::Missing { field: "linux" })?;
    let process = plan::process(process, Some(linux), node(pod)?)?;
    let mut spaces = UserSpaces::of_spec(linux, pod)?;
    let mount_label = selinux::check("linux.mountLabel", linux.mount_label().as_ref())?;
    let listed = linux.namespaces().as_deref().unwrap_or_default();
    let has = |kind| listed.iter().any(|n| n.typ() == kind);
    let names = [("hostname", spec.hostname()), ("domainname", spec.domainname())];
    for (field, name) in names {
        if let Some(name) = name
            && !has(LinuxNamespaceType::Uts)
        {
            let reason = "needs a UTS namespace, or it would be the host's";
            return Err(OciError::invalid(field, name, reason));
        }
    }

    let mut fds = vec![rootfs];
    let namespaces = namespaces(listed, pod, &mut spaces, &mut fds)?;
    let user = spaces.own().map(UserPlan::from);
    check_users(spaces.own(), &process)?;
    let sharing = Sharing {
        cgroups: has(LinuxNamespaceType::Cgroup),
        foreign_network: user.is_some() && !has(LinuxNamespaceType::Network),
    };
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let bound_dev = mounts.iter().any(|m| m.destination() == Path::new("/dev") && is_bind(m));
    let (hooks, outside) = match &pod.hooks {
        Some(home) => {
            let within = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
            if user.is_some() && within.is_some_and(|hooks| !hooks.is_empty()) {
                // In the container's namespaces and the host's tree they could not reach its root:
                // only the host's root may search the folders on the way.
                return Err(OciError::unsupported("createContainer hooks in a user namespace"));
            }
            hooks::plan(spec, home, &mut fds)?.unzip()
        }
        None => {
            spec.hooks().as_ref().map_or(Ok(()), validate::check_hooks)?;
            (None, None)
        }
    };
    let plan = InitPlan {
        level: level(
            hooks.as_ref(),
            user.as_ref(),
            process.selinux.is_some() || mount_label.is_some(),
        ),
        process,
        namespaces,
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        mounts: mounts
            .iter()
            .map(|m| mount(m, (sharing, pod), &mut spaces, &mut fds))
            .collect::<Result<_, _>>()?,
        devices: devices(linux, bound_dev)?,
        device_links: !bound_dev,
        masked_paths: absolute("linux.maskedPaths", linux.masked_paths().as_deref())?,
        readonly_paths: absolute("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
        readonly_root: spec.root().as_ref().and_then(|r| r.readonly()).unwrap_or(false),
        // A detached root has no peers: private and slave are what it is.
        shared_root: matches!(linux.rootfs_propagation().as_deref(), Some("shared" | "rshared")),
        sysctls: sysctl::plan(linux)?,
        hooks,
        handler: None,
        user,
        mount_label,
    };
    Ok(Prepared { plan, fds, outside })
}

/// The plan for a further process in the container that `spec` made.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_exec(
    spec: &Spec,
    process: &Process,
    pod: &PodContext,
) -> Result<ExecPlan, OciError> {
    validate::check(spec)?;
    validate::check_process(process)?;
    let process = plan::process(process, spec.linux().as_ref(), node(pod)?)?;
    let maps = spec.linux().as_ref().map(maps::of_container).transpose()?.flatten();
    check_users(maps.as_ref(), &process)?;
    let user = maps.as_ref().map(UserPlan::from);
    let level = level(None, user.as_ref(), process.selinux.is_some());
    Ok(ExecPlan { level, process, slot: None, user })
}

/// What an executor has to understand: the newest that the plan uses.
fn level(hooks: Option<&HooksPlan>, user: Option<&UserPlan>, labelled: bool) -> u32 {
    match (hooks, user) {
        _ if labelled => LEVEL,
        (_, Some(_)) => WITH_USERNS,
        (Some(_), None) => WITH_HOOKS,
        (None, None) => PLAIN,
    }
}

/// A process can only have ids that its user namespace maps.
fn check_users(maps: Option<&IdMaps>, process: &ProcessPlan) -> Result<(), OciError> {
    let Some(maps) = maps else { return Ok(()) };
    const REASON: &str = "is not mapped in the user namespace";
    let gids = std::iter::once(&process.gid).chain(&process.groups).copied();
    match maps.unmapped(process.uid, gids) {
        Some(Unmapped::User(uid)) => Err(OciError::invalid("process.user.uid", uid, REASON)),
        Some(Unmapped::Group(gid)) => Err(OciError::invalid("process.user.gid", gid, REASON)),
        None => Ok(()),
    }
}

/// Which of the host's namespaces decide how a file system is mounted.
#[derive(Clone, Copy)]
struct Sharing {
    /// The container has a cgroup namespace of its own.
    cgroups: bool,
    /// The user namespace does not own the network namespace.
    foreign_network: bool,
}

pub(super) fn node(pod: &PodContext) -> Result<Node, OciError> {
    let path = "/proc/sys/kernel/threads-max";
    let failed = |source| OciError::Host { path, source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let threads: u64 = text
        .trim()
        .parse()
        .map_err(|_| failed(std::io::Error::from(std::io::ErrorKind::InvalidData)))?;
    Ok(Node { privileges: pod.privileges, pending_signals: threads / 2 })
}

fn kind(namespace: LinuxNamespaceType) -> u32 {
    let bit = match namespace {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    };
    bit.cast_unsigned()
}

/// The process of a path `/proc/<pid>/ns/<kind>`.
fn process_of(path: &Path) -> Option<i32> {
    let rest = path.to_str()?.strip_prefix("/proc/")?;
    let (pid, kind) = rest.split_once("/ns/")?;
    (!kind.contains('/')).then_some(())?;
    pid.parse().ok()
}

fn namespaces(
    listed: &[LinuxNamespace],
    pod: &PodContext,
    spaces: &mut UserSpaces<'_>,
    fds: &mut Vec<OwnedFd>,
) -> Result<Vec<NamespacePlan>, OciError> {
    let mut plans = Vec::with_capacity(listed.len());
    for namespace in listed {
        let own = match namespace.typ() {
            LinuxNamespaceType::User => spaces.own().cloned(),
            _ => None,
        };
        let source = match (namespace.path(), own) {
            (Some(path), _) if is_pause(path, pod) => namespace_plan::Source::Pause(true),
            (_, Some(maps)) => {
                let failed = |source| OciError::Namespace { path: "user".into(), source };
                let space = spaces.get(&maps)?.try_clone_to_owned().map_err(failed)?;
                namespace_plan::Source::Fd(push(fds, space))
            }
            (None, None) => namespace_plan::Source::Fresh(true),
            (Some(path), None) => joined(path, pod, fds)?,
        };
        plans.push(NamespacePlan { kind: kind(namespace.typ()), source: Some(source) });
    }
    Ok(plans)
}

/// Whether a path is that of a namespace of the pod's pause.
pub(super) fn is_pause(path: &Path, pod: &PodContext) -> bool {
    let pid = process_of(path);
    pid.is_some() && pid == pod.pause.as_ref().map(|p| p.pid)
}

/// A pid that is the pod's is joined by the descriptor of exactly that process: the path alone
/// could mean another by the time it is opened.
fn joined(
    path: &Path,
    pod: &PodContext,
    fds: &mut Vec<OwnedFd>,
) -> Result<namespace_plan::Source, OciError> {
    let failed = |source| OciError::Namespace { path: path.to_owned(), source };
    let pid = process_of(path);
    let fd = match &pod.target {
        Some(target) if pid == Some(target.pid) => target
            .pidfd()
            .and_then(|fd| fd.ok_or_else(|| std::io::Error::from_raw_os_error(libc::ESRCH)))
            .map_err(failed)?,
        _ => std::fs::File::open(path).map_err(failed)?.into(),
    };
    Ok(namespace_plan::Source::Fd(push(fds, fd)))
}

fn push(fds: &mut Vec<OwnedFd>, fd: OwnedFd) -> u32 {
    fds.push(fd);
    u32::try_from(fds.len() - 1).unwrap_or(u32::MAX)
}

pub(crate) fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind")
        || options.iter().any(|o| matches!(o.as_str(), "bind" | "rbind"))
}

fn mount(
    mount: &Mount,
    (sharing, pod): (Sharing, &PodContext),
    spaces: &mut UserSpaces<'_>,
    fds: &mut Vec<OwnedFd>,
) -> Result<MountPlan, OciError> {
    let target = target(mount)?;
    let options = options::parse(mount.options().as_deref().unwrap_or_default())?;
    let destination = mount.destination();
    let maps = spaces.of_mount(mount, &options)?;
    let own_shm = mount.source().as_deref() == Some(Path::new(SHM_SOURCE));
    if maps.is_some() && (!is_bind(mount) || own_shm) {
        let field = format!("an id map of the new file system at {target}");
        return Err(OciError::unsupported(field));
    }
    if is_bind(mount) {
        let field = "mounts.source";
        let source = mount.source().as_ref().ok_or(OciError::Missing { field })?;
        if source == Path::new(SHM_SOURCE) {
            let attributes = Some(options.set | options.set_tree);
            let source = Some(mount_plan::Source::Shm(true));
            return Ok(MountPlan { target, source, attributes });
        }
        if let Some(volume) = pod.volumes.get(source) {
            let mount = take_volume(volume, source, destination, &options)?;
            let source = Some(mount_plan::Source::Fd(push(fds, mount)));
            return Ok(MountPlan { target, source, attributes: None });
        }
        let space = maps.as_ref().map(|maps| spaces.get(maps)).transpose()?;
        return bind((source, space), target, destination, &options, fds);
    }
    let fs_type = mount.typ().as_deref().unwrap_or_default();
    match fs_type {
        // A second instance of the tree, mounted from the host's cgroup namespace, would reset
        // the options of the host's own mount.
        "cgroup" | "cgroup2" if !sharing.cgroups => {
            bind((Path::new("/sys/fs/cgroup"), None), target, destination, &options, fds)
        }
        // Only who owns the network namespace may mount what shows it.
        "sysfs" if sharing.foreign_network => {
            let options = Options { bind: Some(Reach::One), ..options };
            bind((Path::new("/sys"), None), target, destination, &options, fds)
        }
        "cgroup" | "cgroup2" => Ok(filesystem("cgroup2", "cgroup", target, &options)),
        "proc" | "sysfs" | "devpts" | "mqueue" | "tmpfs" => {
            no_sharing(&options, &target)?;
            let source = mount.source().as_ref().and_then(|s| s.to_str()).unwrap_or(fs_type);
            Ok(filesystem(fs_type, source, target, &options))
        }
        "" => Err(OciError::Missing { field: "mounts.type" }),
        other => Err(OciError::unsupported(format!("mount type {other:?} at {target}"))),
    }
}

fn target(mount: &Mount) -> Result<String, OciError> {
    let path = mount.destination();
    let invalid = |reason| OciError::invalid("mounts.destination", path.display(), reason);
    let text = path.to_str().ok_or_else(|| invalid("is not UTF-8"))?;
    match text {
        text if text.contains('\0') => Err(invalid("holds a NUL byte")),
        text if !text.starts_with('/') => Err(invalid("must be absolute")),
        text if text.bytes().all(|b| b == b'/') => Err(invalid("is the root itself")),
        text => Ok(text.to_owned()),
    }
}

fn bind(
    (source, space): (&Path, Option<BorrowedFd<'_>>),
    target: String,
    destination: &Path,
    options: &Options,
    fds: &mut Vec<OwnedFd>,
) -> Result<MountPlan, OciError> {
    if let Some((name, _)) = options.data.first() {
        let detail = format!("mount option {name:?} of the bind mount at {target}");
        return Err(OciError::unsupported(detail));
    }
    if !source.is_absolute() {
        return Err(OciError::invalid("mounts.source", source.display(), "must be absolute"));
    }
    let clone = clone_source(source, destination, options, space)?;
    let source = Some(mount_plan::Source::Fd(push(fds, clone)));
    Ok(MountPlan { target, source, attributes: None })
}

/// A new file system has no peers; making it shared is nothing anybody asked for so far.
fn no_sharing(options: &Options, target: &str) -> Result<(), OciError> {
    match options.propagation {
        Some((Propagation::Shared | Propagation::Unbindable, _)) => {
            let field = format!("propagation of the new file system at {target}");
            Err(OciError::unsupported(field))
        }
        _ => Ok(()),
    }
}

fn filesystem(fs_type: &str, source: &str, target: String, options: &Options) -> MountPlan {
    let mut settings =
        vec![SettingPlan { name: "source".to_owned(), value: Some(source.to_owned()) }];
    let data = options.data.iter().cloned();
    settings.extend(data.map(|(name, value)| SettingPlan { name, value }));
    let plan = FilesystemPlan { r#type: fs_type.to_owned(), options: settings };
    MountPlan {
        target,
        source: Some(mount_plan::Source::Filesystem(plan)),
        attributes: Some(options.set | options.set_tree),
    }
}

fn absolute(field: &'static str, paths: Option<&[String]>) -> Result<Vec<String>, OciError> {
    let paths = paths.unwrap_or_default();
    match paths.iter().find(|p| !p.starts_with('/') || p.contains('\0')) {
        Some(bad) => Err(OciError::invalid(field, bad, "must be an absolute path")),
        None => Ok(paths.to_vec()),
    }
}

/// The default devices, replaced and joined by the spec's. A bind mount at /dev brings its own.
fn devices(linux: &Linux, bound_dev: bool) -> Result<Vec<DevicePlan>, OciError> {
    let standard = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    let mut plans: Vec<DevicePlan> = standard
        .into_iter()
        .map(|(path, major, minor)| {
            let mode = libc::S_IFCHR | 0o666;
            DevicePlan { path: path.to_owned(), mode, major, minor, uid: 0, gid: 0 }
        })
        .collect();
    for device in linux.devices().iter().flatten() {
        let plan = plan_device(device)?;
        plans.retain(|earlier| earlier.path != plan.path);
        plans.push(plan);
    }
    if bound_dev {
        plans.retain(|plan| !plan.path.starts_with("/dev/"));
    }
    Ok(plans)
}

fn plan_device(device: &oci_spec::runtime::LinuxDevice) -> Result<DevicePlan, OciError> {
    let path: PathBuf = device.path().components().collect();
    let invalid = |reason| OciError::invalid("linux.devices", path.display(), reason);
    let text = path.to_str().ok_or_else(|| invalid("is not UTF-8"))?;
    if !path.is_absolute() || path.file_name().is_none() || text.contains('\0') {
        return Err(invalid("must be an absolute path to a file"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => return Err(invalid("has no type")),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid("has a number out of range"));
    Ok(DevicePlan {
        path: text.to_owned(),
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: number(device.major())?,
        minor: number(device.minor())?,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
