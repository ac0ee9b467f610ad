//! One entry of a layer's tar, decoded: names as bytes, pax records applied, nothing believed yet.
//!
//! ustar, GNU and pax headers by the tar crate; times and extended attributes of pax here
//! (`SCHILY.xattr.*`, pax(5)).

use super::unpack::UnpackError;
use nix::sys::time::TimeSpec;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name as it stands in the archive, for messages.
    pub(super) name: String,
    /// The directory in which it lies, as the archive says; may hold `..` and symlinks.
    pub(super) parent: PathBuf,
    /// Its name there; `None`: the root itself.
    pub(super) file_name: Option<OsString>,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    /// Bytes of content.
    pub(super) size: u64,
}

/// What kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        sparse: bool,
    },
    Directory,
    Symlink(OsString),
    /// A hard link to a path of the image.
    Link(PathBuf),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Something that makes no file: a global pax header.
    Nothing,
}

/// Owner, mode, time, extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub(super) mode: u32,
    pub(super) mtime: TimeSpec,
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Decodes a header.
///
/// # Errors
/// [`UnpackError::Refused`] for an entry that makes no sense.
pub(super) fn decode<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Entry, UnpackError> {
    let raw = entry.path_bytes().into_owned();
    let name = String::from_utf8_lossy(&raw).into_owned();
    let refuse = |reason| UnpackError::Refused { entry: name.clone(), reason };
    let kind = decode_kind(entry).map_err(refuse)?;
    let mut meta = decode_header(entry.header()).map_err(refuse)?;
    apply_pax(entry, &mut meta)?;
    let (parent, file_name) = split(&raw).map_err(refuse)?;
    let size = entry.size();
    Ok(Entry { name, parent, file_name, kind, meta, size })
}

fn decode_kind<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Kind, &'static str> {
    use tar::EntryType as T;
    let header = entry.header();
    let device = || -> Result<(u32, u32), &'static str> {
        let fields = header.as_ustar().map(|h| (h.dev_major, h.dev_minor));
        let fields = fields.or_else(|| header.as_gnu().map(|h| (h.dev_major, h.dev_minor)));
        let (major, minor) = fields.ok_or("no device number")?;
        let number = |field: [u8; 8], parsed: std::io::Result<Option<u32>>| {
            blank(&field).or(parsed.ok().flatten()).ok_or("no device number")
        };
        Ok((number(major, header.device_major())?, number(minor, header.device_minor())?))
    };
    let link = || entry.link_name_bytes().map(|b| b.into_owned()).ok_or("a link without a target");
    Ok(match header.entry_type() {
        T::Regular | T::Continuous => Kind::File { sparse: false },
        T::GNUSparse => Kind::File { sparse: true },
        T::Directory => Kind::Directory,
        T::Symlink => Kind::Symlink(OsString::from_vec(link()?)),
        T::Link => Kind::Link(PathBuf::from(OsString::from_vec(link()?))),
        T::Char => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        T::Block => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        T::Fifo => Kind::Fifo,
        T::XGlobalHeader => Kind::Nothing,
        _ => return Err("an entry of unknown type"),
    })
}

fn decode_header(header: &tar::Header) -> Result<Meta, &'static str> {
    let fields = header.as_old();
    let id = |field: &[u8], parsed: std::io::Result<u64>| -> Result<u32, &'static str> {
        let parsed = parsed.ok().and_then(|n| u32::try_from(n).ok());
        blank(field).or(parsed).ok_or("the owner is out of range")
    };
    let seconds = header.mtime().ok().and_then(|t| i64::try_from(t).ok());
    let seconds = blank(&fields.mtime).map(i64::from).or(seconds);
    let mode = blank(&fields.mode).or(header.mode().ok()).ok_or("the mode is no number")?;
    Ok(Meta {
        uid: id(&fields.uid, header.uid())?,
        gid: id(&fields.gid, header.gid())?,
        mode: mode & 0o7777,
        mtime: TimeSpec::new(seconds.ok_or("the time is out of range")?, 0),
        xattrs: Vec::new(),
    })
}

/// 0 for a numeric field that was left blank, as other readers of archives take it.
fn blank(field: &[u8]) -> Option<u32> {
    field.iter().all(|byte| matches!(byte, 0 | b' ')).then_some(0)
}

/// Owner and size are applied by the tar crate; times and extended attributes are not.
fn apply_pax<R: Read>(entry: &mut tar::Entry<'_, R>, meta: &mut Meta) -> Result<(), UnpackError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let refuse = |reason| UnpackError::Refused { entry: name.clone(), reason };
    let Some(records) = entry.pax_extensions().map_err(UnpackError::Archive)? else {
        return Ok(());
    };
    for record in records {
        let record = record.map_err(UnpackError::Archive)?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        if key == b"mtime" {
            meta.mtime = parse_time(value).ok_or_else(|| refuse("the pax mtime is no time"))?;
        } else if key.starts_with(b"GNU.sparse.") {
            return Err(refuse("pax sparse files are not supported"));
        } else if let Some(attribute) = key.strip_prefix(XATTR) {
            meta.xattrs.push((OsString::from_vec(attribute.to_vec()), value.to_vec()));
        }
    }
    Ok(())
}

/// `seconds[.fraction]`, possibly negative; the fraction is cut to nanoseconds.
fn parse_time(text: &[u8]) -> Option<TimeSpec> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    // -1.25 is 1.25 s before the epoch: second -2 and 750000000 ns.
    Some(match (whole.starts_with('-'), nanos) {
        (true, 1..) => TimeSpec::new(seconds.checked_sub(1)?, 1_000_000_000 - nanos),
        _ => TimeSpec::new(seconds, nanos),
    })
}

/// The directory and the name in it.
fn split(raw: &[u8]) -> Result<(PathBuf, Option<OsString>), &'static str> {
    if raw.contains(&0) {
        return Err("a name with a NUL byte");
    }
    let mut parts: Vec<OsString> = super::tree::components(raw).collect();
    let file_name = parts.pop();
    if file_name.as_ref().is_some_and(|n| n.as_bytes() == b"..") {
        return Err("a name that ends with '..'");
    }
    Ok((parts.into_iter().collect(), file_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times_have_nanoseconds_and_may_be_negative() {
        for (text, expected) in [
            ("1700000000", Some((1_700_000_000, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ] {
            let time = parse_time(text.as_bytes()).map(|t| (t.tv_sec(), t.tv_nsec()));
            assert_eq!(time, expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_split_into_directory_and_file() {
        let parts = |raw: &str| split(raw.as_bytes()).map(|(p, n)| (p.display().to_string(), n));
        assert_eq!(parts("./"), Ok((String::new(), None)));
        assert_eq!(parts("/etc//passwd/"), Ok(("etc".into(), Some("passwd".into()))));
        assert_eq!(parts("../../x"), Ok(("../..".into(), Some("x".into()))));
        assert!(parts("a/..").is_err());
        assert!(parts("a\0b").is_err());
    }

    #[test]
    fn a_blank_number_is_0_and_one_that_is_none_is_refused() {
        let mut header = tar::Header::new_gnu();
        for fill in [0, b' '] {
            let fields = header.as_old_mut();
            (fields.uid, fields.gid, fields.mode) = ([fill; 8], [fill; 8], [fill; 8]);
            fields.mtime = [fill; 12];
            let meta = decode_header(&header).unwrap();
            let seen = (meta.uid, meta.gid, meta.mode, meta.mtime.tv_sec());
            assert_eq!(seen, (0, 0, 0, 0), "filled with {fill:?}");
        }
        header.as_old_mut().uid = *b"  17 \0\0\0";
        assert_eq!(decode_header(&header).map(|meta| meta.uid), Ok(0o17));
        header.as_old_mut().uid = *b"owner\0\0\0";
        assert_eq!(decode_header(&header), Err("the owner is out of range"));
    }
}
