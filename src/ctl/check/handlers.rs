//! The runtimes that `[runtimes]` names.

use super::report::{Finding, Report};
use crate::config::Config;
use crate::error::chain;
use crate::handlers;

pub(super) fn check(config: &Config, report: &mut Report) {
    const NAME: &str = "runtime handlers";
    if config.runtimes.is_empty() {
        report.add(Finding::ok(NAME, "the native executor"));
    }
    for (name, runtime) in &config.runtimes {
        report.add(match handlers::program(name, &runtime.path) {
            Ok(()) => Finding::ok(NAME, format!("{name}: {}", runtime.path.display())),
            Err(error) => {
                let remedy =
                    format!("install it, or take [runtimes.{name}] out; its pods are refused");
                Finding::warn(NAME, chain(&error), remedy)
            }
        });
    }
}
