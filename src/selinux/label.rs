//! Labels as text: `user:role:type:level`. Pure; whether a policy knows one is the kernel's to say.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a user, a role or a type.
const MAX_NAME: usize = 128;
/// The longest level: a context and its name have to fit the 255 bytes of fsconfig(2).
const MAX_LEVEL: usize = 64;
/// The role of everything that is no process.
const OBJECT_ROLE: &str = "object_r";

/// The parts of a label that a request names; what is empty it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The type of processes.
    pub typ: String,
    /// Sensitivity and categories.
    pub level: String,
}

impl Options {
    /// Checked parts. The error names the part and what is wrong with it.
    ///
    /// # Errors
    /// A part that could not stand in any label.
    pub fn parse(
        user: &str,
        role: &str,
        typ: &str,
        level: &str,
    ) -> Result<Self, (&'static str, String)> {
        for (part, text) in [("user", user), ("role", role), ("type", typ)] {
            if !text.is_empty() && !is_name(text) {
                return Err((part, format!("{} is no name of a policy", shown(text))));
            }
        }
        if !level.is_empty() && !is_level(level) {
            return Err(("level", format!("{} is not like s0 or s0:c1,c2", shown(level))));
        }
        let [user, role, typ, level] = [user, role, typ, level].map(str::to_owned);
        Ok(Self { user, role, typ, level })
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// Whether a user, a role or a type may have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

/// `s0`, `s0:c1,c2`, `s0:c0.c5,c9`, or two of them with `-` between.
fn is_level(text: &str) -> bool {
    let one = |text: &str| match text.split_once(':') {
        None => is_numbered(text, 's'),
        Some((sensitivity, list)) => {
            is_numbered(sensitivity, 's')
                && list.split(',').all(|range| match range.split_once('.') {
                    None => is_numbered(range, 'c'),
                    Some((first, last)) => is_numbered(first, 'c') && is_numbered(last, 'c'),
                })
        }
    };
    text.len() <= MAX_LEVEL
        && match text.split_once('-') {
            None => one(text),
            Some((low, high)) => one(low) && one(high),
        }
}

fn is_numbered(text: &str, letter: char) -> bool {
    let digits = text.strip_prefix(letter).unwrap_or_default();
    (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The pair of categories that is the whole of a level, `s0:c1,c2`, the smaller first.
pub(super) fn pair_of(level: &str) -> Option<(u16, u16)> {
    let list = level.strip_prefix("s0:")?;
    let (one, other) = list.split_once(',')?;
    let number = |text: &str| text.strip_prefix('c')?.parse::<u16>().ok();
    let (one, other) = (number(one)?, number(other)?);
    (one != other).then_some((one.min(other), one.max(other)))
}

/// A whole label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The type.
    pub typ: String,
    /// Sensitivity and categories.
    pub level: String,
}

impl Label {
    /// With each part that is named in place of its own.
    pub(super) fn with(&self, options: &Options) -> Self {
        let part = |asked: &str, own: &str| if asked.is_empty() { own } else { asked }.to_owned();
        Self {
            user: part(&options.user, &self.user),
            role: part(&options.role, &self.role),
            typ: part(&options.typ, &self.typ),
            level: part(&options.level, &self.level),
        }
    }

    /// The label of files of this type that processes of this label may use.
    pub(super) fn file(&self, typ: &str) -> Self {
        Self { role: OBJECT_ROLE.to_owned(), typ: typ.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.user, self.role, self.typ, self.level)
    }
}

/// What a pod or a container runs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: Label,
    /// Of its files.
    pub mount: Label,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_a_sensitivity_and_categories_or_a_range_of_two() {
        for level in ["s0", "s0:c1", "s0:c1,c2", "s0:c0.c1023", "s0:c1.c3,c9", "s0-s0:c0.c1023"] {
            assert!(Options::parse("", "", "", level).is_ok(), "{level}");
        }
        let long = format!("s0:{}c1", "c1,".repeat(30));
        for level in
            ["0", "s", "s0:", "s0:1", "s0:c1,", "s0:c12345", "s0:c1-c2", "s0 ", "s0\n", "c1", &long]
        {
            let (part, _) = Options::parse("", "", "", level).expect_err(level);
            assert_eq!(part, "level", "{level}");
        }
    }

    #[test]
    fn names_hold_nothing_that_would_end_a_part_or_a_mount_option() {
        assert!(Options::parse("system_u", "system_r", "container_t", "").is_ok());
        for name in ["a:b", "a,b", "a\"b", "a b", "a\0b", "a\nb", "ä", &"a".repeat(129)] {
            assert_eq!(Options::parse(name, "", "", "").unwrap_err().0, "user", "{name}");
            assert_eq!(Options::parse("", name, "", "").unwrap_err().0, "role", "{name}");
            assert_eq!(Options::parse("", "", name, "").unwrap_err().0, "type", "{name}");
        }
    }

    #[test]
    fn a_part_that_is_named_wins_and_the_others_stay() {
        let [user, role, typ, level] =
            ["system_u", "system_r", "container_t", "s0:c1,c2"].map(str::to_owned);
        let label = Label { user, role, typ, level };
        let rows = [
            (("", "", "", ""), "system_u:system_r:container_t:s0:c1,c2"),
            (("", "", "own_t", ""), "system_u:system_r:own_t:s0:c1,c2"),
            (("u", "r", "", "s0"), "u:r:container_t:s0"),
        ];
        for ((user, role, typ, level), expected) in rows {
            let options = Options::parse(user, role, typ, level).unwrap();
            assert_eq!(label.with(&options).to_string(), expected);
        }
        let file = label.file("container_file_t").to_string();
        assert_eq!(file, "system_u:object_r:container_file_t:s0:c1,c2");
    }

    #[test]
    fn a_level_of_two_categories_is_a_pair_in_whatever_order() {
        assert_eq!(pair_of("s0:c7,c3"), Some((3, 7)));
        assert_eq!(pair_of("s0:c3,c7"), Some((3, 7)));
        for level in ["s0", "s0:c3", "s0:c3,c3", "s0:c1,c2,c3", "s0:c1.c2", "s1:c1,c2"] {
            assert_eq!(pair_of(level), None, "{level}");
        }
    }
}
