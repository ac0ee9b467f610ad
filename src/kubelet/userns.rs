//! The ids of pods with user namespaces of their own (`hostUsers: false`, KEP-127): each has 65536 of the host, aligned,
//! that no other pod has. Which they are is in the pod's folder, before the runtime hears of them, so that a restarted
//! daemon gives them to nobody else.

use super::spec::{spec, uid};
use crate::cri::proto;
use crate::error::ErrorKind;
use crate::lock::lock;
use crate::store::{StoreError, replace};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The ids of a pod; the host's own users are below the first range.
const IDS: u32 = 65_536;
/// How many pods can have ids.
const MOST: u32 = 1024;
/// The file in a pod's folder.
const FILE: &str = "userns";

/// Ids that cannot be given or noted.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A file or folder.
    #[error("{operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record that cannot be written.
    #[error(transparent)]
    Record(#[from] StoreError),
    /// Too many pods.
    #[error("{MOST} pods have user namespaces of their own, and there are ids for no more")]
    Full,
    /// Two records of the same ids, or ids that no pod can have.
    #[error("{path} names ids that cannot be the pod's: {why}")]
    Ids {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

impl UsernsError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::Internal,
            Self::Record(error) => error.kind(),
            Self::Full => ErrorKind::ResourceExhausted,
            Self::Ids { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

/// A record, in the words of the API.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: [Mapping; 1],
    gid_mappings: [Mapping; 1],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// Who has which range, counted in ranges from 1 on.
#[derive(Debug)]
pub struct Ids {
    pods: PathBuf,
    taken: Mutex<BTreeMap<String, u32>>,
}

impl Ids {
    /// What the records in the folders below `pods` say. Blocking.
    ///
    /// # Errors
    /// A record that cannot be read: its ids might be given twice.
    pub fn read(pods: PathBuf) -> Result<Self, UsernsError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| UsernsError::File { operation, path, source }
        };
        let mut taken: BTreeMap<String, u32> = BTreeMap::new();
        let entries = match std::fs::read_dir(&pods) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.map_err(failed("list", &pods))?),
        };
        for entry in entries.into_iter().flatten() {
            let folder = entry.map_err(failed("list", &pods))?.path();
            let path = folder.join(FILE);
            let text = match std::fs::read(&path) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                text => text.map_err(failed("read", &path))?,
            };
            let record: Record = serde_json::from_slice(&text)
                .map_err(|source| failed("read", &path)(source.into()))?;
            let wrong = |why| UsernsError::Ids { path: path.clone(), why };
            let range = range_of(&record).ok_or_else(|| wrong("they are no range of 65536"))?;
            if taken.values().any(|other| *other == range) {
                return Err(wrong("another pod has them"));
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            taken.insert(name, range);
        }
        Ok(Self { pods, taken: Mutex::new(taken) })
    }

    /// The ids of a pod; none for one that has the node's. Blocking.
    ///
    /// # Errors
    /// There are no more, or they cannot be noted.
    pub fn of(&self, pod: &Pod) -> Result<Option<proto::UserNamespace>, UsernsError> {
        if spec(pod).host_users != Some(false) {
            return Ok(None);
        }
        let mut taken = lock(&self.taken);
        if let Some(range) = taken.get(uid(pod)) {
            return Ok(Some(namespace(*range)));
        }
        let free = (1..=MOST).find(|range| !taken.values().any(|other| other == range));
        let range = free.ok_or(UsernsError::Full)?;
        let folder = self.pods.join(uid(pod));
        std::fs::create_dir_all(&folder).map_err(|source| UsernsError::File {
            operation: "create folder",
            path: folder.clone(),
            source,
        })?;
        let mapping = [Mapping { host_id: range * IDS, container_id: 0, length: IDS }];
        let record = Record { uid_mappings: mapping, gid_mappings: mapping };
        replace(&folder.join(FILE), &serde_json::to_vec(&record).unwrap_or_default())?;
        taken.insert(uid(pod).to_owned(), range);
        Ok(Some(namespace(range)))
    }

    /// The pod's folder is gone, and with it every file of its ids.
    pub fn free(&self, uid: &str) {
        lock(&self.taken).remove(uid);
    }
}

fn range_of(record: &Record) -> Option<u32> {
    let [mapping] = record.uid_mappings;
    let whole = mapping.container_id == 0 && mapping.length == IDS && mapping.host_id % IDS == 0;
    let range = mapping.host_id / IDS;
    (record.gid_mappings == record.uid_mappings && whole && (1..=MOST).contains(&range))
        .then_some(range)
}

/// A range as CRI has it.
pub(super) fn namespace(range: u32) -> proto::UserNamespace {
    let mapping = proto::IdMapping { host_id: range * IDS, container_id: 0, length: IDS };
    proto::UserNamespace {
        mode: proto::NamespaceMode::Pod.into(),
        uids: vec![mapping],
        gids: vec![mapping],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, host_users: Option<bool>) -> Pod {
        let text = serde_json::json!({
            "metadata": {"uid": uid}, "spec": {"hostUsers": host_users, "containers": []},
        });
        serde_json::from_value(text).unwrap()
    }

    fn first(ids: &Ids, uid: &str) -> u32 {
        ids.of(&pod(uid, Some(false))).unwrap().unwrap().uids[0].host_id
    }

    #[test]
    fn each_pod_has_ids_of_its_own_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ids::read(dir.path().to_owned()).unwrap();
        let ids = open();
        assert_eq!((first(&ids, "a"), first(&ids, "b"), first(&ids, "a")), (IDS, 2 * IDS, IDS));
        assert_eq!(ids.of(&pod("n", None)).unwrap(), None);
        let ids = open();
        assert_eq!((first(&ids, "c"), first(&ids, "b")), (3 * IDS, 2 * IDS));
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        ids.free("a");
        assert_eq!(first(&ids, "d"), IDS, "what is free is given again");
    }

    #[test]
    fn there_are_ids_for_so_many_pods_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let taken = (1..=MOST).map(|range| (range.to_string(), range)).collect();
        let ids = Ids { pods: dir.path().to_owned(), taken: Mutex::new(taken) };
        assert!(matches!(ids.of(&pod("x", Some(false))), Err(UsernsError::Full)));
        ids.free("7");
        assert_eq!(first(&ids, "x"), 7 * IDS);
    }

    #[test]
    fn a_record_that_cannot_be_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Ids::read(dir.path().to_owned()).map(drop).map_err(|e| e.to_string());
        let write = |name: &str, host: u32| {
            let mapping = [Mapping { host_id: host, container_id: 0, length: IDS }];
            let record = Record { uid_mappings: mapping, gid_mappings: mapping };
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            let text = serde_json::to_vec(&record).unwrap();
            std::fs::write(dir.path().join(name).join(FILE), text).unwrap();
        };
        write("a", IDS);
        read().unwrap();
        write("b", IDS);
        assert!(read().unwrap_err().contains("another pod"));
        write("b", IDS + 1);
        assert!(read().unwrap_err().contains("no range"));
        write("b", 0);
        assert!(read().unwrap_err().contains("no range"));
        std::fs::write(dir.path().join("b").join(FILE), "half").unwrap();
        assert!(read().unwrap_err().contains("userns"));
    }
}
