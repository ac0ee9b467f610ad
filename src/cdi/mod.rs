//! Devices by the names that CDI specifications on the node give them (Container Device Interface,
//! specification 1.1.0): a vendor's file says what of an OCI configuration a device needs.
//!
//! Specifications are read anew for every container that names a device: they are few and small,
//! and a driver writes its own when it comes up.

mod apply;
mod error;
mod name;
mod read;
mod schema;

pub use apply::inject;
pub use error::CdiError;
pub use name::DeviceName;
