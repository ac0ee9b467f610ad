//! The addresses that a cluster gives to a node's pods (CRI: `NetworkConfig.pod_cidr`).

use crate::error::ErrorKind;
use crate::store::StoreError;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One range of a family at most, one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRanges {
    /// IPv4.
    pub v4: Option<Ipv4Net>,
    /// IPv6.
    pub v6: Option<Ipv6Net>,
    /// Whether IPv6 came first: pods then call that address theirs.
    pub v6_first: bool,
}

impl PodRanges {
    /// Parses one range, or one of each family with a comma between them. Nothing: `None`.
    ///
    /// # Errors
    /// What is wrong with which range.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut ranges = Self { v4: None, v6: None, v6_first: false };
        for part in text.split(',') {
            match part.parse() {
                Err(_) => return Err(format!("{part:?} is not a range such as 10.1.2.0/24")),
                Ok(IpNet::V4(net)) if ranges.v4.replace(net.trunc()).is_none() => {}
                Ok(IpNet::V6(net)) if ranges.v6.replace(net.trunc()).is_none() => {
                    ranges.v6_first = ranges.v4.is_none();
                }
                Ok(_) => return Err(format!("{part:?} is the second range of its family")),
            }
        }
        Ok(Some(ranges))
    }

    /// The ranges in the order in which they were given.
    pub fn in_order(&self) -> Vec<IpNet> {
        let mut all = vec![self.v4.map(IpNet::V4), self.v6.map(IpNet::V6)];
        if self.v6_first {
            all.reverse();
        }
        all.into_iter().flatten().collect()
    }
}

/// Why a node's range of pod addresses cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The network cannot have it.
    #[error("pod range {range} is refused: {reason}")]
    Refused {
        /// The range.
        range: String,
        /// Why.
        reason: &'static str,
    },
    /// The template makes no network of it.
    #[error("CNI template {path}: {why}")]
    Template {
        /// The template.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be written down.
    #[error("keep the pod range")]
    Store(#[from] StoreError),
    /// The work was cut off.
    #[error("take over the pod range")]
    Blocking(#[from] crate::blocking::BlockingError),
}

impl RangeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::InvalidArgument,
            Self::Template { .. } => ErrorKind::FailedPrecondition,
            Self::Store(e) => e.kind(),
            Self::Blocking(e) => e.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Vec<String> {
        let ranges = PodRanges::parse(text).unwrap().unwrap();
        ranges.in_order().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_range_or_one_of_each_family_is_taken_in_the_order_given() {
        assert_eq!(order("10.1.2.0/24"), ["10.1.2.0/24"]);
        assert_eq!(order("10.1.2.0/24,fd00:1::/64"), ["10.1.2.0/24", "fd00:1::/64"]);
        assert_eq!(order("fd00:1::/64,10.1.2.0/24"), ["fd00:1::/64", "10.1.2.0/24"]);
        assert_eq!(order("10.1.2.3/24"), ["10.1.2.0/24"], "an address in it names the range");
        assert_eq!(PodRanges::parse("").unwrap(), None);
    }

    #[test]
    fn what_is_no_range_is_refused_by_its_text() {
        for text in ["10.1.2.0", "10.1.2.0/33", ",", "10.1.2.0/24,", "10.1.2.0/24;fd00::/64"] {
            let why = PodRanges::parse(text).unwrap_err();
            assert!(why.contains("is not a range"), "{text}: {why}");
        }
        let why = PodRanges::parse("10.1.0.0/24,10.2.0.0/24").unwrap_err();
        assert!(why.contains("10.2.0.0/24") && why.contains("second"), "{why}");
    }
}
