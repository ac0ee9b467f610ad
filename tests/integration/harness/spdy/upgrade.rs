//! HTTP/1.1 until the upgrade.

use crate::harness::poll::DEADLINE;
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The answer to a request to upgrade.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Without an upgrade; as far as `Content-Length` says.
    pub(crate) body: String,
}

impl Answer {
    /// All values of a header.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| &value[..]).collect()
    }
}

/// Asks a URL for an upgrade to SPDY/3.1, with one `X-Stream-Protocol-Version` for each protocol. The
/// connection speaks SPDY when the status is 101.
///
/// # Errors
/// There is no connection, or no answer that is HTTP.
pub(crate) fn ask(method: &str, url: &str, protocols: &[&str]) -> Result<(Answer, TcpStream)> {
    let mut lines = vec!["Connection: Upgrade".to_owned(), "Upgrade: SPDY/3.1".to_owned()];
    lines.extend(protocols.iter().map(|p| format!("X-Stream-Protocol-Version: {p}")));
    ask_with(method, url, &lines)
}

/// [`ask`] with all lines of the request's head but `Host`.
///
/// # Errors
/// Those of [`ask`].
pub(crate) fn ask_with(method: &str, url: &str, lines: &[String]) -> Result<(Answer, TcpStream)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not http"))?;
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {url}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let path = if path.is_empty() { "/" } else { path };
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n")?;
    let answer = read_answer(&mut stream)?;
    Ok((answer, stream))
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer> {
    // Byte by byte: what follows is SPDY already.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let told = || format!("an answer, after {:?}", String::from_utf8_lossy(&head));
        stream.read_exact(&mut byte).with_context(told)?;
        head.push(byte[0]);
        ensure!(head.len() < 64 * 1024, "an endless head");
    }
    let head = String::from_utf8(head)?;
    let mut lines = head.lines();
    let first = lines.next().context("no status line")?;
    let status = first.split(' ').nth(1).context("no status")?.parse()?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(pair).collect();
    let mut answer = Answer { status, headers, body: String::new() };
    if status != 101 {
        let length = answer.values("content-length").first().map_or(Ok(0), |n| n.parse())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).context("the answer's body")?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
    }
    Ok(answer)
}
