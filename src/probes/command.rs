//! References to variables in the command of an exec probe.
//!
//! `$(NAME)` is the value that the container's own `env` gives to NAME, `$$` is one `$`. What is not known stays as it
//! is. Only what stands in the manifest counts: a variable with `valueFrom` is there and empty, one of `envFrom` or of
//! a Service is unknown.

use k8s_openapi::api::core::v1::Container;

fn value<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    // The last one of a name is the one that the container gets.
    let mut env = container.env.iter().flatten().rev();
    env.find(|var| var.name == name).map(|var| var.value.as_deref().unwrap_or_default())
}

/// `word` with its references to the container's variables expanded, once.
pub(super) fn expand(word: &str, container: &Container) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(container, name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::EnvVar;
    use proptest::prelude::*;

    fn container(env: &[(&str, Option<&str>)]) -> Container {
        let var = |(name, value): &(&str, Option<&str>)| EnvVar {
            name: (*name).to_owned(),
            value: value.map(str::to_owned),
            ..Default::default()
        };
        Container { env: Some(env.iter().map(var).collect()), ..Default::default() }
    }

    #[test]
    fn references_are_expanded_once_and_unknown_ones_stay() {
        let of = container(&[("A", Some("1")), ("B", Some("$(A)")), ("R", None), ("A", Some("2"))]);
        for (row, word, expected) in [
            ("plain", "ls -l", "ls -l"),
            ("last of a name", "x$(A)y", "x2y"),
            ("not again", "$(B)", "$(A)"),
            ("a reference's value is not known here", "[$(R)]", "[]"),
            ("unknown", "$(C)", "$(C)"),
            ("escaped", "$$(A)", "$(A)"),
            ("twice escaped", "$$$$", "$$"),
            ("of a shell", "$A ${A} $", "$A ${A} $"),
            ("not closed", "$(A", "$(A"),
            ("two", "$(A)$(A)", "22"),
        ] {
            assert_eq!(expand(word, &of), expected, "{row}");
        }
    }

    proptest! {
        #[test]
        fn a_word_without_a_dollar_stays_and_none_panics(word in "[a$()A]{0,12}") {
            let out = expand(&word, &container(&[("A", Some("v"))]));
            prop_assert!(word.contains('$') || out == word);
        }
    }
}
