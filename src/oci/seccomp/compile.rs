//! A profile → what the executor loads.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};

use super::error::SeccompError;
use super::{arch, program, rules};
use crate::shim::wire::FilterPlan;

/// SECCOMP_FILTER_FLAG_*, seccomp(2).
const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;

/// Compiles a profile to one program for all the architectures that it names.
///
/// # Errors
/// [`SeccompError`]: the first thing in it that cannot be enforced.
pub fn compile(profile: &LinuxSeccomp) -> Result<FilterPlan, SeccompError> {
    if profile.listener_path().is_some() || profile.listener_metadata().is_some() {
        return Err(SeccompError::Unsupported("listenerPath and listenerMetadata".into()));
    }
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let mut decisions = BTreeMap::new();
    for arch in arch::chosen(listed)? {
        decisions.insert(arch, rules::decide(profile, arch)?);
    }
    let instructions = program::assemble(&decisions)?;
    let mut bytes = Vec::with_capacity(instructions.len() * 8);
    for one in &instructions {
        bytes.extend_from_slice(&one.code.to_ne_bytes());
        bytes.extend_from_slice(&[one.jt, one.jf]);
        bytes.extend_from_slice(&one.k.to_ne_bytes());
    }
    Ok(FilterPlan { flags: flags(profile)?, program: bytes })
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, SeccompError> {
    profile.flags().iter().flatten().try_fold(0, |all, flag| {
        Ok(all
            | match flag {
                // One thread is all there is.
                Flag::SeccompFilterFlagTsync => TSYNC,
                Flag::SeccompFilterFlagLog => LOG,
                Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                Flag::SeccompFilterFlagWaitKillableRecv => {
                    let what = "flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
                    return Err(SeccompError::Unsupported(what.into()));
                }
            })
    })
}
