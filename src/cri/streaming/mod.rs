//! Exec, attach and port-forward for clients: an HTTP server beside the CRI socket, whose URLs can be used once.
//!
//! An RPC leaves what it asks for under a [`token`]; the client's request for the URL ([`server`], [`http`]) chooses a
//! protocol ([`negotiate`]) and is upgraded to a [`session`]:
//!
//! | framing | streams of a command | forwarded connections |
//! | --- | --- | --- |
//! | [`spdy`], also in a [`tunnel`] | [`command_spdy`] | [`forward_spdy`] |
//! | [`websocket`] | [`command_websocket`] | [`forward_websocket`] |
//!
//! Whatever the framing, a command's streams are [`channels`], which [`exec`] or [`attach`] join to the process
//! ([`pump`], [`resize`], [`detach`]) and end with an [`outcome`]; a connection's go to [`forward`]. [`connection`] tells that
//! a client is gone.
//!
//! What always holds: memory of a session is bounded (what is not consumed is not read); a client that goes
//! away ends its command, but never a container; a client that says nothing has a deadline until its session
//! begins, and `idle_timeout_seconds` in it.

mod attach;
mod channels;
mod command_spdy;
mod command_websocket;
pub(crate) mod connection;
pub(crate) mod detach;
mod exec;
mod forward;
mod forward_spdy;
mod forward_websocket;
mod http;
mod negotiate;
mod outcome;
mod pump;
mod resize;
mod server;
mod session;
pub mod spdy;
mod token;
mod tunnel;
mod websocket;

pub(in crate::cri) use attach::Target;
pub(in crate::cri) use channels::Streams;
pub(in crate::cri) use exec::Command;
pub(in crate::cri) use forward::Pod;
pub use server::{Streaming, StreamingError, StreamingServer};
