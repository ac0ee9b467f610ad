//! What the checks found, and how it is printed.

use serde::Serialize;
use std::io::{self, Write};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Pods can run, but something will be missing.
    Warn,
    /// Pods cannot run.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; none when it is as it should be.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn warn(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { name, verdict: Verdict::Warn, found: found.into(), remedy }
    }

    pub(super) fn fail(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(name, found, remedy) }
    }
}

/// All results, in the order of the checks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One entry a check.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Whether pods can run here.
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.verdict != Verdict::Fail)
    }
}

/// Prints the report: a line a check and a line a remedy, or JSON.
///
/// # Errors
/// The output is closed or full.
pub fn print(report: &Report, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report)?;
        return writeln!(out);
    }
    let width = report.findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    for finding in &report.findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        writeln!(out, "{verdict}  {:width$}  {}", finding.name, finding.found)?;
        if let Some(remedy) = &finding.remedy {
            writeln!(out, "      {:width$}  -> {remedy}", "")?;
        }
    }
    let count = |v| report.findings.iter().filter(|f| f.verdict == v).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    if failed > 0 {
        writeln!(out, "\nThis node cannot run pods yet: {failed} failed, {warned} warned.")
    } else {
        writeln!(out, "\nThis node can run pods ({warned} warned).")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_not_ok_has_a_remedy_and_one_failure_fails_the_node() {
        let mut report = Report::default();
        report.add(Finding::ok("kernel", "6.12"));
        report.add(Finding::warn("ports", "taken", "stop the other one"));
        assert!(report.passed());
        report.add(Finding::fail("overlayfs", "no such device", "modprobe overlay"));
        assert!(!report.passed());
        let mut out = Vec::new();
        print(&report, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "ok    kernel     6.12\n\
             warn  ports      taken\n                 -> stop the other one\n\
             FAIL  overlayfs  no such device\n                 -> modprobe overlay\n\n\
             This node cannot run pods yet: 1 failed, 1 warned.\n"
        );
    }

    #[test]
    fn the_report_is_json_for_programs() {
        let mut report = Report::default();
        report.add(Finding::fail("kernel", "5.4", "upgrade"));
        let mut out = Vec::new();
        print(&report, true, &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["findings"][0]["verdict"], "fail");
        assert_eq!(value["findings"][0]["remedy"], "upgrade");
    }
}
