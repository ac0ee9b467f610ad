//! AppArmor as the kernel has it, and berth's own profile in it.

use super::AppArmorError;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// berth's own profile. Its number grows with each change of the text: what runs under an older one
/// goes on under that, and the kernel need not be asked which text it has.
const DEFAULT: &str = "berth-default-1";
const DEFAULT_TEXT: &str = include_str!("default.profile");

/// Where the kernel tells of AppArmor.
#[derive(Clone, Debug)]
pub struct AppArmor {
    enabled: PathBuf,
    profiles: PathBuf,
}

impl Default for AppArmor {
    fn default() -> Self {
        Self::at(
            "/sys/module/apparmor/parameters/enabled".into(),
            "/sys/kernel/security/apparmor/profiles".into(),
        )
    }
}

impl AppArmor {
    /// With the files in other places: whether it enforces (`Y`), and the list of profiles.
    pub fn at(enabled: PathBuf, profiles: PathBuf) -> Self {
        Self { enabled, profiles }
    }

    /// Whether the kernel enforces AppArmor.
    pub fn enabled(&self) -> bool {
        std::fs::read_to_string(&self.enabled).is_ok_and(|text| text.starts_with('Y'))
    }

    /// Whether a profile is loaded, in whatever mode.
    ///
    /// # Errors
    /// [`AppArmorError::List`].
    pub fn loaded(&self, name: &str) -> Result<bool, AppArmorError> {
        let list = std::fs::read_to_string(&self.profiles)
            .map_err(|source| AppArmorError::List { path: self.profiles.clone(), source })?;
        // A line is a name, which may hold spaces, and the mode in brackets.
        Ok(list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name)))
    }

    /// The name of berth's own profile, which is loaded when it is not. Blocks.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn default_profile(&self) -> Result<&'static str, AppArmorError> {
        if !self.loaded(DEFAULT)? {
            load()?;
        }
        Ok(DEFAULT)
    }
}

fn load() -> Result<(), AppArmorError> {
    let failed = |reason: String| AppArmorError::Load { profile: DEFAULT, reason };
    let io = |e: std::io::Error| failed(e.to_string());
    let mut parser = Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    if let Some(mut stdin) = parser.stdin.take() {
        // Shorter than a pipe. A parser that does not read says why on stderr.
        stdin.write_all(DEFAULT_TEXT.as_bytes()).ok();
    }
    let output = parser.wait_with_output().map_err(io)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim().replace('\n', "; "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_name_of_the_default_profile_stands_for_its_text() {
        // The text has changed: count its name up, in the text, too.
        assert_eq!(Sha256::digest(DEFAULT_TEXT)[..4], [0x4c, 0xed, 0x7d, 0x4c]);
        assert!(DEFAULT_TEXT.contains(&format!("profile {DEFAULT} ")));
    }
}
