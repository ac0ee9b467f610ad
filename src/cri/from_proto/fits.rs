//! What a container may ask for depends on the sandbox that it is for.

use super::RequestError;
use crate::container::class::class_of;
use crate::container::config::ContainerConfig;
use crate::idmap::IdMaps;
use crate::sandbox::config::{PodNamespace, SandboxConfig};

/// What a container's request says about things that its sandbox has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Whether it says anything about namespaces at all.
    pub(crate) namespaces: bool,
    /// Whose network.
    pub(crate) network: PodNamespace,
    /// Whose user namespace; `None`: the node's.
    pub(crate) userns: Option<IdMaps>,
    /// Whose IPC.
    pub(crate) ipc: PodNamespace,
    /// Whether it is privileged.
    pub(crate) privileged: bool,
}

/// Refuses what the sandbox does not allow. A container that names the pod's namespaces in a pod
/// that uses the host's gets the pod's choice, as in every runtime: POD is also what an empty
/// request says. One that says nothing about namespaces gets the pod's choice of all of them.
pub(crate) fn fit(
    config: &mut ContainerConfig,
    asked: Asked,
    sandbox: &SandboxConfig,
) -> Result<(), RequestError> {
    if !asked.namespaces {
        config.security.pid = sandbox.namespaces.pid.clone();
    }
    refuse_rdt(config, sandbox)?;
    let field = "config.linux.security_context";
    if asked.privileged && !sandbox.privileged {
        let reason = "the sandbox is not privileged";
        return Err(RequestError::invalid(format!("{field}.privileged"), reason));
    }
    // Unlike the others it has to be said: a container that a client means to run as the node's user
    // must not be another one, nor the other way round.
    if asked.namespaces && asked.userns != sandbox.userns {
        let field = format!("{field}.namespace_options.userns_options");
        return Err(RequestError::invalid(field, "is not the sandbox's"));
    }
    for (name, asked, has) in [
        ("network", asked.network, sandbox.namespaces.network),
        ("ipc", asked.ipc, sandbox.namespaces.ipc),
    ] {
        if (asked, has) == (PodNamespace::Node, PodNamespace::Pod) {
            let field = format!("{field}.namespace_options.{name}");
            return Err(RequestError::invalid(field, "NODE, but the sandbox has its own"));
        }
    }
    Ok(())
}

/// Classes of cache and memory bandwidth.
fn refuse_rdt(config: &ContainerConfig, sandbox: &SandboxConfig) -> Result<(), RequestError> {
    match class_of("rdt", config, sandbox) {
        Some((key, _)) => {
            Err(RequestError::unimplemented(format!("annotation {key}"), "RDT classes are"))
        }
        None => Ok(()),
    }
}
