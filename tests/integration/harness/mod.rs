//! What the integration tests stand on.
//!
//! * `attack`: calls of `berth-oci` with a defence taken away
//! * `machine`: what this machine can do, and what a test needs of it
//! * `suite`: the table of tests, skips, and the checks around each test
//! * `node`: a running daemon with folders, a socket and a bridge of its own
//! * `channels`: the remote command protocols over WebSocket, as a client
//! * `cri`: CRI calls to it, blocking, each with a deadline
//! * `cni`: networks for the mode `cni`, of the real plugins and of scripts
//! * `pod`: requests to begin with, and the usual sequences of calls
//! * `runtime`: another runtime for the pods of manifests
//! * `scene`: a pod with containers in it, told in few words
//! * `http`: the HTTP API of the kubelet half, by curl
//! * `hung`: a file system that answers nothing
//! * `image`: an image made from the machine's busybox
//! * `kubelet`: a node that keeps pods of a folder of manifests
//! * `kernel`: the kernel's view, read from /proc and /sys
//! * `logs`: container logs in CRI format
//! * `netns`: network namespaces to look from, and a neighbour of the node's
//! * `sent`: the fields of requests that a test sends
//! * `syscalls`: single system calls in a container, and seccomp profiles
//! * `leaks`: nothing is left after a test
//! * `oci`: `berth-oci` as a caller uses it
//! * `poll`: waiting with a deadline
//! * `pty`: a person at a terminal
//! * `registry`: docker-registry, plain, guarded or as a mirror, and pulls from it
//! * `spdy`: a client of SPDY/3.1, without berth's codec
//! * `slowest`: which tests take the time
//! * `spoiler`: a proxy before a registry that breaks things and listens in

#![allow(dead_code, unused_imports, reason = "what tests may need, not only what they need today")]

pub(crate) mod attack;
pub(crate) mod channels;
pub(crate) mod cni;
pub(crate) mod cri;
pub(crate) mod http;
pub(crate) mod hung;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod kubelet;
pub(crate) mod leaks;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod netns;
pub(crate) mod node;
pub(crate) mod oci;
pub(crate) mod pod;
pub(crate) mod poll;
pub(crate) mod pty;
pub(crate) mod registry;
pub(crate) mod runtime;
pub(crate) mod scene;
pub(crate) mod sent;
mod slowest;
pub(crate) mod spdy;
pub(crate) mod spoiler;
pub(crate) mod suite;
pub(crate) mod syscalls;

pub(crate) use node::{Node, Options};
pub(crate) use poll::eventually;
pub(crate) use suite::{Test, own, shared};
