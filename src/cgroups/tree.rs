//! The hierarchy: which controllers it has, and how a path in it comes to be with all of them on.
//!
//! Controllers are handed down one level at a time, from the root (cgroup-v2.rst, "Top-down
//! Constraint"), and only through cgroups without processes of their own ("No Internal Process
//! Constraint"). Above a pod every cgroup hands all of them down; a container's leaf hands none
//! down, so that its exec slots may sit below it.
//!
//! Folders that berth makes on the way to a pod carry a mark, so that they go with the last pod, and
//! folders that a kubelet made stay.

use super::dir::Dir;
use super::events::gone;
use super::{CgroupError, CgroupPath};
use crate::config::Enforce;
use crate::sys::bpf::Instruction;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Controllers without which berth cannot keep its promises.
///
/// memory comes first: it is a domain controller, which a cgroup with processes refuses. A threaded
/// one such as cpu would be accepted, and make a threaded domain of it.
const REQUIRED: [&str; 5] = ["memory", "cpu", "pids", "cpuset", "io"];
/// Handed down where the kernel has them.
const WELCOME: [&str; 1] = ["hugetlb"];
/// The mark of a folder that berth made and may remove.
const MARK: &str = "trusted.berth.made";
/// How often a path is made anew when somebody removes a part of it meanwhile.
const ATTEMPTS: u32 = 16;

/// A loaded device program and what it was made of.
pub(super) type LoadedProgram = (Vec<Instruction>, Arc<OwnedFd>);

/// Whose the last cgroup of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Who makes it removes it.
    Callers,
    /// It goes with the last cgroup below it, as those above it do.
    Passing,
}

/// The hierarchy and what all handles share.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    controllers: Vec<&'static str>,
    missing: Vec<&'static str>,
    slots: Mutex<HashSet<CgroupPath>>,
    program: Mutex<Option<LoadedProgram>>,
}

impl Tree {
    /// Looks at the hierarchy below `root`.
    pub(super) fn open(root: &Path, enforce: Enforce) -> Result<Self, CgroupError> {
        let stat = nix::sys::statfs::statfs(root)
            .map_err(|errno| CgroupError::access("examine cgroup root", root, errno.into()))?;
        if stat.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
            return Err(CgroupError::NotCgroup2 { path: root.to_owned() });
        }
        let tree = Self::read(root)?;
        if enforce == Enforce::Required && !tree.missing.is_empty() {
            let missing = tree.missing.iter().map(|c| (*c).to_owned()).collect();
            return Err(CgroupError::MissingControllers { path: root.to_owned(), missing });
        }
        Ok(tree)
    }

    /// As [`Self::open`], of whatever is at `root`.
    pub(super) fn read(root: &Path) -> Result<Self, CgroupError> {
        let offered = Dir::open(root)?.read("cgroup.controllers")?.unwrap_or_default();
        let offers = |name: &str| offered.split_ascii_whitespace().any(|c| c == name);
        let (mut controllers, missing): (Vec<_>, Vec<_>) =
            REQUIRED.into_iter().partition(|name| offers(name));
        controllers.extend(WELCOME.into_iter().filter(|name| offers(name)));
        Ok(Self {
            root: root.to_owned(),
            controllers,
            missing,
            slots: Mutex::default(),
            program: Mutex::default(),
        })
    }

    /// Where the hierarchy is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Required controllers that the kernel does not offer; empty unless best effort was asked for.
    pub(super) fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// Exec slots that are given out.
    pub(super) fn slots(&self) -> MutexGuard<'_, HashSet<CgroupPath>> {
        lock(&self.slots)
    }

    /// The device program loaded last: most containers of a node want the same.
    pub(super) fn program(&self) -> MutexGuard<'_, Option<LoadedProgram>> {
        lock(&self.program)
    }

    /// Makes the cgroup in one that exists. One above that is gone is an error, never made anew: it
    /// would be one without limits.
    pub(super) fn make(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        let folder = path.below(&self.root);
        match std::fs::create_dir(&folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                Err(CgroupError::access("create cgroup", folder, e))
            }
            _ => Ok(()),
        }
    }

    /// Makes the cgroup and those above it, leaving controllers as they are.
    pub(super) fn make_plain(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        self.make_path(path, Last::Callers, |_| Ok(()))
    }

    /// Makes the cgroup and those above it, and hands the controllers down through all of them.
    pub(super) fn make_domain(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        self.make_path(path, Last::Callers, |dir| enable(dir, &self.controllers))
    }

    /// As [`Tree::make_domain`], of a cgroup that goes with the last one below it.
    pub(super) fn make_passing_domain(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        self.make_path(path, Last::Passing, |dir| enable(dir, &self.controllers))
    }

    /// Hands the controllers down through a cgroup that systemd made and delegated. What systemd does not
    /// know of (hugetlb) it neither hands down to it nor takes away: that is done here, as far as it goes.
    pub(super) fn open_delegated(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        self.hand_down_welcome(path);
        let required = self.controllers.iter().copied().filter(|name| !WELCOME.contains(name));
        enable(&Dir::open(&path.below(&self.root))?, &required.collect::<Vec<_>>())
    }

    /// Hands down to a cgroup, and through it, what systemd does not know of, as far as it goes.
    pub(super) fn hand_down_welcome(&self, path: &CgroupPath) {
        let welcome = self.controllers.iter().copied().filter(|name| WELCOME.contains(name));
        let welcome: Vec<_> = welcome.collect();
        if !welcome.is_empty() {
            for step in path.ancestry() {
                // Where it is missing a limit of it is refused when it is asked for.
                Dir::open(&step.below(&self.root)).and_then(|dir| enable(&dir, &welcome)).ok();
            }
        }
    }

    /// A concurrent removal of the last pod may take a folder away between two steps, and a third
    /// may have made it anew without controllers yet: then all begins anew.
    fn make_path(
        &self,
        path: &CgroupPath,
        last: Last,
        each: impl Fn(&Dir) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.try_make_path(path, last, &each) {
                Err(error) if attempt < ATTEMPTS && vanished(&error) => {}
                result => return result,
            }
        }
    }

    fn try_make_path(
        &self,
        path: &CgroupPath,
        last: Last,
        each: &impl Fn(&Dir) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        for step in path.ancestry() {
            let folder = step.below(&self.root);
            match std::fs::create_dir(&folder) {
                // Without the mark a folder of berth's is left behind, which hurts nobody.
                Ok(()) if last == Last::Passing || step != *path => {
                    xattr::set(&folder, MARK, b"1").ok();
                }
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(CgroupError::access("create cgroup", folder, source)),
            }
            each(&Dir::open(&folder)?)?;
        }
        Ok(())
    }

    /// Whether berth made a cgroup on the way to another, so that it goes with the last one in it.
    pub(super) fn made(&self, path: &CgroupPath) -> bool {
        matches!(xattr::get(path.below(&self.root), MARK), Ok(Some(_)))
    }

    /// Removes the folders above a removed cgroup as long as berth made them and they are empty.
    pub(super) fn prune_above(&self, path: &CgroupPath) {
        let mut next = path.parent();
        while let Some(step) = next {
            let folder = step.below(&self.root);
            // Others may have cgroups there, or may be making one: then it stays.
            if !self.made(&step) || std::fs::remove_dir(&folder).is_err() {
                return;
            }
            next = step.parent();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are plain sets of values that are whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn vanished(error: &CgroupError) -> bool {
    match error {
        CgroupError::Access { source, .. } => gone(source),
        CgroupError::MissingControllers { .. } => true,
        _ => false,
    }
}

/// Switches controllers on for the children of a cgroup.
fn enable(dir: &Dir, controllers: &[&'static str]) -> Result<(), CgroupError> {
    let on = dir.read("cgroup.subtree_control")?.unwrap_or_default();
    let is_on = |name: &str| on.split_ascii_whitespace().any(|c| c == name);
    let off: Vec<&str> = controllers.iter().copied().filter(|name| !is_on(name)).collect();
    let all: Vec<String> = off.iter().map(|name| format!("+{name}")).collect();
    if all.is_empty() || dir.write("cgroup.subtree_control", &all.join(" ")).is_ok() {
        return Ok(());
    }
    for controller in &off {
        // One by one: the kernel refuses a list as a whole, and does not say for which of them.
        match dir.write("cgroup.subtree_control", &format!("+{controller}")) {
            Ok(()) => {}
            Err(CgroupError::Write { path, value, source }) => {
                let offered = dir.read("cgroup.controllers")?;
                return Err(match source.raw_os_error() {
                    Some(libc::EBUSY | libc::EOPNOTSUPP) => CgroupError::InternalProcesses {
                        path: dir.path().to_owned(),
                        controller: (*controller).to_owned(),
                    },
                    // Not offered here; or, where nothing can be read any more, gone meanwhile.
                    Some(libc::ENOENT) if offered.is_some() => CgroupError::MissingControllers {
                        path: dir.path().to_owned(),
                        missing: vec![(*controller).to_owned()],
                    },
                    Some(libc::ENOENT | libc::ENODEV) => {
                        CgroupError::access("enable controllers of", path, source)
                    }
                    _ => CgroupError::Write { path, value, source },
                });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder that stands in for a cgroup: it takes one write, and remembers the last.
    fn folder(controllers: &str) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(temp.path().join("cgroup.subtree_control"), "cpu\n").unwrap();
        temp
    }

    #[test]
    fn controllers_are_sorted_into_offered_and_missing() {
        let temp = folder("cpu io memory hugetlb rdma\n");
        let tree = Tree::read(temp.path()).unwrap();
        assert_eq!(tree.controllers, ["memory", "cpu", "io", "hugetlb"]);
        assert_eq!(tree.missing(), ["pids", "cpuset"]);
    }

    #[test]
    fn a_controller_that_is_on_is_not_written_again() {
        let temp = folder("cpu\n");
        enable(&Dir::open(temp.path()).unwrap(), &["cpu"]).unwrap();
        let control = temp.path().join("cgroup.subtree_control");
        assert_eq!(fs::read_to_string(&control).unwrap(), "cpu\n");
        // A plain file keeps what a shorter write leaves of it.
        enable(&Dir::open(temp.path()).unwrap(), &["cpu", "io"]).unwrap();
        assert_eq!(fs::read_to_string(&control).unwrap(), "+io\n");
    }

    #[test]
    fn a_root_that_is_no_cgroup_file_system_is_refused() {
        let temp = folder("cpu\n");
        let error = Tree::open(temp.path(), Enforce::BestEffort).unwrap_err();
        assert!(matches!(error, CgroupError::NotCgroup2 { .. }), "{error}");
    }
}
