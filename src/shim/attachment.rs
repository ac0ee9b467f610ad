//! The daemon's end of a client that is attached to a container; the shim's is `attach.rs`, with the
//! meaning of what is said and closed.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use prost::Message as _;
use tokio::io::unix::AsyncFd;

use super::wire::{self, attach_end::Why};
use crate::sys::{async_fd, pipe, socket};

/// What a pipe for output holds, bytes: in pages that may be half full, twice what a client may be
/// behind.
const OUTPUT_BYTES: i32 = 512 * 1024;

/// What a pipe for input holds, bytes.
const INPUT_BYTES: i32 = 64 * 1024;

/// The streams that a client wants.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a stream of its own")]
pub struct Wanted {
    /// To talk.
    pub stdin: bool,
    /// Its output; all that comes out of a terminal.
    pub stdout: bool,
    /// Its errors.
    pub stderr: bool,
    /// The container's input ends with this client's; not with a terminal.
    pub stdin_once: bool,
}

/// Why a client is attached no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The container has ended.
    Exited {
        /// 0 to 255, 128 + signal.
        code: i32,
    },
    /// The client's input has ended and is delivered. The container and its input go on.
    InputEnded,
    /// The client did not read: the container goes on without it.
    Behind {
        /// How much output waited for it; there was more.
        bytes: u64,
    },
    /// The pod's shim is gone.
    Lost,
}

/// A client's streams. Dropped without [`Attachment::end_input`], it is as a daemon that was lost.
#[derive(Debug)]
pub struct Attachment {
    /// Where input goes, non-blocking.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from, non-blocking.
    pub stdout: Option<OwnedFd>,
    /// Where errors come from, non-blocking.
    pub stderr: Option<OwnedFd>,
    control: AsyncFd<OwnedFd>,
}

impl Attachment {
    /// With the shim's ends, in the order of the request.
    pub(super) fn new(wanted: Wanted) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (own, control) = socket::pair()?;
        let control_own = async_fd::watch(own)?;
        let mut fds = vec![control];
        let make = |wanted: bool, capacity: i32| {
            wanted.then(|| pipe::wide(capacity)).transpose().map(Option::unzip)
        };
        let (shims, stdin) = make(wanted.stdin, INPUT_BYTES)?;
        let (stdout, out) = make(wanted.stdout, OUTPUT_BYTES)?;
        let (stderr, err) = make(wanted.stderr, OUTPUT_BYTES)?;
        fds.extend([shims, out, err].into_iter().flatten());
        Ok((Self { stdin, stdout, stderr, control: control_own }, fds))
    }

    /// The client has said all that it will; what is in the pipe is delivered when `stdin` is closed.
    pub fn end_input(&self) {
        // A shim that is gone, or has ended it, needs no word.
        socket::send(self.control.get_ref().as_fd(), b"E", &[]).ok();
    }

    /// Waits until the shim ends it. What was written before is still in the pipes then.
    pub async fn ended(&self) -> AttachEnd {
        let mut told = Vec::new();
        // One message and its end; a shim that dies leaves the end alone.
        while let Ok(1..) = self.read(&mut told).await {}
        match wire::AttachEnd::decode(told.as_slice()).ok().and_then(|end| end.why) {
            Some(Why::ExitCode(code)) => AttachEnd::Exited { code },
            Some(Why::InputEnded(_)) => AttachEnd::InputEnded,
            Some(Why::BehindBytes(bytes)) => AttachEnd::Behind { bytes },
            None => AttachEnd::Lost,
        }
    }

    async fn read(&self, told: &mut Vec<u8>) -> io::Result<usize> {
        let (mut buffer, mut fds) = ([0u8; 64], Vec::new());
        loop {
            let mut ready = self.control.readable().await?;
            let control = self.control.get_ref().as_fd();
            if let Ok(result) = ready.try_io(|_| socket::receive(control, &mut buffer, &mut fds)) {
                let count = result?;
                told.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return Ok(count);
            }
        }
    }
}
