//! Keeping images within their file system: those that no container uses go, when it is full or they are too old.

use super::images::{Image, Ledger, excess};
use super::signals::image_place;
use super::usage::is_active;
use crate::blocking;
use crate::clock::ticks;
use crate::config::ImageGc;
use crate::cri::client::{Cri, CriError};
use crate::cri::proto;
use crate::image::Reference;
use crate::kubelet::board::{Board, EventKind};
use crate::kubelet::http::node_usage::FileSystem;
use crate::kubelet::spec::{members, spec};
use crate::kubelet::volumes::image_volumes;
use crate::kubelet::worker::Host;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// What keeps images within their file system.
pub struct Collector {
    cri: Arc<dyn Cri>,
    board: Board,
    /// The node's name.
    node: String,
    config: ImageGc,
    /// One collection at a time.
    ledger: Mutex<Ledger>,
}

/// What there is at a moment.
struct Look {
    images: Vec<Image>,
    /// What containers and pods say of their images.
    named: BTreeSet<String>,
    now: Instant,
}

impl Collector {
    /// One for the images of a host's runtime.
    pub fn new(host: &Host, config: ImageGc) -> Self {
        Self {
            cri: Arc::clone(&host.cri),
            board: host.board.clone(),
            node: host.node.name.clone(),
            config,
            ledger: Mutex::new(Ledger::new(Instant::now())),
        }
    }

    /// Collects every so often, for ever. The first look is at once, and collects nothing.
    pub async fn keep(self: Arc<Self>) {
        if let Err(error) = self.look(&mut *self.ledger.lock().await).await {
            warn!(%error, "images are not known");
        }
        let every = Duration::from_secs(self.config.check_seconds);
        let mut pulse = ticks(every);
        // That was the first one.
        pulse.reset();
        loop {
            pulse.tick().await;
            if let Err(error) = self.collect().await {
                let message = format!("images were not collected: {error}");
                self.board.node_event(&self.node, (EventKind::Warning, "ImageGCFailed", message));
            }
        }
    }

    async fn look(&self, ledger: &mut Ledger) -> Result<Look, CriError> {
        let images = self.cri.list_images(proto::ListImagesRequest::default()).await?.images;
        let containers = self.cri.list_containers(proto::ListContainersRequest::default()).await?;
        let images: Vec<Image> = images.into_iter().map(image).collect();
        let mut named: BTreeSet<String> =
            containers.containers.into_iter().flat_map(words).collect();
        // Also of a pod that has no container yet, or none of it any more: it would only be pulled again.
        named.extend(self.named_by_pods());
        named.extend(self.named_by_runtime().await?);
        let now = Instant::now();
        ledger.note(&images, &named, now);
        Ok(Look { images, named, now })
    }

    /// Removes what is too old, and what is in the way.
    async fn collect(&self) -> Result<(), String> {
        let mut ledger = self.ledger.lock().await;
        let Look { images, named, now } =
            self.look(&mut ledger).await.map_err(|error| error.to_string())?;
        let least = Duration::from_secs(self.config.min_age_seconds);
        let mut unused = ledger.unused(&images, &named, (now, least));
        if let Some(most) = self.config.max_age_seconds {
            for image in ledger.outdated(&unused, (now, Duration::from_secs(most))) {
                self.remove(image, "it was unused for too long").await;
                unused.retain(|other| other.id != image.id);
            }
        }
        if self.config.high_percent >= 100 {
            return Ok(());
        }
        let place = image_place(&*self.cri).await?;
        let limits = (self.config.high_percent, self.config.low_percent);
        let wanted = over(&place, limits).await;
        // Layers are shared: what an image takes away with it is known when it has gone.
        let mut freed = 0_u64;
        let mut left = wanted;
        for image in unused {
            if left == 0 || freed >= wanted {
                break;
            }
            if self.remove(image, "its file system is full").await {
                freed = freed.saturating_add(image.bytes);
                left = left_over(&place, limits).await;
            }
        }
        if left > 0 && freed < wanted {
            // Without the figures, which change with each look: what repeats is counted.
            let message = format!(
                "the images that nobody uses do not take enough of {} to bring it below {}%",
                place.display(),
                self.config.low_percent
            );
            let what = (EventKind::Warning, "FreeDiskSpaceFailed", message);
            self.board.node_event(&self.node, what);
            info!(wanted_bytes = wanted, freed_bytes = freed, "images were collected in part");
        }
        Ok(())
    }

    /// Removes every image that nobody uses and that is old enough; their ids.
    pub(super) async fn remove_unused(&self) -> Vec<String> {
        let mut ledger = self.ledger.lock().await;
        let look = match self.look(&mut ledger).await {
            Ok(look) => look,
            Err(error) => {
                warn!(%error, "images are not known");
                return Vec::new();
            }
        };
        let least = Duration::from_secs(self.config.min_age_seconds);
        let mut gone = Vec::new();
        for image in ledger.unused(&look.images, &look.named, (look.now, least)) {
            if self.remove(image, "the node's disk is full").await {
                gone.push(image.id.clone());
            }
        }
        gone
    }

    /// The image of the pods' own processes, of a runtime that tells it (containerd does) and may not pin it.
    async fn named_by_runtime(&self) -> Result<Option<String>, CriError> {
        let told = self.cri.status(proto::StatusRequest { verbose: true }).await?;
        Ok(told.info.get("config").and_then(|config| sandbox_image(config)))
    }

    /// What the pods that are to run say of their images.
    fn named_by_pods(&self) -> BTreeSet<String> {
        let pods = self.board.pods();
        pods.values().map(|view| &view.pod).filter(|pod| is_active(pod)).flat_map(wanted).collect()
    }

    /// Whether it could be removed. One that a pod has named since the look stays.
    async fn remove(&self, image: &Image, why: &'static str) -> bool {
        if image.is_named_by(&self.named_by_pods()) {
            return false;
        }
        let spec = proto::ImageSpec { image: image.id.clone(), ..proto::ImageSpec::default() };
        let removed = self.cri.remove_image(proto::RemoveImageRequest { image: Some(spec) }).await;
        let names = image.names.join(" ");
        match &removed {
            Ok(_) => info!(image = image.id, names, bytes = image.bytes, why, "image collected"),
            Err(error) => warn!(image = image.id, names, %error, "an image was not collected"),
        }
        removed.is_ok()
    }
}

/// How many bytes have to go from the file system of images.
async fn over(place: &Path, limits: (u8, u8)) -> u64 {
    space(place).await.map_or(0, |fs| excess(fs.capacity_bytes, fs.available_bytes, limits))
}

/// How many bytes have to go yet, now that some have gone.
async fn left_over(place: &Path, (_, low): (u8, u8)) -> u64 {
    over(place, (low.min(99), low)).await
}

async fn space(place: &Path) -> Option<FileSystem> {
    let place: PathBuf = place.to_owned();
    blocking::run("read a file system", move || FileSystem::read(&place)).await.ok().flatten()
}

fn image(of: proto::Image) -> Image {
    let names = of.repo_tags.into_iter().chain(of.repo_digests).collect();
    Image { id: of.id, names, bytes: of.size, pinned: of.pinned }
}

/// The images that a pod names, as it writes them and as a runtime lists them.
fn wanted(pod: &Arc<Pod>) -> Vec<String> {
    let of_volumes = image_volumes(pod).into_iter().map(|volume| volume.reference);
    let own = members(pod).into_iter().filter_map(|member| member.container.image.clone());
    let added = spec(pod).ephemeral_containers.iter().flatten();
    let own = own.chain(added.filter_map(|container| container.image.clone()));
    let listed = |name: String| {
        let parsed = Reference::parse(&name).ok();
        let by_digest = parsed.as_ref().and_then(|name| Some(name.with_digest(name.digest()?)));
        [Some(name), parsed.map(|name| name.to_string()), by_digest]
    };
    own.chain(of_volumes).flat_map(listed).flatten().collect()
}

/// The image of pods' own processes, by the configuration that containerd tells as JSON.
fn sandbox_image(config: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    // Version 2 has its place among the pinned images.
    let told = config.get("sandboxImage").or_else(|| config.pointer("/pinnedImages/sandbox"));
    let name = told?.as_str().filter(|name| !name.is_empty())?;
    // As a runtime lists it.
    Some(Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.to_string()))
}

/// All that a container says of its image.
fn words(container: proto::Container) -> impl Iterator<Item = String> {
    let named =
        container.image.into_iter().flat_map(|spec| [spec.image, spec.user_specified_image]);
    let all = named.chain([container.image_ref, container.image_id]);
    all.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_names_its_images_also_as_they_are_listed() {
        let pod = json!({"spec": {
            "initContainers": [{"name": "i", "image": "busybox"}],
            "containers": [{"name": "c", "image": "a.test/x:1"}],
            "volumes": [{"name": "v", "image": {"reference": "a.test/volume"}}],
        }});
        let named = wanted(&Arc::new(serde_json::from_value(pod).unwrap()));
        for name in
            ["busybox", "docker.io/library/busybox:latest", "a.test/x:1", "a.test/volume:latest"]
        {
            assert!(named.contains(&name.to_owned()), "{name}: {named:?}");
        }
    }

    #[test]
    fn the_image_of_the_pods_own_processes_is_told_by_its_runtime() {
        let told = |text: &str| sandbox_image(text).unwrap_or_default();
        assert_eq!(told(r#"{"sandboxImage":"a.test/pause:3"}"#), "a.test/pause:3");
        assert_eq!(told(r#"{"sandboxImage":"pause"}"#), "docker.io/library/pause:latest");
        assert_eq!(told(r#"{"pinnedImages":{"sandbox":"a.test/pause:3"}}"#), "a.test/pause:3");
        assert_eq!([told("{}"), told("x"), told(r#"{"sandboxImage":""}"#)], ["", "", ""]);
    }

    #[test]
    fn a_container_names_its_image_in_any_way() {
        let container = proto::Container {
            image: Some(proto::ImageSpec { image: "tag".into(), ..proto::ImageSpec::default() }),
            image_ref: "digest".into(),
            image_id: "id".into(),
            ..proto::Container::default()
        };
        assert_eq!(words(container).collect::<Vec<_>>(), ["tag", "digest", "id"]);
    }
}
