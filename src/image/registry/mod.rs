//! Registries: the pulling half of the OCI distribution specification 1.1, over reqwest.
//!
//! A [`Repository`] is asked for documents and blobs. It tries the hosts of its registry in the order of
//! `hosts.toml` (`hosts_file` parses one, `hosts` finds it): mirrors first, then the server. Each is an `endpoint`, which
//! answers challenges (`challenge`, `token`, with what `credentials` has), follows redirects by hand, and asks again
//! where that can help (`retry`). `body` reads an answer and notices silence.
//!
//! What always holds: credentials, headers of `hosts.toml` and client certificates are shown to the host they are for, and
//! to nobody it points to; a user name and a password go to another host only when the host itself names that one as its
//! token server, over TLS. What comes back is verified by digest, here or in `intake`, never believed. Every wait has a limit.

mod access;
mod body;
mod challenge;
mod clients;
mod credentials;
mod docker_config;
mod endpoint;
mod error;
mod helper;
mod hosts;
mod hosts_file;
mod proxies;
mod repository;
mod retry;
mod token;

pub(in crate::image) use access::Access;
pub use docker_config::credentials_for;
pub use error::RegistryError;
pub(in crate::image) use repository::{Repository, Senders};

/// Reads a `hosts.toml` for nothing but what comes of it.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::image) fn parse_hosts(text: &str) {
    hosts_file::parse(text).ok();
}

#[cfg(test)]
mod repository_tests;
#[cfg(test)]
mod script;
