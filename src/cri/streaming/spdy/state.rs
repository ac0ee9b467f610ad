//! The states of a stream, § 2.3. Pure.

/// Where a stream is. A reset ends it at once, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Both sides send.
    Open,
    /// The peer has sent its last byte.
    PeerDone,
    /// We have sent our last byte.
    WeDone,
    /// Over.
    Closed,
}

/// What a frame, in or out, does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    PeerData,
    PeerFin,
    OurData,
    OurFin,
    /// A RST_STREAM of either side.
    Reset,
}

/// Why a frame is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The stream is over: frames that were on their way are nothing.
    Over,
    /// After the FIN of the same side.
    AfterFin,
}

/// The state after an event.
///
/// | | `PeerData` | `PeerFin` | `OurData` | `OurFin` | `Reset` |
/// | --- | --- | --- | --- | --- | --- |
/// | `Open` | `Open` | `PeerDone` | `Open` | `WeDone` | `Closed` |
/// | `PeerDone` | after FIN | after FIN | `PeerDone` | `Closed` | `Closed` |
/// | `WeDone` | `WeDone` | `Closed` | after FIN | after FIN | `Closed` |
/// | `Closed` | over | over | over | over | `Closed` |
pub(super) fn next(state: State, event: Event) -> Result<State, Refused> {
    match (state, event) {
        (_, Event::Reset) | (State::WeDone, Event::PeerFin) | (State::PeerDone, Event::OurFin) => {
            Ok(State::Closed)
        }
        (State::Closed, _) => Err(Refused::Over),
        (State::Open, Event::PeerFin) => Ok(State::PeerDone),
        (State::Open, Event::OurFin) => Ok(State::WeDone),
        (State::Open | State::WeDone, Event::PeerData)
        | (State::Open | State::PeerDone, Event::OurData) => Ok(state),
        (State::PeerDone, Event::PeerData | Event::PeerFin)
        | (State::WeDone, Event::OurData | Event::OurFin) => Err(Refused::AfterFin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_as_documented() {
        use Event::{OurData, OurFin, PeerData, PeerFin, Reset};
        use Refused::{AfterFin, Over};
        use State::{Closed, Open, PeerDone, WeDone};
        let events = [PeerData, PeerFin, OurData, OurFin, Reset];
        let rows = [
            (Open, [Ok(Open), Ok(PeerDone), Ok(Open), Ok(WeDone), Ok(Closed)]),
            (PeerDone, [Err(AfterFin), Err(AfterFin), Ok(PeerDone), Ok(Closed), Ok(Closed)]),
            (WeDone, [Ok(WeDone), Ok(Closed), Err(AfterFin), Err(AfterFin), Ok(Closed)]),
            (Closed, [Err(Over), Err(Over), Err(Over), Err(Over), Ok(Closed)]),
        ];
        for (state, row) in rows {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(next(state, event), expected, "{state:?} {event:?}");
            }
        }
    }

    proptest! {
        /// A stream is closed exactly when both have sent FIN, or one reset it, and stays so.
        #[test]
        fn a_stream_ends_by_two_fins_or_a_reset(events in prop::collection::vec(0..5_usize, 0..12)) {
            let all = [Event::PeerData, Event::PeerFin, Event::OurData, Event::OurFin, Event::Reset];
            let (mut state, mut peer, mut we, mut reset) = (State::Open, false, false, false);
            for event in events.into_iter().filter_map(|n| all.get(n).copied()) {
                let Ok(after) = next(state, event) else { continue };
                state = after;
                peer |= event == Event::PeerFin;
                we |= event == Event::OurFin;
                reset |= event == Event::Reset;
                prop_assert_eq!(state == State::Closed, reset || (peer && we));
            }
        }
    }
}
