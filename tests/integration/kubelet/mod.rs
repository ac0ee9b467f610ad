//! Pods of manifests: from a file in a folder to processes, files and addresses, and back to nothing.
//!
//! What is asked is the kernel and the files where that can be; berth's word is its status file. After each test
//! the manifests are removed, and nothing of their pods may be left.

mod bad_input;
pub(crate) mod elsewhere;
mod ephemeral;
mod eviction;
mod eviction_course;
mod hooks;
mod http;
mod http_access;
mod lifecycle;
mod logs;
mod memory;
mod node;
mod objects;
pub(crate) mod place;
mod probes;
mod remote;
mod restarts;
mod volumes;
mod why;
pub(crate) mod why_hangs;

use crate::harness::Test;

/// All but those of [`place`], which ask for what only the virtual machine has, and run there, too.
pub(crate) fn tests() -> Vec<Test> {
    let mut all = lifecycle::tests();
    all.extend(ephemeral::tests());
    all.extend(restarts::tests());
    all.extend(probes::tests());
    all.extend(hooks::tests());
    all.extend(objects::tests());
    all.extend(volumes::tests());
    all.extend(logs::tests());
    all.extend(remote::tests());
    all.extend(node::tests());
    all.extend(http::tests());
    all.extend(http_access::tests());
    all.extend(bad_input::tests());
    all.extend(eviction::tests());
    all.extend(eviction_course::tests());
    all.extend(why::tests());
    all.extend(why_hangs::tests());
    all
}
