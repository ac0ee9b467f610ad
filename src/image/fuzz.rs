//! What foreign bytes must never do. `fuzz/` runs these functions under libFuzzer, and tests run them
//! over changed pieces of its corpus.

use super::manifest::{Document, Platform, choose, parse_config, parse_document};
use super::reference::Reference;
use super::replay::replay;
use super::settle::settle;
use super::tar_record::{Recorder, TREE};
use super::tree::Tree;
use super::unpack::{Limits, unpack};
use super::{policy, registry};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The size of a tar block, and where a header has its size and its checksum; tar(5).
const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 256 };

/// An image reference: what is taken is written as something that is taken for the same.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(parsed) = Reference::parse(text) {
        let written = parsed.to_string();
        assert_eq!(Reference::parse(&written).ok().as_ref(), Some(&parsed), "{written}");
        assert!(!parsed.repository().contains("..") && !parsed.name().contains("//"), "{written}");
    }
}

/// A manifest, an index or a configuration.
pub fn manifest(bytes: &[u8]) {
    let host = Platform::host();
    match parse_document("document", bytes) {
        Ok(Document::Index(entries)) => {
            if let Ok(chosen) = choose("index", &entries, &host) {
                assert!(entries.contains(chosen));
            }
        }
        Ok(Document::Manifest(manifest)) => assert!(manifest.layers.len() <= 500),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for layers in 0..3 {
        parse_config("config", bytes, layers, &host).ok();
    }
}

/// A `hosts.toml`.
pub fn hosts(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        registry::parse_hosts(text);
    }
}

/// A `policy.toml`.
pub fn policy(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        policy::parse(text);
    }
}

/// The archive of a layer, once as it is and once with sound checksums: it reaches nothing outside of
/// its folder, and its folder holds no more than is permitted.
///
/// # Panics
/// When it does.
pub fn layer(bytes: &[u8]) {
    unpack_in_a_folder(bytes);
    unpack_in_a_folder(&with_checksums(bytes));
}

fn unpack_in_a_folder(bytes: &[u8]) {
    let Ok(outside) = tempfile::tempdir() else { return };
    let (folder, victim) = (outside.path().join("layer"), outside.path().join("victim"));
    let root = folder.join(TREE);
    let made = std::fs::create_dir_all(&root).and_then(|()| std::fs::write(&victim, "untouched"));
    let (Ok(()), Ok(before)) = (made, std::fs::metadata(&victim)) else { return };
    let (Ok(tree), Ok(recorder)) = (Tree::open(&root), Recorder::begin(&folder)) else { return };
    let unpacked = unpack(bytes, &tree, LIMITS, recorder.clone());
    if unpacked.is_ok_and(|unpacked| settle(unpacked, &tree, None).is_ok()) {
        let mut again = Vec::new();
        let replayed = recorder.finish().is_ok().then(|| replay(&folder, &mut again));
        assert!(matches!(replayed, Some(Ok(damaged)) if damaged.is_empty()), "its record");
        assert!(again == bytes, "another archive comes back");
    }
    let now = std::fs::metadata(&victim).ok().map(|meta| (meta.ino(), meta.nlink(), meta.mode()));
    assert_eq!(now, Some((before.ino(), 1, before.mode())), "what is outside was reached");
    assert_eq!(std::fs::read(&victim).ok().as_deref(), Some(&b"untouched"[..]));
    let names = std::fs::read_dir(outside.path()).map_or(0, Iterator::count);
    assert_eq!(names, 2, "something was made outside");
    // Files are kept in blocks; what an archive replaces is kept once more at most, beside the record.
    let (held, all) = (bytes_in(&root), bytes_in(&folder));
    let limit = LIMITS.bytes + LIMITS.entries * 4096;
    assert!(held <= limit, "{held} bytes were unpacked");
    let record = 2 * bytes.len() as u64 + 8192;
    assert!(all <= 2 * limit + record, "{all} bytes were unpacked and kept beside");
}

/// The bytes that all files below a folder occupy.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |meta| meta.blocks() * 512),
        _ => 0,
    });
    sizes.sum()
}

/// The archive with the right checksum in each block that is in the place of a header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if let Some(field) = header.get_mut(CHECKSUM) {
            field.fill(b' ');
        }
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        if let Some(field) = header.get_mut(CHECKSUM) {
            field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = header.get(SIZE).map(String::from_utf8_lossy).unwrap_or_default();
        let size = size.trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(size, 8).unwrap_or(0).min(1 << 20);
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::over_corpus as run;

    #[test]
    fn changed_references_are_refused_or_mean_one_thing() {
        run(reference, "reference", 20_000);
    }

    #[test]
    fn changed_manifests_are_refused_or_taken() {
        run(manifest, "manifest", 20_000);
    }

    #[test]
    fn changed_files_of_hosts_are_refused_or_taken() {
        run(hosts, "hosts", 10_000);
    }

    #[test]
    fn changed_policies_are_refused_or_taken() {
        run(policy, "policy", 10_000);
    }

    #[test]
    fn changed_layers_stay_inside_their_folder() {
        run(layer, "layer", 200);
    }
}
