//! Manifests, indexes and configs: parsed leniently where the ecosystem is lax, refused where a
//! document could be read in two ways. Pure.
//!
//! OCI image spec manifest.md, image-index.md, config.md, and Docker's image manifest v2 schema 2.

use super::digest::Digest;
use super::error::ImageError;
use super::info::ImageSpec;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The largest manifest, index or config that is read, bytes. Registries take 4 MiB.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// overlayfs takes 500 layers; some are berth's own.
const MAX_LAYERS: usize = 480;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What is asked of a registry for, in order of preference.
pub(super) const MANIFEST_TYPES: [&str; 4] =
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// A reference to content: digest, size and type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) variant: String,
}

impl Platform {
    /// This machine's, in the words of the image spec (those of Go).
    pub(super) fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: String::new() }
    }

    /// How well an image for `self` runs on `host`: smaller is better, `None` is not at all.
    fn distance(&self, host: &Self) -> Option<u8> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        // The baseline runs everywhere; a higher x86-64 level may not run on this machine.
        match (self.architecture.as_str(), self.variant.as_str()) {
            (_, "") | ("amd64", "v1") | ("arm64", "v8") => Some(0),
            _ => Some(1),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// A manifest of one image, or an index of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// The config and the layers of one image, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// Parses a manifest or an index. `subject` names it in errors.
///
/// # Errors
/// [`ImageError::Manifest`].
pub(super) fn parse_document(subject: &str, bytes: &[u8]) -> Result<Document, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(default)]
        schema_version: u32,
        #[serde(default)]
        media_type: Option<String>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
    }
    let refuse = |reason: String| ImageError::manifest(subject, reason);
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|e| refuse(format!("not a manifest: {e}")))?;
    if raw.schema_version != 2 {
        return Err(refuse(format!(
            "manifest schema version {} is not supported",
            raw.schema_version
        )));
    }
    let media_type = raw.media_type.as_deref().unwrap_or_default();
    let known = |types: [&str; 2]| media_type.is_empty() || types.contains(&media_type);
    match (raw.config, raw.layers, raw.manifests) {
        (None, None, Some(manifests)) if known([OCI_INDEX, DOCKER_INDEX]) => {
            Ok(Document::Index(manifests))
        }
        (Some(config), layers, None) if known([OCI_MANIFEST, DOCKER_MANIFEST]) => {
            let layers = layers.unwrap_or_default();
            check_manifest(&config, &layers).map_err(refuse)?;
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        // A document that is both could be read as either (CVE-2021-41190).
        _ => Err(refuse(format!("neither a manifest nor an index (media type {media_type:?})"))),
    }
}

fn check_manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<(), String> {
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG | "") {
        return Err(format!("an artifact ({}), not a container image", config.media_type));
    }
    if layers.len() > MAX_LAYERS {
        return Err(format!("{} layers; at most {MAX_LAYERS} can be mounted", layers.len()));
    }
    for layer in layers {
        let media_type = layer.media_type.as_str();
        let base = media_type
            .strip_suffix("+gzip")
            .or_else(|| media_type.strip_suffix("+zstd"))
            .or_else(|| media_type.strip_suffix(".gzip"))
            .or_else(|| media_type.strip_suffix(".zstd"))
            .unwrap_or(media_type);
        match base {
            ""
            | "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => {}
            "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => {
                return Err(format!("layer {} is foreign and cannot be fetched", layer.digest));
            }
            _ => {
                return Err(format!(
                    "layer {} has the unknown media type {media_type:?}",
                    layer.digest
                ));
            }
        }
    }
    Ok(())
}

/// The entry of an index that runs on `host`.
///
/// # Errors
/// [`ImageError::Manifest`] that names what is offered.
pub(super) fn choose<'a>(
    subject: &str,
    entries: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, ImageError> {
    let usable = |d: &Descriptor| {
        matches!(d.media_type.as_str(), "" | OCI_MANIFEST | OCI_INDEX)
            || matches!(d.media_type.as_str(), DOCKER_MANIFEST | DOCKER_INDEX)
    };
    let best = entries
        .iter()
        .filter(|d| usable(d))
        .filter_map(|d| Some((d.platform.as_ref()?.distance(host)?, d)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    // An entry without a platform says nothing against itself; its config is checked later.
    if let Some(entry) = entries.iter().find(|d| usable(d) && d.platform.is_none()) {
        return Ok(entry);
    }
    let mut offered: Vec<String> = entries
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    offered.dedup();
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    Err(ImageError::manifest(subject, format!("no image for {host}; offered: {offered}")))
}

/// An image's config, as far as berth uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) spec: ImageSpec,
    /// Lowest layer first.
    pub(super) diff_ids: Vec<Digest>,
}

/// Parses a config and checks that it is for `host` and has `layers` layers.
///
/// # Errors
/// [`ImageError::Manifest`].
pub(super) fn parse_config(
    subject: &str,
    bytes: &[u8],
    layers: usize,
    host: &Platform,
) -> Result<Config, ImageError> {
    let refuse = |reason: String| ImageError::manifest(subject, reason);
    let raw: RawConfig =
        serde_json::from_slice(bytes).map_err(|e| refuse(format!("not an image config: {e}")))?;
    let rootfs = raw.rootfs.ok_or_else(|| refuse("the config has no rootfs".to_owned()))?;
    if rootfs.diff_ids.len() != layers {
        return Err(refuse(format!(
            "the config has {} diff ids for {layers} layers",
            rootfs.diff_ids.len()
        )));
    }
    let differs = |given: &str, wanted: &str| !given.is_empty() && given != wanted;
    if differs(&raw.os, &host.os) || differs(&raw.architecture, &host.architecture) {
        let (os, architecture) = (&raw.os, &raw.architecture);
        return Err(refuse(format!(
            "the image is for {os}/{architecture}, this machine is {host}"
        )));
    }
    Ok(Config { spec: raw.config.unwrap_or_default().into(), diff_ids: rootfs.diff_ids })
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    os: String,
    config: Option<RawSpec>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

/// The names of Docker's Go structure; every field may be missing or null.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawSpec {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

impl From<RawSpec> for ImageSpec {
    fn from(raw: RawSpec) -> Self {
        let pair = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Self {
            user: raw.user.unwrap_or_default(),
            env: raw.env.unwrap_or_default().into_iter().map(pair).collect(),
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            working_dir: raw.working_dir.unwrap_or_default(),
            stop_signal: raw.stop_signal.filter(|s| !s.is_empty()),
            labels: raw.labels.unwrap_or_default(),
            exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(media_type: &str, platform: Option<(&str, &str, &str)>) -> serde_json::Value {
        let mut d = json!({"mediaType": media_type, "size": 3,
            "digest": Digest::of(format!("{platform:?}").as_bytes())});
        if let Some((os, architecture, variant)) = platform {
            d["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
        }
        d
    }

    fn index(entries: &[serde_json::Value]) -> Vec<Descriptor> {
        let bytes = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        match parse_document("x", bytes.as_bytes()).unwrap() {
            Document::Index(entries) => entries,
            Document::Manifest(_) => panic!("not an index"),
        }
    }

    fn amd64() -> Platform {
        Platform { architecture: "amd64".into(), os: "linux".into(), variant: String::new() }
    }

    #[test]
    fn the_baseline_of_the_own_platform_is_chosen() {
        let entries = index(&[
            descriptor(OCI_MANIFEST, Some(("linux", "arm64", "v8"))),
            descriptor(OCI_MANIFEST, Some(("linux", "amd64", "v3"))),
            descriptor(OCI_MANIFEST, Some(("linux", "amd64", ""))),
            descriptor(OCI_MANIFEST, Some(("unknown", "unknown", ""))),
        ]);
        assert_eq!(choose("x", &entries, &amd64()).unwrap(), &entries[2]);
    }

    #[test]
    fn when_nothing_fits_the_error_names_what_is_offered() {
        let entries = index(&[
            descriptor(OCI_MANIFEST, Some(("linux", "arm64", "v8"))),
            descriptor(OCI_MANIFEST, Some(("windows", "amd64", ""))),
        ]);
        let text = choose("x", &entries, &amd64()).unwrap_err().to_string();
        assert_eq!(text, "x: no image for linux/amd64; offered: linux/arm64/v8, windows/amd64");
    }

    #[test]
    fn a_document_that_is_both_manifest_and_index_is_refused() {
        let config = descriptor(OCI_CONFIG, None);
        for (name, document) in [
            ("both", json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": []})),
            ("schema 1", json!({"schemaVersion": 1, "fsLayers": []})),
            ("empty", json!({})),
            (
                "index that claims to be a manifest",
                json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}),
            ),
            (
                "artifact",
                json!({"schemaVersion": 2, "layers": [],
                    "config": descriptor("application/vnd.oci.empty.v1+json", None)}),
            ),
            (
                "foreign layer",
                json!({"schemaVersion": 2, "config": config, "layers":
                    [descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", None)]}),
            ),
            (
                "unknown layer type",
                json!({"schemaVersion": 2, "config": config, "layers":
                    [descriptor("application/x-squashfs", None)]}),
            ),
        ] {
            assert!(parse_document("x", document.to_string().as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_config_full_of_nulls_is_read() {
        let bytes = json!({"architecture": "amd64", "os": "linux",
            "config": {"User": null, "Env": ["A=b=c", "B"], "Cmd": null, "Volumes": null,
                "ExposedPorts": {"80/tcp": {}}, "Labels": null, "StopSignal": ""},
            "rootfs": {"type": "layers", "diff_ids": null}})
        .to_string();
        let config = parse_config("x", bytes.as_bytes(), 0, &amd64()).unwrap();
        let env = vec![("A".to_owned(), "b=c".to_owned()), ("B".to_owned(), String::new())];
        assert_eq!(
            config.spec,
            ImageSpec { env, exposed_ports: vec!["80/tcp".into()], ..ImageSpec::default() }
        );
    }

    #[test]
    fn a_config_without_rootfs_or_for_another_machine_is_refused() {
        for (name, config, layers) in [
            ("no rootfs", json!({"os": "linux"}), 0),
            ("layers differ", json!({"rootfs": {"diff_ids": []}}), 1),
            ("arm64", json!({"architecture": "arm64", "rootfs": {"diff_ids": []}}), 0),
        ] {
            let result = parse_config("x", config.to_string().as_bytes(), layers, &amd64());
            assert!(result.is_err(), "{name}");
        }
    }
}
