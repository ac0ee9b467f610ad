//! Which seccomp profile a container, or pause, runs under.
//!
//! A profile is resolved when the container is created: a file that is missing or wrong fails there,
//! and what it says later changes nothing.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capability, LinuxSeccomp};

use super::capabilities::plan_capabilities;
use super::config::{Profile, Security};
use super::error::SpecError;
use crate::oci::seccomp::{self, Host, SeccompError};
use crate::sandbox::config::SandboxConfig;
use crate::shim::wire::FilterPlan;

/// The profile of a container; `None`: unconfined, as a privileged one is whatever it asks for.
/// Blocks.
///
/// # Errors
/// A file that cannot be read, or a profile that cannot be enforced.
pub fn of_container(security: &Security) -> Result<Option<LinuxSeccomp>, SpecError> {
    if security.privileged {
        return Ok(None);
    }
    let capabilities = plan_capabilities(security)?.bounding().clone().unwrap_or_default();
    let profile = resolve(security.seccomp.as_ref(), capabilities)?;
    // What cannot be compiled is to fail the creation, not the start.
    profile.as_ref().map(seccomp::compile).transpose()?;
    Ok(profile)
}

/// The programs of pause, which needs no capability. Blocks.
///
/// # Errors
/// As [`of_container`].
pub fn of_pause(config: &SandboxConfig) -> Result<Vec<FilterPlan>, SeccompError> {
    let asked = config.seccomp.as_ref().filter(|_| !config.privileged);
    let profile = resolve(asked, HashSet::new())?;
    Ok(profile.as_ref().map(seccomp::compile).transpose()?.into_iter().collect())
}

fn resolve(
    asked: Option<&Profile>,
    capabilities: HashSet<Capability>,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    match asked {
        None | Some(Profile::Unconfined) => Ok(None),
        Some(Profile::RuntimeDefault) => seccomp::runtime_default(&capabilities).map(Some),
        Some(Profile::Localhost(path)) => {
            let profile = seccomp::read(Path::new(path), &Host::new(capabilities)?)?;
            let unknown = seccomp::unknown_names(&profile);
            if !unknown.is_empty() {
                let calls = unknown.join(" ");
                tracing::warn!(path, calls, "seccomp profile names unknown system calls");
            }
            Ok(Some(profile))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::{sandbox, security};
    use oci_spec::runtime::LinuxSeccompAction;

    fn asking(profile: Option<Profile>) -> Security {
        Security { seccomp: profile, ..security() }
    }

    #[test]
    fn nothing_asked_unconfined_and_privileged_are_without_a_profile() {
        let missing = || Some(Profile::Localhost("/no/such/profile.json".into()));
        for profile in [None, Some(Profile::Unconfined)] {
            assert_eq!(of_container(&asking(profile)).unwrap(), None);
        }
        for profile in [missing(), Some(Profile::RuntimeDefault)] {
            let privileged = Security { privileged: true, ..asking(profile.clone()) };
            assert_eq!(of_container(&privileged).unwrap(), None);
            let pod = SandboxConfig { privileged: true, seccomp: profile.clone(), ..sandbox() };
            assert!(of_pause(&pod).unwrap().is_empty());
            // The control.
            let pod = SandboxConfig { privileged: false, ..pod };
            assert_eq!(of_pause(&pod).is_ok(), profile == Some(Profile::RuntimeDefault));
        }
        assert!(matches!(of_container(&asking(missing())), Err(SpecError::Seccomp(_))));
    }

    #[test]
    fn the_default_depends_on_the_capabilities_that_are_asked_for() {
        let names = |capability: &str| {
            let mut asked = asking(Some(Profile::RuntimeDefault));
            asked.add_capabilities = vec![capability.into()];
            let profile = of_container(&asked).unwrap().unwrap();
            assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActErrno);
            profile.syscalls().clone().unwrap()[0].names().clone()
        };
        assert!(names("CAP_SYS_ADMIN").contains(&"mount".to_owned()));
        assert!(!names("CAP_NET_ADMIN").contains(&"mount".to_owned()));
    }
}
