//! fstab-style mount options → attributes, propagation, file system options. Pure.

use super::error::OciError;
use crate::sys::mount::{Propagation, Reach, attr};

/// What the options of one mount ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Attributes of the mount itself (MOUNT_ATTR_*).
    pub(super) set: u64,
    /// Attributes set on the mount and all below it.
    pub(super) set_tree: u64,
    /// Attributes cleared on the mount and all below it.
    pub(super) clear_tree: u64,
    /// A bind mount, of one mount or the tree.
    pub(super) bind: Option<Reach>,
    /// The last propagation option.
    pub(super) propagation: Option<(Propagation, Reach)>,
    /// The ids are mapped, of one mount or the tree.
    pub(super) idmap: Option<Reach>,
    /// The rest: for the file system.
    pub(super) data: Vec<(String, Option<String>)>,
}

/// What one word does.
enum Word {
    Set(u64),
    /// Takes an earlier option of the list back. A bind mount keeps what its source has: lifting
    /// the host's restriction takes the recursive form, which says so.
    Unset(u64),
    SetTree(u64),
    ClearTree(u64),
    Bind(Reach),
    Propagate(Propagation, Reach),
    MapIds(Reach),
    Nothing,
    Refuse,
    Data,
}

fn word(option: &str) -> Word {
    use Propagation::{Private, Shared, Slave, Unbindable};
    use Reach::{One, Tree};
    match option {
        "defaults" | "" => Word::Nothing,
        "ro" => Word::Set(attr::RDONLY),
        "rw" => Word::Unset(attr::RDONLY),
        "nosuid" => Word::Set(attr::NOSUID),
        "suid" => Word::Unset(attr::NOSUID),
        "nodev" => Word::Set(attr::NODEV),
        "dev" => Word::Unset(attr::NODEV),
        "noexec" => Word::Set(attr::NOEXEC),
        "exec" => Word::Unset(attr::NOEXEC),
        "nosymfollow" => Word::Set(attr::NOSYMFOLLOW),
        "symfollow" => Word::Unset(attr::NOSYMFOLLOW),
        "noatime" => Word::Set(attr::NOATIME),
        "strictatime" => Word::Set(attr::STRICTATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => Word::Unset(attr::ATIME_FIELD),
        "nodiratime" => Word::Set(attr::NODIRATIME),
        "diratime" => Word::Unset(attr::NODIRATIME),
        "rro" => Word::SetTree(attr::RDONLY),
        "rrw" => Word::ClearTree(attr::RDONLY),
        "rnosuid" => Word::SetTree(attr::NOSUID),
        "rsuid" => Word::ClearTree(attr::NOSUID),
        "rnodev" => Word::SetTree(attr::NODEV),
        "rdev" => Word::ClearTree(attr::NODEV),
        "rnoexec" => Word::SetTree(attr::NOEXEC),
        "rexec" => Word::ClearTree(attr::NOEXEC),
        "rnosymfollow" => Word::SetTree(attr::NOSYMFOLLOW),
        "rsymfollow" => Word::ClearTree(attr::NOSYMFOLLOW),
        "rnoatime" => Word::SetTree(attr::NOATIME),
        "rstrictatime" => Word::SetTree(attr::STRICTATIME),
        "rrelatime" | "ratime" => Word::ClearTree(attr::ATIME_FIELD),
        "rnodiratime" => Word::SetTree(attr::NODIRATIME),
        "rdiratime" => Word::ClearTree(attr::NODIRATIME),
        "bind" => Word::Bind(One),
        "rbind" => Word::Bind(Tree),
        "private" => Word::Propagate(Private, One),
        "rprivate" => Word::Propagate(Private, Tree),
        "slave" => Word::Propagate(Slave, One),
        "rslave" => Word::Propagate(Slave, Tree),
        "shared" => Word::Propagate(Shared, One),
        "rshared" => Word::Propagate(Shared, Tree),
        "unbindable" => Word::Propagate(Unbindable, One),
        "runbindable" => Word::Propagate(Unbindable, Tree),
        "idmap" => Word::MapIds(One),
        "ridmap" => Word::MapIds(Tree),
        "remount" | "tmpcopyup" | "loop" | "move" | "iversion" | "noiversion" | "quiet"
        | "silent" | "loud" => Word::Refuse,
        _ => Word::Data,
    }
}

/// The options of every mount that are done here, for those who ask what can be done.
pub(super) const NAMES: [&str; 47] = [
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "idmap",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "unbindable",
];

/// Parses a mount's options.
///
/// # Errors
/// [`OciError::Unsupported`] for an option that is known but not done here.
pub(super) fn parse(options: &[String]) -> Result<Options, OciError> {
    let mut parsed = Options::default();
    for option in options {
        match word(option) {
            Word::Nothing => {}
            Word::Set(bits) => {
                if bits & attr::ATIME_FIELD != 0 {
                    parsed.set &= !attr::ATIME_FIELD;
                }
                parsed.set |= bits;
            }
            Word::Unset(bits) => parsed.set &= !bits,
            Word::SetTree(bits) => {
                if bits & attr::ATIME_FIELD != 0 {
                    parsed.set_tree &= !attr::ATIME_FIELD;
                }
                parsed.set_tree |= bits;
                parsed.clear_tree &= !bits;
            }
            Word::ClearTree(bits) => {
                parsed.clear_tree |= bits;
                parsed.set_tree &= !bits;
            }
            Word::Bind(reach) => parsed.bind = Some(reach),
            Word::Propagate(propagation, reach) => parsed.propagation = Some((propagation, reach)),
            Word::MapIds(reach) => parsed.idmap = Some(reach),
            Word::Refuse => return Err(OciError::unsupported(format!("mount option {option:?}"))),
            Word::Data => parsed.data.push(match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            }),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_later_of_two_opposite_options_counts() {
        assert_eq!(options("ro,rw").set, 0);
        assert_eq!(options("rw,ro,nosuid").set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options("noatime,strictatime").set, attr::STRICTATIME);
        assert_eq!(options("noatime,relatime").set, 0);
        let tree = options("rro,rrw");
        assert_eq!((tree.set_tree, tree.clear_tree), (0, attr::RDONLY));
    }

    #[test]
    fn the_options_that_are_told_are_done() {
        for name in NAMES {
            assert!(!matches!(word(name), Word::Data | Word::Refuse), "{name}");
        }
    }

    #[test]
    fn bind_and_propagation_are_told_apart_from_data() {
        let parsed = options("rbind,rslave,ro,mode=755,size=64k,noswap");
        assert_eq!(parsed.bind, Some(Reach::Tree));
        assert_eq!(parsed.propagation, Some((Propagation::Slave, Reach::Tree)));
        let data = [("mode", Some("755")), ("size", Some("64k")), ("noswap", None)];
        let data = data.map(|(n, v): (_, Option<&str>)| (n.to_owned(), v.map(str::to_owned)));
        assert_eq!(parsed.data, data);
    }

    #[test]
    fn an_option_that_is_not_done_is_refused_by_name() {
        for option in ["tmpcopyup", "loop", "remount"] {
            let error = parse(&[option.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
    }
}
