//! The query of a request: `application/x-www-form-urlencoded`.

use super::answer::Refusal;

/// Names and values, as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        // A base that makes a whole address of it.
        let Ok(mut url) = reqwest::Url::parse("http://query/") else { return Self::default() };
        url.set_query(query);
        Self(url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// The first value of that name.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is asked for: `1`, `true`, or the name alone.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.first(name)
            .is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    /// A number; none where it is not given or empty.
    ///
    /// # Errors
    /// 400: it is no number, or less than none.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.first(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Refusal::bad(format!("{name}={value:?} is not a number from 0 on"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_repeat_and_values_are_decoded() {
        let query = Query::parse(Some("command=sh&command=-c&command=echo%20a%26b+c&tty=0&stdin"));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a&b c"]);
        assert_eq!(query.first("command"), Some("sh"));
        let set = ["tty", "stdin", "stdout"].map(|name| query.is_set(name));
        assert_eq!(set, [false, true, false]);
        assert_eq!(Query::parse(None), Query::default());
    }

    #[test]
    fn a_number_that_is_none_is_told() {
        let query = Query::parse(Some("a=7&b=-1&c=x&d=&e=99999999999999999999"));
        assert_eq!(query.number("a").unwrap(), Some(7));
        assert_eq!((query.number("d").unwrap(), query.number("missing").unwrap()), (None, None));
        for wrong in ["b", "c", "e"] {
            let refusal = query.number(wrong).unwrap_err();
            assert_eq!(refusal.code, 400, "{wrong}");
            assert!(refusal.cause.contains(wrong), "{}", refusal.cause);
        }
    }
}
