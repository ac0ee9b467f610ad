//! The states of a sandbox and what moves it from one to the next. Pure.
//!
//! ```text
//!            Up            Stop            Stopped           Remove
//! Creating ------> Ready --------> Stopping --------> Stopped --------> Removing
//!     | Failed       | Lost           ^
//!     +------------> NotReady --------+ Stop
//! ```
//!
//! `Creating`, `Stopping` and `Removing` are intents: they are written before the first effect, and
//! a start of the daemon that finds one undoes (Creating) or finishes (the others) the work.

use serde::{Deserialize, Serialize};

/// Where a sandbox is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// RunPodSandbox is at work.
    Creating,
    /// Pause runs, the network is up.
    Ready,
    /// StopPodSandbox is at work.
    Stopping,
    /// It does not run, but something of it may be left, and why.
    NotReady(String),
    /// Everything of it is gone but its record.
    Stopped,
    /// RemovePodSandbox is at work.
    Removing,
}

/// What happens to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All steps of RunPodSandbox succeeded.
    Up,
    /// A step failed, and the undo did not complete.
    Failed(String),
    /// StopPodSandbox was asked for.
    Stop,
    /// All steps of StopPodSandbox succeeded.
    Stopped,
    /// Pause or the shim is gone without a stop.
    Lost(String),
    /// RemovePodSandbox was asked for.
    Remove,
}

/// Why an event does not move the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is there already: success, as CRI counts.
    AlreadySo,
    /// Not from this state.
    NotAllowed,
}

/// The next phase.
///
/// # Errors
/// [`Refused`].
pub fn next(phase: &Phase, event: Event) -> Result<Phase, Refused> {
    use Phase::{Creating, NotReady, Ready, Removing, Stopped, Stopping};
    match (phase, event) {
        (Creating, Event::Up) => Ok(Ready),
        (Ready, Event::Up) => Err(Refused::AlreadySo),
        (Creating, Event::Failed(why)) => Ok(NotReady(why)),
        // A stop that was cut off, or left something behind, is carried out again.
        (Creating | Ready | Stopping | NotReady(_), Event::Stop) => Ok(Stopping),
        (Stopped | Removing, Event::Stop) => Err(Refused::AlreadySo),
        (Stopping, Event::Stopped) => Ok(Stopped),
        (Stopped | Removing, Event::Stopped) => Err(Refused::AlreadySo),
        (Creating | Ready, Event::Lost(why)) => Ok(NotReady(why)),
        (Stopping | NotReady(_) | Stopped | Removing, Event::Lost(_)) => Err(Refused::AlreadySo),
        (Stopped, Event::Remove) => Ok(Removing),
        (Removing, Event::Remove) => Err(Refused::AlreadySo),
        _ => Err(Refused::NotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_stopped_sandbox_is_removed() {
        for phase in [Phase::Creating, Phase::Ready, Phase::Stopping, Phase::NotReady("x".into())] {
            assert_eq!(next(&phase, Event::Remove), Err(Refused::NotAllowed), "{phase:?}");
        }
        assert_eq!(next(&Phase::Stopped, Event::Remove), Ok(Phase::Removing));
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Up),
            Just(Event::Failed("f".into())),
            Just(Event::Stop),
            Just(Event::Stopped),
            Just(Event::Lost("l".into())),
            Just(Event::Remove),
        ]
    }

    proptest! {
        #[test]
        fn in_any_order_of_events_a_sandbox_that_left_ready_never_returns(
            events in proptest::collection::vec(event(), 0..40),
        ) {
            let mut phase = Phase::Creating;
            let mut left = false;
            for event in events {
                if let Ok(new) = next(&phase, event) {
                    left |= phase == Phase::Ready && new != Phase::Ready;
                    prop_assert!(!(left && new == Phase::Ready), "{phase:?} -> {new:?}");
                    prop_assert!(phase != Phase::Removing);
                    phase = new;
                }
            }
        }
    }
}
