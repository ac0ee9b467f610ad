//! Profile files: the OCI specification's `linux.seccomp`, and its superset that container engines
//! share their default profiles in, with `archMap`, `includes` and `excludes`, a rule's single
//! `name`, error numbers by name.
//!
//! What the file makes depend on the machine or on the container's capabilities is decided here. A
//! key that is neither's is an error: a misspelt one would be a rule that does not hold.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr as _;

use nix::errno::Errno;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use serde::Deserialize;

use super::arch;
use super::error::SeccompError;
use crate::small_file;

/// What a file can make its rules depend on.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the container's processes can have: the bounding set.
    pub capabilities: HashSet<Capability>,
    /// The kernel's version: the first two numbers.
    pub kernel: (u32, u32),
    /// The machine's kind, as Go names it.
    pub arch: &'static str,
}

impl Host {
    /// This machine, and a container with these capabilities.
    ///
    /// # Errors
    /// [`SeccompError::Invalid`] when the kernel's version cannot be read.
    pub fn new(capabilities: HashSet<Capability>) -> Result<Self, SeccompError> {
        let name = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
        let release = name.unwrap_or_default();
        let kernel = version(&release).ok_or_else(|| {
            SeccompError::invalid("kernel version", &release, "is not two numbers and more")
        })?;
        Ok(Self { capabilities, kernel, arch: arch::go_name() })
    }
}

/// The first two numbers of `6.12.3-amd64` or `4.8`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Terms>,
    excludes: Option<Terms>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Terms {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile file. Blocks.
///
/// # Errors
/// [`SeccompError`]: it cannot be read, or says what no profile can say.
pub fn read(path: &Path, host: &Host) -> Result<LinuxSeccomp, SeccompError> {
    let failed = |source| SeccompError::Read { path: path.to_owned(), source };
    let text = small_file::read(path).map_err(failed)?;
    parse(&text, path, host)
}

/// Reads a profile; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &[u8], path: &Path, host: &Host) -> Result<LinuxSeccomp, SeccompError> {
    let file: File = serde_json::from_slice(text)
        .map_err(|source| SeccompError::Parse { path: path.to_owned(), source })?;
    let mut profile = LinuxSeccomp::default();
    let architectures = match (file.architectures, file.arch_map) {
        (Some(_), Some(_)) => {
            return Err(SeccompError::invalid("archMap", "", "is given beside architectures"));
        }
        (Some(listed), None) => listed,
        (None, map) => from_map(map.unwrap_or_default()),
    };
    let mut rules = Vec::new();
    for rule in file.syscalls.unwrap_or_default() {
        if applies(&rule, host)? {
            rules.push(to_oci(rule)?);
        }
    }
    profile
        .set_default_action(file.default_action)
        .set_default_errno_ret(error_number(
            "defaultErrno",
            file.default_errno,
            file.default_errno_ret,
        )?)
        .set_architectures((!architectures.is_empty()).then_some(architectures))
        .set_flags(file.flags.filter(|flags| !flags.is_empty()))
        .set_listener_path(file.listener_path.filter(|path| !path.as_os_str().is_empty()))
        .set_listener_metadata(file.listener_metadata.filter(|text| !text.is_empty()))
        .set_syscalls((!rules.is_empty()).then_some(rules));
    Ok(profile)
}

/// The entry of this machine, with what it names beside it.
fn from_map(map: Vec<ArchMap>) -> Vec<Arch> {
    let own = arch::names().first();
    let mut found = Vec::new();
    for entry in map.into_iter().filter(|entry| Some(&entry.architecture) == own) {
        found.push(entry.architecture);
        found.extend(entry.sub_architectures.unwrap_or_default());
    }
    found
}

fn applies(rule: &Rule, host: &Host) -> Result<bool, SeccompError> {
    let here = |list: &Option<Vec<String>>| list.iter().flatten().any(|a| a == host.arch);
    let held = |name: &String| {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        Capability::from_str(bare).is_ok_and(|capability| host.capabilities.contains(&capability))
    };
    if let Some(terms) = &rule.includes {
        let listed = terms.arches.as_ref().is_some_and(|list| !list.is_empty());
        if listed && !here(&terms.arches)
            || !terms.caps.iter().flatten().all(held)
            || !at_least(terms, host)?.unwrap_or(true)
        {
            return Ok(false);
        }
    }
    if let Some(terms) = &rule.excludes
        && (here(&terms.arches)
            || terms.caps.iter().flatten().any(held)
            || at_least(terms, host)?.unwrap_or(false))
    {
        return Ok(false);
    }
    Ok(true)
}

/// Whether the kernel is as new as the terms say; `None`: they say nothing.
fn at_least(terms: &Terms, host: &Host) -> Result<Option<bool>, SeccompError> {
    let Some(text) = terms.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match version(text) {
        Some(least) => Ok(Some(host.kernel >= least)),
        None => Err(SeccompError::invalid("minKernel", text, "is not two numbers with a dot")),
    }
}

fn to_oci(rule: Rule) -> Result<LinuxSyscall, SeccompError> {
    let names = match (rule.names, rule.name) {
        (Some(names), None) => names,
        (None, Some(name)) => vec![name],
        (Some(_), Some(name)) => {
            return Err(SeccompError::invalid("name", name, "is given beside names"));
        }
        (None, None) => return Err(SeccompError::invalid("names", "", "is missing in a rule")),
    };
    let errno = error_number("errno", rule.errno, rule.errno_ret)?;
    let mut made = LinuxSyscall::default();
    made.set_names(names)
        .set_action(rule.action)
        .set_errno_ret(errno)
        .set_args(rule.args.filter(|args| !args.is_empty()));
    Ok(made)
}

/// An error number, given by name, by number, or both in agreement.
fn error_number(
    field: &'static str,
    name: Option<String>,
    number: Option<u32>,
) -> Result<Option<u32>, SeccompError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(number) };
    let named = (1..=133_u32)
        .find(|n| i32::try_from(*n).is_ok_and(|raw| format!("{:?}", Errno::from_raw(raw)) == name));
    match (named, number) {
        (None, _) => Err(SeccompError::invalid(field, name, "is no error of this kernel")),
        (Some(named), Some(number)) if named != number => {
            Err(SeccompError::invalid(field, name, "is not the number beside it"))
        }
        (named, _) => Ok(named),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
