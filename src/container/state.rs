//! The states of a container and what moves it from one to the next. Pure.
//!
//! ```text
//! Creating -> Created -> Starting -> Running -> Exited
//!                 ^          |                     ^
//!                 |  Undone  |      Failed (128)   |
//!                 +----------+---------------------+      any but Creating --Lost--> Exited(255)
//! ```
//!
//! `Creating`, `Starting` and `Removing` are intents: written before the first effect.

use crate::sys::process::InitPid;
use serde::{Deserialize, Serialize};

/// Why a container is not running any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Exit code 0.
    Completed,
    /// Any other code, and killed by a signal.
    Error,
    /// The kernel killed a process of it for want of memory.
    #[serde(rename = "OOMKilled")]
    OomKilled,
    /// Its process could not be begun.
    StartError,
    /// Its end was not seen.
    Unknown,
}

impl Reason {
    /// The word that CRI clients know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }
}

/// The exit code of a container whose process could not be begun.
const START_ERROR_CODE: i32 = 128;

/// How a container ended. Times are Unix nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255; 128 + signal.
    pub code: i32,
    /// Why.
    pub reason: Reason,
    /// Details for people.
    pub message: String,
    /// When it began; 0: it never did.
    pub started_at_nanos: i64,
    /// When it ended.
    pub finished_at_nanos: i64,
}

impl Exit {
    /// The end of a container whose end nobody saw: 255, `Unknown`.
    pub fn unknown(started_at_nanos: i64, now_nanos: i64, message: impl Into<String>) -> Self {
        Self {
            code: 255,
            reason: Reason::Unknown,
            message: message.into(),
            started_at_nanos,
            finished_at_nanos: now_nanos,
        }
    }

    /// The end of a container whose process could not be begun: 128, `StartError`.
    pub fn not_begun(now_nanos: i64, message: impl Into<String>) -> Self {
        Self {
            code: START_ERROR_CODE,
            reason: Reason::StartError,
            message: message.into(),
            started_at_nanos: 0,
            finished_at_nanos: now_nanos,
        }
    }
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// CreateContainer is at work.
    Creating,
    /// Ready to start.
    Created,
    /// StartContainer is at work.
    Starting {
        /// Since when, Unix nanoseconds: the time of a start whose end was cut off.
        since_nanos: i64,
    },
    /// Its process runs.
    Running {
        /// Its first process.
        init: InitPid,
        /// When it began, Unix nanoseconds.
        since_nanos: i64,
    },
    /// It has ended.
    Exited(Exit),
    /// RemoveContainer is at work; how it ended, when it had.
    Removing(Option<Exit>),
}

impl State {
    /// When its process began, Unix nanoseconds; 0: not yet, or never.
    pub fn started_at_nanos(&self) -> i64 {
        match self {
            Self::Starting { since_nanos } | Self::Running { since_nanos, .. } => *since_nanos,
            Self::Exited(exit) | Self::Removing(Some(exit)) => exit.started_at_nanos,
            _ => 0,
        }
    }
}

/// What happens to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All steps of CreateContainer succeeded.
    Made,
    /// StartContainer was asked for.
    Start {
        /// When, Unix nanoseconds.
        at_nanos: i64,
    },
    /// A start was cut off before its process began, and undone.
    Undone,
    /// Its process began.
    Began {
        /// Its first process.
        init: InitPid,
        /// When, Unix nanoseconds.
        since_nanos: i64,
    },
    /// It ended, or could not begin.
    Ended(Exit),
    /// It could not be made, and what there is of it could not be removed.
    Failed(Exit),
    /// RemoveContainer was asked for.
    Remove,
}

/// Why an event does not move the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is there already.
    AlreadySo,
    /// Not from this state.
    NotAllowed,
}

/// The next state.
///
/// # Errors
/// [`Refused`].
pub fn next(state: &State, event: Event) -> Result<State, Refused> {
    use State::{Created, Creating, Exited, Removing, Running, Starting};
    match (state, event) {
        (Creating, Event::Made) => Ok(Created),
        (Created, Event::Start { at_nanos }) => Ok(Starting { since_nanos: at_nanos }),
        (Starting { .. }, Event::Undone) => Ok(Created),
        (Starting { .. }, Event::Began { init, since_nanos }) => Ok(Running { init, since_nanos }),
        (Running { .. }, Event::Began { .. }) => Err(Refused::AlreadySo),
        // Starting ends without having begun when its pod is lost or stopped, Created when the
        // machine has booted anew.
        (Created | Starting { .. } | Running { .. }, Event::Ended(exit)) => Ok(Exited(exit)),
        // The first verdict stands: a repeated exit event changes no exit code.
        (Exited(_) | Removing(_), Event::Ended(_)) => Err(Refused::AlreadySo),
        (Creating, Event::Failed(exit)) => Ok(Removing(Some(exit))),
        (Creating | Created, Event::Remove) => Ok(Removing(None)),
        (Exited(exit), Event::Remove) => Ok(Removing(Some(exit.clone()))),
        (Removing(_), Event::Remove) => Err(Refused::AlreadySo),
        _ => Err(Refused::NotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            reason: Reason::Error,
            message: String::new(),
            started_at_nanos: 1,
            finished_at_nanos: 2,
        }
    }

    #[test]
    fn a_running_container_is_not_removed_and_not_started_twice() {
        let init = InitPid { pid: 7, start_time: 1, boot_id: "b".into() };
        let running = State::Running { init, since_nanos: 5 };
        assert_eq!(next(&running, Event::Remove), Err(Refused::NotAllowed));
        assert_eq!(next(&running, Event::Start { at_nanos: 9 }), Err(Refused::NotAllowed));
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Made),
            Just(Event::Start { at_nanos: 2 }),
            Just(Event::Undone),
            (1..9i32).prop_map(|pid| Event::Began {
                init: InitPid { pid, start_time: 1, boot_id: "b".into() },
                since_nanos: 3
            }),
            (0..255i32).prop_map(|code| Event::Ended(exit(code))),
            (0..255i32).prop_map(|code| Event::Failed(exit(code))),
            Just(Event::Remove),
        ]
    }

    proptest! {
        #[test]
        fn in_any_order_of_events_the_first_exit_stands(
            events in proptest::collection::vec(event(), 0..40),
        ) {
            let mut state = State::Creating;
            let mut first: Option<Exit> = None;
            for event in events {
                if let Ok(new) = next(&state, event) {
                    if let State::Exited(exit) | State::Removing(Some(exit)) = &new {
                        let first = first.get_or_insert_with(|| exit.clone());
                        prop_assert_eq!(&*first, exit);
                    } else {
                        prop_assert!(first.is_none());
                    }
                    state = new;
                }
            }
        }
    }
}
