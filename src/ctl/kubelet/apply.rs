//! `berth apply`.

use super::args::ApplyArgs;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::{CtlError, several};
use crate::kubelet::control::proto;
use std::io::Read as _;
use std::path::Path;

/// Hands manifests to the daemon, each file for itself, and prints what became of each object.
pub(in crate::ctl) async fn apply(
    args: &ApplyArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut failed = Vec::new();
    for file in &args.files {
        if let Err(error) = apply_file(file, daemon, console).await {
            failed.push(error);
        }
    }
    several(failed)
}

async fn apply_file(file: &Path, daemon: &Daemon, console: &mut Console) -> Result<(), CtlError> {
    let request = proto::ApplyRequest { manifest: read(file)?, only_new: false };
    let applied = apply_bytes(request, ("apply", file), daemon, console).await?;
    applied.iter().try_for_each(|object| console.line(&told(object)))
}

/// Hands over what a verb found in a file; what was applied. Warnings are noted.
pub(super) async fn apply_bytes(
    request: proto::ApplyRequest,
    (verb, file): (&'static str, &Path),
    daemon: &Daemon,
    console: &mut Console,
) -> Result<Vec<proto::Manifest>, CtlError> {
    let answer = daemon.pods.clone().apply(request).await;
    let subject = file.display().to_string();
    let answer = answer.map_err(CtlError::rpc(verb, subject))?.into_inner();
    let own = answer.applied.iter().flat_map(|object| &object.warnings);
    for warning in answer.warnings.iter().chain(own.filter(|w| !answer.warnings.contains(w))) {
        console.note(&format!("warning: {warning}"));
    }
    Ok(answer.applied)
}

/// A file, or standard input for `-`.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, CtlError> {
    if file.as_os_str() != "-" {
        return std::fs::read(file).map_err(CtlError::file("read", file));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(CtlError::file("read", "standard input"))?;
    Ok(bytes)
}

/// `pod/web created`, with the namespace if it is not the usual one.
fn told(object: &proto::Manifest) -> String {
    format!("{} {}", object_name(&object.origin), object.outcome)
}

/// `ConfigMap shop/settings` as people name it: `configmap/settings -n shop`.
pub(super) fn object_name(origin: &str) -> String {
    let parts = origin.split_once(' ').and_then(|(kind, rest)| {
        let (namespace, name) = rest.split_once('/')?;
        Some((kind.to_lowercase(), namespace, name))
    });
    match parts {
        Some((kind, "default", name)) => format!("{kind}/{name}"),
        Some((kind, namespace, name)) => format!("{kind}/{name} -n {namespace}"),
        None => origin.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_as_they_are_named() {
        for (origin, outcome, line) in [
            ("pod default/web", "created", "pod/web created"),
            ("ConfigMap shop/settings", "unchanged", "configmap/settings -n shop unchanged"),
            ("odd", "configured", "odd configured"),
        ] {
            let object = proto::Manifest {
                origin: origin.into(),
                outcome: outcome.into(),
                ..proto::Manifest::default()
            };
            assert_eq!(told(&object), line);
        }
    }
}
