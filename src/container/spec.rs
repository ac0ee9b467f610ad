//! A container's request, its image and its pod, written as an OCI runtime specification.
//!
//! The specification is the inner contract: the executor acts on it alone. Reading the host's
//! devices and a seccomp profile is the only I/O; everything else is pure.

use super::capabilities::plan_capabilities;
use super::config::ContainerConfig;
use super::devices::{self, DevicePlan, read_devices};
use super::env::{RequestProcess, plan_args, plan_env, plan_working_dir};
pub use super::error::SpecError;
pub use super::mounts::PodFiles;
use super::mounts::{oci_ranges, plan_mounts, rootfs_propagation};
use super::seccomp;
use super::security::{plan_hidden_paths, plan_rlimits};
use super::user::ResolvedUser;
use crate::cgroups::{Limit, Resources};
use crate::idmap::Unmapped;
use crate::ids::{ContainerId, SandboxId};
use crate::image::ImageSpec;
use crate::sandbox::config::SandboxConfig;
use crate::sandbox::namespaces::{Holders, plan_container};
use crate::selinux::Labels;
use oci_spec::runtime::{
    Linux, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources,
    Process, Root, Spec, User,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// The version of the OCI runtime specification that is written.
const OCI_VERSION: &str = "1.2.0";
/// The umask of every process.
const UMASK: u32 = 0o022;

/// Everything a specification is made of.
#[derive(Clone, Copy, Debug)]
pub struct SpecInputs<'a> {
    /// The pod's request.
    pub sandbox: &'a SandboxConfig,
    /// The pod's id.
    pub sandbox_id: &'a SandboxId,
    /// The container's id.
    pub container_id: &'a ContainerId,
    /// The container's request.
    pub config: &'a ContainerConfig,
    /// What the image says.
    pub image: &'a ImageSpec,
    /// Whom the process runs as.
    pub user: &'a ResolvedUser,
    /// The pid of pause; `None` for a pod with no namespace of its own.
    pub pause: Option<i32>,
    /// The pod's files on the host.
    pub files: &'a PodFiles,
    /// The container's cgroup, absolute below the cgroup root.
    pub cgroup_path: &'a str,
    /// The AppArmor profile by the kernel's name; `None` on a node without AppArmor.
    pub apparmor: Option<&'a str>,
    /// The SELinux labels; `None` where labels are off.
    pub labels: Option<&'a Labels>,
    /// The limit of open files: soft, hard.
    pub nofile: (u64, u64),
    /// The pid of the container whose pid namespace is joined.
    pub target: Option<i32>,
    /// The name that processes of the pod see.
    pub effective_hostname: &'a str,
}

/// Writes the specification.
///
/// # Errors
/// What in the request cannot be, is not supported, or has no holder; see [`SpecError`].
pub fn build(inputs: &SpecInputs<'_>) -> Result<Spec, SpecError> {
    check_user(inputs)?;
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"))
        .set_readonly(Some(inputs.config.security.readonly_rootfs));
    let devices = read_devices(inputs.config, root_of(inputs.sandbox))?;
    let mounts = plan_mounts(inputs.sandbox, inputs.config, inputs.files, &devices.bound)?;
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process(inputs)?))
        // The UTS namespace is pause's, which has set the name.
        .set_hostname(None)
        .set_mounts(Some(mounts))
        .set_annotations(Some(annotations(inputs)))
        .set_linux(Some(linux(inputs, devices)?));
    Ok(spec)
}

fn process(inputs: &SpecInputs<'_>) -> Result<Process, SpecError> {
    let config = inputs.config;
    let request = RequestProcess {
        name: &config.name,
        command: &config.command,
        args: &config.args,
        envs: &config.envs,
        working_dir: &config.working_dir,
        tty: config.tty,
    };
    let mut user = User::default();
    user.set_uid(inputs.user.uid)
        .set_gid(inputs.user.gid)
        .set_umask(Some(UMASK))
        .set_additional_gids(Some(inputs.user.additional_gids.clone()));
    let env = plan_env(inputs.image, &request, inputs.effective_hostname, &inputs.user.home)?;
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user)
        .set_args(Some(plan_args(inputs.image, &request)?))
        .set_env(Some(env))
        .set_cwd(plan_working_dir(inputs.image, &request)?)
        .set_capabilities(Some(plan_capabilities(&config.security)?))
        .set_rlimits(Some(plan_rlimits(inputs.nofile)?))
        .set_no_new_privileges(Some(config.security.no_new_privs))
        .set_apparmor_profile(inputs.apparmor.map(str::to_owned))
        .set_selinux_label(inputs.labels.map(|labels| labels.process.to_string()))
        .set_oom_score_adj(Some(plan_oom_score(&config.resources)?));
    Ok(process)
}

fn plan_oom_score(resources: &Resources) -> Result<i32, SpecError> {
    match resources.oom_score_adj {
        None => Ok(0),
        Some(score) if (-1000..=1000).contains(&score) => Ok(score),
        Some(score) => {
            let reason = "is not between -1000 and 1000";
            Err(SpecError::invalid("resources.oom_score_adj", score.to_string(), reason))
        }
    }
}

fn root_of(sandbox: &SandboxConfig) -> devices::Root {
    if sandbox.userns.is_some() { devices::Root::Mapped } else { devices::Root::Host }
}

/// A process can only have ids that its user namespace maps.
fn check_user(inputs: &SpecInputs<'_>) -> Result<(), SpecError> {
    let Some(maps) = &inputs.sandbox.userns else { return Ok(()) };
    const REASON: &str = "is not mapped in the pod's user namespace";
    let ResolvedUser { uid, gid, additional_gids, .. } = inputs.user;
    let (field, id) =
        match maps.unmapped(*uid, std::iter::once(gid).chain(additional_gids).copied()) {
            Some(Unmapped::User(uid)) => ("run_as_user", uid),
            Some(Unmapped::Group(gid)) => ("supplemental_groups", gid),
            None => return Ok(()),
        };
    Err(SpecError::invalid(field, id.to_string(), REASON))
}

fn linux(inputs: &SpecInputs<'_>, devices: DevicePlan) -> Result<Linux, SpecError> {
    let config = inputs.config;
    let holders = Holders { pause: inputs.pause, target: inputs.target };
    let (masked, readonly) = plan_hidden_paths(&config.security);
    let mut linux = Linux::default();
    linux
        .set_resources(Some(plan_resources(&config.resources, devices.rules)?))
        .set_cgroups_path(Some(inputs.cgroup_path.into()))
        .set_namespaces(Some(plan_container(inputs.sandbox, &config.security.pid, holders)?))
        .set_devices(Some(devices.nodes))
        .set_rootfs_propagation(rootfs_propagation(&config.mounts).map(str::to_owned))
        .set_seccomp(seccomp::of_container(&config.security)?)
        .set_mount_label(inputs.labels.map(|labels| labels.mount.to_string()))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly));
    if let Some(maps) = &inputs.sandbox.userns {
        linux
            .set_uid_mappings(Some(oci_ranges(&maps.uids)?))
            .set_gid_mappings(Some(oci_ranges(&maps.gids)?));
    }
    Ok(linux)
}

/// The request's resources in the specification's terms, which are those of cgroup v1.
fn plan_resources(
    asked: &Resources,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<LinuxResources, SpecError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(asked.cpu_shares)
        .set_quota(signed("resources.cpu_quota", asked.cpu_quota)?)
        .set_period(asked.cpu_period)
        .set_cpus(asked.cpuset_cpus.clone())
        .set_mems(asked.cpuset_mems.clone());
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(signed("resources.memory_limit", asked.memory_limit)?)
        .set_swap(signed("resources.memory_swap_limit", asked.memory_swap_limit)?);
    let mut hugepages = Vec::new();
    for (size, bytes) in &asked.hugepage_limits {
        let limit = to_signed("resources.hugepage_limits", *bytes)?;
        let mut one = LinuxHugepageLimit::default();
        one.set_page_size(size.clone()).set_limit(limit);
        hugepages.push(one);
    }
    let unified: HashMap<String, String> = asked.unified.clone().into_iter().collect();
    let mut resources = LinuxResources::default();
    resources
        .set_devices(Some(devices))
        .set_cpu((cpu != LinuxCpu::default()).then_some(cpu))
        .set_memory((memory != LinuxMemory::default()).then_some(memory))
        .set_hugepage_limits((!hugepages.is_empty()).then_some(hugepages))
        .set_unified((!unified.is_empty()).then_some(unified));
    if let Some(limit) = signed("resources.pids_limit", asked.pids_limit)? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

/// A ceiling as the specification writes it: -1 for none.
fn signed(field: &'static str, limit: Option<Limit>) -> Result<Option<i64>, SpecError> {
    match limit {
        None => Ok(None),
        Some(Limit::Max) => Ok(Some(-1)),
        Some(Limit::Value(value)) => to_signed(field, value).map(Some),
    }
}

fn to_signed(field: &'static str, value: u64) -> Result<i64, SpecError> {
    i64::try_from(value).map_err(|_| SpecError::invalid(field, value.to_string(), "is too large"))
}

/// The request's annotations, and who the container is, in the words that other executors know.
fn annotations(inputs: &SpecInputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.sandbox.metadata;
    let mut annotations: HashMap<String, String> =
        inputs.config.annotations.clone().into_iter().collect();
    for (name, value) in [
        ("container-type", "container"),
        ("container-name", inputs.config.name.as_str()),
        ("image-name", inputs.config.image.as_str()),
        ("sandbox-id", inputs.sandbox_id.as_str()),
        ("sandbox-name", pod.name.as_str()),
        ("sandbox-namespace", pod.namespace.as_str()),
        ("sandbox-uid", pod.uid.as_str()),
    ] {
        annotations.insert(format!("io.kubernetes.cri.{name}"), value.to_owned());
    }
    annotations
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
