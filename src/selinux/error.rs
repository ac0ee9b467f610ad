//! Why a label cannot be had.

use crate::error::ErrorKind;
use std::io;
use std::path::PathBuf;

/// A label that cannot be given, or not be set.
#[derive(Debug, thiserror::Error)]
pub enum SelinuxError {
    /// The configuration wants what the kernel has not.
    #[error(
        "selinux.enabled = true: this kernel does not run with SELinux, or no policy is loaded"
    )]
    NoKernel,
    /// A label was asked for where labels are off.
    #[error("{field}: SELinux labels are off on this node ([selinux] enabled = false)")]
    Off {
        /// The request's field.
        field: &'static str,
    },
    /// The pod was made while labels were off.
    #[error("{field}: the pod was made without an SELinux label")]
    Unlabelled {
        /// The request's field.
        field: &'static str,
    },
    /// The kernel's policy has no such label.
    #[error("{field}: the node's SELinux policy does not know the label {label}")]
    Unknown {
        /// The request's field, or the table of the configuration.
        field: &'static str,
        /// The label.
        label: String,
    },
    /// Every pair of categories belongs to a pod.
    #[error("all {pairs} pairs of SELinux categories are taken by pods (selinux.category_range)")]
    Exhausted {
        /// How many there are.
        pairs: u32,
    },
    /// A folder whose label the host itself lives by.
    #[error("selinux_relabel of {path}: a folder of the system is not relabelled for a pod")]
    Forbidden {
        /// The folder.
        path: PathBuf,
    },
    /// A tree that is deeper than anybody means.
    #[error("selinux_relabel of {path}: more than {limit} folders in each other")]
    Deep {
        /// The source of the mount.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The deadline of the verb passed. What is labelled stays so, and a repeat goes on from there.
    #[error("selinux_relabel of {path} did not end in time")]
    Late {
        /// The source of the mount.
        path: PathBuf,
    },
    /// A file cannot be looked at or labelled.
    #[error("{operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SelinuxError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoKernel | Self::Off { .. } | Self::Unlabelled { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Unknown { .. } | Self::Forbidden { .. } | Self::Deep { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Exhausted { .. } => ErrorKind::ResourceExhausted,
            Self::Late { .. } => ErrorKind::DeadlineExceeded,
            Self::File { .. } => ErrorKind::Internal,
        }
    }
}
