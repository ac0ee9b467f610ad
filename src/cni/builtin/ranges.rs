//! Another network for pods while the daemon runs.

use super::attach::Builtin;
use super::bridge;
use super::nat::Bridged;
use crate::cni::range::{PodRanges, RangeError};
use crate::config;

impl Builtin {
    /// Gives pods another network from now on; those that are attached keep theirs. The bridge has the
    /// gateways of both as long as one of them is on it.
    ///
    /// # Errors
    /// [`RangeError::Refused`] for a range that holds no pods.
    pub(in crate::cni) fn set_ranges(&self, ranges: &PodRanges) -> Result<(), RangeError> {
        let network = self.network_of(ranges)?;
        self.nat().set_own(network.clone());
        *self.own() = Some(network);
        Ok(())
    }

    /// Removes the bridge if no pod is on it: the next one gets it with the gateways of its network
    /// alone. To be called when all pods are known.
    pub(in crate::cni) fn drop_idle_bridge(&self) {
        self.reaper.settle();
        let dropped = self.with_host(|host, bridge| {
            // Whoever attaches is entered before it asks for the bridge, and makes it again.
            if self.nat().is_empty() && bridge::is_ours(host, &self.configured)? {
                *bridge = None;
                bridge::remove_link(host, &self.configured.bridge)?;
            }
            Ok(())
        });
        if let Err(error) = dropped {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "the bridge keeps the gateway of its old network");
        }
    }

    /// Whether [`Builtin::set_ranges`] would take them.
    ///
    /// # Errors
    /// [`RangeError::Refused`].
    pub(in crate::cni) fn check_ranges(&self, ranges: &PodRanges) -> Result<(), RangeError> {
        self.network_of(ranges).map(drop)
    }

    fn network_of(&self, ranges: &PodRanges) -> Result<Bridged, RangeError> {
        let refused = |range: String, reason| Err(RangeError::Refused { range, reason });
        let Some(subnet) = ranges.v4 else {
            let range = ranges.v6.map(|net| net.to_string()).unwrap_or_default();
            return refused(range, "the built-in network needs one of IPv4");
        };
        if subnet.prefix_len() > config::MAX_PREFIX4 {
            return refused(subnet.to_string(), "fewer than six addresses");
        }
        if let Some(subnet6) = ranges.v6.filter(|net| net.prefix_len() > config::MAX_PREFIX6) {
            return refused(subnet6.to_string(), "fewer than sixteen addresses");
        }
        let bridge = self.configured.bridge.clone();
        Ok(Bridged { bridge, subnet, subnet6: ranges.v6 })
    }
}
