//! Seccomp: profiles, and the programs that the kernel runs on every system call.
//!
//! * `file`: profile files, as the OCI specification and as container engines write them
//! * `default`: what RuntimeDefault allows
//! * `arch`, `numbers`: the architectures, and what a system call's name is in each
//! * `rules`: a profile as decisions a system call, of one architecture; overlaps are refused
//! * `condition`: comparisons of arguments; which exclude each other
//! * `program`, `compile`: decisions → one BPF program
//!
//! Between them goes `linux.seccomp` of the OCI specification, so that other executors can act on
//! what a profile file said. Everything but reading a file is pure.

mod arch;
mod compile;
mod condition;
mod default;
mod error;
mod file;
mod numbers;
mod program;
mod rules;

pub use compile::compile;
pub use default::runtime_default;
pub use error::SeccompError;
pub use file::{Host, parse, read};
pub use rules::unknown_names;

#[cfg(test)]
mod kernel_tests;

/// The names of the architectures whose calls are filtered on this machine.
pub fn architectures() -> &'static [oci_spec::runtime::Arch] {
    arch::names()
}
