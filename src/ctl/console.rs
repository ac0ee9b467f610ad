//! Where commands write: tables for people, JSON or YAML for programs.

use super::error::CtlError;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write};

/// How lists are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The two streams of a command.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    bars: bool,
}

impl Console {
    /// The process's own.
    pub fn of_process() -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            bars: io::stderr().is_terminal(),
        }
    }

    /// Two given ones, without progress bars.
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, bars: false }
    }

    /// Whether a person watches, so that progress bars make sense.
    pub fn shows_bars(&self) -> bool {
        self.bars
    }

    /// A line of output.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn line(&mut self, text: &str) -> Result<(), CtlError> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Output as it is.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        self.out.write_all(bytes)?;
        Ok(self.out.flush()?)
    }

    /// Error output as it is.
    ///
    /// # Errors
    /// The stream is closed or full.
    pub fn write_err(&mut self, bytes: &[u8]) -> Result<(), CtlError> {
        self.err.write_all(bytes)?;
        Ok(self.err.flush()?)
    }

    /// A remark for people, beside the output. It never fails the command.
    pub fn note(&mut self, text: &str) {
        writeln!(self.err, "{text}").ok();
    }

    /// A document for programs.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn document(&mut self, format: Format, value: &impl Serialize) -> Result<(), CtlError> {
        let text = match format {
            Format::Yaml => {
                serde_yaml_ng::to_string(value).map_err(|_| CtlError::Format("YAML"))?
            }
            Format::Json | Format::Table => {
                let text = serde_json::to_string_pretty(value);
                text.map_err(|_| CtlError::Format("JSON"))? + "\n"
            }
        };
        self.write(text.as_bytes())
    }

    /// Rows in the form that was asked for.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn rows<T: Row>(&mut self, format: Format, rows: &[T]) -> Result<(), CtlError> {
        match format {
            Format::Table => {
                let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
                let text = Columns::new(T::HEADINGS).lines(&cells);
                self.write(text.as_bytes())
            }
            Format::Json | Format::Yaml => self.document(format, &rows),
        }
    }
}

/// Something that is a line of a table and an item of a list.
pub trait Row: Serialize {
    /// The names of the columns.
    const HEADINGS: &'static [&'static str];
    /// One text a column.
    fn cells(&self) -> Vec<String>;
}

/// Columns as wide as their widest cell so far, two spaces between; no spaces at the ends of lines.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    headings: Vec<String>,
    widths: Vec<usize>,
    begun: bool,
}

impl Columns {
    /// Columns without rows.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            widths: headings.iter().map(|heading| width(heading)).collect(),
            headings: headings.iter().map(|heading| (*heading).to_owned()).collect(),
            begun: false,
        }
    }

    /// Rows as lines, the first time below the headings.
    pub(super) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (widest, cell) in self.widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let headings = if self.begun { None } else { Some(&self.headings) };
        self.begun = true;
        let mut text = String::new();
        for row in headings.into_iter().chain(rows) {
            let mut line = String::new();
            for (cell, widest) in row.iter().zip(&self.widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', widest.saturating_sub(width(cell)) + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A stream that can be read afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(crate::lock::lock(&self.0).clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            crate::lock::lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A console, its output and its errors.
    pub(crate) fn captured() -> (Console, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        (Console::new(Box::new(out.clone()), Box::new(err.clone())), out, err)
    }

    #[derive(Serialize)]
    struct Fruit {
        name: String,
        count: u32,
    }

    impl Row for Fruit {
        const HEADINGS: &'static [&'static str] = &["NAME", "COUNT"];
        fn cells(&self) -> Vec<String> {
            vec![self.name.clone(), self.count.to_string()]
        }
    }

    fn fruits() -> Vec<Fruit> {
        vec![Fruit { name: "pear".into(), count: 1 }, Fruit { name: "äpfel".into(), count: 20 }]
    }

    #[test]
    fn a_table_has_even_columns_and_no_spaces_at_line_ends() {
        let (mut console, out, _) = captured();
        console.rows(Format::Table, &fruits()).unwrap();
        assert_eq!(out.text(), "NAME   COUNT\npear   1\näpfel  20\n");
    }

    #[test]
    fn programs_get_json_or_yaml() {
        let (mut console, out, _) = captured();
        console.rows(Format::Json, &fruits()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(value[1]["count"], 20);
        let (mut console, out, _) = captured();
        console.rows(Format::Yaml, &fruits()).unwrap();
        assert_eq!(out.text(), "- name: pear\n  count: 1\n- name: äpfel\n  count: 20\n");
        let (mut console, out, _) = captured();
        console.rows::<Fruit>(Format::Json, &[]).unwrap();
        assert_eq!(out.text(), "[]\n");
    }
}
