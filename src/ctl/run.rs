//! `berth run`: a Kubernetes Pod file becomes a running pod.
//!
//! Order: read the file, look for a pod of the name, get the images, make the folders, run the
//! sandbox, create and start the containers. What fails after the folders takes everything down.

use super::commands::RunArgs;
use super::connect::Daemon;
use super::console::{Console, Format};
use super::error::CtlError;
use super::format::short_id;
use super::images;
use super::list::pod_ips;
use super::pod::{
    ContainerContext, Pod, PodPlace, PullPolicy, container_config, parse_pod, sandbox_config,
};
use super::pod_files;
use super::resolve::{Inventory, Pod as PodName, pod_name};
use super::stop::{remove_folder, remove_pod};
use crate::cri::proto as cri;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

/// The largest Pod file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Runs the pod of a file.
pub(super) async fn run(
    args: &RunArgs,
    daemon: &Daemon,
    state: &Path,
    console: &mut Console,
) -> Result<(), CtlError> {
    let text = read_file(&args.file)?;
    let pod =
        parse_pod(&text).map_err(|source| CtlError::Pod { path: args.file.clone(), source })?;
    if pod.restart_policy_absent {
        console.note(
            "note: spec.restartPolicy is absent, which is Always in Kubernetes; \
             `berth run` restarts nothing",
        );
    }
    refuse_second(&pod, daemon).await?;
    let images = get_images(&pod, daemon, console).await?;
    let uid = match &pod.uid {
        Some(uid) => uid.clone(),
        None => new_uid()?,
    };
    let place = PodPlace::new(state, &pod, &uid);
    let started = tokio::select! {
        started = start(&pod, &place, &images, daemon) => started,
        _ = tokio::signal::ctrl_c() => Err(CtlError::Interrupted),
    };
    match started {
        Ok(started) => tell(args.output.output, &pod, &started, console),
        Err(error) => {
            if let Err(undo) = take_down(&place, daemon, state).await {
                console.note(&format!("berth: take down the pod that failed: {}", undo.line()));
            }
            Err(error)
        }
    }
}

/// A running pod.
struct Started {
    id: String,
    ips: Vec<String>,
    /// Name and id.
    containers: Vec<(String, String)>,
}

fn read_file(path: &Path) -> Result<String, CtlError> {
    let mut text = String::new();
    let read = |reader: &mut dyn io::Read, text: &mut String| {
        reader.take(MAX_FILE_BYTES + 1).read_to_string(text)
    };
    let result = if path == Path::new("-") {
        read(&mut io::stdin(), &mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut text))
    };
    let size = result.map_err(CtlError::file("read", path))?;
    if u64::try_from(size).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        let large = io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB");
        return Err(CtlError::file("read", path)(large));
    }
    Ok(text)
}

/// There is one pod of a name at a time.
async fn refuse_second(pod: &Pod, daemon: &Daemon) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let wanted = PodName { namespace: &pod.namespace, name: &pod.name };
    match all.pods.iter().find(|other| pod_name(other) == wanted) {
        None => Ok(()),
        Some(other) => Err(CtlError::Refused {
            problem: format!("pod {wanted} exists already ({})", short_id(&other.id)),
            hint: "remove it with `berth rm`",
        }),
    }
}

/// The id of each image by the name in the file.
async fn get_images(
    pod: &Pod,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<BTreeMap<String, String>, CtlError> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for container in &pod.containers {
        let name = &container.image;
        if ids.contains_key(name) && container.pull != PullPolicy::Always {
            continue;
        }
        let mut found = images::find(name, daemon).await?;
        if container.pull == PullPolicy::Never && found.is_none() {
            return Err(CtlError::NotFound { what: "image", name: name.clone() });
        }
        let present = found.is_some();
        if container.pull == PullPolicy::Always || !present {
            images::pull(name, daemon, console).await?;
            found = images::find(name, daemon).await?;
        }
        let image =
            found.ok_or_else(|| CtlError::NotFound { what: "image", name: name.clone() })?;
        ids.insert(name.clone(), image.id);
    }
    Ok(ids)
}

async fn start(
    pod: &Pod,
    place: &PodPlace,
    images: &BTreeMap<String, String>,
    daemon: &Daemon,
) -> Result<Started, CtlError> {
    pod_files::prepare(pod, place)?;
    let node_memory = pod_files::node_memory()?;
    let config = sandbox_config(pod, place);
    let request =
        cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let mut runtime = daemon.runtime.clone();
    let name = format!("{}/{}", pod.namespace, pod.name);
    let answer = runtime.run_pod_sandbox(request).await;
    let answer = answer.map_err(CtlError::rpc("run", format!("pod {name}")))?;
    let id = answer.into_inner().pod_sandbox_id;
    let ips = pod_ips(daemon, &id).await?.unwrap_or_default();
    let addresses: Vec<_> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    pod_files::write_hosts(pod, place, &addresses)?;
    let mut containers = Vec::new();
    for container in &pod.containers {
        let image_id = images.get(&container.image).map_or("", String::as_str);
        let context = ContainerContext { pod, place, image_id, node_memory };
        let subject = format!("container {name}/{}", container.name);
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(container_config(container, &context)),
            sandbox_config: Some(config.clone()),
        };
        let answer = runtime.create_container(request).await;
        let answer = answer.map_err(CtlError::rpc("create", subject.clone()))?;
        let container_id = answer.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container_id.clone() };
        runtime.start_container(request).await.map_err(CtlError::rpc("start", subject))?;
        containers.push((container.name.clone(), container_id));
    }
    Ok(Started { id, ips, containers })
}

/// Removes whatever there is of a pod.
async fn take_down(place: &PodPlace, daemon: &Daemon, state: &Path) -> Result<(), CtlError> {
    let label = ("io.kubernetes.pod.uid".to_owned(), place.uid.clone());
    let filter =
        cri::PodSandboxFilter { label_selector: BTreeMap::from([label]), ..Default::default() };
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let answer = daemon.runtime.clone().list_pod_sandbox(request).await;
    for pod in answer.map_err(CtlError::rpc("list", "pods"))?.into_inner().items {
        remove_pod(daemon, &pod, state).await?;
    }
    remove_folder(&place.dir)?;
    remove_folder(&place.logs)
}

/// A random uid in the usual form (RFC 9562, version 4).
fn new_uid() -> Result<String, CtlError> {
    let bytes = crate::sys::random::bytes::<16>()
        .map_err(CtlError::file("read", "the kernel's random numbers"))?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) | 4 << 76;
    let number = number & !(0b11 << 62) | 0b10 << 62;
    let digits = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or(""));
    Ok(parts.join("-"))
}

fn tell(
    format: Format,
    pod: &Pod,
    started: &Started,
    console: &mut Console,
) -> Result<(), CtlError> {
    if format != Format::Table {
        let containers: Vec<_> =
            started.containers.iter().map(|(name, id)| json!({ "name": name, "id": id })).collect();
        return console.document(
            format,
            &json!({
                "id": started.id,
                "namespace": pod.namespace,
                "name": pod.name,
                "ips": started.ips,
                "containers": containers,
            }),
        );
    }
    let ip = started.ips.first().map_or_else(String::new, |ip| format!(", address {ip}"));
    let name = format!("{}/{}", pod.namespace, pod.name);
    console.line(&format!("pod {name} runs ({}{ip})", short_id(&started.id)))?;
    for (name, id) in &started.containers {
        console.line(&format!("  container {name} ({})", short_id(id)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_uid_is_random_and_says_so() {
        let (a, b) = (new_uid().unwrap(), new_uid().unwrap());
        assert_ne!(a, b);
        let parts: Vec<usize> = a.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(a.as_bytes()[14], b'4');
        assert!(matches!(a.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{a}");
    }

    #[test]
    fn a_huge_or_missing_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.yaml");
        assert!(matches!(read_file(&path), Err(CtlError::File { .. })));
        std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(error.line().contains("larger than 1 MiB"), "{}", error.line());
    }
}
