//! From a container's output to its log.
//!
//! Whatever happens to the log, the output is drained: a container never blocks on it. What cannot
//! be written is counted, and said in one line and one event as soon as writing works again.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::attach::Attached;
use super::lines::{Lines, Name, Stamp, header, lost};
use crate::sys::pipe;

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;

/// How much is gathered before it is written.
const WRITE_BYTES: usize = 32 * 1024;

/// Buffers that all streams of a shim share. Empty until output comes, and again when none came
/// for a while: an idle pod holds no memory for them.
#[derive(Default)]
pub(super) struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Scratch {
    /// Whether there is something to release.
    pub(super) fn is_held(&self) -> bool {
        self.input.capacity() > 0
    }

    /// Room for one read.
    pub(super) fn input(&mut self) -> &mut [u8] {
        self.input.resize(READ_BYTES, 0);
        &mut self.input
    }

    /// Gives the memory back.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}

/// Bytes of output that are not in the log, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) bytes: u64,
    pub(super) errno: i32,
}

/// Where a container's lines go.
pub(super) struct Log {
    file: Option<OwnedFd>,
    lost: Option<Lost>,
    /// The file ends in the middle of a line that will not be finished.
    torn: bool,
    /// A loss that was written about and not yet told.
    untold: Option<Lost>,
}

/// Where a container's output goes: first to the log, then to who listens.
pub(super) struct Output<'a> {
    pub(super) log: &'a mut Log,
    pub(super) attached: &'a mut Attached,
}

impl Log {
    /// Lines go to `file`, opened for appending, or nowhere.
    pub(super) fn new(file: Option<OwnedFd>) -> Self {
        Self { file, lost: None, torn: false, untold: None }
    }

    /// Lines go to `file` from now on.
    pub(super) fn reopen(&mut self, file: OwnedFd) {
        self.file = Some(file);
        self.torn = false;
    }

    /// The loss to tell about, once.
    pub(super) fn take_lost(&mut self) -> Option<Lost> {
        self.untold.take()
    }

    /// At the container's end: the loss to tell about even if the file still takes nothing.
    pub(super) fn take_all_lost(&mut self) -> Option<Lost> {
        self.untold.take().or_else(|| self.lost.take())
    }

    /// Writes whole lines, or counts them as lost.
    fn write(&mut self, lines: &[u8]) {
        if self.file.is_none() || lines.is_empty() {
            return;
        }
        if let Err((_, errno)) = self.write_notice() {
            self.count(lost(lines, 0), errno);
            return;
        }
        if let Err((written, errno)) = self.append(lines) {
            self.torn = lines.get(..written).is_some_and(|w| !w.is_empty() && !w.ends_with(b"\n"));
            self.count(lost(lines, written), errno);
        }
    }

    /// Says what was lost before, if anything was.
    fn write_notice(&mut self) -> Result<(), (usize, i32)> {
        let Some(lost) = self.lost else { return Ok(()) };
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        header(Name::Stderr, b'F', &Stamp::new(now_nanos()), &mut line);
        // Writing to a Vec cannot fail.
        writeln!(line, "berth: {} bytes lost: {}", lost.bytes, Errno::from_raw(lost.errno).desc())
            .ok();
        if let Err((written, errno)) = self.append(&line) {
            // A part of the notice is torn, too; the next one begins a new line.
            self.torn |= written > 0;
            return Err((written, errno));
        }
        self.torn = false;
        self.untold = self.lost.take();
        Ok(())
    }

    fn count(&mut self, bytes: u64, errno: i32) {
        let before = self.lost.map_or(0, |l| l.bytes);
        self.lost = Some(Lost { bytes: before + bytes, errno });
    }

    /// Writes all, or says how much was written and why no more.
    fn append(&self, bytes: &[u8]) -> Result<(), (usize, i32)> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match nix::unistd::write(file, rest) {
                Ok(0) => return Err((written, libc::EIO)),
                Ok(n) => written += n,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err((written, errno as i32)),
            }
        }
        Ok(())
    }
}

/// What reading a stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Some bytes; there may be more.
    Some,
    /// Nothing for now.
    Nothing,
    /// Nobody can write to it any more.
    End,
}

/// The reading end of one stream.
pub(super) struct Stream {
    fd: OwnedFd,
    lines: Lines,
}

impl Stream {
    /// `fd` is non-blocking.
    pub(super) fn new(fd: OwnedFd, name: Name) -> Self {
        Self { fd, lines: Lines::new(name) }
    }

    /// Reads once, writes the lines that this completes, and passes on what came.
    pub(super) fn pump(&mut self, to: &mut Output<'_>, scratch: &mut Scratch) -> Read {
        let Scratch { input, output } = scratch;
        input.resize(READ_BYTES, 0);
        let n = match nix::unistd::read(&self.fd, input) {
            Ok(0) => return self.end(to.log, scratch),
            Ok(n) => n,
            Err(Errno::EAGAIN | Errno::EINTR) => return Read::Nothing,
            // EIO: the last descriptor of a terminal's other end was closed.
            Err(_) => return self.end(to.log, scratch),
        };
        let stamp = Stamp::new(now_nanos());
        let data = input.get(..n).unwrap_or_default();
        // In pieces, since a short line is many times its length in the log.
        for piece in data.chunks(WRITE_BYTES / 16) {
            self.lines.push(piece, &stamp, output);
            if output.len() >= WRITE_BYTES {
                to.log.write(output);
                output.clear();
            }
        }
        to.log.write(output);
        output.clear();
        to.attached.pass_on(self.lines.name(), data);
        Read::Some
    }

    fn end(&mut self, log: &mut Log, scratch: &mut Scratch) -> Read {
        self.flush(log, scratch);
        Read::End
    }

    /// Writes the part of a line that has come.
    fn flush(&mut self, log: &mut Log, scratch: &mut Scratch) {
        self.lines.flush(&Stamp::new(now_nanos()), &mut scratch.output);
        log.write(&scratch.output);
        scratch.output.clear();
    }

    /// Writes all that was written before this call: a process in the background may hold the
    /// stream open and write for ever, so no more is read than can have been in it.
    pub(super) fn drain(&mut self, to: &mut Output<'_>, scratch: &mut Scratch) -> Read {
        let rounds = pipe::capacity(self.fd.as_fd()).div_ceil(READ_BYTES) + 1;
        for _ in 0..rounds {
            match self.pump(to, scratch) {
                Read::Some => {}
                Read::Nothing => break,
                Read::End => return Read::End,
            }
        }
        self.flush(to.log, scratch);
        Read::Nothing
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Now, Unix nanoseconds.
pub(super) fn now_nanos() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;
    use std::fs::File;
    use std::io::Read as _;
    use std::io::Seek as _;

    struct Fixture {
        write: OwnedFd,
        stream: Stream,
        log: Log,
        file: File,
        scratch: Scratch,
    }

    fn fixture() -> Fixture {
        let (read, write) = pipe::pipe().unwrap();
        let file = tempfile::tempfile().unwrap();
        let log = Log::new(Some(file.try_clone().unwrap().into()));
        let stream = Stream::new(read, Name::Stdout);
        Fixture { write, stream, log, file, scratch: Scratch::default() }
    }

    impl Fixture {
        fn say(&self, text: &str) {
            nix::unistd::write(&self.write, text.as_bytes()).unwrap();
        }

        fn pump(&mut self) -> Read {
            let mut to = Output { log: &mut self.log, attached: &mut Attached::default() };
            self.stream.pump(&mut to, &mut self.scratch)
        }

        /// The log without its times.
        fn text(&mut self) -> String {
            let mut text = String::new();
            self.file.rewind().unwrap();
            self.file.read_to_string(&mut text).unwrap();
            text.lines().map(|l| format!("{}\n", l.get(31..).unwrap_or(l))).collect()
        }
    }

    #[test]
    fn output_is_in_the_log_with_its_unterminated_end() {
        let mut f = fixture();
        f.say("one\ntw");
        assert_eq!(f.pump(), Read::Some);
        assert_eq!(f.pump(), Read::Nothing);
        f.say("o\nthree");
        assert_eq!(f.pump(), Read::Some);
        f.write = File::open("/dev/null").unwrap().into();
        eventually("its end", || f.pump() == Read::End);
        assert_eq!(f.text(), "stdout F one\nstdout F two\nstdout P three\n");
    }

    #[test]
    fn draining_ends_although_somebody_holds_the_pipe_open() {
        let mut f = fixture();
        f.say(&"x\n".repeat(30_000));
        f.say("tail");
        let mut to = Output { log: &mut f.log, attached: &mut Attached::default() };
        assert_eq!(f.stream.drain(&mut to, &mut f.scratch), Read::Nothing);
        assert!(f.text().ends_with("stdout F x\nstdout P tail\n"));
        assert_eq!(f.text().lines().count(), 30_001);
        // The line goes on later.
        f.say("more\n");
        f.pump();
        assert!(f.text().ends_with("stdout P tail\nstdout F more\n"));
    }

    #[test]
    fn a_full_disk_loses_and_says_how_much_when_it_works_again() {
        let mut f = fixture();
        f.log.file = Some(File::options().write(true).open("/dev/full").unwrap().into());
        f.say("12345678\n");
        f.pump();
        f.say("x\n");
        f.pump();
        assert_eq!(f.log.take_lost(), None);
        f.log.reopen(f.file.try_clone().unwrap().into());
        f.say("again\n");
        f.pump();
        assert_eq!(
            f.text(),
            "stderr F berth: 11 bytes lost: No space left on device\nstdout F again\n"
        );
        assert_eq!(f.log.take_lost(), Some(Lost { bytes: 11, errno: libc::ENOSPC }));
        assert_eq!(f.log.take_all_lost(), None);
    }

    #[test]
    fn a_loss_at_the_end_is_told_although_the_log_still_takes_nothing() {
        let mut f = fixture();
        f.log.file = Some(File::options().write(true).open("/dev/full").unwrap().into());
        f.say("1234\n");
        f.pump();
        assert_eq!(f.log.take_all_lost(), Some(Lost { bytes: 5, errno: libc::ENOSPC }));
    }

    #[test]
    fn without_a_log_output_is_drained_and_not_lost() {
        let mut f = fixture();
        f.log = Log::new(None);
        f.say("x\n");
        assert_eq!(f.pump(), Read::Some);
        assert_eq!(f.log.take_all_lost(), None);
    }
}
