//! Whom berth is to a registry.

use super::super::info::Auth;
use super::error::RegistryError;
use crate::error::ErrorKind;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::header::HeaderValue;

/// As docker writes it, and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The same in the alphabet of URLs.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a host is shown. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    Anonymous,
    /// A user name and a password.
    Basic(String, String),
    /// A refresh token, for the token server only.
    Identity(String),
    /// A bearer token, as it is.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic(..) => "Basic",
            Self::Identity(_) => "Identity",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Credentials {
    /// The first of the given ones, in CRI's order: user name and password, identity token, `auth`, registry
    /// token. Whose they are is asked by [`is_for`] before.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] of `kind`.
    pub(super) fn of(auth: &Auth, host: &str, kind: ErrorKind) -> Result<Self, RegistryError> {
        let refuse = |reason: &str| RegistryError::Credentials {
            host: host.to_owned(),
            reason: reason.to_owned(),
            kind,
        };
        if !auth.username.is_empty() {
            return Ok(Self::Basic(auth.username.clone(), auth.password.clone()));
        }
        if !auth.identity_token.is_empty() {
            return Ok(Self::Identity(auth.identity_token.clone()));
        }
        if !auth.auth.is_empty() {
            let text = auth.auth.trim();
            let bytes = BASE64.decode(text).or_else(|_| BASE64_URL.decode(text));
            let bytes = bytes.map_err(|_| refuse("auth is not base64"))?;
            let text = String::from_utf8(bytes).map_err(|_| refuse("auth is not UTF-8"))?;
            let (user, password) =
                text.split_once(':').ok_or_else(|| refuse("auth is not user:password"))?;
            let password = password.trim_end_matches('\0');
            return Ok(Self::Basic(user.to_owned(), password.to_owned()));
        }
        if !auth.registry_token.is_empty() {
            return Ok(Self::Bearer(auth.registry_token.clone()));
        }
        Ok(Self::Anonymous)
    }
}

/// `Authorization` with a user name and a password.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
}

/// `Authorization` with a token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// `None` for what no header can hold.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A server's address (a host, or an URL as docker writes it) without scheme and API version, with the path in it:
/// `https://index.docker.io/v1/` is `docker.io`.
pub(super) fn normalize(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest).trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match host.to_ascii_lowercase() {
        host if host == "index.docker.io" || host == "registry-1.docker.io" => "docker.io".into(),
        host => host,
    };
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Whether credentials with this server address are for that host (a registry's name, or a mirror's host).
pub(super) fn is_for(server: &str, host: &str) -> bool {
    let server = normalize(server);
    server.split('/').next() == normalize(host).split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_in_the_order_of_cri() {
        let given = Auth {
            username: "u".into(),
            password: "p".into(),
            identity_token: "i".into(),
            auth: "eDp5".into(),
            registry_token: "t".into(),
            ..Auth::default()
        };
        let choose =
            |auth: &Auth| Credentials::of(auth, "q.test", ErrorKind::InvalidArgument).unwrap();
        assert_eq!(choose(&given), Credentials::Basic("u".into(), "p".into()));
        let given = Auth { username: String::new(), ..given };
        assert_eq!(choose(&given), Credentials::Identity("i".into()));
        let given = Auth { identity_token: String::new(), ..given };
        assert_eq!(choose(&given), Credentials::Basic("x".into(), "y".into()));
        let given = Auth { auth: String::new(), ..given };
        assert_eq!(choose(&given), Credentials::Bearer("t".into()));
        let given = Auth { registry_token: String::new(), ..given };
        assert_eq!(choose(&given), Credentials::Anonymous);
    }

    #[test]
    fn an_auth_is_decoded_with_and_without_padding_and_refused_without_being_quoted() {
        let decode = |auth: &str| {
            let auth = Auth { auth: auth.into(), ..Auth::default() };
            Credentials::of(&auth, "q.test", ErrorKind::InvalidArgument)
        };
        let wanted = Credentials::Basic("a".into(), "b~?".into());
        for text in ["YTpifj8=", "YTpifj8", " YTpifj8=\n", "YTpifj8AAA=="] {
            assert_eq!(decode(text).unwrap(), wanted, "{text}");
        }
        for text in ["YTpi fj8=", "c2VjcmV0", "////", "=", "ä"] {
            let error = decode(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(!error.to_string().contains(text) && !error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_server_address_is_a_host_or_an_url_of_docker() {
        for (server, host, is) in [
            ("q.test", "q.test", true),
            ("https://q.test", "q.test", true),
            ("https://Q.test/v2/", "q.test", true),
            ("http://q.test:5000/v1/", "q.test:5000", true),
            ("q.test:5000", "q.test", false),
            ("q.test", "q.test:5000", false),
            ("https://r.test/v1/", "q.test", false),
            ("q.test.evil.test", "q.test", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("q.test/team", "q.test", true),
        ] {
            assert_eq!(is_for(server, host), is, "{server} {host}");
        }
    }

    #[test]
    fn headers_are_made_of_what_a_header_can_hold() {
        assert_eq!(basic("Aladdin", "open sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic("a", "b").unwrap().is_sensitive());
        assert_eq!(bearer("a\nb"), None);
    }
}
