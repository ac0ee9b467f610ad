//! Clients at the streams of a running container: output to each, input from any.
//!
//! A client never holds up the container, its log or another client. Output goes into its pipes,
//! which hold all that it may be behind ([`BEHIND_BYTES`]); one that is further behind is
//! disconnected. Input is taken only as the container takes it.
//!
//! | by its control      | its input pipe | then                                                  |
//! |---------------------|----------------|-------------------------------------------------------|
//! | a word: it said all | not at its end | all that is in the pipe is delivered first            |
//! | a word              | at its end     | `stdin_once`: the container's input is closed, the client listens on; else it is disconnected, and the container's input stays open |
//! | a word, then closed | –              | what the container takes at once is delivered, then as above |
//! | closed, no word     | –              | its daemon was lost: the container does not notice     |
//!
//! A terminal's input is never closed: a program sees no end of it, and who comes back goes on.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use prost::Message as _;

use super::container::Container;
use super::io::Scratch;
use super::lines::Name;
use super::wire::{self, attach_end::Why};
use crate::sys::{pipe, socket};

/// How much output a client may leave unread.
const BEHIND_BYTES: usize = 256 * 1024;

/// How many clients one container has at most.
const MAX_CLIENTS: usize = 64;

/// One client.
pub(super) struct Client {
    /// `None`: it is over, and swept at the end of the round.
    control: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
    /// Came with input.
    talks: bool,
    /// The container's input ends with this client's.
    once: bool,
    /// It has said all that it will.
    said_all: bool,
}

impl Client {
    /// The pipes are non-blocking; the outputs' hold twice [`BEHIND_BYTES`], since pages in a pipe
    /// may be half full.
    pub(super) fn new(
        control: OwnedFd,
        stdin: Option<OwnedFd>,
        outputs: [Option<OwnedFd>; 2],
        once: bool,
    ) -> Self {
        let (control, talks) = (Some(control), stdin.is_some());
        Self { control, talks, stdin, outputs, pending: Vec::new(), once, said_all: false }
    }

    /// Whether it has input.
    pub(super) fn talks(&self) -> bool {
        self.talks
    }

    /// Tells why, and disconnects.
    fn end(&mut self, why: Why) {
        if let Some(control) = self.control.take() {
            let end = wire::AttachEnd { why: Some(why) }.encode_to_vec();
            // Nothing else was ever sent by it, so it has room; a client that is gone needs no reason.
            socket::send(control.as_fd(), &end, &[]).ok();
        }
        self.leave();
    }

    fn leave(&mut self) {
        self.control = None;
        self.stdin = None;
        self.outputs = [None, None];
        self.pending = Vec::new();
    }

    /// Gives output to it.
    fn give(&mut self, which: usize, data: &[u8]) {
        let Some(slot) = self.outputs.get_mut(which) else { return };
        let Some(output) = slot else { return };
        let unread = pipe::unread(output.as_fd()).unwrap_or(0);
        let taken = match unread.saturating_add(data.len()) <= BEHIND_BYTES {
            false => 0,
            true => match nix::unistd::write(&*output, data) {
                Ok(n) => n,
                Err(Errno::EPIPE) => {
                    // It does not want this stream any more.
                    *slot = None;
                    return;
                }
                Err(_) => 0,
            },
        };
        if taken < data.len() {
            let behind = u64::try_from(unread.saturating_add(taken)).unwrap_or(u64::MAX);
            self.end(Why::BehindBytes(behind));
        }
    }

    /// Reads what it says by its control; true when it is gone.
    fn read_control(&mut self) -> bool {
        let Some(control) = &self.control else { return false };
        let (mut words, mut fds) = ([0u8; 16], Vec::new());
        loop {
            match socket::receive(control.as_fd(), &mut words, &mut fds) {
                Ok(0) => return true,
                Ok(_) => self.said_all = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    /// Moves input into the container until one of both has no more; true while there may be more.
    fn pass_input(&mut self, to: BorrowedFd<'_>, scratch: &mut Scratch) -> bool {
        if !self.pending.is_empty() {
            match write(to, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(_) => self.refused(),
            }
            if !self.pending.is_empty() {
                return false;
            }
            self.pending = Vec::new();
        }
        let Some(stdin) = &self.stdin else { return false };
        let input = scratch.input();
        let n = match nix::unistd::read(stdin, input) {
            Ok(n @ 1..) => n,
            Err(Errno::EAGAIN | Errno::EINTR) => return false,
            Ok(0) | Err(_) => {
                self.stdin = None;
                return false;
            }
        };
        let data = input.get(..n).unwrap_or_default();
        match write(to, data) {
            Ok(taken) => {
                self.pending = data.get(taken..).unwrap_or_default().to_vec();
                self.pending.is_empty()
            }
            Err(_) => {
                self.refused();
                false
            }
        }
    }

    /// The container does not read any more.
    fn refused(&mut self) {
        self.stdin = None;
        self.pending = Vec::new();
    }
}

/// Writes what is taken without waiting.
fn write(to: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    match nix::unistd::write(to, data) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        other => other,
    }
}

/// What a polled descriptor of a client, or for one, is.
#[derive(Clone, Copy)]
pub(super) enum Said {
    /// Its control.
    Control(usize),
    /// Its input.
    Input(usize),
    /// The container takes input again.
    Room,
}

/// The clients of one container.
#[derive(Default)]
pub(super) struct Attached {
    clients: Vec<Client>,
}

impl Attached {
    /// # Errors
    /// EAGAIN when there are too many.
    pub(super) fn add(&mut self, client: Client) -> io::Result<()> {
        if self.clients.len() >= MAX_CLIENTS {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        self.clients.push(client);
        Ok(())
    }

    /// Gives output to everybody.
    pub(super) fn pass_on(&mut self, name: Name, data: &[u8]) {
        let which = match name {
            Name::Stdout => 0,
            Name::Stderr => 1,
        };
        for client in &mut self.clients {
            client.give(which, data);
        }
    }

    /// Tells everybody.
    pub(super) fn container_ended(&mut self, exit_code: i32) {
        for client in &mut self.clients {
            client.end(Why::ExitCode(exit_code));
        }
    }

    /// What to wait for; `input` is where input goes.
    pub(super) fn watched<'a>(
        &'a self,
        input: Option<BorrowedFd<'a>>,
    ) -> impl Iterator<Item = (Said, BorrowedFd<'a>, PollFlags)> {
        let each = self.clients.iter().enumerate().flat_map(|(n, client)| {
            let control = client.control.as_ref().map(|fd| (Said::Control(n), fd));
            // Its end would be found again and again while something is pending.
            let input = client.stdin.as_ref().filter(|_| client.pending.is_empty());
            let input = input.map(|fd| (Said::Input(n), fd));
            control.into_iter().chain(input).map(|(s, fd)| (s, fd.as_fd(), PollFlags::POLLIN))
        });
        let waits = self.clients.iter().any(|client| !client.pending.is_empty());
        let room = input.filter(|_| waits).map(|fd| (Said::Room, fd, PollFlags::POLLOUT));
        each.chain(room)
    }

    /// Drops who is over.
    pub(super) fn sweep(&mut self) {
        self.clients.retain(|client| client.control.is_some());
        if self.clients.is_empty() {
            self.clients = Vec::new();
        }
    }
}

impl Container {
    /// A client has said something, or what one has said can be delivered.
    pub(super) fn hear(&mut self, said: Said, scratch: &mut Scratch) {
        match said {
            Said::Control(n) => self.hear_control(n, scratch),
            Said::Input(n) => self.pass_input(n, scratch),
            Said::Room => {
                for n in 0..self.attached.clients.len() {
                    self.pass_input(n, scratch);
                }
            }
        }
    }

    fn pass_input(&mut self, n: usize, scratch: &mut Scratch) {
        let input = self.stdin.as_ref().or(self.terminal.as_ref());
        let Some(client) = self.attached.clients.get_mut(n) else { return };
        match input {
            Some(input) => drop(client.pass_input(input.as_fd(), scratch)),
            None => client.refused(),
        }
        self.settle_input(n);
    }

    fn hear_control(&mut self, n: usize, scratch: &mut Scratch) {
        let input = self.stdin.as_ref().or(self.terminal.as_ref());
        let Some(client) = self.attached.clients.get_mut(n) else { return };
        let gone = client.read_control();
        if gone {
            // Bounded by what its pipe holds: nobody writes into it any more.
            while let Some(input) = input
                && client.pass_input(input.as_fd(), scratch)
            {}
            client.refused();
        }
        self.settle_input(n);
        if gone && let Some(client) = self.attached.clients.get_mut(n) {
            client.leave();
        }
    }

    /// What the end of a client's input means.
    fn settle_input(&mut self, n: usize) {
        let Some(client) = self.attached.clients.get_mut(n) else { return };
        let delivered = client.stdin.is_none() && client.pending.is_empty();
        if !client.talks || !client.said_all || !delivered {
            return;
        }
        client.talks = false;
        if !client.once || self.terminal.is_some() {
            client.end(Why::InputEnded(wire::InputEnded {}));
        } else if self.stdin.take().is_some() {
            for other in &mut self.attached.clients {
                other.refused();
            }
        }
    }
}
