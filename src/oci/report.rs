//! The report pipe from a child to the shim.
//!
//! | record | bytes | means |
//! |---|---|---|
//! | built | `B` | the root file system is built; it waits for a byte of who holds it |
//! | waiting | `W` | everything that create can check is set; it waits for the start |
//! | ready | `R` | everything is set; execve is next |
//! | failed | `F`, step, errno i32, length u16, detail | this step failed; the child ends |
//! | left out | `S`, length u16, words | best effort passed this over; the child goes on |
//!
//! The pipe is close-on-exec: its end after `R` and without `F` means that the program runs. Its
//! end without `R` means that the child was killed on the way. Each record is one write of less
//! than PIPE_BUF bytes, so records never interleave.

use std::os::fd::BorrowedFd;

use super::step::{Step, StepError};

const DETAIL_MAX: usize = 400;

/// What a child has told so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing decisive. At the end of the pipe: it died before it was done.
    Pending,
    /// Everything was set. At the end of the pipe: the program runs.
    Ready,
    /// A step failed.
    Failed(StepError),
}

/// What the bytes read from the report pipe so far say. An incomplete last record is ignored.
pub fn parse_report(bytes: &[u8]) -> Report {
    let mut report = Report::Pending;
    for record in Records(bytes) {
        match record {
            Record::Ready => report = Report::Ready,
            Record::Failed(error) => return Report::Failed(error),
            Record::Stop(_) | Record::LeftOut(_) => {}
        }
    }
    report
}

/// How far a child that is held has told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has told of no stop yet.
    Begun,
    /// At its first stop.
    Built,
    /// At its second.
    Waiting,
}

/// The last stop that the bytes read from the report pipe so far tell of.
pub fn parse_stage(bytes: &[u8]) -> Stage {
    let stop = |record| if let Record::Stop(stage) = record { Some(stage) } else { None };
    Records(bytes).filter_map(stop).last().unwrap_or(Stage::Begun)
}

/// What best effort passed over, in the order of the steps. An incomplete last record is ignored.
pub fn parse_left_out(bytes: &[u8]) -> Vec<String> {
    let text = |record| if let Record::LeftOut(text) = record { Some(text) } else { None };
    Records(bytes).filter_map(text).collect()
}

/// One record of the table above.
enum Record {
    Stop(Stage),
    Ready,
    Failed(StepError),
    LeftOut(String),
}

/// The records in the bytes read so far, up to the first that is not whole or not known.
struct Records<'a>(&'a [u8]);

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let (tag, body) = self.0.split_first()?;
        let (record, rest) = match tag {
            b'B' => (Record::Stop(Stage::Built), body),
            b'W' => (Record::Stop(Stage::Waiting), body),
            b'R' => (Record::Ready, body),
            // The last one.
            b'F' => (Record::Failed(parse_failed(body)?), &[][..]),
            b'S' => split_text(body).map(|(text, rest)| (Record::LeftOut(text), rest))?,
            _ => return None,
        };
        self.0 = rest;
        Some(record)
    }
}

/// A text with its length in front of it, and what follows.
fn split_text(body: &[u8]) -> Option<(String, &[u8])> {
    let (&len, body) = body.split_first_chunk::<2>()?;
    let (text, rest) = body.split_at_checked(usize::from(u16::from_ne_bytes(len)))?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

fn parse_failed(body: &[u8]) -> Option<StepError> {
    let (&number, body) = body.split_first()?;
    let (&errno, body) = body.split_first_chunk::<4>()?;
    let (detail, _) = split_text(body)?;
    Some(StepError { step: Step::from_number(number)?, errno: i32::from_ne_bytes(errno), detail })
}

/// The pid that an intermediate child told, on its own pipe.
pub(super) fn parse_pid(bytes: &[u8]) -> Option<i32> {
    let (tag, body) = bytes.split_first()?;
    let (&pid, _) = body.split_first_chunk::<4>()?;
    (*tag == b'P').then_some(i32::from_ne_bytes(pid))
}

/// Tells the pid of the process that goes on: `P`, i32.
pub(super) fn tell_pid(pipe: BorrowedFd<'_>, pid: i32) {
    let [a, b, c, d] = pid.to_ne_bytes();
    tell(pipe, &[b'P', a, b, c, d]);
}

/// Tells that execve is next.
pub(super) fn tell_ready(report: BorrowedFd<'_>) {
    tell(report, b"R");
}

/// Tells that the root file system is built.
pub fn tell_built(report: BorrowedFd<'_>) {
    tell(report, b"B");
}

/// Tells that it waits for the start.
pub fn tell_waiting(report: BorrowedFd<'_>) {
    tell(report, b"W");
}

/// Tells what is left out; the caller goes on.
pub(super) fn tell_left_out(report: BorrowedFd<'_>, what: &str) {
    let mut record = vec![b'S'];
    push_text(&mut record, what);
    tell(report, &record);
}

/// Tells a failure; the caller ends.
pub(super) fn tell_failed(report: BorrowedFd<'_>, error: &StepError) {
    tell(report, &encode_failed(error));
}

fn encode_failed(error: &StepError) -> Vec<u8> {
    let mut record = vec![b'F', error.step.number()];
    record.extend_from_slice(&error.errno.to_ne_bytes());
    push_text(&mut record, &error.detail);
    record
}

/// A text, cut to what a record may hold, with its length in front of it.
fn push_text(record: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(DETAIL_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    record.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_ne_bytes());
    record.extend_from_slice(text.as_bytes());
}

fn tell(report: BorrowedFd<'_>, record: &[u8]) {
    // Nobody else could be told that nobody listens.
    while nix::unistd::write(report, record) == Err(nix::errno::Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(detail: &str) -> StepError {
        StepError { step: Step::Mount, errno: libc::EROFS, detail: detail.to_owned() }
    }

    #[test]
    fn a_failure_after_ready_is_a_failure() {
        let mut bytes = b"R".to_vec();
        assert_eq!(parse_report(&bytes), Report::Ready);
        bytes.extend(encode_failed(&failure("/data")));
        assert_eq!(parse_report(&bytes), Report::Failed(failure("/data")));
    }

    #[test]
    fn stops_are_told_apart_and_decide_nothing() {
        assert_eq!(parse_stage(b""), Stage::Begun);
        assert_eq!(parse_stage(b"B"), Stage::Built);
        assert_eq!(parse_stage(b"BW"), Stage::Waiting);
        assert_eq!(parse_report(b"BW"), Report::Pending);
        assert_eq!(parse_report(b"BWR"), Report::Ready);
        let mut bytes = b"B".to_vec();
        bytes.extend(encode_failed(&failure("W")));
        assert_eq!(parse_stage(&bytes), Stage::Built);
        assert_eq!(parse_report(&bytes), Report::Failed(failure("W")));
        let mut bytes = b"S".to_vec();
        push_text(&mut bytes, "W");
        bytes.push(b'B');
        assert_eq!(parse_stage(&bytes), Stage::Built);
    }

    #[test]
    fn an_incomplete_record_is_not_believed() {
        let whole = encode_failed(&failure("/data"));
        for end in 0..whole.len() {
            assert_eq!(parse_report(&whole[..end]), Report::Pending, "{end} bytes");
        }
        assert_eq!(parse_report(b"?"), Report::Pending);
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let long = "ä".repeat(DETAIL_MAX);
        let bytes = encode_failed(&failure(&long));
        assert!(bytes.len() <= 4096);
        let Report::Failed(error) = parse_report(&bytes) else { panic!("not a failure") };
        assert!(long.starts_with(&error.detail) && error.detail.len() >= DETAIL_MAX - 1);
    }

    #[test]
    fn what_is_left_out_is_read_around_the_other_records() {
        let mut bytes = Vec::new();
        for what in ["oom_score_adj -500", ""] {
            bytes.push(b'S');
            push_text(&mut bytes, what);
        }
        assert_eq!(parse_report(&bytes), Report::Pending);
        bytes.push(b'R');
        assert_eq!(parse_report(&bytes), Report::Ready);
        assert_eq!(parse_left_out(&bytes), ["oom_score_adj -500", ""]);
        bytes.extend(encode_failed(&failure("/data")));
        assert_eq!(parse_report(&bytes), Report::Failed(failure("/data")));
        assert_eq!(parse_left_out(&bytes).len(), 2);
        assert!(parse_left_out(b"S\xff\xff").is_empty());
    }
}
