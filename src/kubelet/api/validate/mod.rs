//! What an API server would refuse, and what a node without one cannot do.
//!
//! Every violation is told, not only the first, each with the path of its field and its value. Checks expect the
//! defaults to be set. ConfigMaps and Secrets may be named: a directory stands in for the API. What this node would pass over
//! in silence though it changes what a pod may do is refused, too.
//!
//! One file a subject; [`problem`] is how a violation is told, [`names`] what texts are allowed to be.

mod containers;
mod dns;
mod env;
mod ephemeral;
mod metadata;
mod mounts;
mod names;
mod ports;
mod probes;
mod problem;
mod projection;
mod refs;
mod resources;
mod security;
mod spec;
mod volumes;

pub use metadata::validate_object;
pub use problem::FieldError;
pub use spec::validate_pod;
