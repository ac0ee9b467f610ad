//! One host: a request with credentials, redirects and further tries.

use super::access::Identity;
use super::body::{Body, within};
use super::challenge::{self, Challenge};
use super::credentials::{Credentials, basic, bearer};
use super::error::RegistryError;
use super::retry;
use super::token::{self, Server};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// As many redirects as browsers of old followed.
pub(super) const MAX_REDIRECTS: u32 = 5;
/// Of an error's document, so many bytes are read.
const MAX_ERROR: u64 = 64 << 10;
/// Of its words, so many characters are told.
const MAX_WORDS: usize = 256;

/// A host that has the repository, or should.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Its host and port, for messages.
    pub(super) host: String,
    /// Up to `/v2/<repository>`.
    pub(super) base: Url,
    /// `<registry>`, for a host that is another one: it may serve several.
    pub(super) namespace: Option<String>,
    /// `<repository>`.
    pub(super) repository: String,
    /// Sent to this host only.
    pub(super) headers: HeaderMap,
    pub(super) identity: Identity,
    /// For this host.
    pub(super) client: Client,
    /// For hosts it points to: it shows no certificate, and checks theirs.
    pub(super) elsewhere: Client,
    /// How long it may be silent.
    pub(super) silence: Duration,
    /// It may be asked what a tag is.
    pub(super) resolve: bool,
    /// It may be asked for content by digest.
    pub(super) pull: bool,
    /// It failed as a whole: others are asked first.
    pub(super) down: AtomicBool,
    /// What it is shown since it asked.
    pub(super) session: tokio::sync::Mutex<Option<HeaderValue>>,
}

/// What is asked of a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// `manifests/<tag>`, `blobs/<digest>`.
    pub(super) path: &'a str,
    /// Media types; empty: any.
    pub(super) accept: &'a str,
    /// From this byte on.
    pub(super) from: u64,
}

impl Endpoint {
    /// Asks, again where that can help.
    ///
    /// # Errors
    /// [`RegistryError`] of the last try.
    pub(super) async fn get(&self, ask: Ask<'_>) -> Result<Body, RegistryError> {
        let mut tries = 0;
        loop {
            let error = match self.once(ask).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            tries += 1;
            let Some(pause) = retry::pause(&error, tries, retry::chance()) else {
                if error.host_is_down() {
                    self.down.store(true, Ordering::Relaxed);
                }
                return Err(error);
            };
            let reason = crate::error::chain(&error);
            tracing::debug!(host = self.host, path = ask.path, reason, ?pause, "asking again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, ask: Ask<'_>) -> Result<Body, RegistryError> {
        let shown = self.session.lock().await.clone();
        let (response, at) = self.follow(ask, shown.as_ref()).await?;
        // Who is pointed to and asks for credentials gets none.
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_home(&at) {
            return self.check(response, &at, ask).await;
        }
        let fresh = self.authenticate(&response, shown.as_ref()).await?;
        drop(response);
        let (response, at) = self.follow(ask, Some(&fresh)).await?;
        self.check(response, &at, ask).await
    }

    /// What to show after a challenge; `shown` is what was not enough.
    async fn authenticate(
        &self,
        response: &Response,
        shown: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let mut session = self.session.lock().await;
        if let Some(current) = session.as_ref()
            && shown != Some(current)
        {
            // Another request has asked meanwhile.
            return Ok(current.clone());
        }
        let denied =
            |reason: &str| RegistryError::Denied { host: self.host.clone(), reason: reason.into() };
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenge::choose(headers.iter().filter_map(|value| value.to_str().ok()))
            .ok_or_else(|| denied("401 without a challenge that is known"))?;
        let credentials = self.identity.credentials().await?;
        let unfit = || denied("the credentials fit no header");
        let value = match (&challenge, &credentials) {
            (_, Credentials::Bearer(_)) if shown.is_some() => {
                return Err(denied("it does not take the registry token"));
            }
            (_, Credentials::Bearer(token)) => bearer(token).ok_or_else(unfit)?,
            (Challenge::Basic, Credentials::Basic(..)) if shown.is_some() => {
                return Err(denied("it does not take the user name and password"));
            }
            (Challenge::Basic, Credentials::Basic(user, password)) => {
                basic(user, password).ok_or_else(unfit)?
            }
            (Challenge::Basic, _) => {
                return Err(denied("it wants a user name and a password, and there are none"));
            }
            (Challenge::Bearer(challenge), credentials) => {
                let url = token::realm(&self.host, &self.base, challenge)?;
                let scope = match challenge.scope.as_str() {
                    "" => &format!("repository:{}:pull", self.repository),
                    scope => scope,
                };
                let home = self.is_home(&url);
                let none = HeaderMap::new();
                let server = Server {
                    url,
                    client: if home { &self.client } else { &self.elsewhere },
                    elsewhere: &self.elsewhere,
                    headers: if home { &self.headers } else { &none },
                    silence: self.silence,
                };
                let token = token::fetch(server, challenge, scope, credentials).await?;
                bearer(&token).ok_or_else(unfit)?
            }
        };
        *session = Some(value.clone());
        Ok(value)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    fn is_home(&self, url: &Url) -> bool {
        same_origin(url, &self.base)
    }

    /// Asks, and goes where the answer points to; the last answer and where it is from. What is for this host is not
    /// taken along.
    async fn follow(
        &self,
        ask: Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, Url), RegistryError> {
        let mut url = self.url(ask.path);
        for _ in 0..=MAX_REDIRECTS {
            let home = self.is_home(&url);
            let client = if home { &self.client } else { &self.elsewhere };
            let mut headers = if home { self.headers.clone() } else { HeaderMap::new() };
            if let (true, Some(value)) = (home, authorization) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let mut request = client.get(url.clone()).headers(headers);
            if !ask.accept.is_empty() {
                request = request.header(ACCEPT, ask.accept);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            let response = within(self.silence, &host_of(&url), request.send()).await?;
            let Some(next) = redirect(&response, &url)? else { return Ok((response, url)) };
            url = next;
            tracing::debug!(host = self.host, to = host_of(&url), "redirected");
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(RegistryError::protocol(&self.host, reason))
    }

    /// The body of an answer that is what was asked for.
    async fn check(
        &self,
        response: Response,
        at: &Url,
        ask: Ask<'_>,
    ) -> Result<Body, RegistryError> {
        let host = host_of(at);
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE);
                let begins = range.and_then(|value| value.to_str().ok()).and_then(first_byte);
                if begins == Some(ask.from) {
                    return Ok(Body::new(response, &host, self.silence));
                }
                let reason = format!("bytes from {} were asked for, and others came", ask.from);
                Err(RegistryError::protocol(&host, reason))
            }
            // It does not know ranges: what is here already comes again.
            StatusCode::OK => Ok(Body::new(response, &host, self.silence).skipping(ask.from)),
            _ => Err(refusal(response, &host, self.silence).await),
        }
    }
}

/// Whether both are of one host: what is for one is for the other.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Where the answer of `from` points to; `None`: it is no redirect.
///
/// # Errors
/// [`RegistryError::Protocol`]: it leads nowhere, or away from https.
pub(super) fn redirect(response: &Response, from: &Url) -> Result<Option<Url>, RegistryError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = target(from, location);
    next.map(Some).map_err(|reason| RegistryError::protocol(&host_of(from), reason))
}

/// Where a redirect leads, or why it is not followed.
fn target(from: &Url, location: Option<&str>) -> Result<Url, &'static str> {
    let location = location.ok_or("a redirect to nowhere")?;
    let mut url = from.join(location).map_err(|_| "a redirect to what is no address")?;
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        _ => return Err("a redirect away from https"),
    }
    // An address with a user name would be sent with it.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err("a redirect to no host");
    }
    Ok(url)
}

/// The first byte of `bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// Host and port of an address, for messages: the rest of it may hold a signature.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An answer that is no success, with what its document says.
pub(super) async fn refusal(response: Response, host: &str, silence: Duration) -> RegistryError {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = after.and_then(|value| retry::retry_after(value, SystemTime::now()));
    // The status is news enough when the rest does not come.
    let document = Body::new(response, host, silence).whole(MAX_ERROR).await;
    let (codes, words) = explain(&document.ok().flatten().unwrap_or_default());
    let mut detail = status.canonical_reason().map_or_else(String::new, |r| format!(" {r}"));
    if let Some(after) = retry_after {
        detail.push_str(&format!(", retry after {} s", after.as_secs()));
    }
    if !words.is_empty() {
        detail.push_str(&format!(": {words}"));
    }
    let status = status.as_u16();
    RegistryError::Status { host: host.to_owned(), status, codes, detail, retry_after }
}

/// The codes and the words of an error's document (distribution specification, "Error Codes").
fn explain(document: &[u8]) -> (Vec<String>, String) {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        errors: Vec<Said>,
        /// What token servers say instead.
        #[serde(default)]
        details: String,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(document) = serde_json::from_slice::<Document>(document) else {
        return (Vec::new(), String::new());
    };
    let mut words: Vec<String> =
        document.errors.iter().map(|e| format!("{} {}", e.code, e.message)).collect();
    words.push(document.details);
    let words = words.join("; ");
    let words = words.trim_matches([' ', ';']).chars().filter(|c| !c.is_control());
    let words: String = words.take(MAX_WORDS).collect();
    (document.errors.into_iter().map(|e| e.code).collect(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_told_in_one_line_of_sane_length() {
        let text = r#"{"errors": [{"code": "DENIED", "message": "no\nway", "detail": [1]}, {"code": "X"}]}"#;
        let (codes, words) = explain(text.as_bytes());
        assert_eq!((codes, words.as_str()), (vec!["DENIED".into(), "X".into()], "DENIED noway; X"));
        assert_eq!(explain(br#"{"details": "incorrect"}"#).1, "incorrect");
        assert_eq!(explain(b"<html>"), (Vec::new(), String::new()));
        let long = format!(r#"{{"details": "{}"}}"#, "ä".repeat(9999));
        assert_eq!(explain(long.as_bytes()).1.chars().count(), MAX_WORDS);
    }

    #[test]
    fn a_redirect_never_leads_away_from_https_and_takes_no_user_name() {
        let follow = |from: &str, to: Option<&str>| {
            target(&Url::parse(from).unwrap(), to).map(String::from).ok()
        };
        for (from, to, wanted) in [
            ("https://r.test/v2/a", Some("https://u:p@s.test/b?c"), Some("https://s.test/b?c")),
            ("https://r.test/v2/a", Some("/b"), Some("https://r.test/b")),
            ("https://r.test/v2/a", Some("//s.test/b"), Some("https://s.test/b")),
            ("https://r.test/v2/a", Some("http://r.test/b"), None),
            ("http://r.test/v2/a", Some("http://s.test/b"), Some("http://s.test/b")),
            ("http://r.test/v2/a", Some("https://s.test/b"), Some("https://s.test/b")),
            ("http://r.test/v2/a", Some("file:///etc/passwd"), None),
            ("http://r.test/v2/a", Some("http://["), None),
            ("http://r.test/v2/a", None, None),
        ] {
            assert_eq!(follow(from, to).as_deref(), wanted, "{from} {to:?}");
        }
    }

    #[test]
    fn the_first_byte_of_a_range_is_read() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte("bytes 0-9/*"), Some(0));
        for bad in ["", "bytes */10", "items 5-9/10", "bytes -5"] {
            assert_eq!(first_byte(bad), None, "{bad}");
        }
    }
}
