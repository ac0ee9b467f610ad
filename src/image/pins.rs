//! Which images the configuration pins: collection leaves them alone.
//!
//! A pattern with `*` (any text, also with `/`) or `?` (one character) is compared with every whole
//! name of an image, as it is listed (`docker.io/library/busybox:1`); one without is a name in any
//! form, or an id.

use super::info::ImageInfo;
use super::reference::Reference;
use wildmatch::WildMatch;

/// The patterns of `image.pinned`.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Vec<Pin>);

#[derive(Clone, Debug)]
enum Pin {
    /// A whole name, or an id.
    Plain(String),
    /// With `*` or `?` in it.
    Glob(WildMatch),
}

impl Pins {
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|pattern| Pin::new(pattern)).collect())
    }

    /// Whether an image is pinned.
    pub(super) fn hold(&self, image: &ImageInfo) -> bool {
        let names = || image.repo_tags.iter().chain(&image.repo_digests);
        self.0.iter().any(|pin| match pin {
            Pin::Plain(plain) => plain == image.id.as_str() || names().any(|name| name == plain),
            Pin::Glob(glob) => names().any(|name| glob.matches(name)),
        })
    }
}

impl Pin {
    fn new(pattern: &str) -> Self {
        match pattern.contains(['*', '?']) {
            true => Self::Glob(WildMatch::new(pattern)),
            false => Self::Plain(normal(pattern)),
        }
    }
}

/// A name in full, an id without its algorithm.
fn normal(pattern: &str) -> String {
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
    fn a_star_takes_any_text_and_a_question_mark_one_character_and_nothing_else_is_special() {
        for (pattern, name, expected) in [
            ("*", "a/b:c", true),
            ("a*c", "a/b/c", true),
            ("a*c", "a/b/c:d", false),
            ("*:1", "x:1:1", true),
            ("a?c", "a/c", true),
            ("a?c", "ac", false),
            ("a*b*c", "axxbyybzc", true),
            ("a**", "a", true),
            ("*[ab]", "xa", false),
            ("*[ab]", "x[ab]", true),
            ("{a,b}*", "ax", false),
            ("\\*", "\\x", true),
            // Of a length at which trying all ways would never end.
            (&"a*".repeat(40), &"a".repeat(200), true),
            (&format!("{}b", "a*".repeat(40)), &"a".repeat(200), false),
        ] {
            let image = image(&"ab".repeat(32), &[name], &[]);
            let pins = Pins::new(&[pattern.to_owned()]);
            assert_eq!(pins.hold(&image), expected, "{pattern} {name}");
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
