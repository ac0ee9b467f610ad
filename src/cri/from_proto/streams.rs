//! What is asked of a streaming session.

use super::error::RequestError;
use crate::cri::streaming::Streams;

/// The streams of Exec and Attach (CRI: at least one of them; a terminal has no errors apart from its output).
pub(crate) fn streams(
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
) -> Result<Streams, RequestError> {
    if !(stdin || stdout || stderr) {
        return Err(RequestError::invalid("stdin", "one of stdin, stdout and stderr must be true"));
    }
    if tty && stderr {
        let reason = "must be false with tty: a terminal has no errors apart from its output";
        return Err(RequestError::invalid("stderr", reason));
    }
    Ok(Streams { stdin, stdout, stderr, tty })
}

/// Ports of TCP.
pub(crate) fn ports(field: &str, ports: &[i32]) -> Result<Vec<u16>, RequestError> {
    let port = |(index, port): (usize, &i32)| {
        u16::try_from(*port).ok().filter(|port| *port > 0).ok_or_else(|| {
            RequestError::invalid(format!("{field}[{index}]"), format!("{port} is not 1 to 65535"))
        })
    };
    ports.iter().enumerate().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_cannot_be_are_refused_by_their_field() {
        assert_eq!(
            streams(true, true, false, true),
            Ok(Streams { stdin: true, stdout: true, stderr: false, tty: true })
        );
        for (asked, field) in
            [((false, false, false, true), "stdin"), ((true, true, true, true), "stderr")]
        {
            let error = streams(asked.0, asked.1, asked.2, asked.3).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_port_that_cannot_be_is_refused_by_its_place() {
        assert_eq!(ports("port", &[1, 65_535]), Ok(vec![1, 65_535]));
        for bad in [0, -1, 65_536, i32::MIN] {
            let error = ports("port", &[80, bad]).unwrap_err();
            assert_eq!(error.to_string(), format!("port[1]: {bad} is not 1 to 65535"));
        }
    }
}
