//! Versioned records with a checksum, one object a file.
//!
//! A file is one line of header and one of JSON: `berth 1 <boot id> <crc32 of the JSON>\n<JSON>\n`.
//! A reader refuses a version it does not know and a body that does not match its checksum.

use super::atomic::{StoreError, replace};
use super::boot_id;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};

const VERSION: &str = "1";

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The object.
    pub value: T,
    /// Whether it was written during this boot. Processes of another boot do not exist any more.
    pub this_boot: bool,
}

/// Writes `value` to `path`, atomically.
///
/// # Errors
/// [`StoreError`]: the old record stands.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    replace(path, &encode(path, value)?)
}

/// The bytes of a record; `path` is only for the error.
pub(super) fn encode<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, StoreError> {
    let body = serde_json::to_vec(value)
        .map_err(|e| StoreError::new("encode", path, io::Error::other(e)))?;
    let mut bytes = format!("berth {VERSION} {} {:08x}\n", boot_id(), crc32(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the record at `path`; `None` when there is none.
///
/// # Errors
/// [`StoreError`] when it cannot be read, is cut off, damaged, or of another version.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<Loaded<T>>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::new("read", path, e)),
    };
    decode(&bytes).map(Some).map_err(|why| {
        StoreError::new("decode", path, io::Error::new(io::ErrorKind::InvalidData, why))
    })
}

/// Removes a record; one that is not there is removed already.
///
/// # Errors
/// [`StoreError`] when it is there and stays.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// The paths of all `*.json` files in a folder, sorted; an absent folder is empty. Drops what writes
/// that were cut off left; so this is for the start of the daemon alone.
///
/// # Errors
/// [`StoreError`] when the folder cannot be read.
pub fn load_dir(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::new("list", dir, e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| StoreError::new("list", dir, e))?.path();
        match path.extension().and_then(|x| x.to_str()) {
            Some("json") => paths.push(path),
            // A write that was cut off before its rename. Only the start of a daemon lists.
            Some("new") => remove(&path)?,
            _ => {}
        }
    }
    paths.sort();
    Ok(paths)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Loaded<T>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let (header, body) = text.split_once('\n').ok_or("no header line")?;
    let mut fields = header.split(' ');
    let (Some("berth"), Some(version), Some(boot), Some(sum), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("not a record header".to_owned());
    };
    if version != VERSION {
        return Err(format!("record version {version} is not known"));
    }
    let body = body.strip_suffix('\n').ok_or("cut off")?;
    if sum != format!("{:08x}", crc32(body.as_bytes())) {
        return Err("checksum does not match".to_owned());
    }
    let value = serde_json::from_str(body).map_err(|e| e.to_string())?;
    Ok(Loaded { value, this_boot: boot == boot_id() })
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_of_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        save(&path, &vec!["x", "y"]).unwrap();
        let loaded: Loaded<Vec<String>> = load(&path).unwrap().unwrap();
        assert_eq!(loaded, Loaded { value: vec!["x".into(), "y".into()], this_boot: true });
        assert_eq!(load_dir(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn a_damaged_cut_or_foreign_record_is_an_error_and_an_absent_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(load::<String>(&path).unwrap(), None);
        save(&path, &"value").unwrap();
        let good = std::fs::read(&path).unwrap();
        for (name, bytes) in [
            ("a bit flipped", {
                let mut b = good.clone();
                let at = b.len() - 4;
                b[at] ^= 1;
                b
            }),
            ("cut off", good[..good.len() - 2].to_vec()),
            ("empty", Vec::new()),
            (
                "version",
                String::from_utf8(good.clone()).unwrap().replace("berth 1", "berth 9").into(),
            ),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(load::<String>(&path).is_err(), "{name}");
        }
    }

    #[test]
    fn a_record_of_another_boot_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        save(&path, &7).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(boot_id(), "another-boot")).unwrap();
        assert!(!load::<u8>(&path).unwrap().unwrap().this_boot);
    }
}
