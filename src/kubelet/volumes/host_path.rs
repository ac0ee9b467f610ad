//! hostPath: what must be there, and what is made.

use super::error::VolumeError;
use crate::blocking;
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

/// What the API's `type` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    Directory { create: bool },
    File { create: bool },
    Socket,
    CharDevice,
    BlockDevice,
}

/// The path of a hostPath volume; pure.
///
/// # Errors
/// One that is not absolute, or climbs.
pub(super) fn path(volume: &str, source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if path.is_absolute() && !climbs && !source.path.contains('\0') {
        return Ok(path);
    }
    let reason = "is not an absolute path without '..'";
    let (volume, value) = (volume.to_owned(), source.path.clone());
    Err(VolumeError::Invalid { volume, field: "hostPath.path", value, reason })
}

/// Looks at what is there, through symlinks, and makes what the type says.
///
/// # Errors
/// [`VolumeError::HostPath`] when something else is there, or nothing.
pub(super) fn set_up(
    volume: &str,
    source: &HostPathVolumeSource,
    still: &blocking::Wanted,
) -> Result<(), VolumeError> {
    let path = path(volume, source)?;
    let wanted = wanted(volume, source)?;
    if wanted == Wanted::Any {
        return Ok(());
    }
    let found = match fs::metadata(&path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(VolumeError::io("look at", &path)(e)),
    };
    // The look may have taken long; what is made may, too.
    still.still()?;
    match (found, wanted) {
        (Some(found), _) if wanted.is(found) => Ok(()),
        (None, Wanted::Directory { create: true }) => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .map_err(VolumeError::io("create the folder", &path)),
        (None, Wanted::File { create: true }) => create_file(&path),
        (found, _) => Err(VolumeError::HostPath {
            volume: volume.to_owned(),
            wanted: wanted.name(),
            found: found.map_or("nothing", name),
            path,
        }),
    }
}

/// Its parent must be there, as the type's definition says.
fn create_file(path: &Path) -> Result<(), VolumeError> {
    let made = fs::OpenOptions::new().create_new(true).write(true).mode(0o644).open(path);
    match made {
        // Another pod was as fast.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(VolumeError::io("create the file", path)),
    }
}

fn wanted(volume: &str, source: &HostPathVolumeSource) -> Result<Wanted, VolumeError> {
    Ok(match source.type_.as_deref().unwrap_or_default() {
        "" => Wanted::Any,
        "DirectoryOrCreate" => Wanted::Directory { create: true },
        "Directory" => Wanted::Directory { create: false },
        "FileOrCreate" => Wanted::File { create: true },
        "File" => Wanted::File { create: false },
        "Socket" => Wanted::Socket,
        "CharDevice" => Wanted::CharDevice,
        "BlockDevice" => Wanted::BlockDevice,
        other => {
            let (volume, value) = (volume.to_owned(), other.to_owned());
            let reason = "is not a type of path";
            return Err(VolumeError::Invalid { volume, field: "hostPath.type", value, reason });
        }
    })
}

impl Wanted {
    fn is(self, found: FileType) -> bool {
        match self {
            Self::Any => true,
            Self::Directory { .. } => found.is_dir(),
            Self::File { .. } => found.is_file(),
            Self::Socket => found.is_socket(),
            Self::CharDevice => found.is_char_device(),
            Self::BlockDevice => found.is_block_device(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Directory { .. } => "a directory",
            Self::File { .. } => "a regular file",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        }
    }
}

fn name(found: FileType) -> &'static str {
    let kinds = [
        Wanted::Directory { create: false },
        Wanted::File { create: false },
        Wanted::Socket,
        Wanted::CharDevice,
        Wanted::BlockDevice,
    ];
    kinds.into_iter().find(|kind| kind.is(found)).map_or("a pipe", Wanted::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_set_up(path: &Path, kind: &str) -> Result<(), VolumeError> {
        let path = path.to_str().unwrap().to_owned();
        let source = HostPathVolumeSource { path, type_: Some(kind.to_owned()) };
        set_up("v", &source, &blocking::Wanted::default())
    }

    #[test]
    fn each_type_takes_what_it_names_and_refuses_the_rest_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("dir", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("char")).unwrap();
        let paths = ["dir", "file", "socket", "pipe", "link", "char", "none"];
        let rows = [
            ("", "dir file socket pipe link char none", "anything"),
            ("Directory", "dir link", "a directory"),
            ("DirectoryOrCreate", "dir link", "a directory"),
            ("File", "file", "a regular file"),
            ("FileOrCreate", "file", "a regular file"),
            ("Socket", "socket", "a socket"),
            ("CharDevice", "char", "a character device"),
            ("BlockDevice", "", "a block device"),
        ];
        for (kind, taken, wanted) in rows {
            for path in paths {
                if path == "none" && kind.ends_with("OrCreate") {
                    continue;
                }
                let done = try_set_up(&at(path), kind);
                if taken.split(' ').any(|name| name == path) {
                    assert!(done.is_ok(), "{kind} {path}: {done:?}");
                    continue;
                }
                let error = done.unwrap_err().to_string();
                let begin = format!(
                    "hostPath volume \"v\" wants {wanted} at {}, where there is ",
                    at(path).display()
                );
                assert!(error.starts_with(&begin), "{kind} {path}: {error}");
            }
        }
        let error = try_set_up(&at("none"), "Directory").unwrap_err().to_string();
        assert!(error.ends_with("where there is nothing"), "{error}");
        assert!(!at("none").exists(), "nothing is made for a type that does not say so");
    }

    #[test]
    fn a_missing_folder_is_made_with_its_parents_and_a_file_without() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        try_set_up(&folder, "DirectoryOrCreate").unwrap();
        try_set_up(&folder.join("file"), "FileOrCreate").unwrap();
        assert!(folder.join("file").is_file());
        let error = try_set_up(&folder.join("no/file"), "FileOrCreate").unwrap_err();
        assert!(matches!(error, VolumeError::Io { .. }), "{error}");
        assert!(!folder.join("no").exists());
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        for path in ["relative", "/a/../b", ""] {
            let error = try_set_up(Path::new(path), "").unwrap_err();
            assert!(error.to_string().contains("hostPath.path"), "{error}");
        }
        assert!(try_set_up(Path::new("/"), "Odd").is_err());
    }
}
