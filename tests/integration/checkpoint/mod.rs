//! Checkpoints of containers and pods, and their way back.
//!
//! * `refused`: what is refused before anything is paused
//! * `paused`: with a program in criu's place that does what the test says: pauses, errors, kills
//! * `restored`: with criu itself

mod paused;
mod refused;
mod restored;
mod stand_in;

use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    [refused::tests(), paused::tests(), restored::tests()].into_iter().flatten().collect()
}
