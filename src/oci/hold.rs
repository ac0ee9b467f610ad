//! Stopping a container's first process on its way: at the steps of the OCI lifecycle where others
//! act in its namespaces before it goes on.
//!
//! ```text
//! clone … root file system built ▸ built() ▸ pivot … standard descriptors ▸ ready() ▸ limits,
//! filters, user and capabilities ▸ execve
//! ```

use std::os::fd::BorrowedFd;

use super::step::StepError;

/// What is spare in a shim's mount namespace.
pub(super) const SPARE: &str = "/root";

/// Runs in the child, on a copy of the parent's memory.
pub trait Hold {
    /// Where the root file system is attached until the pivot, a path of the parent's root: those
    /// who act before the pivot look for it there.
    fn root_at(&self) -> &str;

    /// A folder of the mount namespace that the process starts with, for what it needs of there until
    /// the pivot and must not be covered before.
    fn spare(&self) -> &str;

    /// The descriptors that the stops need, by number.
    fn fds(&self) -> Vec<u32>;

    /// The root file system is built, and the root is still that of the host. `report` takes
    /// [`tell_built`](super::tell_built).
    ///
    /// # Errors
    /// The process ends with it.
    fn built(&self, report: BorrowedFd<'_>) -> Result<(), StepError>;

    /// Inside the new root, still with every privilege; the program exists. `report` takes
    /// [`tell_waiting`](super::tell_waiting), and may be replaced, by number, by another place for
    /// what is told from here on.
    ///
    /// # Errors
    /// The process ends with it.
    fn ready(&self, report: BorrowedFd<'_>) -> Result<(), StepError>;
}
