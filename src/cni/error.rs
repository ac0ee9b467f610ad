//! Why a pod's network could not be made, checked or undone.

use super::capability::InvalidBandwidth;
use super::helper::HelperError;
use super::invoke::PluginError;
use super::request::NotReady;
use crate::blocking::BlockingError;
use crate::error::ErrorKind;
use crate::store::StoreError;
use std::io;

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no network to attach to.
    #[error("network is not ready")]
    NotReady(#[source] NotReady),
    /// The pod asks for what cannot be.
    #[error("bandwidth limit")]
    Bandwidth(#[source] InvalidBandwidth),
    /// A plugin failed.
    #[error("network {network}")]
    Plugin {
        /// The network's name.
        network: String,
        /// What the plugin said.
        #[source]
        source: Box<PluginError>,
    },
    /// The plugins gave the pod no address.
    #[error("network {network} gave no usable result: {why}")]
    Result {
        /// The network's name.
        network: String,
        /// What is wrong or missing.
        why: String,
    },
    /// Another pod, or this pod itself, has the host port already.
    #[error("hostPort {port} is taken by pod {pod}")]
    PortTaken {
        /// Port and protocol, with the address where one was asked for.
        port: String,
        /// `namespace/name` of the holder.
        pod: String,
    },
    /// No address is left.
    #[error("no free address in {subnet}: all {count} are leased")]
    Exhausted {
        /// The network.
        subnet: String,
        /// How many addresses it has for pods.
        count: u128,
    },
    /// The kernel refused.
    #[error("{operation} {subject}")]
    Kernel {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        subject: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules could not be loaded.
    #[error("load nftables rules: {message}")]
    Rules {
        /// What nft said, or why there is none.
        message: String,
    },
    /// A program that this needs did not run.
    #[error("run a network helper")]
    Helper(#[from] Box<HelperError>),
    /// The journal could not be read or written.
    #[error("network journal")]
    Journal(#[from] StoreError),
    /// Undo left something; everything that could be undone is.
    #[error("{subject} is not undone in full: {errors}")]
    Undo {
        /// What was undone.
        subject: String,
        /// Every error.
        errors: String,
    },
    /// The work was cut off.
    #[error("network work")]
    Blocking(#[from] BlockingError),
}

impl From<HelperError> for NetworkError {
    fn from(error: HelperError) -> Self {
        Self::Helper(Box::new(error))
    }
}

impl NetworkError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady(_) => ErrorKind::Unavailable,
            Self::Bandwidth(_) => ErrorKind::InvalidArgument,
            Self::Plugin { source, .. } => source.kind(),
            Self::PortTaken { .. } => ErrorKind::FailedPrecondition,
            Self::Exhausted { .. } => ErrorKind::ResourceExhausted,
            Self::Helper(e) => e.kind(),
            Self::Journal(e) => e.kind(),
            Self::Result { .. }
            | Self::Kernel { .. }
            | Self::Rules { .. }
            | Self::Undo { .. }
            | Self::Blocking(_) => ErrorKind::Internal,
        }
    }

    pub(super) fn kernel(
        operation: &'static str,
        subject: impl Into<String>,
        source: io::Error,
    ) -> Self {
        Self::Kernel { operation, subject: subject.into(), source }
    }
}
