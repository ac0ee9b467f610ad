//! The table in docs/conformance.md: what becomes of each field of each request, and the test that
//! shows it.

use crate::harness::sent::{INTERFACE, all_fields};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the table is, in the source tree.
pub(crate) const PATH: &str = "docs/conformance.md";
/// The table. The machine that runs the tests may not have the source tree.
const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conformance.md"));
/// Ends the path of a row that stands for every field below a message.
const ALL_BELOW: &str = ".**";
/// What a reason to ignore a field begins with: where containerd does so.
const EVIDENCE: &str = "containerd ";

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has its effect.
    Honoured,
    /// A value is an error that names the field.
    Refused,
    /// Any value is accepted and has no effect.
    Ignored,
}

/// A row, of one field or of all below a message.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `Method.field.field`, for a message with [`ALL_BELOW`].
    pub(crate) field: String,
    pub(crate) verdict: Verdict,
    /// `file::test` of an integration test, `path.rs::test` of a unit test.
    pub(crate) tests: Vec<String>,
    /// The last column.
    pub(crate) remark: String,
}

/// How the remark of a row begins that stands for the rows of the same message in another request.
const AS_IN: &str = "as `";

impl Row {
    /// The path of the field or message that the row is about.
    pub(crate) fn path(&self) -> &str {
        self.field.strip_suffix(ALL_BELOW).unwrap_or(&self.field)
    }

    /// Whether it speaks about a field.
    pub(crate) fn covers(&self, field: &str) -> bool {
        match self.field.strip_suffix(ALL_BELOW) {
            Some(above) => field.strip_prefix(above).is_some_and(|rest| rest.starts_with('.')),
            None => field == self.field,
        }
    }
}

/// Reads the table.
///
/// # Errors
/// A row has another form.
pub(crate) fn read() -> Result<Vec<Row>> {
    let rows = TEXT
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| row(line).with_context(|| format!("{PATH}: {line}")));
    rows.collect()
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [field, verdict, tests, remark] = cells[..] else { bail!("not four cells") };
    Ok(Row {
        field: field.trim_matches('`').to_owned(),
        verdict: match verdict {
            "honoured" => Verdict::Honoured,
            "refused" => Verdict::Refused,
            "ignored" => Verdict::Ignored,
            other => bail!("{other:?} is no verdict"),
        },
        tests: tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect(),
        remark: remark.to_owned(),
    })
}

/// Every field of every request of the interface.
pub(crate) fn interface() -> Vec<String> {
    let mut fields = Vec::new();
    for service in INTERFACE.services() {
        for method in service.methods() {
            all_fields(&method.input(), method.name(), &mut fields);
        }
    }
    fields
}

/// Every field is in the table, once, and every row is about a field.
///
/// # Errors
/// One is not.
pub(crate) fn is_complete() -> Result<()> {
    let rows = read()?;
    let fields = interface();
    ensure!(fields.len() > 500, "only {} fields", fields.len());
    for field in &fields {
        let about: Vec<&str> =
            rows.iter().filter(|row| row.covers(field)).map(|row| &*row.field).collect();
        ensure!(about.len() == 1, "{field}: {} rows: {about:?}", about.len());
    }
    for row in &rows {
        let known = fields.iter().any(|field| row.covers(field));
        ensure!(known, "{}: the interface has no such field", row.field);
        // An effect is a field's own, unless the message is another request's, and so is what becomes of it.
        let whole = row.field.ends_with(ALL_BELOW) && !row.remark.starts_with(AS_IN);
        ensure!(!(whole && row.verdict == Verdict::Honoured), "{}: name its fields", row.field);
    }
    for service in INTERFACE.services() {
        for method in service.methods() {
            let heading = format!("### {}", method.name());
            ensure!(TEXT.lines().any(|line| line == heading), "{heading:?} is missing");
        }
    }
    Ok(())
}

/// Every test that the table names exists, and what is ignored says where containerd does so, too.
///
/// # Errors
/// One does not.
pub(crate) fn is_founded(integration: &BTreeSet<String>) -> Result<()> {
    let mut sources = BTreeMap::new();
    for row in read()? {
        ensure!(!row.tests.is_empty(), "{}: no test", row.field);
        for test in &row.tests {
            let known = match test.split_once(".rs::") {
                None => integration.contains(test),
                Some((file, name)) => unit_test(&mut sources, file, name)?,
            };
            ensure!(known, "{}: there is no test {test}", row.field);
        }
        let founded = row.verdict != Verdict::Ignored || row.remark.starts_with(EVIDENCE);
        ensure!(founded, "{}: ignored, but where does containerd do so?", row.field);
    }
    Ok(())
}

fn unit_test(sources: &mut BTreeMap<String, String>, file: &str, name: &str) -> Result<bool> {
    if !sources.contains_key(file) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{file}.rs"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {file}.rs"))?;
        sources.insert(file.to_owned(), text);
    }
    Ok(sources.get(file).is_some_and(|text| text.contains(&format!("fn {name}("))))
}
