//! The environment of a container and what else is told to it: variables of ConfigMaps, Secrets and Services, and the
//! pod's own fields. Pure.
//!
//! [`environment`] makes the variables, [`expand_command`] puts them into the command; [`field_value`] and
//! [`resource_value`] are the downward API, which volumes use, too; [`Named`] reads the values of an object.

mod container;
mod downward;
mod error;
mod expand;
mod services;
mod values;

pub use container::{
    Command, EnvInput, Environment, environment, expand_command, is_variable_name,
};
pub use downward::{DownwardError, field_value, resource_value};
pub use error::EnvError;
pub use expand::{expand, expand_known};
pub use services::{ServiceLinks, service_variables};
pub use values::{Kind, Named, Need, ValueError, Values};
