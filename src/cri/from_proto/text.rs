//! Checks that many fields share: names, paths, strings, times.

use super::RequestError;
use crate::cni::PodRanges;
use crate::undefended::{Defence, removed};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The longest name, uid or namespace. Kubernetes itself stops at 253.
const MAX_NAME: usize = 512;
/// The kernel's PATH_MAX less the terminating zero.
const MAX_PATH: usize = 4095;
/// An id is 64 digits; nobody needs more of a prefix.
const MAX_ID: usize = 256;
/// The longest name of a runtime handler.
const MAX_HANDLER: usize = 63;
/// A year: no grace period and no probe is longer, and no clock overflows.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

/// An id or a prefix of one: not empty, and sane enough to be quoted in an answer.
pub(crate) fn id<'a>(field: &str, id: &'a str) -> Result<&'a str, RequestError> {
    if id.is_empty() {
        return Err(RequestError::missing(field));
    }
    if id.len() > MAX_ID || id.chars().any(char::is_control) {
        return Err(RequestError::invalid(field, "not an id"));
    }
    Ok(id)
}

/// The name of a runtime handler, a label of DNS; empty: the native executor. Whether it is configured
/// is the engine's to say.
pub(crate) fn handler<'a>(field: &str, handler: &'a str) -> Result<&'a str, RequestError> {
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if handler.len() <= MAX_HANDLER && handler.bytes().all(label) {
        return Ok(handler);
    }
    let shown: String = handler.chars().take(80).collect();
    Err(RequestError::invalid(field, format!("{shown:?} is no name of a runtime handler")))
}

/// A runtime handler where only the native executor can be.
pub(super) fn native_handler(field: &str, handler: &str) -> Result<(), RequestError> {
    if handler.is_empty() {
        return Ok(());
    }
    let shown: String = handler.chars().take(80).collect();
    Err(RequestError::invalid(field, format!("not possible with runtime handler {shown:?}")))
}

/// A command line: not empty, and each word can be passed to execve(2).
pub(crate) fn command(field: &str, words: Vec<String>) -> Result<Vec<String>, RequestError> {
    if words.first().is_none_or(String::is_empty) {
        return Err(RequestError::missing(field));
    }
    strings(field, words)
}

/// A node's ranges of pod addresses; nothing: `None`.
pub(crate) fn pod_ranges(field: &str, text: &str) -> Result<Option<PodRanges>, RequestError> {
    PodRanges::parse(text).map_err(|why| RequestError::invalid(field, why))
}

/// Seconds that must be positive to count; 0 is none.
pub(crate) fn timeout(field: &str, seconds: i64) -> Result<Option<Duration>, RequestError> {
    Ok(Some(grace(field, seconds)?).filter(|d| !d.is_zero()))
}

/// Seconds from now on; 0 is now.
pub(crate) fn grace(field: &str, seconds: i64) -> Result<Duration, RequestError> {
    let seconds = u64::try_from(seconds)
        .map_err(|_| RequestError::invalid(field, format!("{seconds} is negative")))?;
    // A caller that means "for ever" sends the largest number there is.
    Ok(Duration::from_secs(seconds.min(MAX_SECONDS)))
}

/// Part of the name of a pod or container: not empty, and without anything that could be taken for
/// a separator in a file, an environment or the argument list of a network plugin.
pub(super) fn name(field: &str, name: &str) -> Result<String, RequestError> {
    if name.is_empty() {
        return Err(RequestError::missing(field));
    }
    if name.len() > MAX_NAME {
        return Err(RequestError::invalid(field, format!("longer than {MAX_NAME} bytes")));
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '/' | ';' | '=' | '\\')) {
        return Err(RequestError::invalid(field, format!("{name:?} has a forbidden character")));
    }
    Ok(name.to_owned())
}

/// A string that the kernel will see: no zero byte.
pub(super) fn string(field: &str, text: &str) -> Result<String, RequestError> {
    if text.contains('\0') {
        return Err(RequestError::invalid(field, "has a zero byte"));
    }
    Ok(text.to_owned())
}

/// As [`string`], for a list.
pub(super) fn strings(field: &str, list: Vec<String>) -> Result<Vec<String>, RequestError> {
    for (index, text) in list.iter().enumerate() {
        string(&format!("{field}[{index}]"), text)?;
    }
    Ok(list)
}

/// One line of a configuration file: no control characters.
pub(super) fn line(field: &str, text: &str) -> Result<String, RequestError> {
    if text.chars().any(char::is_control) {
        return Err(RequestError::invalid(field, format!("{text:?} has a control character")));
    }
    Ok(text.to_owned())
}

/// An absolute path without `..`.
pub(super) fn absolute(field: &str, path: &str) -> Result<PathBuf, RequestError> {
    if path.is_empty() {
        return Err(RequestError::missing(field));
    }
    let parsed = PathBuf::from(string(field, path)?);
    if path.len() > MAX_PATH {
        return Err(RequestError::invalid(field, format!("longer than {MAX_PATH} bytes")));
    }
    if !parsed.is_absolute() {
        return Err(RequestError::invalid(field, format!("{path:?} is not absolute")));
    }
    if climbs(&parsed) {
        return Err(RequestError::invalid(field, format!("{path:?} contains '..'")));
    }
    Ok(parsed)
}

/// Absolute paths, as a list of strings.
pub(super) fn absolute_list(field: &str, list: Vec<String>) -> Result<Vec<String>, RequestError> {
    for (index, path) in list.iter().enumerate() {
        absolute(&format!("{field}[{index}]"), path)?;
    }
    Ok(list)
}

/// A path that stays below the folder that it will be joined to; empty is allowed.
pub(super) fn below(field: &str, path: &str) -> Result<PathBuf, RequestError> {
    let parsed = PathBuf::from(string(field, path)?);
    if path.len() > MAX_PATH {
        return Err(RequestError::invalid(field, format!("longer than {MAX_PATH} bytes")));
    }
    if (parsed.is_absolute() || climbs(&parsed)) && !removed(Defence::LogPath) {
        let reason = format!("{path:?} leaves the folder that it belongs to");
        return Err(RequestError::invalid(field, reason));
    }
    if path.ends_with('/') || (!path.is_empty() && parsed.file_name().is_none()) {
        return Err(RequestError::invalid(field, format!("{path:?} names no file")));
    }
    Ok(parsed)
}

fn climbs(path: &Path) -> bool {
    path.components().any(|c| c == Component::ParentDir)
}

/// A uid or gid. The highest number means "unchanged" to the kernel.
pub(super) fn user_id(field: &str, id: i64) -> Result<u32, RequestError> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| RequestError::invalid(field, format!("{id} is not 0 to 4294967294")))
}

/// A list of gids.
pub(super) fn group_ids(field: &str, ids: &[i64]) -> Result<Vec<u32>, RequestError> {
    let checked = |(index, id): (usize, &i64)| user_id(&format!("{field}[{index}]"), *id);
    ids.iter().enumerate().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_paths_stay_below_their_folder() {
        for good in ["", "web/0.log", "0.log", "a..b/0.log"] {
            assert_eq!(below("f", good).unwrap(), Path::new(good));
        }
        for bad in ["/etc/passwd", "..", "../x", "a/../../x", "a/", "a/..", ".", "a\0b"] {
            assert!(below("f", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_bounded_and_never_negative() {
        assert_eq!(timeout("f", 0), Ok(None));
        assert_eq!(timeout("f", 3), Ok(Some(Duration::from_secs(3))));
        assert_eq!(grace("f", 0), Ok(Duration::ZERO));
        assert_eq!(grace("f", i64::MAX), Ok(Duration::from_secs(MAX_SECONDS)));
        assert!(grace("f", -1).is_err());
    }

    #[test]
    fn names_cannot_smuggle_separators() {
        for bad in ["", "a/b", "a;IgnoreUnknown=0", "a\nb", "a\0", &"x".repeat(MAX_NAME + 1)] {
            assert!(name("f", bad).is_err(), "{bad:?}");
        }
        assert_eq!(name("f", "web-0_x.y").unwrap(), "web-0_x.y");
    }
}
