//! What becomes of every field of the interface, and the proof of it.
//!
//! * [`table`]: docs/conformance.md, read and compared with the interface
//! * [`fields`]: a request with one more field
//! * [`silent`]: fields that are refused, and fields that have no effect
//! * [`target`]: a runtime of whatever make, as a plain client sees it
//! * [`sandboxes`], [`processes`], [`security`], [`files`], [`limits`], [`lists`], [`verbs`]: cases
//!   that send fields and see their effects
//! * [`peer`]: the same cases against another runtime

mod fields;
mod files;
mod limits;
mod lists;
pub(crate) mod peer;
mod processes;
mod sandboxes;
mod security;
mod silent;
pub(crate) mod table;
mod target;
mod traces;
mod verbs;

use crate::harness::{Test, shared};
use anyhow::Context as _;
use target::Case;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        shared("every_field_of_the_interface_is_in_the_table", &[], |_| table::is_complete()),
        shared("every_test_that_the_table_names_exists", &[], |_| {
            table::is_founded(crate::harness::suite::NAMES.get().context("no names")?)
        }),
    ];
    tests.extend(silent::tests());
    tests.extend(cases().iter().map(|case| shared(case.name, case.needs, case.own)));
    tests
}

/// The cases of a plain client.
fn cases() -> Vec<Case> {
    [
        sandboxes::cases(),
        processes::cases(),
        security::cases(),
        files::cases(),
        limits::cases(),
        lists::cases(),
        verbs::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
