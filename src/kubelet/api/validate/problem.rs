//! Violations and where they are.

use std::fmt;

/// Characters of a value that are shown.
const SHOWN: usize = 120;

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// From the top of the object: `spec.containers[0].ports[1].hostPort`.
    pub path: String,
    /// What is wrong, with the value.
    pub problem: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// The path of a field.
#[derive(Clone, Debug)]
pub(super) struct At(String);

impl At {
    pub(super) fn top(field: &str) -> Self {
        Self(field.to_owned())
    }

    pub(super) fn field(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{}]", self.0, shown(key)))
    }

    /// The items of a list, each with its path.
    pub(super) fn each<'a, T>(&self, list: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> {
        list.iter().enumerate().map(|(index, item)| (self.index(index), item))
    }

    /// The items of a list that may be absent.
    pub(super) fn each_of<'a, T>(
        &self,
        list: &'a Option<Vec<T>>,
    ) -> impl Iterator<Item = (Self, &'a T)> {
        self.each(list.as_deref().unwrap_or_default())
    }
}

fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FieldError>);

impl Problems {
    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    fn add(&mut self, at: &At, problem: String) {
        self.0.push(FieldError { path: at.0.clone(), problem });
    }

    /// A value that is wrong: `why` goes on from the value.
    pub(super) fn invalid(&mut self, at: &At, value: impl fmt::Debug, why: impl fmt::Display) {
        self.add(at, format!("Invalid value: {}: {why}", shown(&format!("{value:?}"))));
    }

    /// The same, where a check found something.
    pub(super) fn check(&mut self, at: &At, value: &str, found: Result<(), &'static str>) {
        if let Err(why) = found {
            self.invalid(at, value, why);
        }
    }

    pub(super) fn required(&mut self, at: &At, why: impl fmt::Display) {
        self.add(at, format!("Required value: {why}"));
    }

    pub(super) fn duplicate(&mut self, at: &At, value: impl fmt::Debug) {
        self.add(at, format!("Duplicate value: {}", shown(&format!("{value:?}"))));
    }

    pub(super) fn forbidden(&mut self, at: &At, why: impl fmt::Display) {
        self.add(at, format!("Forbidden: {why}"));
    }

    /// A value that is none of a few.
    pub(super) fn unsupported(&mut self, at: &At, value: &str, supported: &[&str]) {
        let supported = supported.join(", ");
        self.add(at, format!("Unsupported value: {:?}: must be one of {supported}", shown(value)));
    }

    /// One of a few, where there is one.
    pub(super) fn one_of(&mut self, at: &At, value: Option<&str>, supported: &[&str]) {
        if let Some(value) = value.filter(|value| !supported.contains(value)) {
            self.unsupported(at, value, supported);
        }
    }

    /// A whole number that may not be negative.
    pub(super) fn not_negative(&mut self, at: &At, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.invalid(at, value, "must not be negative");
        }
    }
}
