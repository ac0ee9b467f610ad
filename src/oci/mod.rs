//! The native executor: an OCI runtime spec in, a process out.
//!
//! The daemon decides ([`prepare()`], [`prepare_exec`]: spec → plan and descriptors); the shim
//! executes ([`spawn_init`], [`spawn_exec`]: plan → process, in numbered [`Step`]s). What the spec
//! asks and the executor cannot do is refused by name, never left out.

mod covers;
mod create;
mod exec;
mod handler;
mod hold;
mod hook;
mod host_proc;
mod init;
mod lookup;
mod mount;
mod process;
mod report;
mod rootfs;
mod step;
mod target;
mod terminal;
mod turn;
mod userns;

pub use create::{Held, LEVEL, PodHandles, Spawned, Stdio, spawn, spawn_init};
pub use exec::spawn_exec;
pub use handler::{Restores, RuntimeCall, spawn_runtime};
pub use hold::Hold;
pub use hook::{Hook, StateText};
pub use report::{
    Report, Stage, parse_left_out, parse_report, parse_stage, tell_built, tell_waiting,
};
pub use step::{Step, StepError};
pub use terminal::take_terminal;

pub use crate::shim::wire::{ExecPlan, InitPlan};

#[cfg(feature = "daemon")]
mod error;
#[cfg(feature = "daemon")]
mod handler_spec;
#[cfg(feature = "daemon")]
mod hooks;
#[cfg(feature = "daemon")]
mod maps;
#[cfg(feature = "daemon")]
mod options;
#[cfg(feature = "daemon")]
mod plan;
#[cfg(feature = "daemon")]
mod prepare;
#[cfg(feature = "daemon")]
mod restore_spec;
#[cfg(feature = "daemon")]
pub mod seccomp;
#[cfg(feature = "daemon")]
mod selinux;
#[cfg(feature = "daemon")]
mod source;
#[cfg(feature = "daemon")]
mod sysctl;
#[cfg(feature = "daemon")]
mod validate;

#[cfg(feature = "daemon")]
pub use error::OciError;
#[cfg(feature = "daemon")]
pub use handler_spec::{Handled, HandlerPlace, exec_handled, exec_plan_handled, prepare_handled};
#[cfg(feature = "daemon")]
pub use hooks::{HookHome, Hooks, Outside};
#[cfg(feature = "daemon")]
pub use maps::NewUserns;
#[cfg(feature = "daemon")]
pub use plan::capability_names;
#[cfg(feature = "daemon")]
pub(crate) use prepare::is_bind;
#[cfg(feature = "daemon")]
pub use prepare::{PodContext, Prepared, SHM_SOURCE, Volumes, prepare, prepare_exec};
#[cfg(feature = "daemon")]
pub use restore_spec::{Restored, prepare_restored};

#[cfg(feature = "daemon")]
pub use selinux::in_force as selinux_in_force;

#[cfg(feature = "daemon")]
#[cfg(test)]
mod executor_fixture;
#[cfg(feature = "daemon")]
#[cfg(test)]
mod executor_tests;

/// The mount options that are done here, but those of file systems.
#[cfg(feature = "daemon")]
pub fn mount_option_names() -> &'static [&'static str] {
    &options::NAMES
}
