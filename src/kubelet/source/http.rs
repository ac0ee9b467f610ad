//! The manifests of a URL, asked for now and then.
//!
//! A host that fails, hangs or answers nonsense changes nothing but what is told: its last good answer stays in force,
//! be it of the last run of the daemon. It may send elsewhere within itself, not to another host. Proxies are not used.

use super::MOST_BYTES;
use super::read::{Reader, Text};
use super::update::{Source, SourcePod, Update};
use crate::blocking;
use crate::error::chain;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often the URL is asked for.
const EVERY: Duration = Duration::from_secs(20);
/// How long an answer may take, to its last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// How often a host may send elsewhere within itself.
const MOST_REDIRECTS: usize = 10;

/// A URL of manifests.
#[derive(Clone, Debug)]
pub struct HttpSource {
    url: String,
    headers: Vec<(String, String)>,
    node_name: String,
    every: Duration,
    within: Duration,
    last: Vec<SourcePod>,
}

impl HttpSource {
    /// The manifests of a URL, for pods of this node; asked for every 20 s, with 10 s for the answer.
    pub fn new(url: &str, node_name: &str) -> Self {
        let (url, node_name) = (url.to_owned(), node_name.to_owned());
        Self { url, headers: Vec::new(), node_name, every: EVERY, within: WITHIN, last: Vec::new() }
    }

    /// The same, asked with these headers.
    #[must_use]
    pub fn with_headers(self, headers: Vec<(String, String)>) -> Self {
        Self { headers, ..self }
    }

    /// The same, which had these pods in the last run.
    #[must_use]
    pub fn with_last(self, last: Vec<SourcePod>) -> Self {
        Self { last, ..self }
    }

    /// The same, asked for so often.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// The same, with so much time for the answer.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Tells what the URL has, after the first answer or failure and then each time it changed, until `stop` or
    /// until nobody listens.
    pub async fn run(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve(&updates) => {}
        }
    }

    async fn serve(self, updates: &mpsc::Sender<Update>) {
        let mut reader = Reader::new(Source::Http, &self.node_name).with_last(self.last.clone());
        let (mut client, mut last) = (None, None);
        loop {
            let answer = self.ask(&mut client).await;
            let url = self.url.clone();
            // A large text takes a while to be read.
            let read = blocking::run("read the manifests", move || {
                match &answer {
                    Ok(bytes) => reader.read(&url, Text::Bytes(bytes)),
                    Err(problem) => reader.read(&url, Text::Unreadable(problem)),
                }
                let update = reader.assemble();
                (reader, update)
            });
            let Ok((back, update)) = read.await else { return };
            reader = back;
            if last.as_ref() != Some(&update) {
                last = Some(update.clone());
                if updates.send(update).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(self.every).await;
        }
    }

    async fn ask(&self, client: &mut Option<(Url, Client)>) -> Result<Vec<u8>, String> {
        if client.is_none() {
            *client = Some(self.client().await?);
        }
        let Some((url, client)) = client else { return Err("there is no client".to_owned()) };
        let answer = tokio::time::timeout(self.within, get(client, url.clone()));
        let late = || format!("no whole answer within {:?}", self.within);
        answer.await.map_err(|_| late())?
    }

    /// The URL and a client for it.
    async fn client(&self) -> Result<(Url, Client), String> {
        let url = Url::parse(&self.url).map_err(|error| format!("not a URL: {error}"))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(format!("{} is not asked by HTTP", url.scheme()));
        }
        let headers = self.header_map()?;
        let made = blocking::run("read the root certificates", move || {
            // The second call finds the provider installed: that is success.
            rustls::crypto::ring::default_provider().install_default().ok();
            Client::builder()
                .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .redirect(Policy::custom(within_the_host))
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .build()
        });
        let made = made.await.map_err(|error| chain(&error))?;
        made.map(|client| (url, client)).map_err(|error| chain(&error))
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            // Its value may be a secret.
            let (name, mut value) = parsed.ok_or_else(|| format!("{name:?} is no HTTP header"))?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(map)
    }
}

/// A redirect to another host, port or scheme would give that one the headers, and the node's pods.
fn within_the_host(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let at = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
    let first = attempt.previous().first().map(at);
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error(format!("more than {MOST_REDIRECTS} redirects"));
    }
    if first != Some(at(attempt.url())) {
        let to = attempt.url().host_str().unwrap_or_default().to_owned();
        return attempt.error(format!("it sends to another host, {to}"));
    }
    attempt.follow()
}

async fn get(client: &Client, url: Url) -> Result<Vec<u8>, String> {
    // The origin under which it is told is the URL.
    let told = |error: reqwest::Error| chain(&error.without_url());
    let mut response = client.get(url).send().await.map_err(told)?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("the answer is {status}"));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        bytes.extend_from_slice(&chunk);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
            return Err(format!("the answer is longer than {MOST_BYTES} bytes"));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
