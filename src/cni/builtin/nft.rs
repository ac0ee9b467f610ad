//! Loading the table: `nft -f -`, which is one transaction, run only when the text has changed.

use super::nat::{Nat, removal};
use crate::cgroups::Leaf;
use crate::cni::error::NetworkError;
use crate::cni::helper::{self, Helper};
use crate::sys::process::Ended;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where nft is looked for.
const PLACES: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];
/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The loader, and the text that it loaded last.
#[derive(Debug)]
pub(super) struct Nft {
    program: Option<PathBuf>,
    loaded: Mutex<Option<String>>,
}

impl Nft {
    /// Looks for nft.
    pub(super) fn find() -> Self {
        let program = PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
        Self { program, loaded: Mutex::new(None) }
    }

    /// Why rules cannot be loaded at all.
    pub(super) fn missing(&self) -> Option<String> {
        let missing = || format!("nft is at none of {}", PLACES.join(", "));
        self.program.is_none().then(missing)
    }

    /// Loads the rules of `nat` unless they are loaded. Whoever waits here while another loads finds
    /// its own change loaded with it.
    ///
    /// # Errors
    /// [`NetworkError::Rules`]; the table stays as it was, and the next call tries again.
    pub(super) fn apply(&self, nat: &Mutex<Nat>, group: &Leaf) -> Result<(), NetworkError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let text = nat.lock().unwrap_or_else(PoisonError::into_inner).ruleset();
        if loaded.as_ref() != Some(&text) {
            // Unknown until it is known: an nft that was killed may have loaded it.
            *loaded = None;
            self.load(&text, group)?;
            *loaded = Some(text);
        }
        Ok(())
    }

    /// Removes the table.
    ///
    /// # Errors
    /// [`NetworkError::Rules`].
    pub(super) fn remove(&self, group: &Leaf) -> Result<(), NetworkError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = None;
        self.load(&removal(), group)
    }

    fn load(&self, text: &str, group: &Leaf) -> Result<(), NetworkError> {
        let missing = || NetworkError::Rules { message: self.missing().unwrap_or_default() };
        let program = self.program.as_deref().ok_or_else(missing)?;
        let stdin = text.as_bytes();
        let helper = Helper { program, args: &["-f", "-"], env: &[], stdin, limit: LIMIT };
        let output = helper::run(&helper, group)?;
        helper::tidy_group(group);
        if output.ended == Ended::Code(0) {
            return Ok(());
        }
        // The first line names the error; the rest repeats the rules.
        let message = match output.stderr.lines().next() {
            Some(line) => line.to_owned(),
            None => format!("nft ended with {:?} and said nothing", output.ended),
        };
        Err(NetworkError::Rules { message })
    }
}
