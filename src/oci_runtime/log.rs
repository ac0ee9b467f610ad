//! The log that a caller asks for by `--log`: from there it takes the words of an error.

use super::args::{LogFormat, OciArgs};
use super::error::{Doing as _, RuntimeError};
use crate::clock;
use std::fs::File;
use std::io::Write as _;

/// Where and how is logged.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// Opens the log for appending.
    pub(super) fn open(args: &OciArgs) -> Result<Self, RuntimeError> {
        let open = |path| std::fs::OpenOptions::new().create(true).append(true).open(path);
        let file = match &args.log {
            None => None,
            Some(path) => Some(open(path).doing(|| format!("open the log {}", path.display()))?),
        };
        Ok(Self { file, format: args.log_format, debug: args.debug })
    }

    /// An error: what the caller shows. Also a line on standard error.
    pub(super) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.write("error", message);
        }
        // There is nowhere else to tell a failed write to standard error.
        writeln!(std::io::stderr(), "berth-oci: {message}").ok();
    }

    /// Something that went wrong and does not hold up the verb.
    pub(super) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// What is done.
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, &clock::rfc3339(clock::now_nanos()));
        // A log that cannot be written must not stop a container.
        match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()).ok(),
            None => std::io::stderr().write_all(line.as_bytes()).ok(),
        };
    }
}

fn line(format: LogFormat, level: &str, message: &str, time: &str) -> String {
    match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        }
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_has_what_containerd_reads() {
        let text = line(LogFormat::Json, "error", "a \"b\"\nc", "2026-01-02T03:04:05.000000000Z");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "a \"b\"\nc");
        assert_eq!(value["time"], "2026-01-02T03:04:05.000000000Z");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_text_line_is_one_line() {
        let text = line(LogFormat::Text, "error", "a\nb", "now");
        assert_eq!(text, "time=\"now\" level=error msg=\"a\\nb\"\n");
    }
}
