//! What frames of the peer do.

use super::connection::{Connection, Phase};
use super::decode::Item;
use super::entry::{End, Entry, wake};
use super::frame::{self, Control, Status};
use super::headers::Headers;
use super::limits::MAX_WINDOW;
use super::state::{Event, Refused, State, next};
use super::violation::Violation;
use super::window::Window;

/// Ids that the peer left out and may still use. The Go implementation takes an id and sends the frame under
/// two locks: of streams that it opens at the same time, the later one may come first.
const LATE: u32 = 64;

impl Connection {
    /// Takes what the decoder found.
    pub(super) fn receive(&mut self, item: Item<'_>) -> Result<(), Violation> {
        match item {
            Item::Data { stream: 0, .. } => Err(Violation::StreamId(0)),
            Item::Data { stream, first, fin, bytes } => {
                self.data(stream, first, bytes);
                if fin {
                    self.fin(stream);
                }
                Ok(())
            }
            Item::Control(control) => self.control(control),
        }
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), Violation> {
        match control {
            Control::SynStream { stream, fin, unidirectional, block } => {
                let headers = self.inflater.headers(block)?;
                self.take_id(stream)?;
                if !self.accepts() || self.streams.len() >= self.limits.streams {
                    frame::put_rst_stream(&mut self.control, stream, Status::RefusedStream);
                    return Ok(());
                }
                self.open(stream, headers, unidirectional);
                if fin {
                    self.fin(stream);
                }
            }
            // We open no streams: there is nothing to reply to. It is inflated for those that follow.
            Control::SynReply { block } => {
                self.inflater.headers(block)?;
            }
            Control::Headers { stream, fin, block } => {
                self.inflater.headers(block)?;
                if fin {
                    self.fin(stream);
                }
            }
            Control::RstStream { stream } => self.close(stream),
            Control::Settings { initial_window: Some(initial) } => self.initial_window(initial)?,
            Control::Settings { initial_window: None } => {}
            // Even ones would answer ours, of which there are none.
            Control::Ping { id } if id % 2 == 1 => frame::put_ping(&mut self.control, id),
            Control::Ping { .. } => {}
            Control::Goaway => self.going = true,
            Control::WindowUpdate { stream, bytes } => self.window_update(stream, bytes)?,
        }
        Ok(())
    }

    /// Whether a new stream may have this id: odd, and larger than others or left out before, § 2.3.2.
    fn take_id(&mut self, id: u32) -> Result<(), Violation> {
        if id.is_multiple_of(2) || (id <= self.last && !self.late.remove(&id)) {
            return Err(Violation::StreamId(id));
        }
        if id > self.last {
            let left_out = (1..=LATE).map_while(|n| id.checked_sub(2 * n));
            self.late.extend(left_out.take_while(|left| *left > self.last));
            while self.late.len() > LATE as usize {
                self.late.pop_first();
            }
            self.last = id;
        }
        Ok(())
    }

    fn open(&mut self, id: u32, headers: Headers, unidirectional: bool) {
        let mut entry = Entry::new(Window::new(self.credit.initial));
        entry.sending.shut = unidirectional;
        self.streams.insert(id, entry);
        if unidirectional {
            self.step(id, Event::OurFin);
        } else {
            let block = self.deflater.block(&[(":status", "200"), (":version", "HTTP/1.1")]);
            frame::put_syn_reply(&mut self.control, id, &block);
        }
        self.unread += headers.size();
        self.arrived.push_back((id, headers));
        wake(&mut self.acceptor);
    }

    fn data(&mut self, id: u32, first: bool, bytes: &[u8]) {
        let finishing = self.phase == Phase::Finishing;
        let Some(entry) = self.streams.get_mut(&id) else {
            // To a stream that was: it was on its way.
            let was = id % 2 == 1 && id <= self.last && !self.late.contains(&id);
            if first && !was {
                frame::put_rst_stream(&mut self.control, id, Status::InvalidStream);
            }
            self.grant(None, bytes.len());
            return;
        };
        match next(entry.state, Event::PeerData) {
            Ok(_) if entry.received.dropped || finishing => self.grant(Some(id), bytes.len()),
            Ok(_) => {
                entry.received.bytes.extend(bytes);
                self.unread += bytes.len();
                if !bytes.is_empty() {
                    wake(&mut entry.received.reader);
                }
            }
            Err(Refused::Over) => self.grant(None, bytes.len()),
            Err(Refused::AfterFin) => {
                self.reset(id, Status::StreamAlreadyClosed);
                self.grant(None, bytes.len());
            }
        }
    }

    fn fin(&mut self, id: u32) {
        self.step(id, Event::PeerFin);
        if let Some(entry) = self.streams.get_mut(&id)
            && matches!(entry.state, State::PeerDone | State::Closed)
        {
            entry.end(End::Fin);
            self.forget(id);
        }
    }

    fn initial_window(&mut self, initial: u32) -> Result<(), Violation> {
        if i64::from(initial) > MAX_WINDOW {
            return Err(Violation::Window);
        }
        let by = i64::from(initial) - i64::from(self.credit.initial);
        self.credit.initial = initial;
        self.credit.streams = true;
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.change_window(id, by);
        }
        Ok(())
    }

    fn window_update(&mut self, id: u32, bytes: u32) -> Result<(), Violation> {
        self.credit.streams = true;
        if id == 0 {
            self.credit.session = true;
            return self.credit.window.change(bytes.into()).map_err(|_| Violation::Window);
        }
        self.change_window(id, bytes.into());
        Ok(())
    }

    fn change_window(&mut self, id: u32, by: i64) {
        if let Some(entry) = self.streams.get_mut(&id).filter(|entry| entry.may_send()) {
            match entry.sending.window.change(by) {
                Ok(()) => self.list(id),
                Err(_) => self.reset(id, Status::FlowControlError),
            }
        }
    }
}
