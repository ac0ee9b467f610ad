//! `berth check`: whether this node can run pods, and what to do where it cannot.
//!
//! Each check reads facts thinly and judges them in a pure function. Nothing that a check makes
//! outlives it: the overlay is a detached mount, the interfaces live in a network namespace of
//! their own.

mod cgroups;
mod handlers;
mod kernel;
mod network;
mod report;
mod storage;
mod surroundings;
mod userns;

pub use report::{Finding, Report, Verdict, print};

use crate::config::Config;

/// Runs all checks.
pub fn run(config: &Config) -> Report {
    let mut report = Report::default();
    kernel::check(&mut report);
    cgroups::check(&config.cgroups, &mut report);
    storage::check(config, &mut report);
    userns::check(config, &mut report);
    network::check(&config.network, &mut report);
    handlers::check(config, &mut report);
    surroundings::check(config, &mut report);
    report
}
