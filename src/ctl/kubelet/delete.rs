//! `berth delete`.

use super::apply::{object_name, read};
use super::args::{DeleteArgs, namespace_of};
use super::inventory::Inventory;
use super::until::until;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::{CtlError, several};
use crate::error::chain;
use crate::kubelet::api::{Object, decode};
use crate::kubelet::control::proto::DeleteRequest;
use crate::kubelet::spec::uid;
use crate::kubelet::status::start_time;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tonic::Code;

/// Takes back what was applied, each object for itself, and waits for the pods among it to end.
pub(in crate::ctl) async fn delete(
    args: &DeleteArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let (mut failed, mut pods) = (Vec::new(), Vec::new());
    for request in requests(args)? {
        let origin = format!("{} {}/{}", request.kind, request.namespace, request.name);
        // A pod may be applied again as soon as it is taken back: who is waited for is found before.
        let kept = match is_pod(&request.kind) && !args.no_wait {
            true => Some(Inventory::read(daemon).await?),
            false => None,
        };
        let kept =
            kept.and_then(|all| all.find_applied(&request.namespace, &request.name).cloned());
        match take_back(request, daemon).await {
            Ok(()) => {
                console.line(&format!("{} deleted", object_name(&origin)))?;
                pods.extend(kept);
            }
            Err(error) => failed.push(error),
        }
    }
    for pod in pods {
        ended(daemon, uid(&pod.pod), start_time(&pod.pod)).await?;
    }
    several(failed)
}

/// Waits until nothing is left of a pod that was taken back: of its uid there is none, or one that began later.
pub(super) async fn ended(daemon: &Daemon, of: &str, start: Option<&Time>) -> Result<(), CtlError> {
    let gone = |all: &Inventory| match all.of_uid(of) {
        None => Some(()),
        Some(kept) => (start.is_some() && start_time(&kept.pod) != start).then_some(()),
    };
    until(daemon, gone).await
}

/// What is to be deleted.
fn requests(args: &DeleteArgs) -> Result<Vec<DeleteRequest>, CtlError> {
    let namespace = namespace_of(args.namespace.as_deref());
    let kind = args.kind.clone().unwrap_or_default();
    let named = args.names.iter().map(|name| DeleteRequest {
        kind: kind.clone(),
        namespace: namespace.to_owned(),
        name: name.clone(),
        uid: String::new(),
    });
    let mut all: Vec<DeleteRequest> = named.collect();
    for file in &args.files {
        let decoded = decode(&read(file)?).map_err(|error| CtlError::Refused {
            problem: format!("{}: {}", file.display(), chain(&error)),
            hint: "give the manifests that were applied",
        })?;
        all.extend(decoded.objects.iter().map(|object| of_object(object, args)));
    }
    Ok(all)
}

/// An object of a manifest. The namespace of the command line stands in for one that it does not name.
fn of_object(object: &Object, args: &DeleteArgs) -> DeleteRequest {
    let (kind, metadata): (&str, &ObjectMeta) = match object {
        Object::Pod(pod) => ("pod", &pod.metadata),
        Object::ConfigMap(map) => ("configmap", &map.metadata),
        Object::Secret(secret) => ("secret", &secret.metadata),
        Object::Service(service) => ("service", &service.metadata),
    };
    let namespace = metadata.namespace.as_deref().or(args.namespace.as_deref());
    DeleteRequest {
        kind: kind.to_owned(),
        namespace: namespace_of(namespace).to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: String::new(),
    }
}

/// Takes back one object. A pod that is ending already is taken back.
pub(super) async fn take_back(request: DeleteRequest, daemon: &Daemon) -> Result<(), CtlError> {
    let DeleteRequest { kind, namespace, name, .. } = request.clone();
    let subject = format!("{kind} {namespace}/{name}");
    let status = match daemon.pods.clone().delete(request).await {
        Ok(_) => return Ok(()),
        Err(status) => status,
    };
    if status.code() == Code::NotFound && is_pod(&kind) {
        let all = Inventory::read(daemon).await?;
        if all.find_applied(&namespace, &name).is_some() {
            return Ok(());
        }
        if let Some(kept) = all.find(&namespace, &name) {
            return Err(CtlError::Refused {
                problem: format!("{subject} was not applied: it comes from {}", kept.origin),
                hint: "remove it there",
            });
        }
    }
    Err(CtlError::rpc("delete", subject)(status))
}

impl DeleteRequest {
    /// For the object of an origin: `ConfigMap shop/settings`; `None` when it is none.
    pub(super) fn of_origin(origin: &str) -> Option<Self> {
        let (kind, rest) = origin.split_once(' ')?;
        let (namespace, name) = rest.split_once('/')?;
        let of = |text: &str| text.to_owned();
        let (kind, uid) = (kind.to_lowercase(), String::new());
        Some(Self { kind, namespace: of(namespace), name: of(name), uid })
    }
}

fn is_pod(kind: &str) -> bool {
    matches!(kind.to_lowercase().as_str(), "pod" | "pods" | "po")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(names: &[&str], files: Vec<std::path::PathBuf>) -> DeleteArgs {
        DeleteArgs {
            kind: Some("cm".into()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            files,
            namespace: Some("shop".into()),
            no_wait: false,
        }
    }

    #[test]
    fn objects_are_named_on_the_command_line_or_by_manifests() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.yaml");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n---\n\
                    apiVersion: v1\nkind: Secret\nmetadata: {name: key, namespace: other}\n";
        std::fs::write(&file, text).unwrap();
        let told = |args: &DeleteArgs| -> Vec<String> {
            let of = |r: DeleteRequest| format!("{} {}/{}", r.kind, r.namespace, r.name);
            requests(args).unwrap().into_iter().map(of).collect()
        };
        assert_eq!(told(&args(&["a", "b"], vec![])), ["cm shop/a", "cm shop/b"]);
        assert_eq!(told(&args(&[], vec![file])), ["pod shop/web", "secret other/key"]);
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.yaml");
        std::fs::write(&file, "kind: [").unwrap();
        let error = requests(&args(&[], vec![file.clone()])).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
    }
}
