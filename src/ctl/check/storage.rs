//! Folders, their file systems, and overlayfs by really mounting it.

use super::report::{Finding, Report};
use crate::config::Config;
use crate::sys::mount::FsContext;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Below this an image more may not fit.
const LITTLE_SPACE: u64 = 2 << 30;

pub(super) fn check(config: &Config, report: &mut Report) {
    report.add(programs(&program_folders(config)));
    let state = nearest(&config.paths.state);
    let free = statfs(&state)
        .map(|s| s.blocks_available().saturating_mul(u64::try_from(s.block_size()).unwrap_or(0)));
    report.add(space(&config.paths.state, free.ok()));
    let run = statfs(&nearest(&config.paths.run)).map(|s| s.filesystem_type() == TMPFS_MAGIC);
    report.add(live_state(&config.paths.run, run.unwrap_or(false)));
    report.add(overlay(&state, try_overlay(&state)));
}

/// The folders in which the daemon looks for its programs, in order.
pub(super) fn program_folders(config: &Config) -> Vec<PathBuf> {
    if let Some(folder) = &config.paths.libexec {
        return vec![folder.clone()];
    }
    let own = std::env::current_exe().ok().and_then(|e| e.parent().map(Path::to_owned));
    own.into_iter().chain([PathBuf::from("/usr/libexec/berth")]).collect()
}

fn programs(folders: &[PathBuf]) -> Finding {
    const NAME: &str = "programs";
    let whole = |f: &&PathBuf| ["berth-shim", "berth-pause"].iter().all(|p| f.join(p).is_file());
    match folders.iter().find(whole) {
        Some(folder) => {
            Finding::ok(NAME, format!("berth-shim, berth-pause in {}", folder.display()))
        }
        None => {
            let names: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
            let found = format!("berth-shim and berth-pause are not in {}", names.join(", "));
            Finding::fail(NAME, found, "install them there, or set paths.libexec")
        }
    }
}

fn space(path: &Path, free: Option<u64>) -> Finding {
    const NAME: &str = "disk";
    let path = path.display();
    match free {
        Some(free) if free >= LITTLE_SPACE => {
            Finding::ok(NAME, format!("{} GiB free for {path}", free >> 30))
        }
        Some(free) => Finding::warn(
            NAME,
            format!("{} MiB free for {path}", free >> 20),
            "make room, or set paths.state to a larger file system",
        ),
        None => {
            Finding::fail(NAME, format!("{path} cannot be used"), "create it, or set paths.state")
        }
    }
}

fn live_state(path: &Path, tmpfs: bool) -> Finding {
    let found = format!("{} {}", path.display(), if tmpfs { "on tmpfs" } else { "not on tmpfs" });
    if tmpfs {
        Finding::ok("live state", found)
    } else {
        Finding::warn(
            "live state",
            found,
            "set paths.run to a folder on a tmpfs, such as /run/berth",
        )
    }
}

fn overlay(state: &Path, result: io::Result<()>) -> Finding {
    const NAME: &str = "overlayfs";
    match result {
        Ok(()) => Finding::ok(NAME, format!("mounts with a writable layer on {}", state.display())),
        Err(error) => Finding::fail(
            NAME,
            format!("mount with a writable layer on {}: {error}", state.display()),
            "modprobe overlay; or set paths.state to a file system with extended attributes, such \
             as ext4 or xfs, that is not itself an overlay",
        ),
    }
}

/// The nearest folder above that exists.
pub(super) fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// Mounts an overlay of three empty folders, detached: no mount table ever shows it.
fn try_overlay(state: &Path) -> io::Result<()> {
    let scratch = Scratch::make(state)?;
    let context = FsContext::open(c"overlay")?;
    for (key, folder) in [(c"lowerdir", "lower"), (c"upperdir", "upper"), (c"workdir", "work")] {
        let path = scratch.0.join(folder);
        std::fs::create_dir(&path)?;
        context.set(key, &CString::new(path.as_os_str().as_bytes())?)?;
    }
    let mounted = context.mount(0);
    // The work folder is busy until the mount has gone.
    mounted.map(drop)
}

/// A folder that is removed with all it holds.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// Below an existing folder.
    pub(super) fn make(below: &Path) -> io::Result<Self> {
        let path = below.join(format!(".berth-check-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is an empty folder with a telling name.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn programs_must_be_together_in_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for folder in [&a, &b] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(a.join("berth-shim"), "").unwrap();
        std::fs::write(b.join("berth-pause"), "").unwrap();
        assert_eq!(programs(&[a.clone(), b.clone()]).verdict, Verdict::Fail);
        std::fs::write(b.join("berth-shim"), "").unwrap();
        assert_eq!(programs(&[a, b]).verdict, Verdict::Ok);
    }

    #[test]
    fn little_space_is_a_warning_and_no_folder_a_failure() {
        let path = Path::new("/var/lib/berth");
        assert_eq!(space(path, Some(5 << 30)).verdict, Verdict::Ok);
        assert_eq!(space(path, Some(1 << 30)).verdict, Verdict::Warn);
        assert_eq!(space(path, None).verdict, Verdict::Fail);
    }

    #[test]
    fn the_overlay_attempt_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // Whether it works depends on the machine; that it cleans up does not.
        let _result = try_overlay(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
