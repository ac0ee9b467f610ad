//! Defences that a test takes away, one by one: an attack proves something only where it succeeds
//! without the defence that it is about.
//!
//! Without the `undefended` feature [`removed`] is a constant false, so that the compiler drops what
//! hangs on it, and [`gap`] is empty. With it, two environment variables of the process count:
//!
//! | variable                | holds                          | does                                   |
//! |-------------------------|--------------------------------|----------------------------------------|
//! | `BERTH_UNDEFENDED`      | names, separated by commas     | these defences are not there           |
//! | `BERTH_UNDEFENDED_GAP`  | `site=file`                    | makes `file.reached` at that site, and goes on when `file` is gone |
//!
//! The shim that is installed and tested is never built with it: its part, the executor, is
//! attacked through berth-oci, which runs the same code. docs/security.md has the attacks.

/// Something that keeps an attack from succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defence {
    /// openat2(2) with RESOLVE_IN_ROOT and its like.
    Resolve,
    /// A place for a mount is found once, and then used by its descriptor.
    Target,
    /// Masked paths are covered by files of berth's own.
    Mask,
    /// /dev/console is bound by the descriptor of the terminal.
    Console,
    /// Labels and kernel parameters are written by a descriptor of a verified /proc.
    Proc,
    /// Only parameters of a namespace can be set.
    SysctlName,
    /// Descriptors that are not the container's are closed.
    Descriptors,
    /// The working directory is inside the root.
    WorkingDirectory,
    /// A process on its way to execve cannot be looked into.
    Dumpable,
    /// The program cannot be written by those who run it.
    Program,
    /// A cgroup is killed as one.
    CgroupKill,
    /// A log stays below its folder.
    LogPath,
}

#[cfg(any(feature = "undefended", test))]
impl Defence {
    /// As it stands in `BERTH_UNDEFENDED`.
    fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Target => "target",
            Self::Mask => "mask",
            Self::Console => "console",
            Self::Proc => "proc",
            Self::SysctlName => "sysctl-name",
            Self::Descriptors => "descriptors",
            Self::WorkingDirectory => "working-directory",
            Self::Dumpable => "dumpable",
            Self::Program => "program",
            Self::CgroupKill => "cgroup-kill",
            Self::LogPath => "log-path",
        }
    }
}

/// Whether a test took this defence away.
#[cfg(not(feature = "undefended"))]
#[inline(always)]
pub const fn removed(_defence: Defence) -> bool {
    false
}

/// Waits between a check and a use, where a test wants it.
#[cfg(not(feature = "undefended"))]
#[inline(always)]
pub fn gap(_site: &str, _subject: &str) {}

#[cfg(feature = "undefended")]
pub use taken::{gap, removed};

#[cfg(feature = "undefended")]
mod taken {
    use super::Defence;
    use std::time::Duration;

    /// Whether a test took this defence away.
    pub fn removed(defence: Defence) -> bool {
        std::env::var("BERTH_UNDEFENDED")
            .is_ok_and(|names| names.split(',').any(|name| name == defence.name()))
    }

    /// Waits between a check and a use, where a test wants it. The site is `site`, or with a subject
    /// `site:subject`.
    #[expect(clippy::disallowed_methods, reason = "only in the builds of tests")]
    pub fn gap(site: &str, subject: &str) {
        let Ok(plan) = std::env::var("BERTH_UNDEFENDED_GAP") else { return };
        let Some((wanted, file)) = plan.split_once('=') else { return };
        let here = wanted.strip_prefix(site).is_some_and(|rest| match rest.strip_prefix(':') {
            Some(of) => of == subject,
            None => rest.is_empty(),
        });
        if !here {
            return;
        }
        std::fs::write(format!("{file}.reached"), "").ok();
        while std::path::Path::new(file).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_defence_is_missing_by_itself() {
        for defence in [Defence::Resolve, Defence::Program, Defence::CgroupKill, Defence::LogPath] {
            assert!(!removed(defence), "{}", defence.name());
        }
    }

    // The other half of the table in docs/security.md: that what is shipped cannot be disarmed is
    // that the name is not in the program at all. The tests of the shipped shim look for it.
    #[cfg(not(feature = "undefended"))]
    #[test]
    fn without_the_feature_it_is_a_constant() {
        const { assert!(!removed(Defence::Resolve)) }
    }
}
