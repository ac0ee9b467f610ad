//! The HTTP API of a kubelet: health, pods, logs, commands, figures.
//!
//! [`server`] listens on a unix socket, for root, and over TCP with TLS ([`pki`] where no certificate is configured; [`live`] as long
//! as files change). A
//! request is from somebody ([`user`], [`certificate`]), who may ask for its path or not ([`access`]), and is answered
//! ([`api`]) by what its path stands for ([`route`]): [`pods`], [`configz`],
//! [`logs`], and [`streams`], which are the runtime's behind a [`proxy`];
//! [`figures`] gathers what [`summary`] and [`metrics`] are made of.
//!
//! What always holds: nobody who is not known gets any answer but 401, not even which paths there are; who may do
//! what is decided by the path, never by the method; what is told of the node is read when it is asked for.

pub mod access;
mod answer;
mod api;
mod certificate;
mod configz;
mod error;
pub(in crate::kubelet) mod figures;
#[cfg(test)]
mod fixture;
mod live;
mod log_lines;
mod logs;
mod metrics;
pub(in crate::kubelet) mod node_usage;
mod pki;
mod pods;
mod proxy;
pub mod pulse;
mod query;
mod route;
mod server;
mod shown;
mod streams;
mod summary;
pub mod tallies;
pub mod user;

pub use error::HttpError;
pub use pulse::Pulse;
pub use server::{HttpServer, Place};
pub use shown::Shown;
pub use tallies::Tallies;
