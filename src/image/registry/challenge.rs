//! `WWW-Authenticate` of registries: RFC 9110, 11.6.1, and the token protocol of distribution. Pure.

/// How a host wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a user name and a password.
    Basic,
    /// With a token of this server.
    Bearer(Bearer),
}

/// Where a token is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The token server.
    pub(super) realm: String,
    /// For which service; may be empty.
    pub(super) service: String,
    /// For what; may be empty.
    pub(super) scope: String,
    /// What was wrong with the token that was sent; may be empty.
    pub(super) error: String,
}

/// The best challenge among the headers of an answer: a token rather than a password.
pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for (scheme, parameters) in headers.flat_map(parse) {
        let value = |key: &str| {
            let found = parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        if scheme.eq_ignore_ascii_case("bearer") && !value("realm").is_empty() {
            return Some(Challenge::Bearer(Bearer {
                realm: value("realm"),
                service: value("service"),
                scope: value("scope"),
                error: value("error"),
            }));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

type Parsed = (String, Vec<(String, String)>);

/// The challenges of one header. What makes no sense is skipped.
fn parse(header: &str) -> Vec<Parsed> {
    let mut challenges: Vec<Parsed> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // The end, or a stray sign.
            match rest.char_indices().nth(1) {
                Some((next, _)) => {
                    rest = rest.get(next..).unwrap_or_default();
                    continue;
                }
                None => return challenges,
            }
        }
        let after = after.trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (value, after) = value(after.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            (Some(after), None) => rest = after,
            (None, _) => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_preferred_and_its_parameters_are_read() {
        let bearer = |realm: &str, service: &str, scope: &str| {
            let (realm, service, scope) = (realm.into(), service.into(), scope.into());
            Some(Challenge::Bearer(Bearer { realm, service, scope, error: String::new() }))
        };
        for (headers, wanted) in [
            (&["Basic realm=\"x\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &[
                    "Bearer realm=\"https://a.test/token\",service=\"r.test\",scope=\"repository:a/b:pull,push\"",
                ],
                bearer("https://a.test/token", "r.test", "repository:a/b:pull,push"),
            ),
            (&["Basic realm=\"r, s\"", "Bearer realm=https://a"], bearer("https://a", "", "")),
            (
                &["Basic realm=\"r\", Bearer REALM = \"https://a\" , x=y"],
                bearer("https://a", "", ""),
            ),
            (&["bearer realm=\"a\\\"b\", service=s"], bearer("a\"b", "s", "")),
            (&["Bearer"], None),
            (&["Negotiate abc=="], None),
            (&["", "=", ",,", "\""], None),
            (&[], None),
        ] {
            assert_eq!(choose(headers.iter().copied()), wanted, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic_or_hang(text in "[ -~ä\"\\\\,=]{0,80}") {
            choose([text.as_str()].into_iter());
        }
    }
}
