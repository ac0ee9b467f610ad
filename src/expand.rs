//! `$(NAME)` in commands, values of the environment and sub-paths, as Kubernetes expands it.

/// Replaces `$(NAME)` by what `value` has for it, once: what is put in is not looked at again. `$$` is one dollar; a
/// reference to an unknown name stays as it is. Beside the text, the first name that is not known.
pub(crate) fn expand<'t, 'v>(
    text: &'t str,
    value: impl Fn(&str) -> Option<&'v str>,
) -> (String, Option<&'t str>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = None;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => {
                    unknown = unknown.or(Some(name));
                    out.extend(["$(", name, ")"]);
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    (out, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(name: &str) -> Option<&'static str> {
        [("A", "1"), ("B", "$(A)")].into_iter().find_map(|(known, v)| (known == name).then_some(v))
    }

    #[test]
    fn references_are_replaced_once_and_everything_else_stays() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$", "$$"),
            ("$A ${A} $( $", "$A ${A} $( $"),
            ("$(A", "$(A"),
            ("ä$(A)ö", "ä1ö"),
            ("$()", "$()"),
        ] {
            assert_eq!(expand(text, value).0, expected, "{text}");
        }
    }

    #[test]
    fn the_first_unknown_name_is_told() {
        for (text, unknown) in [("a/$(A)", None), ("$$(C)", None), ("$(A)/$(C)/$(D)", Some("C"))] {
            assert_eq!(expand(text, value).1, unknown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_a_dollar_stays_and_none_panics(text in "[a$()A]{0,12}") {
            let (out, _) = expand(&text, value);
            prop_assert!(text.contains('$') || out == text);
        }
    }
}
