//! Where a request goes, and where an answer sends it on to.

use super::spec::SpecError;
use reqwest::Url;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// As it is.
    Http,
    /// Over TLS, with whomever: nobody's certificate is checked.
    Https,
}

impl Scheme {
    /// As a manifest has it; empty is HTTP.
    ///
    /// # Errors
    /// Any other.
    pub(super) fn parse(text: &str) -> Result<Self, SpecError> {
        match text {
            text if text.is_empty() || text.eq_ignore_ascii_case("http") => Ok(Self::Http),
            text if text.eq_ignore_ascii_case("https") => Ok(Self::Https),
            _ => Err(SpecError::Scheme { scheme: text.to_owned() }),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query as they are sent.
    pub(super) target: String,
}

/// Where an answer sends the request on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To the same host, whose name is said anew if the answer does.
    SameHost { place: Place, named: Named },
    /// To another, where a probe does not go.
    OtherHost(String),
    /// Nowhere: it is no URL of HTTP.
    Nowhere,
}

/// Whether a redirect names the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Yes,
    No,
}

impl Place {
    /// Where a manifest sends a request to.
    pub(super) fn of(scheme: Scheme, host: String, port: u16, path: &str) -> Self {
        Self { scheme, host, port, target: target(path) }
    }

    /// Host and port, as `Host` has them.
    pub(super) fn authority(&self) -> String {
        match self.host.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{}]:{}", self.host, self.port),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }

    /// Where `location`, of an answer from here, leads.
    pub(super) fn next(&self, location: &str) -> Next {
        let next = Url::parse(&self.to_string()).and_then(|here| here.join(location));
        let Ok(next) = next else { return Next::Nowhere };
        let (Ok(scheme), Some(host), Some(port)) =
            (Scheme::parse(next.scheme()), next.host_str(), next.port_or_known_default())
        else {
            return Next::Nowhere;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if !same_host(host, &self.host) {
            return Next::OtherHost(next.to_string());
        }
        let query = next.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{query}", next.path());
        let named = match Url::parse(location) {
            Ok(_) => Named::Yes,
            Err(_) if location.starts_with("//") => Named::Yes,
            Err(_) => Named::No,
        };
        Next::SameHost { place: Self { scheme, host: host.to_owned(), port, target }, named }
    }
}

/// Addresses may be written in more than one way.
fn same_host(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.target)
    }
}

/// Path and query as they are sent: what a URL cannot hold is escaped, a fragment is not sent, the first slash
/// may be left out.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            byte => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_sent_with_its_query_and_escaped_where_it_must_be() {
        for (row, path, expected) in [
            ("empty", "", "/"),
            ("no slash", "healthz", "/healthz"),
            ("query", "/a?b=c&d", "/a?b=c&d"),
            ("query alone", "?b", "/?b"),
            ("escaped already", "/a%20b", "/a%20b"),
            ("space", "/a b", "/a%20b"),
            ("beyond ASCII", "/ä", "/%C3%A4"),
            ("fragment", "/a#b", "/a"),
            ("dots stay", "/a/../b", "/a/../b"),
        ] {
            assert_eq!(target(path), expected, "{row}");
        }
    }

    #[test]
    fn an_address_of_version_6_is_in_brackets() {
        let place = |host: &str| Place::of(Scheme::Http, host.to_owned(), 80, "/a").to_string();
        assert_eq!(place("fd00::1"), "http://[fd00::1]:80/a");
        assert_eq!(place("10.1.2.3"), "http://10.1.2.3:80/a");
    }

    #[test]
    fn a_redirect_is_followed_to_the_same_host_only() {
        let here = Place::of(Scheme::Http, "10.1.2.3".to_owned(), 8080, "/a/b?c");
        let same = |scheme, port, target: &str, named| {
            let (host, target) = ("10.1.2.3".to_owned(), target.to_owned());
            Next::SameHost { place: Place { scheme, host, port, target }, named }
        };
        for (row, location, expected) in [
            ("path", "/x?y", same(Scheme::Http, 8080, "/x?y", Named::No)),
            ("relative", "x", same(Scheme::Http, 8080, "/a/x", Named::No)),
            ("query", "?z", same(Scheme::Http, 8080, "/a/b?z", Named::No)),
            ("port", "http://10.1.2.3:9/", same(Scheme::Http, 9, "/", Named::Yes)),
            ("https", "https://10.1.2.3/", same(Scheme::Https, 443, "/", Named::Yes)),
            ("scheme left out", "//10.1.2.3/x", same(Scheme::Http, 80, "/x", Named::Yes)),
            ("elsewhere", "http://a.example/", Next::OtherHost("http://a.example/".into())),
            ("no web", "mailto:a@b", Next::Nowhere),
            ("file", "file:///etc/passwd", Next::Nowhere),
            ("broken", "http://[", Next::Nowhere),
        ] {
            assert_eq!(here.next(location), expected, "{row}");
        }
    }

    #[test]
    fn one_address_in_two_spellings_is_one_host() {
        let here = Place::of(Scheme::Http, "fd00:0::1".to_owned(), 80, "/");
        let next = here.next("http://[fd00::1]:80/x");
        assert!(matches!(next, Next::SameHost { .. }), "{next:?}");
    }
}
