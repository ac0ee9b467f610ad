//! Whether a label of a spec can be set at all. Whether the policy knows it is the kernel's to say.

use std::path::Path;

use super::error::OciError;

/// Whether the kernel runs with SELinux and has a policy, enforced or not.
pub fn in_force() -> bool {
    // Without a policy every label reads as `kernel`, and nothing is labelled.
    Path::new("/sys/fs/selinux/enforce").exists()
        && std::fs::read_to_string("/proc/thread-self/attr/current")
            .is_ok_and(|label| label.contains(':'))
}

/// A spec's label; an empty one is none.
///
/// # Errors
/// [`OciError::Unsupported`] on a node without SELinux: the process would run unlabelled.
pub(super) fn check(
    field: &'static str,
    label: Option<&String>,
) -> Result<Option<String>, OciError> {
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
    if label.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
        return Err(OciError::invalid(field, label, "holds what no label has"));
    }
    if !in_force() {
        let detail = "this kernel does not run with SELinux, or has no policy".to_owned();
        return Err(OciError::Unsupported { field: field.to_owned(), detail });
    }
    Ok(Some(label.clone()))
}
