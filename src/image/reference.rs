//! Image references: parsed, and normalised as the ecosystem writes them.
//!
//! The grammar is that of distribution's `reference` package, with its "familiar" short forms:
//! `busybox` is `docker.io/library/busybox:latest`. Pure.

use super::digest::Digest;
use super::error::ImageError;
use std::fmt;

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete reference. Held valid and normalised; it has a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses any form: `busybox`, `a/b:tag`, `host:5000/a@sha256:…`, `name:tag@sha256:…`. Without
    /// tag and digest, the tag is `latest`.
    ///
    /// # Errors
    /// [`ImageError::InvalidReference`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|reason| ImageError::InvalidReference {
            text: text.chars().take(300).collect(),
            reason,
        })
    }

    /// The registry's host and port as written; `docker.io` for short names.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest. It decides where both are given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`; `None` when a digest decides, because then the tag may belong to
    /// another image by now.
    pub fn as_tag(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// `registry/repository@digest` for a digest of this repository.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether a repository is `above` or below it; that is a registry, or a repository, without a slash
/// at its end.
pub(super) fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|e| e.0)?)),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (registry, repository) = split_registry(name);
    check_registry(registry)?;
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("the name is longer than 255 characters");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first component is a registry when it looks like a host: it has a dot, a colon or an upper
/// case letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    if tag.is_empty() {
        return Err("the tag is empty");
    }
    if tag.len() > MAX_TAG {
        return Err("the tag is longer than 128 characters");
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    if !bytes.next().is_some_and(word) || !bytes.all(|b| word(b) || matches!(b, b'.' | b'-')) {
        return Err(
            "a tag has letters, digits, '_', '.' and '-', and begins with none of the last two",
        );
    }
    Ok(())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const BAD: &str = "the registry is not a host name with an optional port";
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(BAD)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
            ("localhost", after.strip_prefix(':').or(after.is_empty().then_some("0")))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, Some("0")),
        },
    };
    let port = port.ok_or(BAD)?;
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err(BAD) }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository name must be lower case");
    }
    if repository.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err("the repository name has letters and digits, joined by '/', '.', '_', '__' or '-'")
    }
}

/// `[a-z0-9]+ ((. | _ | __ | -+) [a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut begun = false;
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(b) if alphanumeric(b) => {
                let joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !joined || (!begun && !separator.is_empty()) {
                    return false;
                }
                separator.clear();
                begun = true;
            }
            Ok(b'.' | b'_' | b'-') => separator.push(c),
            _ => return false,
        }
    }
    begun && separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_forms_are_completed() {
        let at = format!("@sha256:{HEX}");
        for (given, whole) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("localhost:5000/x:y", "localhost:5000/x:y".to_owned()),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            ("[::1]/x", "[::1]/x:latest".to_owned()),
            ("q.io/a__b-c.d/e--f:T_.-", "q.io/a__b-c.d/e--f:T_.-".to_owned()),
            (&format!("busybox{at}"), format!("docker.io/library/busybox{at}")),
            (&format!("q.io/x:v1{at}"), format!("q.io/x:v1{at}")),
        ] {
            assert_eq!(Reference::parse(given).unwrap().to_string(), whole, "{given}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_a_reason() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "@",
            "a:",
            ":a",
            "a@",
            "a b",
            "A",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a_",
            "a___b",
            "a..b",
            "a._b",
            "é",
            "a:b c",
            "a:-b",
            "h:x/a",
            "h:/a",
            "[::g]/a",
            "[::1/a",
            "a@sha256:1",
            "a@md5:d41d8cd98f00b204e9800998ecf8427e",
            HEX,
            &long,
            "a@b@c",
            "h-.x/a",
            "../../etc/passwd",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        let both = Reference::parse(&format!("x:v1@sha256:{HEX}")).unwrap();
        assert_eq!(both.as_tag(), None);
        assert_eq!(both.tag(), Some("v1"));
        let tag = Reference::parse("x:v1").unwrap();
        assert_eq!(tag.as_tag().as_deref(), Some("docker.io/library/x:v1"));
    }

    proptest! {
        #[test]
        fn a_printed_reference_parses_to_itself(
            host in prop::option::of("[a-z]{1,6}\\.[a-z]{2}(:[0-9]{1,4})?"),
            path in "[a-z0-9]{1,5}(/[a-z0-9]{1,4}((\\.|_|__|-)[a-z0-9]{1,3}){0,2}){0,3}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}"),
            digest in prop::option::of("[0-9a-f]{64}"),
        ) {
            let mut text = host.map_or(path.clone(), |h| format!("{h}/{path}"));
            if let Some(tag) = tag { text.push(':'); text.push_str(&tag); }
            if let Some(digest) = digest { text.push_str("@sha256:"); text.push_str(&digest); }
            let reference = Reference::parse(&text).unwrap();
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }
    }
}
