//! Links of logs that lead nowhere: of containers that somebody else removed, or while nobody looked.

use crate::blocking;
use crate::clock::ticks;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{info, warn};

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(60);

/// Removes them, for ever. `links` is the folder of links, `logs` that of logs: what leads elsewhere is somebody else's.
pub async fn keep_links(links: PathBuf, logs: PathBuf) {
    let mut pulse = ticks(EVERY);
    let mut before = BTreeSet::new();
    loop {
        pulse.tick().await;
        let (folder, own, known) = (links.clone(), logs.clone(), before);
        let swept = blocking::run("remove links of logs", move || sweep(&folder, &own, &known));
        before = swept.await.unwrap_or_default();
    }
}

/// Removes what led nowhere the last time and still does: a log that is rotated has no file for a moment. What leads
/// nowhere now.
fn sweep(links: &Path, logs: &Path, before: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(links).into_iter().flatten().flatten();
    let nowhere = |link: &PathBuf| {
        let target = std::fs::read_link(link).ok();
        target.is_some_and(|t| t.starts_with(logs) && t.symlink_metadata().is_err())
    };
    let mut found: BTreeSet<PathBuf> = entries.map(|entry| entry.path()).filter(nowhere).collect();
    for link in found.intersection(before).cloned().collect::<Vec<_>>() {
        match std::fs::remove_file(&link) {
            Ok(()) => info!(link = %link.display(), "a link of a log that is gone was removed"),
            Err(error) => warn!(link = %link.display(), %error, "a link was not removed"),
        }
        found.remove(&link);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_of_ours_that_leads_nowhere_twice_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (links, logs) = (dir.path().join("links"), dir.path().join("logs"));
        std::fs::create_dir_all(&links).unwrap();
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(logs.join("there"), "").unwrap();
        for (name, target) in [("a", "there"), ("b", "gone"), ("c", "rotated")] {
            symlink(logs.join(target), links.join(name)).unwrap();
        }
        symlink("/nowhere/at/all", links.join("other")).unwrap();
        std::fs::write(links.join("file"), "").unwrap();
        let first = sweep(&links, &logs, &BTreeSet::new());
        assert_eq!(std::fs::read_dir(&links).unwrap().count(), 5, "none the first time");
        std::fs::write(logs.join("rotated"), "").unwrap();
        assert!(sweep(&links, &logs, &first).is_empty());
        let mut names: Vec<_> =
            std::fs::read_dir(&links).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "c", "file", "other"]);
    }
}
