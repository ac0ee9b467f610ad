//! Which images may be pulled: by their name, and by who signed them.
//!
//! `file` reads and matches the policy, `key` verifies a signature, `claim` is what is signed, and
//! `check` gets the signatures of an image from its registry. What cannot be decided is refused.
//!
//! The formats are cosign's (its SIGNATURE_SPEC) and those of containers-signature(5).

mod check;
mod claim;
mod file;
mod key;

pub(super) use check::demand;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use file::parse;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod fixture;
