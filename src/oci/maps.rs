//! The maps of a spec, and the user namespaces that stand for them: the container's own, and one
//! for each id-mapped mount that maps otherwise.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::error::OciError;
use super::options::Options;
use super::prepare::{PodContext, is_pause};
use crate::idmap::{BadRanges, IdMaps, IdRange, check};
use crate::sys::process::SingleThreaded;
use crate::sys::userns;

/// Who makes user namespaces.
#[derive(Clone, Debug)]
pub enum NewUserns {
    /// This program, which does not end by itself, is run in it for a moment.
    Program(Arc<OwnedFd>),
    /// The caller, who has one thread, forks.
    Fork,
}

impl NewUserns {
    /// A new user namespace.
    ///
    /// # Errors
    /// As [`userns::make`].
    pub fn make(&self, maps: &IdMaps) -> std::io::Result<OwnedFd> {
        match self {
            Self::Program(program) => userns::make_by(program.as_fd(), maps),
            Self::Fork => userns::make(&SingleThreaded::prove()?, maps),
        }
    }
}

/// The container's maps; `None` without a user namespace.
///
/// # Errors
/// [`OciError::Invalid`] for maps that are none, and where the user or the group 0 is not mapped;
/// [`OciError::Missing`].
pub(super) fn of_container(linux: &Linux) -> Result<Option<IdMaps>, OciError> {
    let listed = linux.namespaces().iter().flatten();
    let (uids, gids) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
    if !listed.into_iter().any(|n| n.typ() == LinuxNamespaceType::User) {
        for (field, list) in [("linux.uidMappings", uids), ("linux.gidMappings", gids)] {
            if list.is_some_and(|list| !list.is_empty()) {
                return Err(OciError::invalid(field, "", "without a user namespace"));
            }
        }
        return Ok(None);
    }
    let maps = IdMaps {
        uids: ranges("linux.uidMappings", uids)?,
        gids: ranges("linux.gidMappings", gids)?,
    };
    if maps.host_uid(0).is_none() {
        return Err(OciError::invalid("linux.uidMappings", 0, "is not mapped"));
    }
    if maps.host_gid(0).is_none() {
        return Err(OciError::invalid("linux.gidMappings", 0, "is not mapped"));
    }
    Ok(Some(maps))
}

/// The maps of a mount; `None` when it has none.
///
/// # Errors
/// As [`of_container`].
fn of_mount(mount: &oci_spec::runtime::Mount) -> Result<Option<IdMaps>, OciError> {
    let (uids, gids) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    if uids.is_none_or(<[_]>::is_empty) && gids.is_none_or(<[_]>::is_empty) {
        return Ok(None);
    }
    Ok(Some(IdMaps {
        uids: ranges("mounts.uidMappings", uids)?,
        gids: ranges("mounts.gidMappings", gids)?,
    }))
}

fn ranges(field: &'static str, list: Option<&[LinuxIdMapping]>) -> Result<Vec<IdRange>, OciError> {
    let list = list.filter(|list| !list.is_empty()).ok_or(OciError::Missing { field })?;
    let range = |m: &LinuxIdMapping| IdRange {
        container: m.container_id(),
        host: m.host_id(),
        length: m.size(),
    };
    let ranges: Vec<IdRange> = list.iter().map(range).collect();
    check(&ranges).map_err(|bad| {
        let reason = match bad {
            BadRanges::Count(_) => "more than 340 ranges",
            BadRanges::Empty => "has the size 0",
            BadRanges::Beyond => "goes beyond the last id",
            BadRanges::Overlap => "overlaps with another",
        };
        let text = |r: &IdRange| format!("{} {} {}", r.container, r.host, r.length);
        OciError::invalid(field, ranges.iter().map(text).collect::<Vec<_>>().join(", "), reason)
    })?;
    Ok(ranges)
}

/// User namespaces, each made once.
pub(super) struct UserSpaces<'a> {
    maker: &'a NewUserns,
    spaces: Vec<(IdMaps, OwnedFd)>,
    own: Option<IdMaps>,
}

impl<'a> UserSpaces<'a> {
    /// With the container's own: the pod's, one behind a path, or a new one.
    pub(super) fn of_spec(linux: &Linux, pod: &'a PodContext) -> Result<Self, OciError> {
        let own = of_container(linux)?;
        let mut made = Self { maker: &pod.new_userns, spaces: Vec::new(), own: own.clone() };
        let Some(maps) = own else { return Ok(made) };
        let listed = linux.namespaces().iter().flatten();
        let user = listed.into_iter().find(|n| n.typ() == LinuxNamespaceType::User);
        match user.and_then(|n| n.path().as_ref()) {
            None => drop(made.get(&maps)?),
            Some(path) => {
                let opened = match &pod.pause {
                    Some(pause) if is_pause(path, pod) => userns::of(pause),
                    _ => std::fs::File::open(path).map(Into::into),
                };
                let failed = |source| OciError::Namespace { path: path.clone(), source };
                made.spaces.push((maps, opened.map_err(failed)?));
            }
        }
        Ok(made)
    }

    /// The container's maps.
    pub(super) fn own(&self) -> Option<&IdMaps> {
        self.own.as_ref()
    }

    /// The maps of a mount: its own, or the container's where it is mapped without any.
    pub(super) fn of_mount(
        &self,
        mount: &oci_spec::runtime::Mount,
        options: &Options,
    ) -> Result<Option<IdMaps>, OciError> {
        match (of_mount(mount)?, options.idmap) {
            (Some(maps), _) => Ok(Some(maps)),
            (None, None) => Ok(None),
            (None, Some(_)) => match self.own() {
                Some(maps) => Ok(Some(maps.clone())),
                None => Err(OciError::Missing { field: "mounts.uidMappings" }),
            },
        }
    }

    /// The user namespace with these maps.
    pub(super) fn get(&mut self, maps: &IdMaps) -> Result<BorrowedFd<'_>, OciError> {
        let at = match self.spaces.iter().position(|(known, _)| known == maps) {
            Some(at) => at,
            None => {
                let failed = |source| OciError::Namespace { path: "user".into(), source };
                let made = self.maker.make(maps).map_err(failed)?;
                self.spaces.push((maps.clone(), made));
                self.spaces.len() - 1
            }
        };
        let none = || OciError::Missing { field: "linux.uidMappings" };
        self.spaces.get(at).map(|(_, fd)| fd.as_fd()).ok_or_else(none)
    }
}
