//! Which AppArmor profile a container runs under.
//!
//! As in Kubernetes: on a node that enforces AppArmor a container that asks for nothing runs under
//! the runtime's own profile, and a privileged one under none unless it names one. Who asks for a profile
//! on a node that cannot give it gets an error.

mod node;

use super::config::{Profile, Security};
use crate::error::ErrorKind;
pub use node::AppArmor;
use std::io;
use std::path::PathBuf;

/// The name that the kernel knows for no profile.
const UNCONFINED: &str = "unconfined";

/// A profile that a container cannot run under.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The node does not enforce AppArmor.
    #[error("{0}: AppArmor is not enabled on this node")]
    Off(String),
    /// Nobody loaded it.
    #[error("{0:?} is not loaded on this node")]
    NotLoaded(String),
    /// berth's own profile could not be loaded.
    #[error("load {profile} with apparmor_parser: {reason}")]
    Load {
        /// Its name.
        profile: &'static str,
        /// What the program, or starting it, said.
        reason: String,
    },
    /// The kernel's list of profiles cannot be read.
    #[error("read {path}")]
    List {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl AppArmorError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Off(_) | Self::NotLoaded(_) => ErrorKind::FailedPrecondition,
            Self::Load { .. } | Self::List { .. } => ErrorKind::Internal,
        }
    }
}

/// The name of the profile of a container, with which the kernel knows it; `None` on a node without
/// AppArmor. The profile is loaded. Blocks.
///
/// # Errors
/// What was asked for is not to be had.
pub fn of_container(security: &Security, node: &AppArmor) -> Result<Option<String>, AppArmorError> {
    let asked = security.apparmor.as_ref();
    if !node.enabled() {
        return match asked {
            None | Some(Profile::Unconfined) => Ok(None),
            Some(Profile::RuntimeDefault) if security.privileged => Ok(None),
            Some(Profile::RuntimeDefault) => Err(AppArmorError::Off("RuntimeDefault".to_owned())),
            Some(Profile::Localhost(name)) => Err(AppArmorError::Off(format!("{name:?}"))),
        };
    }
    let name = match asked {
        Some(Profile::Unconfined) => UNCONFINED.to_owned(),
        Some(Profile::Localhost(name)) => {
            if !node.loaded(name)? {
                return Err(AppArmorError::NotLoaded(name.clone()));
            }
            name.clone()
        }
        None | Some(Profile::RuntimeDefault) if security.privileged => UNCONFINED.to_owned(),
        None | Some(Profile::RuntimeDefault) => node.default_profile()?.to_owned(),
    };
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::security;

    /// A node that enforces AppArmor, with these profiles.
    fn node(profiles: &str) -> (tempfile::TempDir, AppArmor) {
        let dir = tempfile::tempdir().unwrap();
        let (enabled, list) = (dir.path().join("enabled"), dir.path().join("profiles"));
        std::fs::write(&enabled, "Y\n").unwrap();
        std::fs::write(&list, profiles).unwrap();
        let node = AppArmor::at(enabled, list);
        (dir, node)
    }

    fn ask(
        node: &AppArmor,
        apparmor: Option<Profile>,
        privileged: bool,
    ) -> Result<Option<String>, String> {
        let security = Security { apparmor, privileged, ..security() };
        of_container(&security, node).map_err(|e| e.to_string())
    }

    #[test]
    fn who_names_no_profile_runs_under_the_runtimes_unless_privileged() {
        let (_dir, node) = node("berth-default-1 (enforce)\nweb (complain)\na b (enforce)\n");
        let local = |name: &str| Some(Profile::Localhost(name.to_owned()));
        let name = |name: &str| Ok(Some(name.to_owned()));
        let default = || Some(Profile::RuntimeDefault);
        assert_eq!(ask(&node, None, false), name("berth-default-1"));
        assert_eq!(ask(&node, default(), false), name("berth-default-1"));
        assert_eq!(ask(&node, None, true), name("unconfined"));
        assert_eq!(ask(&node, default(), true), name("unconfined"));
        assert_eq!(ask(&node, Some(Profile::Unconfined), false), name("unconfined"));
        for privileged in [false, true] {
            assert_eq!(ask(&node, local("web"), privileged), name("web"));
            assert_eq!(ask(&node, local("a b"), privileged), name("a b"));
            let error = ask(&node, local("we"), privileged).unwrap_err();
            assert_eq!(error, "\"we\" is not loaded on this node");
        }
    }

    #[test]
    fn without_apparmor_a_profile_is_refused_and_nothing_is_not() {
        let node = AppArmor::at("/nonexistent/enabled".into(), "/nonexistent/profiles".into());
        for privileged in [false, true] {
            assert_eq!(ask(&node, None, privileged), Ok(None));
            assert_eq!(ask(&node, Some(Profile::Unconfined), privileged), Ok(None));
            let error = ask(&node, Some(Profile::Localhost("web".into())), privileged).unwrap_err();
            assert_eq!(error, "\"web\": AppArmor is not enabled on this node");
        }
        assert_eq!(ask(&node, Some(Profile::RuntimeDefault), true), Ok(None));
        let error = ask(&node, Some(Profile::RuntimeDefault), false).unwrap_err();
        assert_eq!(error, "RuntimeDefault: AppArmor is not enabled on this node");
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_by_its_path() {
        let (dir, node) = node("");
        std::fs::remove_file(dir.path().join("profiles")).unwrap();
        let error = ask(&node, Some(Profile::Localhost("web".into())), false).unwrap_err();
        assert!(error.starts_with("read ") && error.ends_with("profiles"), "{error}");
    }
}
