//! The report pipe from a child to the shim.
//!
//! | record | bytes | means |
//! |---|---|---|
//! | built | `B` | the root file system is built; it waits for a byte of who holds it |
//! | waiting | `W` | everything that create can check is set; it waits for the start |
//! | ready | `R` | everything is set; execve is next |
//! | failed | `F`, step, errno i32, length u16, detail | this step failed; the child ends |
//!
//! The pipe is close-on-exec: its end after `R` and without `F` means that the program runs. Its
//! end without `R` means that the child was killed on the way. Each record is one write of less
//! than PIPE_BUF bytes, so records never interleave.

use std::os::fd::BorrowedFd;

use super::step::{Step, StepError};

const DETAIL_MAX: usize = 400;
const FAILED_HEAD: usize = 8;

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
    let mut rest = bytes;
    while let Some((tag, body)) = rest.split_first() {
        rest = match tag {
            b'R' => {
                report = Report::Ready;
                body
            }
            b'B' | b'W' => body,
            b'F' => return parse_failed(body).map_or(report, Report::Failed),
            _ => return report,
        };
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
    let told = bytes.iter().take_while(|tag| matches!(tag, b'B' | b'W')).last();
    match told {
        Some(b'W') => Stage::Waiting,
        Some(_) => Stage::Built,
        None => Stage::Begun,
    }
}

fn parse_failed(body: &[u8]) -> Option<StepError> {
    let (&number, body) = body.split_first()?;
    let (&errno, body) = body.split_first_chunk::<4>()?;
    let (&len, body) = body.split_first_chunk::<2>()?;
    let detail = body.get(..usize::from(u16::from_ne_bytes(len)))?;
    Some(StepError {
        step: Step::from_number(number)?,
        errno: i32::from_ne_bytes(errno),
        detail: String::from_utf8_lossy(detail).into_owned(),
    })
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

/// Tells a failure; the caller ends.
pub(super) fn tell_failed(report: BorrowedFd<'_>, error: &StepError) {
    tell(report, &encode_failed(error));
}

fn encode_failed(error: &StepError) -> Vec<u8> {
    let mut end = error.detail.len().min(DETAIL_MAX);
    while !error.detail.is_char_boundary(end) {
        end -= 1;
    }
    let detail = error.detail.get(..end).unwrap_or_default();
    let mut record = Vec::with_capacity(FAILED_HEAD + detail.len());
    record.extend_from_slice(&[b'F', error.step.number()]);
    record.extend_from_slice(&error.errno.to_ne_bytes());
    record.extend_from_slice(&u16::try_from(detail.len()).unwrap_or(0).to_ne_bytes());
    record.extend_from_slice(detail.as_bytes());
    record
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
}
