//! A client of SPDY/3.1, of the tests' own: written from the protocol, not with berth's codec.
//!
//! * `upgrade`: the request before it, and its answer
//! * `client`: a session: streams, pings, windows, the end
//! * `wire`: frames and headers as bytes

mod client;
mod upgrade;
mod wire;

pub(crate) use client::{Client, Stream};
pub(crate) use upgrade::{Answer, ask, ask_with};
pub(crate) use wire::{FIN, UNIDIRECTIONAL, control, data, pair};
