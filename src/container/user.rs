//! Whom a container's process runs as: the request's user or the image's, looked up in the image's
//! own passwd and group.
//!
//! The image is hostile: its files are opened below its root alone, must be regular files (a FIFO
//! would block, a device would act), and are read up to a limit. Lines that make no sense are
//! skipped, as other runtimes do.

use super::config::{GroupsPolicy, RunAs, Security};
use crate::error::ErrorKind;
use crate::sys::path::{Resolve, open_in};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

/// The largest passwd or group file that is read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Ids go up to 2³¹ − 1, as Kubernetes has it; the kernel's -1 is none.
const MAX_ID: u32 = i32::MAX.cast_unsigned();

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups: the primary one first.
    pub additional_gids: Vec<u32>,
    /// The home folder; `/` for a user that passwd does not know.
    pub home: String,
    /// The user's name, if passwd knows it.
    pub name: Option<String>,
}

/// A user that cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A group without a user.
    #[error("run_as_group {0} is given without run_as_user or run_as_username")]
    GroupWithoutUser(u32),
    /// The image does not know the name.
    #[error("{what} {name:?} is not in the image's {file}")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The file that was searched.
        file: &'static str,
    },
    /// The image's user is neither a name nor an id.
    #[error("the image's user {0:?} is not of the form user[:group]")]
    Form(String),
    /// A number beyond the range of ids.
    #[error("{what} id {id} is above 2147483647")]
    Range {
        /// `user` or `group`.
        what: &'static str,
        /// The number.
        id: u64,
    },
    /// The image's file is there and cannot be read.
    #[error("read {file} of the image")]
    Read {
        /// Which.
        file: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl UserError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::GroupWithoutUser(_)
            | Self::Unknown { .. }
            | Self::Form(_)
            | Self::Range { .. } => ErrorKind::InvalidArgument,
            Self::Read { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

/// Resolves the request's user, else the image's (`user`, `uid`, `user:group`, `uid:gid` and the
/// mixed forms; empty is root) in `rootfs`, the root of the image's file system.
///
/// # Errors
/// See [`UserError`].
pub fn resolve_user(
    rootfs: BorrowedFd<'_>,
    security: &Security,
    image_user: &str,
) -> Result<ResolvedUser, UserError> {
    let asked = Asked::new(security, image_user)?;
    let passwd = read_file(rootfs, PASSWD)?;
    let group = read_file(rootfs, GROUP)?;
    resolve(&asked, security, &passwd, &group)
}

/// A user and a group as they were asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    user: Id,
    group: Option<Id>,
}

#[derive(Debug, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

impl Asked {
    fn new(security: &Security, image_user: &str) -> Result<Self, UserError> {
        let group = match security.run_as_group {
            Some(gid) => Some(Id::Number(in_range("group", gid.into())?)),
            None => None,
        };
        match &security.run_as {
            RunAs::Uid(uid) => {
                Ok(Self { user: Id::Number(in_range("user", (*uid).into())?), group })
            }
            RunAs::Name(name) => Ok(Self { user: Id::Name(name.clone()), group }),
            RunAs::Image => match security.run_as_group {
                Some(gid) => Err(UserError::GroupWithoutUser(gid)),
                None => Self::of_image(image_user),
            },
        }
    }

    fn of_image(text: &str) -> Result<Self, UserError> {
        if text.is_empty() {
            return Ok(Self { user: Id::Number(0), group: None });
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
            return Err(UserError::Form(text.to_owned()));
        }
        Ok(Self {
            user: Id::parse("user", user)?,
            group: group.map(|group| Id::parse("group", group)).transpose()?,
        })
    }
}

impl Id {
    /// All digits is a number, everything else a name.
    fn parse(what: &'static str, text: &str) -> Result<Self, UserError> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        let id = text.parse().unwrap_or(u64::MAX);
        in_range(what, id).map(Self::Number)
    }
}

fn in_range(what: &'static str, id: u64) -> Result<u32, UserError> {
    match u32::try_from(id) {
        Ok(small) if small <= MAX_ID => Ok(small),
        _ => Err(UserError::Range { what, id }),
    }
}

/// A line of passwd.
#[derive(Debug, PartialEq, Eq)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of group.
#[derive(Debug, PartialEq, Eq)]
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn parse_passwd(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(Account { name, uid, gid, home })
    })
}

fn parse_group(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("").split(',').map(str::trim).collect();
        Some(Group { name, gid, members })
    })
}

fn resolve(
    asked: &Asked,
    security: &Security,
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser, UserError> {
    let account = parse_passwd(passwd).find(|account| match &asked.user {
        Id::Number(uid) => account.uid == *uid,
        Id::Name(name) => account.name == name,
    });
    let uid = match (&asked.user, &account) {
        (Id::Number(uid), _) => *uid,
        (Id::Name(_), Some(account)) => account.uid,
        (Id::Name(name), None) => return Err(unknown("user", name, "/etc/passwd")),
    };
    let gid = match &asked.group {
        Some(Id::Number(gid)) => *gid,
        Some(Id::Name(name)) => parse_group(group)
            .find(|group| group.name == name)
            .map(|group| group.gid)
            .ok_or_else(|| unknown("group", name, "/etc/group"))?,
        // A number that passwd does not know is in root's group.
        None => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut gids = vec![gid];
    if let (GroupsPolicy::Merge, Some(account)) = (security.groups_policy, &account) {
        let memberships = parse_group(group).filter(|group| group.members.contains(&account.name));
        gids.extend(memberships.map(|group| group.gid));
    }
    for gid in &security.supplemental_groups {
        gids.push(in_range("group", (*gid).into())?);
    }
    let mut additional_gids = Vec::new();
    for gid in gids {
        if !additional_gids.contains(&gid) {
            additional_gids.push(gid);
        }
    }
    let home = account.as_ref().map(|account| account.home).filter(|home| home.starts_with('/'));
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids,
        home: home.unwrap_or("/").to_owned(),
        name: account.map(|account| account.name.to_owned()),
    })
}

fn unknown(what: &'static str, name: &str, file: &'static str) -> UserError {
    UserError::Unknown { what, name: name.to_owned(), file }
}

/// The text of a file of the image; empty when there is none.
fn read_file(rootfs: BorrowedFd<'_>, file: &'static str) -> Result<String, UserError> {
    let fail = |source| UserError::Read { file, source };
    // O_PATH acts on nothing, whatever the name turns out to be.
    let found = match open_in(rootfs, Path::new(file), libc::O_PATH, 0, Resolve::InRoot) {
        Ok(found) => File::from(found),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(String::new());
        }
        Err(e) => return Err(fail(e)),
    };
    let about = found.metadata().map_err(fail)?;
    let refuse = |why| Err(fail(io::Error::new(io::ErrorKind::InvalidData, why)));
    if !about.is_file() {
        return refuse("it is not a regular file");
    }
    // The very inode that was examined, now for reading.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return refuse("it is larger than 1 MiB");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
