//! Classes of containers (block I/O, RDT), by the annotations of containerd and CRI-O.

use super::config::ContainerConfig;
use crate::sandbox::config::SandboxConfig;

/// The annotation that decides a container's class of `kind`, and the class that it names. Its own,
/// `io.kubernetes.cri.KIND-class`, goes before `KIND.resources.beta.kubernetes.io/container.NAME` of its pod, and
/// that before `…/pod`. An empty class is none.
pub fn class_of<'a>(
    kind: &str,
    config: &'a ContainerConfig,
    sandbox: &'a SandboxConfig,
) -> Option<(String, &'a str)> {
    let of_pod = format!("{kind}.resources.beta.kubernetes.io");
    let places = [
        (&config.annotations, format!("io.kubernetes.cri.{kind}-class")),
        (&sandbox.annotations, format!("{of_pod}/container.{}", config.name)),
        (&sandbox.annotations, format!("{of_pod}/pod")),
    ];
    places.into_iter().find_map(|(annotations, key)| {
        let name = annotations.get(&key).filter(|name| !name.is_empty())?;
        Some((key, name.as_str()))
    })
}
