//! One `hosts.toml`, as containerd's "Registry Host Namespace" documentation defines it. Pure.
//!
//! Strict: an unknown key or a wrong type is an error that names the key, because a setting that is silently left out (a
//! CA, a header, a mirror) makes pulls go elsewhere than was meant.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::path::PathBuf;
use std::time::Duration;
use toml::{Table, Value};

/// The keys that a host and the file itself (for its server) can have.
const SETTINGS: [&str; 7] =
    ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostsFile {
    /// Mirrors in the order of the file.
    pub(super) mirrors: Vec<Host>,
    /// The server with its settings; without an address, it is the registry itself.
    pub(super) server: Server,
}

/// The last host to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// Where it is.
    pub(super) url: Option<Url>,
    /// How it is asked.
    pub(super) settings: Settings,
}

/// A mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Where it is, down to the path before `/<repository>/manifests/…`.
    pub(super) url: Url,
    /// How it is asked.
    pub(super) settings: Settings,
}

/// How a host is asked. Paths are as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// It may be asked what a tag is.
    pub(super) resolve: bool,
    /// It may be asked for content by digest.
    pub(super) pull: bool,
    /// PEM files of authorities.
    pub(super) ca: Vec<PathBuf>,
    /// PEM files of a certificate and its key; without the second, the first holds both.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Any certificate will do; `None`: not said.
    pub(super) skip_verify: Option<bool>,
    /// Sent with each request to this host.
    pub(super) headers: HeaderMap,
    /// The path is the whole prefix: no `/v2` is put behind it.
    pub(super) override_path: bool,
    /// How long a connection may take.
    pub(super) dial_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resolve: true,
            pull: true,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: None,
            headers: HeaderMap::new(),
            override_path: false,
            dial_timeout: None,
        }
    }
}

impl Settings {
    /// It says something about TLS, so that TLS is meant.
    pub(super) fn wants_tls(&self) -> bool {
        !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify.is_some()
    }
}

/// What is wrong, and with which key (or line).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) key: String,
    pub(super) reason: String,
}

fn flaw<T>(key: &str, reason: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw { key: key.to_owned(), reason: reason.into() })
}

/// Parses the text of a file.
///
/// # Errors
/// [`Flaw`].
pub(super) fn parse(text: &str) -> Result<HostsFile, Flaw> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|b| *b == b'\n').count();
        Flaw { key: format!("line {line}"), reason: error.message().to_owned() }
    })?;
    let mut own = Table::new();
    let (mut address, mut mirrors) = (None, Vec::new());
    for (key, value) in table {
        match (key.as_str(), value) {
            ("server", Value::String(text)) => address = Some(text),
            ("server", _) => return flaw("server", "not a string"),
            ("host", Value::Table(hosts)) => mirrors = hosts.into_iter().collect(),
            ("host", _) => return flaw("host", "not a table of hosts"),
            (_, value) => {
                own.insert(key, value);
            }
        }
    }
    let settings = read_settings("", own)?;
    let address = address.filter(|text| !text.is_empty());
    let url = match address {
        Some(text) => Some(read_url("server", &text, settings.override_path)?),
        None => None,
    };
    let mirrors = mirrors.into_iter().map(|(name, value)| {
        let key = format!("host.{name:?}");
        let Value::Table(table) = value else { return flaw(&key, "not a table") };
        let settings = read_settings(&format!("{key}."), table)?;
        Ok(Host { url: read_url(&key, &name, settings.override_path)?, settings })
    });
    let mirrors = mirrors.collect::<Result<_, _>>()?;
    Ok(HostsFile { mirrors, server: Server { url, settings } })
}

/// The address of a host: with a scheme or without (then https), with a path or without. Ends before
/// `/<repository>`.
fn read_url(key: &str, text: &str, override_path: bool) -> Result<Url, Flaw> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    let mut url = match Url::parse(&whole) {
        Ok(url) => url,
        Err(error) => return flaw(key, format!("{text:?} is no address: {error}")),
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return flaw(key, format!("{text:?} is no address of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return flaw(key, "an address has no credentials in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return flaw(key, format!("{text:?} has more than a host and a path"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let path = if override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
    url.set_path(&path);
    Ok(url)
}

fn read_settings(prefix: &str, table: Table) -> Result<Settings, Flaw> {
    let mut settings = Settings::default();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match name.as_str() {
            "capabilities" => {
                let words = strings(&key, value)?;
                let has = |word: &str| words.iter().any(|w| w == word);
                if let Some(other) =
                    words.iter().find(|w| !matches!(w.as_str(), "pull" | "resolve" | "push"))
                {
                    return flaw(&key, format!("{other:?} is none of pull, resolve, push"));
                }
                (settings.pull, settings.resolve) = (has("pull"), has("resolve"));
            }
            "ca" => settings.ca = strings(&key, value)?.into_iter().map(PathBuf::from).collect(),
            "client" => settings.client = pairs(&key, value)?,
            "skip_verify" => settings.skip_verify = Some(boolean(&key, &value)?),
            "override_path" => settings.override_path = boolean(&key, &value)?,
            "header" => settings.headers = headers(&key, value)?,
            "dial_timeout" => settings.dial_timeout = Some(duration(&key, &value)?),
            _ => {
                let known = SETTINGS.join(", ");
                return flaw(&key, format!("unknown key; there are {known}"));
            }
        }
    }
    Ok(settings)
}

fn boolean(key: &str, value: &Value) -> Result<bool, Flaw> {
    value.as_bool().map_or_else(|| flaw(key, "not true or false"), Ok)
}

/// A string, or a list of them.
fn strings(key: &str, value: Value) -> Result<Vec<String>, Flaw> {
    let texts = match value {
        Value::String(text) => vec![text],
        Value::Array(values) => {
            let texts = values.into_iter().map(|value| match value {
                Value::String(text) => Ok(text),
                _ => flaw(key, "not a list of strings"),
            });
            texts.collect::<Result<_, _>>()?
        }
        _ => return flaw(key, "not a string or a list of strings"),
    };
    if texts.iter().any(String::is_empty) {
        return flaw(key, "an empty string");
    }
    Ok(texts)
}

/// A file with both, a list of such files, or a list of pairs of files.
fn pairs(key: &str, value: Value) -> Result<Vec<(PathBuf, Option<PathBuf>)>, Flaw> {
    let values = match value {
        Value::Array(values) => values,
        text => vec![text],
    };
    let pairs = values.into_iter().map(|value| {
        let mut files = strings(key, value)?.into_iter().map(PathBuf::from);
        match (files.next(), files.next(), files.next()) {
            (Some(certificate), key, None) => Ok((certificate, key)),
            _ => flaw(key, "not pairs of a certificate and a key"),
        }
    });
    pairs.collect()
}

fn headers(key: &str, value: Value) -> Result<HeaderMap, Flaw> {
    let Value::Table(table) = value else { return flaw(key, "not a table of headers") };
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let key = format!("{key}.{name}");
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return flaw(&key, "not the name of a header");
        };
        for text in strings(&key, value)? {
            match HeaderValue::from_str(&text) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.append(name.clone(), value);
                }
                Err(_) => return flaw(&key, "not the value of a header"),
            }
        }
    }
    Ok(headers)
}

/// A number and a unit, as Go writes it: `500ms`, `3s`, `1m`.
fn duration(key: &str, value: &Value) -> Result<Duration, Flaw> {
    const REASON: &str = "not a duration like \"500ms\", \"3s\" or \"1m\"";
    let text = value.as_str().unwrap_or_default();
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return flaw(key, REASON),
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)) {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => flaw(key, REASON),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_file_is_read_in_its_order() {
        let file = parse(
            r#"
            server = "https://registry-1.docker.io"
            ca = "own.pem"
            [host."https://z.test:8443/dock"]
            capabilities = ["pull", "resolve"]
            ca = ["/a.pem", "b.pem"]
            client = [["c.cert", "c.key"], ["both.pem"]]
            skip_verify = true
            dial_timeout = "3s"
            [host."https://z.test:8443/dock".header]
            x-own = "one"
            x-more = ["two", "three"]
            [host."a.test"]
            capabilities = ["pull"]
            client = "both.pem"
            [host."http://m.test/x/y/"]
            override_path = true
            "#,
        )
        .unwrap();
        let urls: Vec<_> = file.mirrors.iter().map(|host| host.url.as_str()).collect();
        assert_eq!(urls, ["https://z.test:8443/dock/v2", "https://a.test/v2", "http://m.test/x/y"]);
        assert_eq!(file.server.url.unwrap().as_str(), "https://registry-1.docker.io/v2");
        assert_eq!(file.server.settings.ca, [PathBuf::from("own.pem")]);
        let first = &file.mirrors[0].settings;
        assert_eq!(first.ca, [PathBuf::from("/a.pem"), "b.pem".into()]);
        let pair = ("c.cert".into(), Some("c.key".into()));
        assert_eq!(first.client, [pair, ("both.pem".into(), None)]);
        assert_eq!(first.skip_verify, Some(true));
        assert_eq!(first.dial_timeout, Some(Duration::from_secs(3)));
        assert_eq!(first.headers.get_all("x-more").iter().count(), 2);
        assert_eq!(first.headers["x-own"], "one");
        let second = &file.mirrors[1].settings;
        assert!(second.pull && !second.resolve && !second.override_path);
        assert_eq!(second.client, [("both.pem".into(), None)]);
        assert!(file.mirrors[2].settings.resolve && file.mirrors[2].settings.override_path);
    }

    #[test]
    fn an_empty_file_is_the_registry_itself() {
        let file = parse("").unwrap();
        assert_eq!((file.mirrors.len(), file.server), (0, Server::default()));
        assert_eq!(parse("server = \"\"").unwrap().server, Server::default());
    }

    #[test]
    fn each_mistake_is_told_with_its_key() {
        for (text, key) in [
            ("server = 3", "server"),
            ("server = \"ftp://x\"", "server"),
            ("server = \"https://u:p@x.test\"", "server"),
            ("server = \"https://x.test?a=b\"", "server"),
            ("server = \"https://\"", "server"),
            ("mirror = \"x\"", "mirror"),
            ("host = \"x\"", "host"),
            ("[host]\nx = 1", "host.\"x\""),
            ("[host.\"a b\"]", "host.\"a b\""),
            ("[host.x]\ncapabilities = [\"fly\"]", "host.\"x\".capabilities"),
            ("[host.x]\ncapabilities = 1", "host.\"x\".capabilities"),
            ("[host.x]\nca = [1]", "host.\"x\".ca"),
            ("[host.x]\nca = \"\"", "host.\"x\".ca"),
            ("[host.x]\nclient = [[\"a\", \"b\", \"c\"]]", "host.\"x\".client"),
            ("[host.x]\nclient = [[]]", "host.\"x\".client"),
            ("[host.x]\nskip_verify = \"yes\"", "host.\"x\".skip_verify"),
            ("[host.x]\nskip_verfy = true", "host.\"x\".skip_verfy"),
            ("[host.x]\noverride_path = 1", "host.\"x\".override_path"),
            ("[host.x.header]\n\"a b\" = \"c\"", "host.\"x\".header.a b"),
            ("[host.x.header]\na = \"b\\nc\"", "host.\"x\".header.a"),
            ("[host.x]\nheader = 1", "host.\"x\".header"),
            ("[host.x]\ndial_timeout = \"3\"", "host.\"x\".dial_timeout"),
            ("[host.x]\ndial_timeout = \"0s\"", "host.\"x\".dial_timeout"),
            ("\n[host", "line 2"),
            ("ca = \"a\"\nca = \"b\"", "line 2"),
        ] {
            assert_eq!(parse(text).expect_err(text).key, key, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(server|ca|\\[host\\.\"?|header|\\]|=|\"|[a-z:/?#@\\[\\].\n ]|[0-9]){0,60}",
        ) {
            parse(&text).ok();
        }
    }
}
