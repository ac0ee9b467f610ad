//! Objects of the API as users write them: decoded, defaulted and checked as an API server would, and given the
//! identity of a pod that no API server knows.
//!
//! * [`decode`]: bytes, YAML or JSON, to typed objects; unknown and repeated fields are warnings.
//! * [`default_pod`]: what is left out gets the value that the API says.
//! * [`validate_pod`]: every violation, each with the path of its field.
//! * [`static_identity`], [`name_after_node`]: UID, marks and name of a static pod; the same text gives the same UID.
//! * [`elsewhere()`]: volumes that this node cannot make.
//!
//! All of it is pure. The order is decode, identity, defaults, validation: the UID covers what the user wrote, not
//! what a later version would fill in.

mod decode;
mod defaults;
mod elsewhere;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod identity;
mod pull_policy;
#[cfg(test)]
mod samples;
mod tree;
mod validate;

pub(crate) use decode::documents;
pub use decode::{DecodeError, Decoded, Object, decode};
pub use defaults::{CLUSTER_CRITICAL, CRITICAL_CLASSES, NODE_CRITICAL, default_pod};
pub use elsewhere::elsewhere;
pub use identity::{CONFIG_HASH, CONFIG_SOURCE, name_after_node, static_identity};
pub use validate::{FieldError, validate_object, validate_pod};

crate::error::kinded!(DecodeError);
