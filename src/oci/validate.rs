//! What in a spec this executor does not do: each an error that names the field. Pure.
//!
//! Accepted without effect here: `annotations` (for hooks and people), `root.path` (the root comes
//! as a descriptor), `linux.cgroupsPath` and `linux.resources` (the process is started in a cgroup
//! that its owner has set up), `process.terminal` (the owner makes the terminal).

use oci_spec::runtime::{Hooks, Linux, LinuxNamespaceType, Process, Spec};

use super::error::OciError;

fn refuse(field: &str, present: bool) -> Result<(), OciError> {
    if present { Err(OciError::unsupported(field)) } else { Ok(()) }
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

fn text(value: &Option<String>) -> bool {
    value.as_ref().is_some_and(|v| !v.is_empty())
}

/// Checks all of a container's spec but its process.
///
/// # Errors
/// [`OciError`] for the first thing that cannot be done.
pub(super) fn check(spec: &Spec) -> Result<(), OciError> {
    if !spec.version().starts_with("1.") {
        return Err(OciError::invalid("ociVersion", spec.version(), "only 1.x is known"));
    }
    refuse("solaris", spec.solaris().is_some())?;
    refuse("windows", spec.windows().is_some())?;
    refuse("vm", spec.vm().is_some())?;
    refuse("zos", spec.zos().is_some())?;
    check_linux(spec.linux().as_ref().ok_or(OciError::Missing { field: "linux" })?)
}

/// Refuses hooks, where nobody runs them.
///
/// # Errors
/// [`OciError`] for the first list that is not empty.
pub(super) fn check_hooks(hooks: &Hooks) -> Result<(), OciError> {
    refuse("hooks.prestart", filled(hooks.prestart()))?;
    refuse("hooks.createRuntime", filled(hooks.create_runtime()))?;
    refuse("hooks.createContainer", filled(hooks.create_container()))?;
    refuse("hooks.startContainer", filled(hooks.start_container()))?;
    refuse("hooks.poststart", filled(hooks.poststart()))?;
    refuse("hooks.poststop", filled(hooks.poststop()))
}

fn check_linux(linux: &Linux) -> Result<(), OciError> {
    refuse("linux.intelRdt", linux.intel_rdt().is_some())?;
    refuse("linux.memoryPolicy", linux.memory_policy().is_some())?;
    refuse("linux.timeOffsets", linux.time_offsets().as_ref().is_some_and(|t| !t.is_empty()))?;
    refuse("linux.netDevices", linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()))?;
    let personality = linux.personality().as_ref();
    refuse("linux.personality.flags", personality.is_some_and(|p| filled(p.flags())))?;
    match linux.rootfs_propagation().as_deref() {
        None | Some("" | "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared") => {}
        Some("unbindable" | "runbindable") => {
            return Err(OciError::unsupported("linux.rootfsPropagation unbindable"));
        }
        Some(other) => {
            return Err(OciError::invalid("linux.rootfsPropagation", other, "unknown"));
        }
    }
    check_namespaces(linux)
}

fn check_namespaces(linux: &Linux) -> Result<(), OciError> {
    let list = linux.namespaces().as_deref().unwrap_or_default();
    for (n, namespace) in list.iter().enumerate() {
        let kind = namespace.typ();
        match kind {
            LinuxNamespaceType::Time => return Err(OciError::unsupported("a time namespace")),
            LinuxNamespaceType::Mount if namespace.path().is_some() => {
                return Err(OciError::unsupported("joining a mount namespace"));
            }
            _ => {}
        }
        if list.iter().take(n).any(|earlier| earlier.typ() == kind) {
            return Err(OciError::invalid("linux.namespaces", kind, "is listed twice"));
        }
    }
    if !list.iter().any(|n| n.typ() == LinuxNamespaceType::Mount) {
        return Err(OciError::unsupported("a container without a mount namespace"));
    }
    Ok(())
}

/// Checks a process, of a container or of an exec.
///
/// # Errors
/// [`OciError`] for the first thing that cannot be done.
pub(super) fn check_process(process: &Process) -> Result<(), OciError> {
    refuse("process.commandLine", text(process.command_line()))?;
    refuse("process.execCPUAffinity", process.exec_cpu_affinity().is_some())?;
    refuse("process.user.username", text(process.user().username()))?;
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => return Err(OciError::Missing { field: "process.args" }),
        Some(first) if first.is_empty() => {
            return Err(OciError::invalid("process.args[0]", "", "the command is empty"));
        }
        Some(_) => {}
    }
    let env = process.env().as_deref().unwrap_or_default();
    if let Some(bad) = args.iter().chain(env).find(|s| s.contains('\0')) {
        return Err(OciError::invalid("process.args or env", bad, "holds a NUL byte"));
    }
    if let Some(bad) = env.iter().find(|v| v.find('=').is_none_or(|at| at == 0)) {
        return Err(OciError::invalid("process.env", bad, "is not NAME=value"));
    }
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        return Err(OciError::invalid("process.cwd", cwd.display(), "must be absolute"));
    }
    if cwd.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(OciError::invalid("process.cwd", cwd.display(), "holds a NUL byte"));
    }
    Ok(())
}
