//! References in texts of a pod to the variables of its containers.

use crate::expand;

fn value<'v>(vars: &'v [(String, String)]) -> impl Fn(&str) -> Option<&'v str> {
    // The last one of a name is the one that the container gets.
    |name| vars.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Replaces references to known variables; the last of a name wins.
pub fn expand(text: &str, vars: &[(String, String)]) -> String {
    expand::expand(text, value(vars)).0
}

/// As [`expand()`], for a text that must not name an unknown variable: a sub-path.
///
/// # Errors
/// The first unknown name.
pub fn expand_known(text: &str, vars: &[(String, String)]) -> Result<String, String> {
    match expand::expand(text, value(vars)) {
        (text, None) => Ok(text),
        (_, Some(unknown)) => Err(unknown.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name_counts_and_an_unknown_one_is_told() {
        let vars = [("A".to_owned(), "one".to_owned()), ("A".into(), "1".into())];
        assert_eq!(expand("$(A) $(B)", &vars), "1 $(B)");
        assert_eq!(expand_known("a/$(A)", &vars), Ok("a/1".to_owned()));
        assert_eq!(expand_known("$(B)", &vars), Err("B".to_owned()));
    }
}
