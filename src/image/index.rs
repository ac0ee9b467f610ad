//! Which image a name means: the index of all records in memory.

use super::error::ImageError;
use super::reference::Reference;
use super::store::Image;
use crate::ids::ImageId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The images by what they are called.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) images: BTreeMap<ImageId, Arc<Image>>,
    /// Every tag and digest reference.
    names: HashMap<String, ImageId>,
}

impl Index {
    /// Of the claims to a tag the latest counts.
    pub(super) fn build(images: Vec<Image>) -> Self {
        let mut index = Self::default();
        let mut newest: HashMap<String, (i64, ImageId)> = HashMap::new();
        for image in &images {
            for (tag, at) in &image.record.tags {
                let claim = (*at, image.record.id.clone());
                let best = newest.entry(tag.clone()).or_insert_with(|| claim.clone());
                if claim.0 > best.0 {
                    *best = claim;
                }
            }
        }
        for mut image in images {
            let id = image.record.id.clone();
            image.record.tags.retain(|tag, _| newest.get(tag).is_some_and(|(_, best)| *best == id));
            index.insert(image);
        }
        index
    }

    /// Takes an image in, in the place of an earlier one of its id.
    pub(super) fn insert(&mut self, image: Image) {
        self.remove(&image.record.id.clone());
        let id = &image.record.id;
        for name in image.record.tags.keys().chain(&image.record.digests) {
            self.names.insert(name.clone(), id.clone());
        }
        self.images.insert(id.clone(), Arc::new(image));
    }

    /// Forgets an image and its names.
    pub(super) fn remove(&mut self, id: &ImageId) {
        self.names.retain(|_, owner| owner != id);
        self.images.remove(id);
    }

    /// The images other than `winner` that have one of `tags`, without it.
    pub(super) fn strip(&self, tags: &[String], winner: &ImageId) -> Vec<Image> {
        let owners: BTreeSet<&ImageId> =
            tags.iter().filter_map(|tag| self.names.get(tag)).filter(|id| *id != winner).collect();
        let stripped = |image: &Arc<Image>| {
            let mut record = image.record.clone();
            record.tags.retain(|tag, _| !tags.contains(tag));
            let (layers, corrupt) = (image.layers.clone(), image.corrupt.clone());
            Image::new(record, layers, corrupt, image.used_nanos())
        };
        owners.into_iter().filter_map(|id| self.images.get(id)).map(stripped).collect()
    }

    /// Id, tag or digest, un-normalised name, then unique id prefix.
    ///
    /// # Errors
    /// It fits several, or is no name.
    pub(super) fn find(&self, any: &str) -> Result<Option<ImageId>, ImageError> {
        let hex = any.strip_prefix("sha256:").unwrap_or(any);
        if let Ok(id) = ImageId::parse(hex) {
            return Ok(self.images.contains_key(&id).then_some(id));
        }
        let reference = if hex.len() == any.len() { Some(Reference::parse(any)) } else { None };
        if let Some(Ok(reference)) = &reference {
            let name = match reference.digest() {
                Some(digest) => reference.with_digest(digest),
                None => reference.to_string(),
            };
            if let Some(id) = self.names.get(&name) {
                return Ok(Some(id.clone()));
            }
        }
        let is_prefix = !hex.is_empty()
            && hex.len() < ImageId::LEN
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_prefix {
            let mut fits = self.images.keys().filter(|id| id.as_str().starts_with(hex));
            let first = fits.next();
            return match fits.count() {
                0 => Ok(first.cloned()),
                more => Err(ImageError::Ambiguous { prefix: hex.to_owned(), count: more + 1 }),
            };
        }
        match reference {
            Some(Err(error)) => Err(error),
            None => Err(ImageError::InvalidReference {
                text: any.chars().take(300).collect(),
                reason: "after sha256: come hexadecimal digits of an image id",
            }),
            Some(Ok(_)) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::image::digest::Digest;
    use crate::image::info::ImageSpec;
    use crate::image::store::Record;

    fn image(id: &str, tags: &[(&str, i64)], digests: &[&str]) -> Image {
        let record = Record {
            id: ImageId::parse(&id.repeat(64 / id.len())).unwrap(),
            tags: tags.iter().map(|(tag, at)| ((*tag).to_owned(), *at)).collect(),
            digests: digests.iter().map(|d| (*d).to_owned()).collect(),
            spec: ImageSpec::default(),
            layers: Vec::new(),
            blobs: BTreeSet::new(),
            document_bytes: 0,
            stored_at_nanos: 0,
            pulled: false,
        };
        Image::new(record, Vec::new(), None, 0)
    }

    #[test]
    fn every_form_of_a_name_finds_the_image() {
        let digest = Digest::of(b"manifest");
        let by_digest = format!("docker.io/library/busybox@{digest}");
        let index = Index::build(vec![
            image("ab", &[("docker.io/library/busybox:latest", 1)], &[&by_digest]),
            image("ac", &[("docker.io/library/cafe:latest", 1)], &[]),
        ]);
        let (ab, ac) = ("ab".repeat(32), "ac".repeat(32));
        for (any, found) in [
            ("busybox", Some(&ab)),
            ("busybox:latest", Some(&ab)),
            ("docker.io/busybox", Some(&ab)),
            (&by_digest, Some(&ab)),
            (&format!("busybox:other@{digest}"), Some(&ab)),
            (&ab, Some(&ab)),
            (&format!("sha256:{ab}"), Some(&ab)),
            ("aba", Some(&ab)),
            ("sha256:aba", Some(&ab)),
            // A name wins over the prefix that it also is.
            ("cafe", Some(&ac)),
            ("acac", Some(&ac)),
            ("busybox:1", None),
            ("nothing", None),
            ("00", None),
            (&"cd".repeat(32), None),
        ] {
            let id = index.find(any).unwrap();
            assert_eq!(id.as_ref().map(ImageId::as_str), found.map(String::as_str), "{any}");
        }
        assert!(matches!(index.find("a"), Err(ImageError::Ambiguous { count: 2, .. })));
        for bad in ["", "UPPER", "sha256:xyz", "sha256:"] {
            assert_eq!(index.find(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn of_two_claims_to_a_tag_the_later_wins() {
        let index = Index::build(vec![
            image("aa", &[("x", 1), ("y", 1)], &[]),
            image("bb", &[("x", 2)], &[]),
        ]);
        let tags = |id: &str| -> Vec<String> {
            let id = ImageId::parse(&id.repeat(32)).unwrap();
            index.images[&id].record.tags.keys().cloned().collect()
        };
        assert_eq!((tags("aa"), tags("bb")), (vec!["y".to_owned()], vec!["x".to_owned()]));
    }
}
