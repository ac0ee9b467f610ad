//! `$(NAME)` in commands, values of the environment and sub-paths, as Kubernetes expands it.

/// Replaces `$(NAME)` by the value of a known variable; the last of a name wins. `$$` is one dollar; a
/// reference to an unknown variable stays as it is.
pub fn expand(text: &str, vars: &[(String, String)]) -> String {
    expand_with(text, vars).0
}

/// As [`expand`], for a text that must not name an unknown variable: a sub-path.
///
/// # Errors
/// The first unknown name.
pub fn expand_known(text: &str, vars: &[(String, String)]) -> Result<String, String> {
    match expand_with(text, vars) {
        (text, None) => Ok(text),
        (_, Some(unknown)) => Err(unknown.to_owned()),
    }
}

/// The text, and the first name that is not known.
fn expand_with<'a>(text: &'a str, vars: &[(String, String)]) -> (String, Option<&'a str>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = None;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let Some((name, after_reference)) = reference else {
            out.push('$');
            rest = after;
            continue;
        };
        match vars.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => out.push_str(value),
            None => {
                unknown = unknown.or(Some(name));
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
        }
        rest = after_reference;
    }
    out.push_str(rest);
    (out, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vars() -> [(String, String); 2] {
        [("A".to_owned(), "one".to_owned()), ("A".into(), "1".into())]
    }

    #[test]
    fn references_are_replaced_and_everything_else_stays() {
        let rows = [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $( $", "$A $( $"),
            ("$(A", "$(A"),
            ("ä$(A)ö", "ä1ö"),
            ("$()", "$()"),
        ];
        for (text, expected) in rows {
            assert_eq!(expand(text, &vars()), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_where_it_may_not_be() {
        assert_eq!(expand_known("a/$(A)", &vars()), Ok("a/1".to_owned()));
        assert_eq!(expand_known("$$(B)", &vars()), Ok("$(B)".to_owned()));
        assert_eq!(expand_known("$(A)/$(B)/$(C)", &vars()), Err("B".to_owned()));
    }

    proptest! {
        #[test]
        fn a_text_without_a_dollar_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(expand(&text, &vars()), text);
        }
    }
}
