//! One task a pod: `sync` until it is to end, then `terminating`, then `terminated`; never back.
//!
//! [`task`] is that life; [`round`] looks at what there is, makes the plan and carries it out: [`sandbox`],
//! [`start`] with [`image`] and [`container_files`], [`kill`]. [`finish`] ends a pod and takes away what is left of it. [`inbox`] is what the
//! others have to say to it. [`steps`] are what may hang, and the calls that the end waits for. A round that is cut off by an order to end leaves
//! nothing behind that the next look would not find.

mod body;
mod container_files;
mod credentials;
mod failure;
mod finish;
#[cfg(test)]
mod fixture;
mod host;
mod image;
mod inbox;
mod kill;
mod look;
mod orphan;
mod pull_limits;
mod round;
mod sandbox;
mod start;
mod steps;
mod task;

pub use host::{Host, Settings};
pub use inbox::{Command, Ending, Handle};
pub use orphan::orphan_pod;
pub use pull_limits::PullLimits;
pub use steps::HANGS;
pub use task::{Worker, spawn};
