//! What goes to the peer: control frames first, then data of streams in turn.

use super::connection::{Connection, Phase};
use super::entry::{Entry, take, wake};
use super::frame::{DATA, put_data_head};
use super::state::Event;
use super::window::Room;

/// Bytes that are put together for one write to the socket; a frame more at most.
const BATCH: usize = 64 * 1024;

/// What became of a stream's turn.
enum Turn {
    /// It has more.
    More,
    /// It has no more, or no window.
    Done,
    /// The session has no window for its data.
    NoSession,
}

impl Connection {
    /// Appends what there is to send.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        if !matches!(self.phase, Phase::Open | Phase::Finishing) {
            return;
        }
        let mut without_window = 0;
        while out.len() < BATCH && without_window < self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            match self.turn(id, out) {
                Turn::More => {
                    self.ready.push_back(id);
                    without_window = 0;
                }
                Turn::Done => {}
                Turn::NoSession => {
                    self.ready.push_back(id);
                    without_window += 1;
                }
            }
        }
    }

    /// Whether all that was written is in frames.
    pub(super) fn is_drained(&self) -> bool {
        !self.streams.values().any(Entry::has_output)
    }

    /// A frame of a stream.
    fn turn(&mut self, id: u32, out: &mut Vec<u8>) -> Turn {
        let Some(entry) = self.streams.get_mut(&id) else { return Turn::Done };
        entry.sending.listed = false;
        if !entry.has_output() {
            return Turn::Done;
        }
        let sending = &mut entry.sending;
        let waiting = sending.bytes.len();
        let room = match self.credit.room(sending.window) {
            _ if waiting == 0 => 0,
            Room::Bytes(room) => room.min(DATA).min(waiting),
            Room::NoneOfStream => return Turn::Done,
            Room::NoneOfSession => {
                sending.listed = true;
                return Turn::NoSession;
            }
        };
        let (left, fin) = (waiting - room, sending.shut && room == waiting);
        put_data_head(out, id, room, fin);
        take(&mut sending.bytes, room, |piece| out.extend_from_slice(piece));
        sending.window.sent(room);
        self.credit.window.sent(room);
        self.queued -= room;
        sending.listed = left > 0;
        // Also one that waits for the share of others: it has some of its own in the queue, by the reserve.
        if left <= self.limits.queued_by_stream / 2 {
            wake(&mut sending.writer);
        }
        if room > 0 {
            self.step(id, Event::OurData);
        }
        if fin {
            self.step(id, Event::OurFin);
            self.forget(id);
        }
        if left > 0 { Turn::More } else { Turn::Done }
    }
}
