//! The integration tests: the real daemon over its real socket, on the real kernel.
//!
//! One file a behaviour, each with a table of its tests. A test says what it needs of the machine;
//! what is missing is a named skip, and a skip that `allowed-skips.txt` does not list is a failure.
//! After each test the node must be as it was before.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod apparmor;
mod attacks_paths;
mod attacks_processes;
mod attacks_requests;
mod bad_files;
mod bad_input;
mod best_effort;
mod cdi;
mod checkpoint;
mod command_line;
mod conformance;
mod container_lifecycle;
mod contradictions;
mod daemon;
mod devices;
mod events;
mod exec;
mod figures;
mod handler_enforcement;
mod handler_failures;
mod handler_terminals;
mod handlers;
mod harness;
mod image_store;
mod image_volumes;
mod images;
mod in_flight;
mod inherited;
mod late_work;
mod limits;
mod load;
mod logs;
mod lost_pods;
mod metrics;
mod mounts;
mod network_builtin;
mod network_cni;
mod network_cni_failures;
mod oci_command;
mod oci_command_failures;
mod oci_command_namespaces;
mod oci_command_processes;
mod oci_command_systemd;
mod oci_engines;
mod odd_signals;
mod overload;
mod pod_ranges;
mod pod_resources;
mod propagation;
mod random;
mod reboot;
mod recovery;
mod registry;
mod registry_hosts;
mod sandbox;
mod sandbox_files;
mod sandbox_namespaces;
mod sandbox_pids;
mod sandbox_requests;
mod sandbox_sysctls;
mod seccomp;
mod seccomp_profiles;
mod selinux;
mod short_ids;
mod stop;
mod stopped_pods;
mod streaming;
mod streams;
mod systemd;
mod tty;
mod undo;
mod user;
mod userns;
mod wire;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    harness::suite::run(
        vec![
            ("apparmor", apparmor::tests()),
            ("attacks_paths", attacks_paths::tests()),
            ("attacks_processes", attacks_processes::tests()),
            ("attacks_requests", attacks_requests::tests()),
            ("bad_files", bad_files::tests()),
            ("bad_input", bad_input::tests()),
            ("best_effort", best_effort::tests()),
            ("cdi", cdi::tests()),
            ("checkpoint", checkpoint::tests()),
            ("command_line", command_line::tests()),
            ("conformance", conformance::tests()),
            ("container_lifecycle", container_lifecycle::tests()),
            ("contradictions", contradictions::tests()),
            ("daemon", daemon::tests()),
            ("devices", devices::tests()),
            ("events", events::tests()),
            ("exec", exec::tests()),
            ("figures", figures::tests()),
            ("handler_enforcement", handler_enforcement::tests()),
            ("handler_failures", handler_failures::tests()),
            ("handler_terminals", handler_terminals::tests()),
            ("handlers", handlers::tests()),
            ("image_store", image_store::tests()),
            ("image_volumes", image_volumes::tests()),
            ("images", images::tests()),
            ("in_flight", in_flight::tests()),
            ("inherited", inherited::tests()),
            ("late_work", late_work::tests()),
            ("limits", limits::tests()),
            ("load", load::tests()),
            ("logs", logs::tests()),
            ("lost_pods", lost_pods::tests()),
            ("metrics", metrics::tests()),
            ("mounts", mounts::tests()),
            ("network_builtin", network_builtin::tests()),
            ("network_cni", network_cni::tests()),
            ("network_cni_failures", network_cni_failures::tests()),
            ("oci_command", oci_command::tests()),
            ("oci_command_failures", oci_command_failures::tests()),
            ("oci_command_namespaces", oci_command_namespaces::tests()),
            ("oci_command_processes", oci_command_processes::tests()),
            ("oci_command_systemd", oci_command_systemd::tests()),
            ("oci_engines", oci_engines::tests()),
            ("odd_signals", odd_signals::tests()),
            ("overload", overload::tests()),
            ("pod_ranges", pod_ranges::tests()),
            ("pod_resources", pod_resources::tests()),
            ("propagation", propagation::tests()),
            ("random", random::tests()),
            ("reboot", reboot::tests()),
            ("recovery", recovery::tests()),
            ("registry", registry::tests()),
            ("registry_hosts", registry_hosts::tests()),
            ("sandbox", sandbox::tests()),
            ("sandbox_files", sandbox_files::tests()),
            ("sandbox_namespaces", sandbox_namespaces::tests()),
            ("sandbox_pids", sandbox_pids::tests()),
            ("sandbox_requests", sandbox_requests::tests()),
            ("sandbox_sysctls", sandbox_sysctls::tests()),
            ("seccomp", seccomp::tests()),
            ("seccomp_profiles", seccomp_profiles::tests()),
            ("selinux", selinux::tests()),
            ("short_ids", short_ids::tests()),
            ("stop", stop::tests()),
            ("stopped_pods", stopped_pods::tests()),
            ("streaming", streaming::tests()),
            ("streams", streams::tests()),
            ("systemd", systemd::tests()),
            ("tty", tty::tests()),
            ("undo", undo::tests()),
            ("user", user::tests()),
            ("userns", userns::tests()),
            ("wire", wire::tests()),
        ],
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/allowed-skips.txt"),
    )
}
