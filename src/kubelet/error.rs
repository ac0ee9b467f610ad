//! Why the kubelet half cannot start.

use super::board::BoardError;
use super::cgroups::QosError;
use super::http::HttpError;
use super::node::NodeError;
use super::shutdown::ShutdownError;
use super::source::LocalError;
use super::userns::UsernsError;
use super::volumes::VolumeError;
use crate::blocking;
use crate::cgroups::CgroupError;
use crate::cri::client::CriError;
use crate::error::ErrorKind;
use crate::probes::check::NoTls;

/// A kubelet half that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The statuses of the last run.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// What volumes need of the node.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// The node's cgroups.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// More is reserved than there is.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is swap, and there must be none.
    #[error("the node has {bytes} bytes of swap, and kubelet.fail_swap_on is true")]
    Swap {
        /// How much.
        bytes: u64,
    },
    /// What swap there is cannot be told, and there must be none.
    #[error("read /proc/swaps, because kubelet.fail_swap_on is true")]
    Swaps(#[source] std::io::Error),
    /// Files of the newer cgroup hierarchy are asked for, and the runtime has the older ones.
    #[error("kubelet.{key} needs cgroup v2, which the runtime does not have")]
    LegacyCgroups {
        /// The key of the configuration.
        key: &'static str,
    },
    /// A cgroup of what is reserved.
    #[error(transparent)]
    Reserved(#[from] QosError),
    /// The ids of pods' user namespaces.
    #[error(transparent)]
    Userns(#[from] UsernsError),
    /// Graceful node shutdown.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] CriError),
    /// What was applied.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// TLS of probes.
    #[error(transparent)]
    Tls(#[from] NoTls),
    /// The HTTP API.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Work of the start was cut off.
    #[error(transparent)]
    Blocking(#[from] blocking::BlockingError),
}

impl KubeletError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Board(error) => error.kind(),
            Self::Volumes(error) => error.kind(),
            Self::Cgroups(error) => error.kind(),
            Self::Node(_) => ErrorKind::InvalidArgument,
            Self::Swap { .. } | Self::LegacyCgroups { .. } => ErrorKind::FailedPrecondition,
            Self::Reserved(error) => error.kind(),
            Self::Userns(error) => error.kind(),
            Self::Shutdown(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Local(error) => error.kind(),
            Self::Tls(_) | Self::Swaps(_) => ErrorKind::Internal,
            Self::Http(error) => error.kind(),
            Self::Blocking(error) => error.kind(),
        }
    }
}
