//! Layers, images and archives made by hand, for the tests beside this file.

use super::digest::Digest;
use super::images::Images;
use crate::config::ImageConfig;
use crate::store::Layout;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A store of its own.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) layout: Layout,
    pub(super) images: Images,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&ImageConfig::default())
    }

    pub(super) fn with(config: &ImageConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("run"), dir.path().join("state"));
        layout.create().unwrap();
        let images = Images::open(config, &layout).unwrap();
        Self { dir, layout, images }
    }

    pub(super) fn reopen(&mut self) {
        self.images = Images::open(&ImageConfig::default(), &self.layout).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of layer folders, without the empty one.
    pub(super) fn layer_folders(&self) -> Vec<String> {
        names_in(&self.layout.images().join("layers"))
            .into_iter()
            .filter(|n| n != "empty")
            .collect()
    }

    /// How many files and folders the parts of the store hold that are for work in progress.
    pub(super) fn half_made(&self) -> usize {
        let parts = self.layer_folders().iter().filter(|n| n.contains('.')).count();
        parts + names_in(&self.layout.images().join("ingest")).len()
    }
}

pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A layer's tar.
pub(super) struct Tar(tar::Builder<Vec<u8>>);

/// What an entry's header says beside its name.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self { mode: 0o644, uid: 0, gid: 0, mtime: 1_600_000_000 }
    }
}

impl Tar {
    pub(super) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Any entry, with the name as it is: `tar::Builder` would refuse hostile ones. A link's
    /// content is its target.
    pub(super) fn raw(
        mut self,
        name: &str,
        kind: tar::EntryType,
        head: Head,
        content: &[u8],
    ) -> Self {
        let is_link = matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink);
        let (link, content) = if is_link { (content, &[][..]) } else { (&[][..], content) };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(head.mode);
        header.set_uid(head.uid);
        header.set_gid(head.gid);
        header.set_mtime(head.mtime);
        header.set_size(content.len() as u64);
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// An entry whose numbers, but for its size, are left blank.
    pub(super) fn blank(mut self, name: &str, kind: tar::EntryType, fill: u8) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        for field in [&mut fields.mode, &mut fields.uid, &mut fields.gid] {
            *field = [fill; 8];
        }
        (fields.dev_major, fields.dev_minor, fields.mtime) = ([fill; 8], [fill; 8], [fill; 12]);
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.raw(name, tar::EntryType::Regular, Head::default(), content.as_bytes())
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        self.raw(name, tar::EntryType::Directory, Head { mode, ..Head::default() }, b"")
    }

    pub(super) fn symlink(self, name: &str, to: &str) -> Self {
        self.raw(name, tar::EntryType::Symlink, Head::default(), to.as_bytes())
    }

    pub(super) fn link(self, name: &str, to: &str) -> Self {
        self.raw(name, tar::EntryType::Link, Head::default(), to.as_bytes())
    }

    /// pax records for the next entry.
    pub(super) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(super) fn build(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// An image's parts: blobs as they are stored, and the digests that name them.
pub(super) struct Made {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    /// Compressed layers.
    pub(super) layers: Vec<Vec<u8>>,
}

impl Made {
    pub(super) fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(super) fn id(&self) -> String {
        Digest::of(&self.config).hex().to_owned()
    }

    /// Every blob but the manifest.
    pub(super) fn blobs(&self) -> Vec<&[u8]> {
        self.layers.iter().map(Vec::as_slice).chain([self.config.as_slice()]).collect()
    }
}

/// An image of these tars, each compressed by `compress`.
pub(super) fn make(tars: &[Vec<u8>], compress: fn(&[u8]) -> Vec<u8>) -> Made {
    let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"], "User": "7:8",
            "StopSignal": "SIGINT", "WorkingDir": "/w", "Labels": {"a": "b"},
            "Volumes": {"/v": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let layers: Vec<_> = tars.iter().map(|tar| compress(tar)).collect();
    let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers
            .iter()
            .map(|layer| {
                let compression = match layer.as_slice() {
                    [0x1f, 0x8b, ..] => "+gzip",
                    [0x28, 0xb5, ..] => "+zstd",
                    _ => "",
                };
                describe(&format!("application/vnd.oci.image.layer.v1.tar{compression}"), layer)
            })
            .collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    Made { manifest, config, layers }
}

/// Writes an OCI layout folder; each image with its name.
pub(super) fn write_layout(dir: &Path, images: &[(&str, &Made)]) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut manifests = Vec::new();
    for (name, made) in images {
        for blob in made.blobs().into_iter().chain([made.manifest.as_slice()]) {
            std::fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
        }
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": made.manifest_digest(), "size": made.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }));
    }
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// A tar of a folder.
pub(super) fn tar_of(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir).unwrap();
    builder.into_inner().unwrap()
}

/// A docker-save archive of one image, layers plain.
pub(super) fn docker_save(tags: &[&str], made: &Made) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut paths = Vec::new();
    for (number, layer) in made.layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        tar = tar.raw(&path, tar::EntryType::Regular, Head::default(), layer);
        paths.push(path);
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": paths}]);
    tar.raw("config.json", tar::EntryType::Regular, Head::default(), &made.config)
        .file("manifest.json", &manifest.to_string())
        .build()
}
