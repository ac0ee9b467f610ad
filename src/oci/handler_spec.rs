//! A container for another OCI runtime: its configuration with everything of the host resolved.
//!
//! What the native executor gets as a plan another runtime gets as `config.json`: the root and the
//! sources of bind mounts are places in the bundle at which the shim attaches descriptors, limits of
//! the process are complete, and limits of the cgroup are left out. berth sets those itself on the
//! same cgroup, so that they mean the same with every runtime, and stay true when they are changed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, PosixRlimitBuilder, Process, Spec};

use super::error::OciError;
use super::handler::NO_LEVEL;
use super::maps::UserSpaces;
use super::options;
use super::plan::{self, LIMITS};
use super::prepare::{PodContext, Prepared, SHM_SOURCE, is_bind, node};
use super::selinux;
use super::source::{clone_source, take_volume};
use super::validate;
use crate::config::Enforce;
use crate::shim::wire::{ExecPlan, HandlerMount, HandlerPlan, InitPlan, handler_mount::Source};
use crate::sys::{caps, prctl};

/// The version of the OCI runtime specification that other runtimes are told.
const OCI_VERSION: &str = "1.0.2";

/// Where a container of another runtime is made.
#[derive(Clone, Debug)]
pub struct HandlerPlace {
    /// The runtime's program.
    pub program: PathBuf,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where cgroup v2 is mounted.
    pub cgroup_root: PathBuf,
}

/// A container for a runtime: what the shim gets, and what the bundle's config.json says.
#[derive(Debug)]
pub struct Handled {
    /// For the shim.
    pub prepared: Prepared,
    /// For the runtime.
    pub spec: Spec,
}

/// The request and the configuration for a container of the runtime at `place`.
///
/// Blocks: it resolves the sources of bind mounts.
///
/// # Errors
/// [`OciError`]: what cannot be done, by name.
pub fn prepare_handled(
    mut spec: Spec,
    rootfs: OwnedFd,
    pod: &PodContext,
    place: &HandlerPlace,
) -> Result<Handled, OciError> {
    validate::check(&spec)?;
    if spec.hooks().is_some() {
        return Err(OciError::unsupported("hooks with this runtime handler"));
    }
    let mut linux = spec.linux().clone().ok_or(OciError::Missing { field: "linux" })?;
    if linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::User) {
        return Err(OciError::unsupported("a user namespace with this runtime handler"));
    }
    let mut spaces = UserSpaces::of_spec(&linux, pod)?;
    let mut handler = base(place)?;
    let mut fds = shared_fds(place)?;
    let first = fds.len();
    let mut attach = |fds: &mut Vec<OwnedFd>, fd: Option<OwnedFd>| {
        let source = match fd {
            Some(fd) => {
                fds.push(fd);
                Source::Fd(u32::try_from(fds.len() - 1 - first).unwrap_or(u32::MAX))
            }
            None => Source::Shm(true),
        };
        handler.mounts.push(HandlerMount { source: Some(source) });
        place.bundle.join(format!("mounts/{}", handler.mounts.len() - 1))
    };
    let at = attach(&mut fds, Some(rootfs));
    let mut root = spec.root().clone().ok_or(OciError::Missing { field: "root" })?;
    root.set_path(at);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if is_bind(mount) {
            let field = "mounts.source";
            let source = mount.source().clone().ok_or(OciError::Missing { field })?;
            let options = options::parse(mount.options().as_deref().unwrap_or_default())?;
            let target = mount.destination().clone();
            let volume = pod.volumes.get(&source);
            let clone = match volume {
                _ if source == Path::new(SHM_SOURCE) => None,
                Some(volume) => Some(take_volume(volume, &source, &target, &options)?),
                None => {
                    let maps = spaces.of_mount(mount, &options)?;
                    let space = maps.as_ref().map(|maps| spaces.get(maps)).transpose()?;
                    Some(clone_source(&source, &target, &options, space)?)
                }
            };
            let at = attach(&mut fds, clone);
            // What is attached there is mapped already.
            let left = mount.options().clone().unwrap_or_default();
            let left = left.into_iter().filter(|o| !matches!(o.as_str(), "idmap" | "ridmap"));
            // An image has no mounts below it; crun takes the place of a recursive one for a folder.
            let left = left.map(|o| match volume.is_some() && o == "rro" {
                true => "ro".to_owned(),
                false => o,
            });
            mount
                .set_source(Some(at))
                .set_options(Some(left.collect()))
                .set_uid_mappings(None)
                .set_gid_mappings(None);
        } else if mount.typ().as_deref() == Some("cgroup2") {
            // The name by which runtimes know what belongs there.
            mount.set_typ(Some("cgroup".to_owned())).set_source(Some("cgroup".into()));
        }
    }
    let process = spec.process().clone().ok_or(OciError::Missing { field: "process" })?;
    let process = complete(process, pod, &mut handler.left_out)?;
    handler.oom_score_adj = process.oom_score_adj();
    let joined = |n: &oci_spec::runtime::LinuxNamespace| n.path().is_some();
    handler.needs_pause = Some(linux.namespaces().iter().flatten().any(joined));
    selinux::check("linux.mountLabel", linux.mount_label().as_ref())?;
    let devices = linux.resources().as_ref().and_then(|r| r.devices().clone());
    linux.set_resources(Some(only_devices(devices)));
    // What the specification has here needs no newer one, and older runtimes refuse a number that they
    // do not know.
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_process(Some(process))
        .set_linux(Some(linux));
    let plan = InitPlan { level: NO_LEVEL, handler: Some(handler), ..InitPlan::default() };
    Ok(Handled { prepared: Prepared { plan, fds, outside: None }, spec })
}

/// The process of a command as the runtime reads it.
///
/// # Errors
/// [`OciError`]: what cannot be done, by name.
pub fn exec_handled(process: Process, pod: &PodContext) -> Result<Process, OciError> {
    // What is left out is what the container's first process was told to do without.
    complete(process, pod, &mut Vec::new())
}

/// The plan of a command that the container's runtime runs in the cgroup `slot` of the container's.
pub fn exec_plan_handled(slot: &str) -> ExecPlan {
    ExecPlan { level: NO_LEVEL, slot: Some(slot.to_owned()), ..ExecPlan::default() }
}

pub(super) fn base(place: &HandlerPlace) -> Result<HandlerPlan, OciError> {
    let text = |field, path: &Path| {
        let invalid = || OciError::invalid(field, path.display(), "is not UTF-8");
        path.to_str().map(str::to_owned).ok_or_else(invalid)
    };
    Ok(HandlerPlan {
        program: text("the runtime's path", &place.program)?,
        bundle: text("the bundle", &place.bundle)?,
        cgroup_root: text("the cgroup root", &place.cgroup_root)?,
        ..HandlerPlan::default()
    })
}

/// This process' mount namespace, and the bundle.
pub(super) fn shared_fds(place: &HandlerPlace) -> Result<Vec<OwnedFd>, OciError> {
    let path = "/proc/self/ns/mnt";
    let host = File::open(path).map_err(|source| OciError::Host { path, source })?;
    let bundle = File::open(&place.bundle).map_err(|source| OciError::Source {
        operation: "open",
        path: place.bundle.clone(),
        target: "/".into(),
        source,
    })?;
    Ok(vec![host.into(), bundle.into()])
}

fn only_devices(devices: Option<Vec<oci_spec::runtime::LinuxDeviceCgroup>>) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(devices);
    resources
}

/// Every limit said, as the native executor sets them; and, where privileges may be missing, what
/// this host's root can have.
fn complete(
    mut process: Process,
    pod: &PodContext,
    left_out: &mut Vec<String>,
) -> Result<Process, OciError> {
    validate::check_process(&process)?;
    // Contradictions are refused as for the native executor.
    let plan = plan::process(&process, None, node(pod)?)?;
    let own = Own::of(pod.privileges)?;
    let limits = plan.limits.iter().zip(LIMITS);
    let limits = limits.map(|(limit, kind)| {
        let mut hard = limit.hard;
        if let Some(have) = own.as_ref().and_then(|_| prctl::get_limit(limit.resource).ok())
            && hard > have.hard
        {
            hard = have.hard;
            let name = prctl::limit_name(limit.resource);
            left_out.push(format!("{name}: a hard limit of {}, not {hard}", words(limit.hard)));
        }
        let one = PosixRlimitBuilder::default();
        let one = one.typ(kind).hard(hard).soft(limit.soft.min(hard)).build();
        one.map_err(|_| OciError::Missing { field: "process.rlimits" })
    });
    process.set_rlimits(Some(limits.collect::<Result<_, _>>()?));
    let mut score = process.oom_score_adj().unwrap_or(0);
    if let Some(own) = own.filter(|own| score < own.oom_score_adj) {
        left_out.push(format!("oom_score_adj {score}"));
        score = own.oom_score_adj;
    }
    process.set_oom_score_adj(Some(score));
    Ok(process)
}

fn words(limit: u64) -> String {
    if limit == libc::RLIM_INFINITY { "unlimited".to_owned() } else { limit.to_string() }
}

/// What a process without CAP_SYS_RESOURCE cannot go beyond.
struct Own {
    oom_score_adj: i32,
}

impl Own {
    /// `None` where nothing is to be left out.
    fn of(privileges: Enforce) -> Result<Option<Self>, OciError> {
        let held = caps::get().map_or(0, |sets| sets.effective);
        if privileges == Enforce::Required || held & caps::SYS_RESOURCE != 0 {
            return Ok(None);
        }
        let path = "/proc/self/oom_score_adj";
        let failed = |source| OciError::Host { path, source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let parsed = text.trim().parse();
        let invalid = |_| failed(std::io::Error::from(std::io::ErrorKind::InvalidData));
        parsed.map(|oom_score_adj| Some(Self { oom_score_adj })).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::PosixRlimitType;

    fn pod() -> PodContext {
        let volumes = std::sync::Arc::default();
        PodContext {
            pause: None,
            privileges: Enforce::Required,
            target: None,
            volumes,
            hooks: None,
            new_userns: crate::oci::NewUserns::Fork,
        }
    }

    #[test]
    fn a_process_gets_every_limit_and_keeps_its_own() {
        let pod = pod();
        let nofile = PosixRlimitBuilder::default();
        let nofile = nofile.typ(PosixRlimitType::RlimitNofile).soft(5u64).hard(6u64);
        let nofile = nofile.build().unwrap();
        let mut process = Process::default();
        process.set_rlimits(Some(vec![nofile])).set_oom_score_adj(None);
        let process = exec_handled(process, &pod).unwrap();
        let limits = process.rlimits().clone().unwrap();
        assert_eq!(limits.len(), 16);
        assert!(limits.contains(&nofile));
        assert_eq!(process.oom_score_adj(), Some(0));
    }

    #[test]
    fn mounts_are_places_in_the_bundle_and_limits_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("volume");
        std::fs::create_dir(&source).unwrap();
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "root": { "path": "rootfs" },
            "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
            "mounts": [
                { "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"] },
                { "destination": "/dev/shm", "type": "bind", "source": SHM_SOURCE, "options": ["rbind"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2" },
            ],
            "linux": { "resources": { "pids": { "limit": 5 }, "devices": [{ "allow": false }] } },
        }))
        .unwrap();
        let pod = pod();
        let place = HandlerPlace {
            program: "/usr/bin/runc".into(),
            bundle: folder.path().to_owned(),
            cgroup_root: "/sys/fs/cgroup".into(),
        };
        let root = File::open(folder.path()).unwrap();
        // Without the right to clone mounts there is nothing to see.
        let Ok(handled) = prepare_handled(spec, root.into(), &pod, &place) else { return };
        let handler = handled.prepared.plan.handler.unwrap();
        let sources: Vec<_> = handler.mounts.iter().map(|m| m.source).collect();
        let expected = [Source::Fd(0), Source::Fd(1), Source::Shm(true)];
        assert_eq!(sources, expected.map(Some));
        assert_eq!(handled.prepared.fds.len(), 4);
        let at = |n: usize| Some(folder.path().join(format!("mounts/{n}")));
        let mounts = handled.spec.mounts().clone().unwrap();
        assert_eq!((mounts[0].source().clone(), mounts[1].source().clone()), (at(1), at(2)));
        assert_eq!(mounts[2].typ().as_deref(), Some("cgroup"));
        let resources = handled.spec.linux().clone().unwrap().resources().clone().unwrap();
        assert!(resources.pids().is_none() && resources.devices().is_some());
    }
}
