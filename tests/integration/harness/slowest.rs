//! How long each test took, so that who wants a shorter suite knows where to begin.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many are named at the end.
const NAMED: usize = 40;

/// Times of the tests so far.
#[derive(Default)]
pub(super) struct Slowest(Mutex<Vec<(Duration, String)>>);

impl Slowest {
    /// Runs `body`, the test `name`, and notes its time.
    pub(super) fn time<T>(&self, name: &str, body: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = body();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push((began.elapsed(), name.to_owned()));
        outcome
    }

    /// Prints those that took longest. They differ from run to run: nothing is judged by them.
    #[expect(clippy::print_stdout, reason = "a test runner reports on standard output")]
    pub(super) fn report(&self) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort_unstable_by(|one, other| other.cmp(one));
        let all: Duration = times.iter().map(|(time, _)| time).sum();
        println!("{} tests took {:.0} s, of these", times.len(), all.as_secs_f64());
        for (time, name) in times.iter().take(NAMED) {
            println!("  {:6.1} s  {name}", time.as_secs_f64());
        }
    }
}
