//! Containers and commands that another OCI runtime makes.
//!
//! The runtime is called, verb by verb, as a child of the shim; what it makes becomes a child of the
//! shim, too, which is the subreaper above it. From then on the process is as any other here: its
//! output, its end, its signals are the shim's affair and need no runtime.
//!
//! | verb     | answers by                                              | then                                      |
//! |----------|---------------------------------------------------------|-------------------------------------------|
//! | `create` | its exit code, the file `pid`, a terminal by `console`  | the container's process is known; `start` |
//! | `start`  | its exit code                                           | the container runs                        |
//! | `exec`   | its exit code, the file `pid-…`, a terminal             | the command runs                          |
//! | criu     | its exit code, the file `pid`                           | the container runs, as if made here       |
//! | `delete` | its exit code                                           | the end, or the failed start, is told     |
//!
//! Why a verb failed is the last line of its log. A container's process may end before it is known
//! which one it is: while a verb is at work, ends of strangers are kept.

mod console;
mod container;
mod delete;
mod exec;
mod restore;
mod runtime;
mod verb;

pub(super) use delete::{After, Closing};
pub(super) use runtime::Runtime;
pub(super) use verb::Handled;
