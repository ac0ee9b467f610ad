//! The wire: CRI v1 over gRPC. Foreign types (prost, tonic) stay in this folder.
//!
//! A request passes [`server`] (socket, [`authority`] filter, [`instrument`]), a service
//! (`runtime_service` with `runtime`, `image_service`, [`own`]), the [`gate`] to the engine, and is turned into berth's own
//! types by `from_proto`; the reply is made by `to_proto`, an error by `status`.
//! Exec, Attach and PortForward answer URLs of the HTTP server in [`streaming`].

mod authority;
pub mod client;
mod events;
mod from_proto;
mod gate;
mod image_service;
mod instrument;
mod list_filter;
pub mod own;
pub mod proto;
mod routes;
mod runtime;
mod runtime_service;
mod server;
mod status;
pub mod streaming;
mod to_proto;

#[cfg(test)]
mod descriptor_tests;
#[cfg(test)]
mod view_fixture;
#[cfg(test)]
mod wire_tests;

pub use gate::EngineGate;
pub use routes::routes;
pub use server::{MAX_REQUEST_BYTES, ServerError, Socket};
pub(crate) use status::to_status as status_of;
pub(crate) use to_proto::CORRUPT;
