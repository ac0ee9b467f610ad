//! The specifications on the node. A later folder goes before an earlier one; two files of one
//! folder with the same device are a conflict, and neither has it.

use super::error::CdiError;
use super::name::DeviceName;
use super::schema::{Edits, Spec};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest file that is read.
const MAX_BYTES: u64 = 8 << 20;

/// Where a device is.
#[derive(Debug)]
struct Place {
    folder: usize,
    /// Which of the files.
    file: usize,
    device: usize,
    /// Another file of the same folder that has it.
    conflict: Option<usize>,
}

/// All devices of the node.
#[derive(Debug, Default)]
pub(super) struct Devices {
    files: Vec<(PathBuf, Spec)>,
    places: HashMap<(String, String), Place>,
    /// Files that cannot be used, in words.
    unusable: Vec<String>,
}

impl Devices {
    /// Reads the folders. A missing one is empty; a file that cannot be used says so when a device
    /// is missed.
    pub(super) fn read(folders: &[PathBuf]) -> Self {
        let mut devices = Self::default();
        for (number, folder) in folders.iter().enumerate() {
            for path in devices.names(folder) {
                match read_file(&path) {
                    Ok(spec) => devices.add(number, path, spec),
                    Err(why) => devices.unusable.push(format!("{}: {why}", path.display())),
                }
            }
        }
        devices
    }

    fn names(&mut self, folder: &Path) -> Vec<PathBuf> {
        let listed = match fs::read_dir(folder) {
            Ok(listed) => listed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(e) => {
                self.unusable.push(format!("{}: {e}", folder.display()));
                return Vec::new();
            }
        };
        let mut names: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        names.retain(|path| extension(path).is_some());
        names.sort();
        names
    }

    fn add(&mut self, folder: usize, path: PathBuf, spec: Spec) {
        let file = self.files.len();
        for (device, one) in spec.devices.iter().enumerate() {
            let place = Place { folder, file, device, conflict: None };
            let key = (spec.kind.clone(), one.name.clone());
            match self.places.get_mut(&key) {
                Some(known) if known.folder == folder => known.conflict = Some(file),
                // Folders come in order: this one goes before.
                _ => drop(self.places.insert(key, place)),
            }
        }
        self.files.push((path, spec));
    }

    /// What devices need: the edits of each file once, then those of the device.
    pub(super) fn edits<'a>(
        &'a self,
        names: &'a [DeviceName],
    ) -> Result<Vec<(&'a DeviceName, &'a Edits)>, CdiError> {
        let mut edits = Vec::new();
        let mut seen = Vec::new();
        for name in names {
            let place = self.places.get(&(name.kind.clone(), name.device.clone()));
            let found = place.and_then(|place| {
                let (path, spec) = self.files.get(place.file)?;
                Some((place, path, spec, spec.devices.get(place.device)?))
            });
            let Some((place, path, spec, device)) = found else { return Err(self.unknown(name)) };
            if let Some((second, _)) = place.conflict.and_then(|file| self.files.get(file)) {
                let (name, first, second) = (name.to_string(), path.clone(), second.clone());
                return Err(CdiError::Conflict { name, first, second });
            }
            if !seen.contains(&place.file) {
                seen.push(place.file);
                edits.push((name, &spec.container_edits));
            }
            edits.push((name, &device.container_edits));
        }
        Ok(edits)
    }

    fn unknown(&self, name: &DeviceName) -> CdiError {
        let detail = match self.unusable.is_empty() {
            true => String::new(),
            false => format!("; not used: {}", self.unusable.join("; ")),
        };
        CdiError::Unknown { name: name.to_string(), detail }
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str().filter(|end| matches!(*end, "json" | "yaml"))
}

fn read_file(path: &Path) -> Result<Spec, String> {
    let about = fs::metadata(path).map_err(|e| e.to_string())?;
    if !about.is_file() || about.len() > MAX_BYTES {
        return Err("no file, or too large".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    Spec::parse(&text, extension(path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(devices: &[&str], marker: &str) -> String {
        let devices: Vec<_> = devices
            .iter()
            .map(|name| {
                serde_json::json!({
                    "name": name,
                    "containerEdits": { "env": [format!("{name}={marker}")] },
                })
            })
            .collect();
        serde_json::json!({
            "cdiVersion": "0.6.0",
            "kind": "v.com/c",
            "devices": devices,
            "containerEdits": { "env": [format!("FILE={marker}")] },
        })
        .to_string()
    }

    fn envs(devices: &Devices, names: &[&str]) -> Result<Vec<String>, CdiError> {
        let names: Vec<_> = names.iter().map(|name| DeviceName::parse(name).unwrap()).collect();
        Ok(devices.edits(&names)?.iter().flat_map(|(_, edits)| edits.env.clone()).collect())
    }

    #[test]
    fn a_later_folder_goes_before_and_a_files_own_edits_come_once() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["etc", "run", "missing"].map(|name| dir.path().join(name));
        fs::create_dir(&folders[0]).unwrap();
        fs::create_dir(&folders[1]).unwrap();
        fs::write(folders[0].join("a.json"), spec(&["d1", "d2"], "etc")).unwrap();
        fs::write(folders[1].join("b.yaml"), spec(&["d2", "d3"], "run")).unwrap();
        fs::write(folders[1].join("ignored.txt"), "x").unwrap();
        let devices = Devices::read(&folders);
        let names = ["v.com/c=d1", "v.com/c=d2", "v.com/c=d3"];
        let expected = ["FILE=etc", "d1=etc", "FILE=run", "d2=run", "d3=run"];
        assert_eq!(envs(&devices, &names).unwrap(), expected);
    }

    #[test]
    fn a_conflict_in_one_folder_names_both_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json"), spec(&["d", "only"], "a")).unwrap();
        fs::write(dir.path().join("b.json"), spec(&["d"], "b")).unwrap();
        let devices = Devices::read(&[dir.path().to_owned()]);
        let error = envs(&devices, &["v.com/c=d"]).unwrap_err().to_string();
        assert!(error.contains("a.json") && error.contains("b.json"), "{error}");
        assert_eq!(envs(&devices, &["v.com/c=only"]).unwrap(), ["FILE=a", "only=a"]);
    }

    #[test]
    fn an_unknown_device_is_named_with_the_files_that_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bad.json"), "{").unwrap();
        let devices = Devices::read(&[dir.path().to_owned()]);
        let error = envs(&devices, &["v.com/c=d"]).unwrap_err().to_string();
        assert!(error.contains("v.com/c=d") && error.contains("bad.json"), "{error}");
    }
}
