//! Bytes between a client and the descriptors of a process. What the slower side does not take, the
//! faster one does not get rid of: nothing is kept here but one block a direction.

use super::channels::{Input, Output};
use crate::sys::{async_fd, pipe};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// How much is passed on at once, bytes.
pub(super) const BLOCK: usize = 32 << 10;
/// How long a terminal may be silent after its command has ended, before it is taken for said all: what is
/// left in the background may have it open for ever, and the kernel passes its last words on in its own time.
const SILENCE: Duration = Duration::from_millis(500);
/// What ends the input of a terminal in its usual mode.
pub(super) const END_OF_TRANSMISSION: &[u8] = &[4];

/// Where a process's output comes from.
pub(super) struct Source {
    fd: AsyncFd<OwnedFd>,
    is_terminal: bool,
}

impl Source {
    /// A pipe.
    pub(super) fn pipe(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: async_fd::watch(fd)?, is_terminal: false })
    }

    /// A pty's master.
    pub(super) fn terminal(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: async_fd::watch(fd)?, is_terminal: true })
    }

    /// Passes everything on to the end of the output, or, once `ended` is cancelled, all that was written
    /// before that; what still runs in the background may hold the other side open. A client that
    /// does not want the stream (`None`) or listens no more does not hold the process up.
    pub(super) async fn pass(&self, mut out: Option<Output>, ended: &CancellationToken) {
        let mut block = vec![0; BLOCK];
        loop {
            let count = tokio::select! {
                biased;
                count = self.read(&mut block) => count,
                () = ended.cancelled() => break,
            };
            // EIO is the end of a terminal: nobody has its other side open.
            let Ok(count @ 1..) = count else { return finish(out).await };
            pass_block(&mut out, block.get(..count).unwrap_or_default()).await;
        }
        let mut left = pipe::unread(self.fd.get_ref().as_fd()).unwrap_or(0);
        while left > 0 || self.is_terminal {
            let read = tokio::time::timeout(SILENCE, self.read(&mut block)).await;
            let Ok(Ok(count @ 1..)) = read else { break };
            pass_block(&mut out, block.get(..count).unwrap_or_default()).await;
            left = left.saturating_sub(count);
        }
        finish(out).await;
    }

    async fn read(&self, block: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.readable().await?;
            if let Ok(result) =
                ready.try_io(|fd| nix::unistd::read(fd.get_ref(), block).map_err(io::Error::from))
            {
                return result;
            }
        }
    }
}

async fn pass_block(out: &mut Option<Output>, bytes: &[u8]) {
    if let Some(stream) = out
        && stream.write_all(bytes).await.is_err()
    {
        *out = None;
    }
}

async fn finish(out: Option<Output>) {
    if let Some(mut stream) = out {
        // A client that listens no more needs no end.
        stream.shutdown().await.ok();
    }
}

/// Where a process's input goes.
pub(super) struct Sink(AsyncFd<OwnedFd>);

impl Sink {
    /// A pipe's write end, or a pty's master; non-blocking.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        async_fd::watch(fd).map(Self)
    }

    /// Passes on what the client says to its end; `false` when the process reads no more. Never ends when the client
    /// is cut off, which is no end of what it says.
    pub(super) async fn fill(&self, from: &mut Input) -> bool {
        let mut block = vec![0; BLOCK];
        loop {
            match from.read(&mut block).await {
                Ok(0) => return true,
                Ok(count) => {
                    if self.write_all(block.get(..count).unwrap_or_default()).await.is_err() {
                        return false;
                    }
                }
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// EPIPE when the process reads no more.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(result) =
                ready.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from))
            {
                bytes = bytes.get(result?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn output() -> (Option<Output>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(BLOCK);
        (Some(Box::new(near)), far)
    }

    async fn all(mut from: tokio::io::DuplexStream) -> Vec<u8> {
        let mut text = Vec::new();
        from.read_to_end(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn output_is_passed_on_to_its_end() {
        let (read, write) = pipe::pipe().unwrap();
        nix::unistd::write(&write, b"hello").unwrap();
        drop(write);
        let (out, far) = output();
        Source::pipe(read).unwrap().pass(out, &CancellationToken::new()).await;
        assert_eq!(all(far).await, b"hello");
    }

    #[tokio::test]
    async fn a_pipe_that_stays_open_ends_with_its_command() {
        let (read, write) = pipe::pipe().unwrap();
        nix::unistd::write(&write, &[7; 50_000]).unwrap();
        let ended = CancellationToken::new();
        ended.cancel();
        let (out, far) = output();
        let source = Source::pipe(read).unwrap();
        let ((), text) = tokio::join!(source.pass(out, &ended), all(far));
        assert_eq!(text.len(), 50_000);
        drop(write);
    }

    #[tokio::test]
    async fn a_client_that_listens_no_more_holds_nothing_up() {
        let (read, write) = pipe::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            let mut file = std::fs::File::from(write);
            io::Write::write_all(&mut file, &vec![7; 1 << 20]).unwrap();
        });
        let (out, far) = output();
        drop(far);
        Source::pipe(read).unwrap().pass(out, &CancellationToken::new()).await;
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_is_written_as_it_is_read() {
        let (read, write) = pipe::stdin_pipe().unwrap();
        let sink = Sink::new(write).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(read).read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut from: Input = Box::new(io::Cursor::new(vec![7; 1 << 20]));
        assert!(sink.fill(&mut from).await);
        drop(sink);
        assert_eq!(reader.join().unwrap(), 1 << 20);
    }

    #[tokio::test]
    async fn a_process_that_reads_no_more_ends_its_input() {
        let (read, write) = pipe::stdin_pipe().unwrap();
        drop(read);
        let mut from: Input = Box::new(io::Cursor::new(vec![7; 10]));
        assert!(!Sink::new(write).unwrap().fill(&mut from).await);
    }
}
