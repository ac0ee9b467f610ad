//! Which images the configuration pins: collection leaves them alone.
//!
//! A pattern with `*` (any text, also with `/`) or `?` (one character) is compared with every whole
//! name of an image, as it is listed (`docker.io/library/busybox:1`); one without is a name in any
//! form, or an id.

use super::info::ImageInfo;
use super::reference::Reference;

/// The patterns of `image.pinned`.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Vec<String>);

impl Pins {
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|pattern| normal(pattern)).collect())
    }

    /// Whether an image is pinned.
    pub(super) fn hold(&self, image: &ImageInfo) -> bool {
        let names = || image.repo_tags.iter().chain(&image.repo_digests);
        self.0.iter().any(|pattern| {
            pattern == image.id.as_str() || names().any(|name| matches(pattern, name))
        })
    }
}

/// A name in full, an id without its algorithm, a glob as it is.
fn normal(pattern: &str) -> String {
    if pattern.contains(['*', '?']) {
        return pattern.to_owned();
    }
    let bare = pattern.strip_prefix("sha256:").unwrap_or(pattern);
    if crate::ids::ImageId::parse(bare).is_ok() {
        return bare.to_owned();
    }
    match Reference::parse(pattern) {
        Ok(reference) => match reference.digest() {
            Some(digest) => reference.with_digest(digest),
            None => reference.to_string(),
        },
        Err(_) => pattern.to_owned(),
    }
}

/// Shell-like comparison in linear space; the last `*` takes what the rest needs.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ImageId;

    fn image(id: &str, tags: &[&str], digests: &[&str]) -> ImageInfo {
        ImageInfo {
            id: ImageId::parse(id).unwrap(),
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: digests.iter().map(|d| (*d).to_owned()).collect(),
            size: 0,
            config: super::super::info::ImageSpec::default(),
            pinned: false,
            pulled: false,
            corrupt: None,
            stored_at_nanos: 0,
        }
    }

    #[test]
    fn a_star_takes_any_text_and_a_question_mark_one_character() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a/b:c", true),
            ("a*c", "a/b/c", true),
            ("a*c", "a/b/c:d", false),
            ("*:1", "x:1:1", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "axxbyybzc", true),
            ("a**", "a", true),
            ("", "a", false),
            ("abc", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn names_in_any_form_ids_and_globs_pin() {
        let id = "ab".repeat(32);
        let digest = format!("docker.io/library/busybox@sha256:{}", "cd".repeat(32));
        let named = image(&id, &["docker.io/library/busybox:latest"], &[&digest]);
        let nameless = image(&id, &[], &[]);
        let whole = format!("sha256:{id}");
        let by_digest = format!("busybox@sha256:{}", "cd".repeat(32));
        for (pattern, of_named, of_nameless) in [
            ("busybox", true, false),
            ("busybox:1", false, false),
            ("docker.io/library/*", true, false),
            ("*/busybox:*", true, false),
            ("quay.io/*", false, false),
            ("*", true, false),
            (&by_digest, true, false),
            (&id, true, true),
            (&whole, true, true),
        ] {
            let pins = Pins::new(&[pattern.to_owned()]);
            assert_eq!(pins.hold(&named), of_named, "{pattern}");
            assert_eq!(pins.hold(&nameless), of_nameless, "{pattern}");
        }
        assert!(!Pins::default().hold(&named));
    }
}
