//! Container logs in CRI format: `TIME STREAM P|F TEXT`.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// A line of a container log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// RFC 3339 with nanoseconds.
    pub(crate) time: String,
    /// `stdout` or `stderr`.
    pub(crate) stream: String,
    /// `P`: the next entry goes on with the same line. `F`: the line ends here.
    pub(crate) tag: String,
    /// The text.
    pub(crate) text: String,
}

/// Reads a log.
///
/// # Errors
/// It cannot be read or has another form.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(text.is_empty() || text.ends_with('\n'), "the log does not end with a line");
    text.split_terminator('\n').map(parse).collect()
}

fn parse(line: &str) -> Result<Line> {
    let mut parts = line.splitn(4, ' ').map(str::to_owned);
    let mut next = || parts.next().with_context(|| format!("log line {line:?}"));
    let (time, stream, tag) = (next()?, next()?, next()?);
    let text = next()?;
    ensure!(time.len() >= 20 && time.contains('T'), "time {time:?}");
    ensure!(matches!(stream.as_str(), "stdout" | "stderr"), "stream {stream:?}");
    ensure!(matches!(tag.as_str(), "P" | "F"), "tag {tag:?}");
    Ok(Line { time, stream, tag, text })
}

/// What was written to one stream: partial entries joined, lines ended.
pub(crate) fn stream(lines: &[Line], stream: &str) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        text.push_str(&line.text);
        if line.tag == "F" {
            text.push('\n');
        }
    }
    text
}
