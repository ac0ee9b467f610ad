//! Where a cgroup is, below the root of the hierarchy: validated, so that a held path never escapes
//! it and never names a file of the kernel.

use super::CgroupError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where pods without a cgroup parent go.
pub(super) const PODS: &str = "/berth";
/// Where shims live, outside every pod.
pub(super) const SHIMS: &str = "/berth-shims";
/// Where pods without a cgroup parent go under the systemd driver.
const PODS_SLICE: &str = "berth.slice";
/// The scope of the shims under the systemd driver, and where it is.
pub(super) const SHIM_SCOPE: &str = "berth-shims.scope";
pub(super) const SHIM_SLICE: &str = "system.slice";
/// Where CNI plugins and other helpers run, outside every pod.
pub(super) const HELPERS: &str = "/berth-helpers";

/// An absolute cgroup path below the hierarchy's root: `/`, `/berth`, `/kubepods/burstable/pod1`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The root of the hierarchy.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses a path; a missing leading slash, doubled and trailing slashes are forgiven.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for `.` and `..`, control characters, names over 255 bytes, names
    /// of the kernel's own files (`cgroup.procs`, `memory.max`), and text over 2048 bytes.
    pub fn parse(text: &str) -> Result<Self, CgroupError> {
        if text.len() > 2048 {
            return Err(CgroupError::invalid("cgroup path", text, "over 2048 bytes"));
        }
        let mut path = String::with_capacity(text.len() + 1);
        for name in text.split('/').filter(|name| !name.is_empty()) {
            if let Some(reason) = refuse_name(name) {
                return Err(CgroupError::invalid("cgroup path", text, reason));
            }
            path.push('/');
            path.push_str(name);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path))
    }

    /// The cgroup `name` below this one. In a name that is not valid by itself the offending
    /// characters are replaced by `_`; ids and berth's own names never are.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let mut safe: String =
            name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
        if refuse_name(&safe).is_some() {
            safe = format!("_{}", safe.replace('.', "_").chars().take(60).collect::<String>());
        }
        let base = if self.0 == "/" { "" } else { &self.0 };
        Self(format!("{base}/{safe}"))
    }

    /// The cgroup above; none for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((_, "")) | None => None,
            Some(("", _)) => Some(Self::root()),
            Some((parent, _)) => Some(Self(parent.to_owned())),
        }
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// This path and all above it, the root first.
    pub fn ancestry(&self) -> Vec<Self> {
        let mut all: Vec<Self> =
            std::iter::successors(Some(self.clone()), CgroupPath::parent).collect();
        all.reverse();
        all
    }

    /// The path as text, with a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder in the file system, given where the hierarchy is mounted.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(self.0.trim_start_matches('/'))
    }

    /// The parent cgroup of a pod as a CRI client or a Pod YAML gives it, under the cgroupfs driver.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`]: as [`CgroupPath::parse`]; a `*.slice`, which belongs to systemd;
    /// a path within berth's own folders for shims and helpers.
    pub fn of_parent(parent: Option<&str>) -> Result<Self, CgroupError> {
        let Some(text) = parent.filter(|text| !text.is_empty()) else {
            return Ok(Self(PODS.to_owned()));
        };
        let path = Self::parse(text)?;
        if is_slice(path.name()) {
            return Err(CgroupError::invalid(
                "cgroup parent",
                text,
                "a slice needs the systemd cgroup driver, and berth runs with cgroupfs",
            ));
        }
        let own = |top: &str| path.0 == top || path.0.starts_with(&format!("{top}/"));
        if own(SHIMS) || own(HELPERS) {
            return Err(CgroupError::invalid("cgroup parent", text, "reserved for berth itself"));
        }
        Ok(path)
    }

    /// The parent cgroup of a pod under the systemd driver: a slice by its name, or by its whole path.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for anything else, and as [`expand_slice`].
    pub fn of_slice(parent: Option<&str>) -> Result<Self, CgroupError> {
        let text = parent.filter(|text| !text.is_empty()).unwrap_or(PODS_SLICE);
        let name = text.rsplit('/').next().unwrap_or(text);
        if !is_slice(name) {
            return Err(CgroupError::invalid(
                "cgroup parent",
                text,
                "it is no slice, and berth runs with the systemd cgroup driver",
            ));
        }
        let path = expand_slice(name)?;
        if name != text && Self::parse(text)? != path {
            let reason = format!("systemd keeps that slice at {path}");
            return Err(CgroupError::invalid("cgroup parent", text, reason));
        }
        Ok(path)
    }

    /// The slice unit of a path that [`CgroupPath::of_slice`] gave.
    pub(super) fn slice(&self) -> &str {
        if self.0 == "/" { "-.slice" } else { self.name() }
    }
}

/// Whether `name` is a systemd slice unit.
pub fn is_slice(name: &str) -> bool {
    name.ends_with(".slice")
}

/// Where systemd keeps a slice: `a-b.slice` is `/a.slice/a-b.slice`, `-.slice` the root
/// (systemd.slice(5)).
///
/// # Errors
/// [`CgroupError::Invalid`] for a name that is no slice: without the suffix, with a slash, with an
/// empty part between dashes.
pub fn expand_slice(name: &str) -> Result<CgroupPath, CgroupError> {
    let refuse = |reason: &str| CgroupError::invalid("slice", name, reason);
    let stem = name.strip_suffix(".slice").ok_or_else(|| refuse("it does not end in .slice"))?;
    if name.contains('/') {
        return Err(refuse("a slice is a name and not a path"));
    }
    if stem == "-" {
        return Ok(CgroupPath::root());
    }
    if stem.split('-').any(str::is_empty) {
        return Err(refuse("a part between dashes is empty"));
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push('/');
        path.push_str(stem.get(..end).unwrap_or(stem));
        path.push_str(".slice");
    }
    CgroupPath::parse(&path)
}

/// Why a name cannot be a cgroup's. Files of the kernel sit beside child cgroups in one folder.
fn refuse_name(name: &str) -> Option<&'static str> {
    const FILES: [&str; 11] = [
        "cgroup.", "cpu.", "cpuset.", "memory.", "pids.", "io.", "hugetlb.", "rdma.", "misc.",
        "irq.", "dmem.",
    ];
    if name.is_empty() {
        Some("a name is empty")
    } else if name == "." || name == ".." {
        Some("`.` and `..` are not names of cgroups")
    } else if name.len() > 255 {
        Some("a name is over 255 bytes")
    } else if name.chars().any(|c| c == '/' || c.is_control()) {
        Some("a name holds a slash or a control character")
    } else if FILES.iter().any(|prefix| name.starts_with(prefix)) && !is_slice(name) {
        Some("a name is that of a file of the kernel")
    } else {
        None
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = CgroupError;
    fn try_from(text: String) -> Result<Self, CgroupError> {
        Self::parse(&text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parent(text: &str) -> Result<String, String> {
        CgroupPath::of_parent(Some(text)).map(String::from).map_err(|e| e.to_string())
    }

    #[test]
    fn a_parent_is_taken_with_and_without_slashes_and_defaults_to_berths_own() {
        assert_eq!(parent("/kubepods/burstable/pod1").unwrap(), "/kubepods/burstable/pod1");
        assert_eq!(parent("kubepods//pod1/").unwrap(), "/kubepods/pod1");
        assert_eq!(parent("/").unwrap(), "/");
        assert_eq!(parent("").unwrap(), "/berth");
        assert_eq!(CgroupPath::of_parent(None).unwrap().as_str(), "/berth");
    }

    #[test]
    fn a_parent_that_escapes_or_names_a_kernel_file_is_refused() {
        for bad in [
            "../etc",
            "/a/../../b",
            "/a/./b",
            "/a/..",
            "/a/b\nc",
            "/a/\0",
            "/a/cgroup.procs",
            "/memory.max",
            "/berth-shims",
            "/berth-helpers/x",
        ] {
            assert!(parent(bad).is_err(), "{bad:?}");
        }
        assert!(parent(&format!("/{}", "a".repeat(256))).is_err());
        assert!(parent("/berth-shims-of-mine").is_ok());
    }

    #[test]
    fn a_slice_under_cgroupfs_is_refused_with_the_driver_in_the_message() {
        for slice in ["kubepods-besteffort-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"] {
            let message = parent(slice).unwrap_err();
            assert!(message.contains("systemd cgroup driver"), "{message}");
        }
    }

    #[test]
    fn slices_expand_at_each_dash() {
        for (name, path) in [
            ("a.slice", "/a.slice"),
            ("a-b.slice", "/a.slice/a-b.slice"),
            (
                "kubepods-burstable-pod1.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
            ),
            ("-.slice", "/"),
        ] {
            assert_eq!(expand_slice(name).unwrap().as_str(), path, "{name}");
        }
        for bad in ["a", "a/b.slice", "-a.slice", "a-.slice", "a--b.slice", ".slice"] {
            assert!(expand_slice(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slice_is_a_parent_by_its_name_or_its_whole_path_and_a_path_is_none() {
        let parent = |text| CgroupPath::of_slice(text).map_err(|e| e.to_string());
        for (text, path, slice) in [
            (None, "/berth.slice", "berth.slice"),
            (Some(""), "/berth.slice", "berth.slice"),
            (Some("a-b.slice"), "/a.slice/a-b.slice", "a-b.slice"),
            (Some("/a.slice/a-b.slice"), "/a.slice/a-b.slice", "a-b.slice"),
            (Some("-.slice"), "/", "-.slice"),
        ] {
            let found = parent(text).unwrap();
            assert_eq!((found.as_str(), found.slice()), (path, slice), "{text:?}");
        }
        for bad in ["/kubepods/pod1", "berth", "/", "a.slice/b", "/x/a.scope"] {
            let message = parent(Some(bad)).unwrap_err();
            assert!(message.contains("systemd cgroup driver"), "{message}");
        }
        for bad in ["/b.slice/a-b.slice", "/a-b.slice", "a--b.slice", "../a.slice"] {
            assert!(parent(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_child_never_leaves_its_parent_whatever_its_name() {
        let pod = CgroupPath::parse("/berth/p").unwrap();
        assert_eq!(pod.child("pause").as_str(), "/berth/p/pause");
        assert_eq!(CgroupPath::parse("/").unwrap().child("x").as_str(), "/x");
        for odd in ["..", ".", "", "../..", "a/b", "cgroup.kill", "a\nb"] {
            let child = pod.child(odd);
            assert_eq!(child.parent().as_ref(), Some(&pod), "{odd:?}");
            assert_eq!(CgroupPath::parse(child.as_str()).unwrap(), child, "{odd:?}");
        }
    }

    #[test]
    fn ancestry_begins_at_the_root_and_a_record_round_trips() {
        let path = CgroupPath::parse("/a/b").unwrap();
        let all: Vec<String> = path.ancestry().into_iter().map(String::from).collect();
        assert_eq!(all, ["/", "/a", "/a/b"]);
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<CgroupPath>(&text).unwrap(), path);
        assert!(serde_json::from_str::<CgroupPath>("\"/../x\"").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_below_the_root(text in "[a-c./\\-\n]{0,24}|\\PC{0,40}") {
            if let Ok(path) = CgroupPath::parse(&text) {
                prop_assert!(path.as_str().starts_with('/'));
                prop_assert!(path.as_str().split('/').all(|name| name != ".." && name != "."));
                prop_assert_eq!(&CgroupPath::parse(path.as_str()).unwrap(), &path);
            }
            expand_slice(&text).ok();
        }
    }
}
