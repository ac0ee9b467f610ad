//! Which file a command name means: execvp(3) with the container's PATH. Pure.
//!
//! One deviation, shared with the other runtimes: a file without a known format is an error and
//! not handed to a shell.

use super::step::{Step, StepError};

/// What execvp(3) searches without a PATH variable.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// PATH as getenv(3) would find it in this environment: the first.
pub(super) fn path_of(env: &[String]) -> &str {
    env.iter().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// The files to be tried for `name`, in order: itself when it has a slash, else one for each
/// element of `path`; an empty element is the working directory.
pub(super) fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    path.split(':')
        .map(|dir| match dir {
            "" => format!("./{name}"),
            dir if dir.ends_with('/') => format!("{dir}{name}"),
            dir => format!("{dir}/{name}"),
        })
        .collect()
}

/// Whether the search goes on after a failed execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next candidate.
    Continue,
    /// This failure is the answer.
    Stop,
}

/// Whether a candidate is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exists {
    Yes,
    No,
}

impl From<bool> for Exists {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// A search, and what is to be said when nothing could be executed.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    name: &'a str,
    /// The failure worth telling, better than "not found".
    told: Option<(i32, String)>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self { name, told: None }
    }

    /// Takes note of a failed execve. What POSIX lists as "not here" goes on; a refusal goes on,
    /// too, and is remembered.
    pub(super) fn failed(
        &mut self,
        candidate: &str,
        error: &std::io::Error,
        exists: Exists,
    ) -> Next {
        let errno = error.raw_os_error().unwrap_or(0);
        let next = match errno {
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {
                Next::Continue
            }
            libc::EACCES => Next::Continue,
            _ => Next::Stop,
        };
        let tell = match (errno, exists) {
            // The file is there: what is missing is what it names.
            (libc::ENOENT, Exists::Yes) => Some(format!("the interpreter of {candidate:?}")),
            (libc::ENOENT | libc::ENOTDIR, Exists::No) if !self.name.contains('/') => None,
            (libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT, _) if !self.name.contains('/') => None,
            _ => Some(format!("{candidate:?}")),
        };
        if let Some(detail) = tell
            && (self.told.is_none() || next == Next::Stop)
        {
            self.told = Some((errno, detail));
        }
        next
    }

    /// The error of the whole search.
    pub(super) fn into_error(self) -> StepError {
        let (errno, detail) = self.told.unwrap_or_else(|| {
            let name = self.name;
            (libc::ENOENT, format!("{name:?} in the container's PATH"))
        });
        StepError { step: Step::Exec, errno, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn a_name_with_a_slash_is_not_searched() {
        assert_eq!(candidates("/bin/sh", "/a:/b"), ["/bin/sh"]);
        assert_eq!(candidates("./sh", "/a:/b"), ["./sh"]);
    }

    #[test]
    fn a_bare_name_is_searched_in_order_and_an_empty_element_is_the_working_directory() {
        assert_eq!(candidates("sh", "/a::/b/:"), ["/a/sh", "./sh", "/b/sh", "./sh"]);
        assert_eq!(candidates("", "/a"), [""; 0]);
    }

    #[test]
    fn the_first_path_variable_counts_and_without_one_the_default() {
        let env = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(path_of(&env(&["A=1", "PATH=/x", "PATH=/y"])), "/x");
        assert_eq!(path_of(&env(&["XPATH=/x"])), DEFAULT_PATH);
        assert_eq!(path_of(&env(&["PATH="])), "");
    }

    fn errno(errno: i32) -> Error {
        Error::from_raw_os_error(errno)
    }

    #[test]
    fn a_refusal_is_told_when_nothing_better_is_found() {
        let mut attempt = Attempt::new("tool");
        assert_eq!(attempt.failed("/a/tool", &errno(libc::ENOENT), Exists::No), Next::Continue);
        assert_eq!(attempt.failed("/b/tool", &errno(libc::EACCES), Exists::Yes), Next::Continue);
        assert_eq!(attempt.failed("/c/tool", &errno(libc::ENOENT), Exists::No), Next::Continue);
        let error = attempt.into_error();
        assert_eq!(error.to_string(), "exec: permission denied: \"/b/tool\"");
    }

    #[test]
    fn a_missing_command_names_where_it_was_sought() {
        let mut attempt = Attempt::new("nope");
        attempt.failed("/bin/nope", &errno(libc::ENOENT), Exists::No);
        assert_eq!(
            attempt.into_error().to_string(),
            "exec: no such file or directory: \"nope\" in the container's PATH"
        );
        let mut attempt = Attempt::new("/nope");
        attempt.failed("/nope", &errno(libc::ENOENT), Exists::No);
        assert_eq!(attempt.into_error().to_string(), "exec: no such file or directory: \"/nope\"");
    }

    #[test]
    fn a_missing_interpreter_is_told_apart_from_a_missing_file() {
        let mut attempt = Attempt::new("script");
        attempt.failed("/bin/script", &errno(libc::ENOENT), Exists::Yes);
        assert_eq!(
            attempt.into_error().to_string(),
            "exec: no such file or directory: the interpreter of \"/bin/script\""
        );
    }

    #[test]
    fn a_wrong_format_ends_the_search() {
        let mut attempt = Attempt::new("text");
        assert_eq!(attempt.failed("/a/text", &errno(libc::EACCES), Exists::Yes), Next::Continue);
        assert_eq!(attempt.failed("/b/text", &errno(libc::ENOEXEC), Exists::Yes), Next::Stop);
        assert_eq!(attempt.into_error().to_string(), "exec: exec format error: \"/b/text\"");
    }
}
