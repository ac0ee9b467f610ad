//! `$(NAME)` in commands and values of the environment, as Kubernetes expands it.

/// Replaces `$(NAME)` by the value of a known variable. `$$` is one dollar; a reference to an
/// unknown variable stays as it is.
pub(super) fn expand(text: &str, vars: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
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
        // The last of a name wins.
        match vars.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => out.push_str(value),
            None => {
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
        }
        rest = after_reference;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_everything_else_stays() {
        let vars = [("A".to_owned(), "one".to_owned()), ("A".into(), "1".into())];
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
            assert_eq!(expand(text, &vars), expected, "{text}");
        }
    }
}
