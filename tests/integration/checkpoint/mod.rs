//! Checkpoints of containers and pods, and their way back.
//!
//! * `refused`: what is refused before anything is paused
//! * `paused`: with a program in criu's place that does what the test says: pauses, errors, kills
//! * `restored`: with criu itself

mod paused;
mod refused;
mod restored;
mod stand_in;

use crate::harness::{Node, Test, kernel};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use tonic::Code;

/// A container of which no checkpoint can be made: the reason is told, with or without a criu, and nothing is done.
pub(crate) fn refused(node: &Node, pod: &str, id: &str, words: &str) -> Result<()> {
    let file = node.path(&format!("{id}.tar"));
    let request = proto::CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: file.to_string_lossy().into_owned(),
        timeout: 0,
    };
    let error = node.cri.checkpoint_container(request).err().context("a checkpoint was made")?;
    let told = error.code() == Code::FailedPrecondition && error.message().contains(words);
    ensure!(told, "{words}: {error}");
    ensure!(!file.exists(), "{words}: a file is left");
    let frozen = kernel::counter(&node.container_cgroup(pod, id).join("cgroup.events"), "frozen")?;
    ensure!(frozen == 0, "{words}: it stands still");
    Ok(())
}

pub(crate) fn tests() -> Vec<Test> {
    [refused::tests(), paused::tests(), restored::tests()].into_iter().flatten().collect()
}
