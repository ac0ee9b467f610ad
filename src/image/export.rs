//! An image as an OCI layout, with the exact diff ids: its layers are put together again from their
//! tar records. They are compressed anew, so the digests of blobs and manifest differ from those
//! the image came with, unless its blobs were kept.

use super::digest::{Digest, HashingWriter};
use super::error::ImageError;
use super::images::Images;
use super::layers::Layer;
use super::layout_file::LayoutFile;
use super::manifest::{Document, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, parse_document};
use super::reference::Reference;
use super::replay::{ReplayError, replay};
use super::store::Image;
use crate::blocking;
use crate::ids::ImageId;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write as _};
use std::path::Path;

const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// gzip's own default.
const LEVEL: u32 = 6;

/// An image that was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its id.
    pub id: ImageId,
    /// The digest of the manifest in the layout.
    pub manifest: Digest,
}

/// What of a layout has been written.
struct Export<'a> {
    images: &'a Images,
    layout: LayoutFile,
    /// By diff id: descriptors of layers.
    written: HashMap<Digest, Value>,
}

impl Images {
    /// Writes the image that `any` names to an OCI layout at `path`: a folder, or a tar when it
    /// ends with `.tar`. All its tags are in it.
    ///
    /// # Errors
    /// No such image; a damaged one; something at `path`; a disk that is full.
    pub async fn export(&self, any: &str, path: &Path) -> Result<Exported, ImageError> {
        let (images, any, path) = (self.clone(), any.to_owned(), path.to_owned());
        blocking::run("export an image", move || images.export_blocking(&any, &path)).await?
    }

    fn export_blocking(&self, any: &str, path: &Path) -> Result<Exported, ImageError> {
        let image = self.named(any)?;
        image.usable(any)?;
        let (config, diff_ids) = self.diff_ids(&image)?;
        let layout = LayoutFile::begin(path)?;
        let mut export = Export { images: self, layout, written: HashMap::new() };
        let (manifest, size) = match export.kept(&image)? {
            Some(kept) => kept,
            None => export.rebuilt(&image, &config, &diff_ids)?,
        };
        export.layout.document(&config)?;
        let index = index(&image, &config, &manifest, size);
        export.layout.finish(index.to_string().as_bytes())?;
        Ok(Exported { id: image.record.id.clone(), manifest })
    }
}

impl Export<'_> {
    /// The manifest and the blobs that the image came with, when all of them were kept.
    fn kept(&mut self, image: &Image) -> Result<Option<(Digest, u64)>, ImageError> {
        let content = &self.images.store().content;
        let Some((digest, bytes)) = self.images.manifest_of(image) else { return Ok(None) };
        let Document::Manifest(manifest) = parse_document("", &bytes)? else { return Ok(None) };
        let is_oci = serde_json::from_slice(&bytes)
            .is_ok_and(|document: Value| text(&document, "mediaType") == Some(OCI_MANIFEST));
        if !is_oci || !manifest.layers.iter().all(|layer| content.check(&layer.digest).is_ok()) {
            return Ok(None);
        }
        let blobs: BTreeMap<_, _> = manifest.layers.iter().map(|l| (&l.digest, l.size)).collect();
        for (digest, size) in blobs {
            if let Some((file, _)) = content.open_blob(digest) {
                self.layout.blob(digest, &file, size)?;
            }
        }
        self.layout.document(&bytes)?;
        Ok(Some((digest, bytes.len() as u64)))
    }

    /// A new manifest over layers that are put together from their records.
    fn rebuilt(
        &mut self,
        image: &Image,
        config: &[u8],
        diff_ids: &[Digest],
    ) -> Result<(Digest, u64), ImageError> {
        let mut layers = Vec::new();
        for (layer, diff_id) in image.layers.iter().zip(diff_ids) {
            layers.push(self.layer(image, layer, diff_id)?);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest::of(config), "size": config.len()},
            "layers": layers,
        });
        let original = self.images.manifest_of(image);
        let original = original.and_then(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).ok());
        let annotations = original.as_ref().and_then(|m| m.get("annotations"));
        let manifest = with(manifest, "annotations", annotations.cloned());
        let bytes = manifest.to_string();
        Ok((self.layout.document(bytes.as_bytes())?, bytes.len() as u64))
    }

    /// The descriptor of a layer, which is written unless it has been.
    fn layer(
        &mut self,
        image: &Image,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<Value, ImageError> {
        if let Some(known) = self.written.get(diff_id) {
            return Ok(known.clone());
        }
        let corrupt = |reason: String| ImageError::Corrupt {
            name: image.record.id.to_string(),
            reason: format!("layer {diff_id}: {reason}"),
        };
        let store = self.images.store();
        let folder = store.layers.folder_of(layer);
        let mut ingest = store.content.begin()?;
        let write = |e| ImageError::io("write a layer below", &folder, e);
        let packed = HashingWriter::new(BufWriter::new(&mut ingest));
        let mut archive = HashingWriter::new(GzEncoder::new(packed, Compression::new(LEVEL)));
        let damaged = match replay(&folder, &mut archive) {
            Ok(damaged) => damaged,
            Err(ReplayError::Write(e)) => return Err(write(e)),
            Err(error) => return Err(corrupt(crate::error::chain(&error))),
        };
        if let Some(first) = damaged.first() {
            return Err(corrupt(first.to_string()));
        }
        let (found, _, gzip) = archive.finish();
        if found != *diff_id {
            return Err(corrupt(format!("its digest is {found}")));
        }
        let (digest, size, mut packed) = gzip.finish().map_err(write)?.finish();
        packed.flush().map_err(write)?;
        drop(packed);
        self.layout.blob(&digest, ingest.file(), size)?;
        let descriptor = json!({"mediaType": GZIP_LAYER, "digest": digest, "size": size});
        self.written.insert(diff_id.clone(), descriptor.clone());
        Ok(descriptor)
    }
}

/// One entry a tag; one without a name when there is none.
fn index(image: &Image, config: &[u8], manifest: &Digest, size: u64) -> Value {
    let parsed: Value = serde_json::from_slice(config).unwrap_or_default();
    let platform = json!({
        "architecture": text(&parsed, "architecture").unwrap_or_default(),
        "os": text(&parsed, "os").unwrap_or_default(),
    });
    let platform = with(platform, "variant", text(&parsed, "variant").map(Value::from));
    let entry = json!({
        "mediaType": OCI_MANIFEST, "digest": manifest, "size": size, "platform": platform,
    });
    let named = |name: &String| {
        // The tag alone is the image spec's way to name it, the whole name that of other engines.
        let tag = Reference::parse(name).ok().and_then(|r| r.tag().map(str::to_owned));
        let annotations = json!({
            "org.opencontainers.image.ref.name": tag.unwrap_or_else(|| name.clone()),
            "io.containerd.image.name": name,
        });
        with(entry.clone(), "annotations", Some(annotations))
    };
    let mut entries: Vec<Value> = image.record.tags.keys().map(named).collect();
    if entries.is_empty() {
        entries.push(entry);
    }
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn text<'v>(document: &'v Value, key: &str) -> Option<&'v str> {
    document.get(key).and_then(Value::as_str)
}

/// An object with one more field, if there is a value for it.
fn with(mut object: Value, key: &str, value: Option<Value>) -> Value {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(key.to_owned(), value);
    }
    object
}
