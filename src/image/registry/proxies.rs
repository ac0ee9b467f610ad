//! HTTP proxies, as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, and `NO_PROXY` for who is asked
//! without one; in capitals or not. This machine itself is never asked through a proxy.

use reqwest::{ClientBuilder, NoProxy, Proxy};
use std::ffi::OsString;

/// Who is asked without a proxy, whatever `NO_PROXY` says.
const LOCAL: &str = "localhost,127.0.0.0/8,::1";

/// The proxies of this node.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    http: Option<String>,
    https: Option<String>,
    /// A list with commas of hosts, domains and address ranges.
    none_for: String,
}

/// Their addresses may hold passwords.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("none_for", &self.none_for).finish_non_exhaustive()
    }
}

impl Proxies {
    /// Those that variables name.
    pub(super) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            value.and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
        };
        let all = value("ALL_PROXY");
        let given = value("NO_PROXY").map_or_else(String::new, |list| format!(",{list}"));
        Self {
            http: value("HTTP_PROXY").or_else(|| all.clone()),
            https: value("HTTPS_PROXY").or(all),
            none_for: format!("{LOCAL}{given}"),
        }
    }

    /// A client that goes through them, and through no others.
    ///
    /// # Errors
    /// An address that is none.
    pub(super) fn apply(&self, builder: ClientBuilder) -> reqwest::Result<ClientBuilder> {
        let mut builder = builder.no_proxy();
        let none_for = NoProxy::from_string(&self.none_for);
        if let Some(address) = &self.http {
            builder = builder.proxy(Proxy::http(address)?.no_proxy(none_for.clone()));
        }
        if let Some(address) = &self.https {
            builder = builder.proxy(Proxy::https(address)?.no_proxy(none_for));
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn variables_are_read_in_capitals_first_and_the_one_for_all_last() {
        let both =
            of(&[("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://b"), ("ALL_PROXY", "c")]);
        assert_eq!((both.http.as_deref(), both.https.as_deref()), (Some("http://a:1"), Some("c")));
        let small =
            of(&[("https_proxy", "d"), ("no_proxy", "e.test, .f.test"), ("HTTP_PROXY", "")]);
        assert_eq!((small.http, small.https.as_deref()), (None, Some("d")));
        assert_eq!(small.none_for, format!("{LOCAL},e.test, .f.test"));
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_never_printed() {
        let bad = of(&[("HTTPS_PROXY", "http://user:hunter2@[")]);
        assert!(bad.apply(reqwest::Client::builder()).is_err());
        assert!(!format!("{bad:?}").contains("hunter2"));
        assert!(of(&[("HTTPS_PROXY", "p.test:3128")]).apply(reqwest::Client::builder()).is_ok());
    }
}
