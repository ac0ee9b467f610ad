//! What a container may not do, it may not do whoever makes it: the tests of the native executor again, in
//! pods of runc's and of crun's.

use crate::handlers::{CRUN, NEEDS, kept_by, options};
use crate::harness::pod::PATIENT;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, own};
use crate::{apparmor, devices, image_volumes, mounts, propagation, sandbox_pids, seccomp, user};
use anyhow::{Result, ensure};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("runc_enforces_the_same", NEEDS, options, |node| same(node, "runc")),
        own("crun_enforces_the_same", CRUN, options, |node| same(node, "crun")),
    ]
}

/// What is left out: the handler, or any, and the test.
const LEFT_OUT: &[(&str, &str)] = &[
    // Where the host has /proc/kcore, they make /dev/core.
    ("", "dev_holds_the_default_nodes_and_nothing_else"),
    // Only the native executor runs pods in user namespaces.
    ("", "a_user_namespace_takes_no_profile_off"),
    // Debian's crun is older than the verb that tells that it can; `handlers` has the refusal.
    ("crun", "read_only_all_the_way_down_when_asked"),
    ("crun", "the_status_lists_mounts_as_they_were_asked_for"),
    // It refuses a destination through a link that leads nowhere yet, which is inside, too.
    ("crun", "a_symlink_in_a_destination_stays_inside"),
];

fn same(node: &mut Node, handler: &'static str) -> Result<()> {
    node.handler = handler;
    let scene = Scene::new(node, "handled")?;
    let made = scene.start("main", PATIENT, as_is)?;
    kept_by(node, handler, &made.id, made.init()?)?;
    node.remove_all()?;
    let files = [
        apparmor::tests(),
        devices::tests(),
        image_volumes::tests(),
        mounts::tests(),
        propagation::tests(),
        sandbox_pids::tests(),
        seccomp::tests(),
        user::tests(),
    ];
    let (mut passed, mut failed) = (0usize, Vec::new());
    for test in files.iter().flatten() {
        let left_out =
            |(by, name): &(&str, &str)| *name == test.name() && (by.is_empty() || *by == handler);
        if LEFT_OUT.iter().any(left_out) {
            continue;
        }
        match test.against(node) {
            Some(Ok(())) => passed += 1,
            Some(Err(error)) => failed.push(format!("{}: {error:#}", test.name())),
            None => {}
        }
        node.remove_all()?;
    }
    ensure!(failed.is_empty(), "{passed} pass, {} not:\n{}", failed.len(), failed.join("\n"));
    ensure!(passed >= 30, "{passed} tests are too few");
    Ok(())
}
