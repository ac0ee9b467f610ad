//! Lines of names and values; those below a name are indented.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// How far a line is indented, and how wide its name is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    indent: usize,
    name: usize,
}

/// The lines of the pod.
pub(super) const TOP: Level = Level { indent: 0, name: 17 };
/// The name of a container or a volume.
pub(super) const ITEM: Level = Level { indent: 2, name: 0 };
/// Its lines.
pub(super) const OF_ITEM: Level = Level { indent: 4, name: 15 };
/// What belongs to one of its lines.
pub(super) const BELOW: Level = Level { indent: 6, name: 13 };

impl Page {
    /// The text.
    pub(super) fn text(self) -> String {
        self.0
    }

    /// `Name:  value`.
    pub(super) fn line(&mut self, level: Level, name: &str, value: &str) {
        let Level { indent, name: width } = level;
        let label = format!("{name}:");
        // A name that is too long for its column keeps a space.
        let text = format!("{:indent$}{label:width$} {}", "", value.trim_end());
        self.plain(text.trim_end());
    }

    /// The same, unless there is no value.
    pub(super) fn some(&mut self, level: Level, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.line(level, name, value);
        }
    }

    /// A line as it is.
    pub(super) fn plain(&mut self, text: &str) {
        // Writing to a String cannot fail.
        writeln!(self.0, "{text}").ok();
    }

    /// Several values of one name, one below the other; `<none>` for none.
    pub(super) fn values(&mut self, level: Level, name: &str, values: &[String]) {
        let mut name = name.to_owned();
        if values.is_empty() {
            self.line(level, &name, "<none>");
        }
        for value in values {
            if name.is_empty() {
                let indent = level.indent + level.name + 1;
                self.plain(&format!("{:indent$}{value}", ""));
            } else {
                self.line(level, &std::mem::take(&mut name), value);
            }
        }
    }

    /// A block of lines below a name; nothing for none.
    pub(super) fn block(&mut self, level: Level, name: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let indent = level.indent;
        self.plain(&format!("{:indent$}{name}:", ""));
        for line in lines {
            self.plain(&format!("{:indent$}  {line}", ""));
        }
    }
}

/// `key=value`, one each.
pub(super) fn pairs(map: Option<&BTreeMap<String, String>>) -> Vec<String> {
    map.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_a_column_and_no_line_ends_in_spaces() {
        let mut page = Page::default();
        page.line(TOP, "Name", "web");
        page.values(TOP, "Labels", &["a=b".into(), "c=d".into()]);
        page.values(TOP, "Annotations", &[]);
        page.some(TOP, "Reason", Some(""));
        page.line(OF_ITEM, "Image", "");
        page.block(OF_ITEM, "Mounts", &["/a from b".into()]);
        page.block(OF_ITEM, "None", &[]);
        assert_eq!(
            page.text(),
            "Name:             web\n\
             Labels:           a=b\n\
             \x20                 c=d\n\
             Annotations:      <none>\n\
             \x20   Image:\n\
             \x20   Mounts:\n\
             \x20     /a from b\n"
        );
    }
}
