//! Who asks: by a client's certificate, by a bearer token, or as nobody.

use super::certificate::subject;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The group of everybody who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// A user and the groups that it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl User {
    /// Who shows a certificate that is known to be good: the common name, and the organisations as groups. None for
    /// one without a common name.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let subject = subject(der)?;
        let name = subject.common_names.into_iter().next_back()?;
        Some(Self::known(name, subject.organisations))
    }

    /// Who shows nothing, where that is allowed.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    fn known(name: String, mut groups: Vec<String>) -> Self {
        groups.push(AUTHENTICATED.to_owned());
        Self { name, groups }
    }
}

/// Whoever is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Who may open the socket.
    Root,
    /// Who has come over TCP.
    User(User),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::User(user) => f.write_str(&user.name),
        }
    }
}

/// Bearer tokens; of each, its digest is kept.
#[derive(Clone, Default)]
pub struct Tokens(Vec<([u8; 32], User)>);

/// A line that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not TOKEN,USER,GROUP,GROUP...")]
pub struct BadLine(pub usize);

impl Tokens {
    /// Lines of `token,user,group,group...`; quotes around fields are left out, and so are empty lines and those
    /// that begin with `#`.
    ///
    /// # Errors
    /// A line without a token or a user. It is named by its number: what it says is a secret.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut all = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split(',').map(|field| field.trim().trim_matches('"').trim());
            let (Some(token), Some(name)) = (fields.next(), fields.next()) else {
                return Err(BadLine(at + 1));
            };
            if token.is_empty() || name.is_empty() {
                return Err(BadLine(at + 1));
            }
            let groups = fields.filter(|group| !group.is_empty()).map(str::to_owned).collect();
            all.push((digest(token), User::known(name.to_owned(), groups)));
        }
        Ok(Self(all))
    }

    /// Whose token that is. The time it takes says nothing about the tokens: digests are compared, whole and all.
    pub fn find(&self, token: &str) -> Option<&User> {
        let asked = digest(token);
        let mut found = None;
        for (known, user) in &self.0 {
            let differs = known.iter().zip(asked).fold(0, |differs, (a, b)| differs | (a ^ b));
            if differs == 0 {
                found = Some(user);
            }
        }
        found
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_whose_line_it_is_on() {
        let text = "# who\ns3cret,ann,ops,\"dev\"\n\n \"x y\" , bob \n";
        let tokens = Tokens::parse(text).unwrap();
        let ann = tokens.find("s3cret").unwrap();
        assert_eq!(ann.name, "ann");
        assert_eq!(ann.groups, ["ops", "dev", AUTHENTICATED]);
        assert_eq!(tokens.find("x y").unwrap().groups, [AUTHENTICATED]);
        for wrong in ["", "s3cre", "s3cret ", "S3CRET", "ann"] {
            assert_eq!(tokens.find(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number_alone() {
        for (text, line) in [("secret", 1), ("a,b\n,c\n", 2), ("a,b\n\nsecret,\n", 3)] {
            let error = Tokens::parse(text).err().unwrap();
            assert_eq!(error, BadLine(line), "{text:?}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
