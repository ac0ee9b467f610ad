//! What an API server would refuse, and what a node without one cannot do.
//!
//! Every violation is told, not only the first, each with the path of its field and its value. Checks expect the
//! defaults to be set. ConfigMaps and Secrets may be named: a directory stands in for the API.
//!
//! One file a subject; [`problem`] is how a violation is told, [`names`] what texts are allowed to be.

mod metadata;
mod names;
mod problem;
mod spec;

pub use metadata::validate_object;
pub use problem::FieldError;
pub use spec::validate_pod;
