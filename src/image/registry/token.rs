//! Tokens of token servers: distribution's "Token Authentication" by GET, and its "OAuth2" by POST for refresh
//! tokens.

use super::body::{Body, within};
use super::challenge::Bearer;
use super::credentials::{Credentials, basic};
use super::endpoint::{MAX_REDIRECTS, host_of, redirect, refusal, same_origin};
use super::error::RegistryError;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};
use serde::Deserialize;
use std::time::Duration;

/// A token server's answer is not larger.
const MAX_ANSWER: u64 = 1 << 20;
/// Who asks, to a token server.
const CLIENT: &str = "berth";

/// How to reach a token server.
pub(super) struct Server<'a> {
    /// Its address.
    pub(super) url: Url,
    /// By which client.
    pub(super) client: &'a Client,
    /// By which client, where it points to another host.
    pub(super) elsewhere: &'a Client,
    /// With which headers of `hosts.toml`; none for another host.
    pub(super) headers: &'a HeaderMap,
    /// How long it may be silent.
    pub(super) silence: Duration,
}

/// Where the token server of a challenge is. One that is named over TLS is spoken to over TLS.
///
/// # Errors
/// [`RegistryError::Protocol`].
pub(super) fn realm(host: &str, of: &Url, challenge: &Bearer) -> Result<Url, RegistryError> {
    let refuse =
        |what: &str| RegistryError::protocol(host, format!("its token server's address {what}"));
    let mut url = Url::parse(&challenge.realm).map_err(|e| refuse(&format!("is none: {e}")))?;
    match (of.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err(refuse("is not one of https")),
        _ => return Err(refuse("is neither of http nor of https")),
    }
    // What is in the address is not for us to send.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err(refuse("has no host"));
    }
    Ok(url)
}

/// Asks for a token.
///
/// # Errors
/// [`RegistryError::Denied`] when the server wants other credentials; what a request can fail with.
pub(super) async fn fetch(
    server: Server<'_>,
    challenge: &Bearer,
    scope: &str,
    credentials: &Credentials,
) -> Result<String, RegistryError> {
    let silence = server.silence;
    let mut url = server.url.clone();
    let mut fields = vec![("scope", scope)];
    if !challenge.service.is_empty() {
        fields.push(("service", &challenge.service));
    }
    let (form, authorization) = match credentials {
        Credentials::Identity(token) => {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", CLIENT),
            ]);
            (Some(form(&fields)), None)
        }
        Credentials::Basic(user, password) => {
            fields.push(("account", user));
            url.query_pairs_mut().extend_pairs(fields);
            let unfit =
                || RegistryError::protocol(&host_of(&url), "no header holds the credentials");
            (None, Some(basic(user, password).ok_or_else(unfit)?))
        }
        Credentials::Anonymous | Credentials::Bearer(_) => {
            url.query_pairs_mut().extend_pairs(fields);
            (None, None)
        }
    };
    let (response, host) = ask(&server, url, form, authorization).await?;
    if !response.status().is_success() {
        let refused = refusal(response, &host, silence).await;
        return Err(match refused {
            RegistryError::Status { status: 400 | 401 | 403, ref detail, .. } => {
                let whose = match credentials {
                    Credentials::Anonymous | Credentials::Bearer(_) => "without credentials",
                    _ => "with these credentials",
                };
                RegistryError::Denied { host, reason: format!("no token {whose}{detail}") }
            }
            other => other,
        });
    }
    let answer = Body::new(response, &host, silence).whole(MAX_ANSWER).await?.unwrap_or_default();
    parse(&answer).ok_or_else(|| RegistryError::protocol(&host, "its answer holds no token"))
}

/// Asks, and goes where the answer points to; the last answer and whose it is. Another host is shown neither
/// credentials nor headers, and never gets a form, which holds an identity token.
async fn ask(
    server: &Server<'_>,
    first: Url,
    form: Option<String>,
    authorization: Option<HeaderValue>,
) -> Result<(Response, String), RegistryError> {
    const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let home = same_origin(&url, &first);
        let client = if home { server.client } else { server.elsewhere };
        let mut request = match &form {
            Some(form) => client.post(url.clone()).header(CONTENT_TYPE, FORM).body(form.clone()),
            None => client.get(url.clone()),
        };
        if home {
            request = request.headers(server.headers.clone());
        }
        if let (true, Some(value)) = (home, &authorization) {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let host = host_of(&url);
        let response = within(server.silence, &host, request.send()).await?;
        let Some(next) = redirect(&response, &url)? else { return Ok((response, host)) };
        let again = matches!(response.status().as_u16(), 307 | 308) && same_origin(&next, &first);
        if form.is_some() && !again {
            let reason = "it points elsewhere, where an identity token is not taken";
            return Err(RegistryError::protocol(&host, reason));
        }
        tracing::debug!(host, to = host_of(&next), "token server redirected");
        url = next;
    }
    let reason = format!("more than {MAX_REDIRECTS} redirects");
    Err(RegistryError::protocol(&host_of(&first), reason))
}

fn form(fields: &[(&str, &str)]) -> String {
    // A query is a form.
    let mut url = Url::parse("form:").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(fields);
    }
    url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

fn parse(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    [answer.token, answer.access_token].into_iter().find(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_server_is_asked_over_tls_when_the_registry_is() {
        let of = |base: &str, realm_of: &str| {
            let challenge = Bearer { realm: realm_of.into(), ..Bearer::default() };
            realm("r.test", &Url::parse(base).unwrap(), &challenge).ok().map(String::from)
        };
        assert_eq!(of("https://r.test", "https://a.test/t?x=y").unwrap(), "https://a.test/t?x=y");
        assert_eq!(of("http://r.test", "http://a.test/t").unwrap(), "http://a.test/t");
        assert_eq!(of("https://r.test", "https://u:p@a.test/t").unwrap(), "https://a.test/t");
        for bad in ["http://a.test/t", "ftp://a.test", "/token", "", "data:x"] {
            assert_eq!(of("https://r.test", bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_has_one_of_two_names() {
        assert_eq!(parse(br#"{"token": "a", "expires_in": 300}"#).unwrap(), "a");
        assert_eq!(parse(br#"{"access_token": "b", "token": ""}"#).unwrap(), "b");
        for none in [&b"{}"[..], b"[]", b"", b"{\"token\": 3}"] {
            assert_eq!(parse(none), None);
        }
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form(&[("a", "b c&d"), ("e", "ä")]), "a=b+c%26d&e=%C3%A4");
    }
}
