//! A repository and its hosts: what each is asked and shown, and what happens when one fails.

use super::super::digest::Digest;
use super::super::error::ImageError;
use super::super::info::Auth;
use super::super::reference::Reference;
use super::access::Access;
use super::repository::{Repository, Senders};
use super::script::{Answer, Asked, Host};
use crate::config::ImageConfig;
use crate::error::{ErrorKind, chain};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::bytes::Bytes;

const BASIC: &str = "Basic dTpw";

/// A node with `hosts.toml` for registries.
struct Site {
    dir: TempDir,
    config: ImageConfig,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ImageConfig { hosts_dirs: vec![dir.path().into()], ..ImageConfig::default() };
        Self { dir, config }
    }

    fn with(registry: &str, hosts: &str) -> Self {
        let site = Self::new();
        let folder = site.dir.path().join(registry);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("hosts.toml"), hosts).unwrap();
        site
    }

    async fn open(&self, name: &str, auth: Option<&Auth>) -> Result<Repository, ImageError> {
        let access = Arc::new(Access::new(&self.config));
        Repository::open(&Reference::parse(name).unwrap(), auth, &access).await
    }

    async fn top(&self, name: &str, auth: Option<&Auth>) -> Result<Vec<u8>, ImageError> {
        Ok(self.open(name, auth).await?.top().await?.0)
    }
}

fn login() -> Auth {
    Auth { username: "u".into(), password: "p".into(), ..Auth::default() }
}

fn challenge(text: &str) -> Answer {
    Answer::status(401, &format!("WWW-Authenticate: {text}\r\n"))
}

fn redirect(to: &str) -> Answer {
    Answer::status(307, &format!("Location: {to}\r\n"))
}

/// It wants a user name and a password, and has one document.
fn guarded(body: &'static [u8]) -> Host {
    Host::start(move |asked, _| match asked.header("authorization") {
        Some(BASIC) => Answer::ok(body),
        _ => challenge("Basic realm=\"x\""),
    })
}

fn paths(host: &Host) -> Vec<String> {
    host.asked().into_iter().map(|asked| asked.path).collect()
}

async fn pump(repository: &Repository, bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
    let take = async {
        let mut taken = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            taken.extend_from_slice(&chunk);
        }
        taken
    };
    let digest = Digest::of(bytes);
    let mut senders = Senders::default();
    let (pumped, taken) =
        tokio::join!(repository.pump(&digest, bytes.len() as u64, sender, &mut senders), take);
    pumped.map(|()| taken)
}

#[tokio::test]
async fn a_user_name_and_a_password_are_sent_when_asked_for_and_then_again() {
    let host = guarded(b"m");
    let name = format!("{}/a/b:v1", host.address);
    let repository = Site::new().open(&name, Some(&login())).await.unwrap();
    assert_eq!(repository.top().await.unwrap().0, b"m");
    assert_eq!(repository.top().await.unwrap().0, b"m");
    let shown: Vec<_> =
        host.asked().iter().map(|a| a.header("authorization").map(str::to_owned)).collect();
    assert_eq!(shown, [None, Some(BASIC.into()), Some(BASIC.into())]);
    assert_eq!(paths(&host)[0], "/v2/a/b/manifests/v1");
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong_are_told_and_not_sent_twice() {
    let host = guarded(b"m");
    let name = format!("{}/a:v1", host.address);
    let wrong = Auth { password: "hunter2".into(), ..login() };
    for (auth, requests) in [(None, 1), (Some(&wrong), 2)] {
        let before = host.asked().len();
        let error = Site::new().top(&name, auth).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", chain(&error));
        let text = chain(&error);
        assert!(text.contains(&host.address) && !text.contains("hunter2"), "{text}");
        assert_eq!(host.asked().len() - before, requests, "{text}");
    }
}

/// A registry and its token server, which gives `token-N` to whom `fit` lets.
fn with_tokens(fit: fn(&Asked) -> bool) -> (Host, Host) {
    let server = Host::start(move |asked, number| match fit(asked) {
        true => Answer::ok(format!("{{\"token\": \"token-{number}\"}}").as_bytes()),
        false => Answer::Whole(401, String::new(), br#"{"details": "no such user"}"#.to_vec()),
    });
    let realm = format!("Bearer realm=\"http://{}/token?x=y\",service=\"s\"", server.address);
    let host = Host::start(move |asked, _| match asked.header("authorization") {
        Some(token) if token.starts_with("Bearer token-") => Answer::ok(b"m"),
        _ => challenge(&realm),
    });
    (host, server)
}

#[tokio::test]
async fn a_token_is_fetched_for_the_repository_and_used_again() {
    let (host, server) = with_tokens(|asked| asked.header("authorization") == Some(BASIC));
    let name = format!("{}/a/b:v1", host.address);
    let repository = Site::new().open(&name, Some(&login())).await.unwrap();
    for _ in 0..2 {
        assert_eq!(repository.top().await.unwrap().0, b"m");
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?x=y&scope=repository%3Aa%2Fb%3Apull&service=s&account=u");
    // The registry itself never sees the password.
    let seen: Vec<_> =
        host.asked().iter().filter_map(|a| a.header("authorization").map(str::to_owned)).collect();
    assert_eq!(seen, ["Bearer token-0", "Bearer token-0"]);
    let error = Site::new().top(&name, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let text = chain(&error);
    assert!(text.contains(&server.address) && text.contains("no such user"), "{text}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let (host, server) = with_tokens(|asked| asked.method == "POST");
    let auth = Auth { identity_token: "re fresh".into(), ..Auth::default() };
    let name = format!("{}/a:v1", host.address);
    assert_eq!(Site::new().top(&name, Some(&auth)).await.unwrap(), b"m");
    let asked = &server.asked()[0];
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        asked.body,
        "scope=repository%3Aa%3Apull&service=s&grant_type=refresh_token&refresh_token=re+fresh&client_id=berth"
    );
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_token_server_may_point_elsewhere_where_nothing_is_shown() {
    let other = Host::start(|_, _| Answer::ok(b"{\"token\": \"token-x\"}"));
    let to = format!("http://{}/given?by=other", other.address);
    let server = Host::start(move |asked, _| match asked.path.as_str() {
        path if path.starts_with("/first") => redirect("/second"),
        _ => redirect(&to),
    });
    let realm = format!("Bearer realm=\"http://{}/first\",service=\"s\"", server.address);
    let host = Host::start(move |asked, _| match asked.header("authorization") {
        Some("Bearer token-x") => Answer::ok(b"m"),
        _ => challenge(&realm),
    });
    let name = format!("{}/a:v1", host.address);
    let site = Site::with(&server.address, "header = {x-own = \"secret\"}\n");
    assert_eq!(site.top(&name, Some(&login())).await.unwrap(), b"m");
    let shown: Vec<_> =
        server.asked().iter().map(|a| a.header("authorization").map(str::to_owned)).collect();
    assert_eq!(shown, [Some(BASIC.into()), Some(BASIC.into())], "the same host");
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/given?by=other");
    assert_eq!(asked[0].header("authorization"), None);
    // An identity token is in the form: it stays with the server that was named.
    let auth = Auth { identity_token: "re fresh".into(), ..Auth::default() };
    let error = Site::new().top(&name, Some(&auth)).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("an identity token is not taken") && !text.contains("fresh"), "{text}");
    assert_eq!(other.asked().len(), 1, "it was taken along");
    // One that points to itself for ever ends.
    let round = Host::start(|_, _| redirect("/round"));
    let realm = format!("Bearer realm=\"http://{}/token\"", round.address);
    let host = Host::start(move |_, _| challenge(&realm));
    let error = Site::new().top(&format!("{}/a:v1", host.address), None).await.unwrap_err();
    assert!(chain(&error).contains("redirects"), "{}", chain(&error));
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is_and_only_to_its_registry() {
    let (host, server) = with_tokens(|_| true);
    let name = format!("{}/a:v1", host.address);
    let auth = Auth { registry_token: "token-x".into(), ..Auth::default() };
    assert_eq!(Site::new().top(&name, Some(&auth)).await.unwrap(), b"m");
    assert_eq!(host.asked()[1].header("authorization"), Some("Bearer token-x"));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_replaced() {
    let (server, good) =
        (Host::start(|_, n| Answer::ok(format!("{{\"token\": \"{n}\"}}").as_bytes())), "Bearer 1");
    let realm = format!("Bearer realm=\"http://{}/\"", server.address);
    let host = Host::start(move |asked, number| match asked.header("authorization") {
        Some("Bearer 0") if number < 2 => Answer::ok(b"m"),
        Some(token) if token == good => Answer::ok(b"m"),
        _ => challenge(&realm),
    });
    let repository = Site::new().open(&format!("{}/a:v1", host.address), None).await.unwrap();
    for _ in 0..2 {
        assert_eq!(repository.top().await.unwrap().0, b"m");
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn where_a_redirect_leads_sees_neither_credentials_nor_headers() {
    let elsewhere = Host::start(|_, _| Answer::ok(b"m"));
    let to = format!("http://u:p@{}/stored?signature=1", elsewhere.address);
    let host = Host::start(move |asked, _| match asked.header("authorization") {
        Some(BASIC) => redirect(&to),
        _ => challenge("Basic realm=\"x\""),
    });
    let hosts = "[header]\nx-own = \"secret\"\n";
    let site = Site::with(&host.address, hosts);
    assert_eq!(site.top(&format!("{}/a:v1", host.address), Some(&login())).await.unwrap(), b"m");
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/stored?signature=1");
    assert_eq!((asked[0].header("authorization"), asked[0].header("x-own")), (None, None));
    // The control: the host itself sees both.
    let last = host.asked().pop().unwrap();
    assert_eq!((last.header("authorization"), last.header("x-own")), (Some(BASIC), Some("secret")));
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_them_and_one_in_a_circle_ends() {
    let host = Host::start(|asked, _| match (asked.path.as_str(), asked.header("authorization")) {
        (_, None) => challenge("Basic realm=\"x\""),
        ("/v2/a/manifests/v1", _) => redirect("../real"),
        ("/v2/a/real", Some(BASIC)) => Answer::ok(b"m"),
        _ => redirect("/round"),
    });
    let name = |tag: &str| format!("{}/a:{tag}", host.address);
    assert_eq!(Site::new().top(&name("v1"), Some(&login())).await.unwrap(), b"m");
    let error = chain(&Site::new().top(&name("v2"), Some(&login())).await.unwrap_err());
    assert!(error.contains("redirects"), "{error}");
}

#[tokio::test]
async fn credentials_are_not_given_to_whom_a_redirect_leads_even_when_asked_for() {
    let elsewhere = guarded(b"m");
    let to = format!("http://{}/", elsewhere.address);
    let host = Host::start(move |_, _| redirect(&to));
    let error = Site::new().top(&format!("{}/a:v1", host.address), Some(&login())).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", chain(&error));
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_host_that_is_overloaded_is_asked_again_and_one_that_wants_an_hour_is_not() {
    for (status, headers) in [(429, "Retry-After: 1\r\n"), (503, ""), (500, "Retry-After: x\r\n")] {
        let host = Host::start(move |_, number| match number {
            0 => Answer::status(status, headers),
            _ => Answer::ok(b"m"),
        });
        let name = format!("{}/a:v1", host.address);
        assert_eq!(Site::new().top(&name, None).await.unwrap(), b"m", "{status}");
        assert_eq!(host.asked().len(), 2);
    }
    let host = Host::start(|_, _| Answer::status(429, "Retry-After: 3600\r\n"));
    let error = Site::new().top(&format!("{}/a:v1", host.address), None).await.unwrap_err();
    assert_eq!((error.kind(), host.asked().len()), (ErrorKind::Unavailable, 1));
    assert!(
        chain(&error).contains("429 Too Many Requests, retry after 3600 s"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew_and_not_for_ever() {
    let host = Host::start(|_, number| match number {
        0 => Answer::Cut(b"manifest".to_vec(), 3),
        _ => Answer::ok(b"manifest"),
    });
    assert_eq!(
        Site::new().top(&format!("{}/a:v1", host.address), None).await.unwrap(),
        b"manifest"
    );
    let host = Host::start(|_, _| Answer::status(502, ""));
    let error = Site::new().top(&format!("{}/a:v1", host.address), None).await.unwrap_err();
    assert_eq!((error.kind(), host.asked().len()), (ErrorKind::Unavailable, 5));
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_all_reasons_are_told() {
    let absent = Host::start(|_, _| Answer::status(404, ""));
    let no_tags = Host::start(|_, _| Answer::ok(b"other"));
    let server = Host::start(|asked, _| match asked.path.contains("/v1") {
        true => Answer::ok(b"m"),
        false => Answer::Whole(
            404,
            String::new(),
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec(),
        ),
    });
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\noverride_path = true\n\
         [host.\"http://{}/cache\"]\ncapabilities = [\"pull\"]\n[host.\"http://127.0.0.1:1\"]\n",
        server.address, absent.address, no_tags.address
    );
    let site = Site::with("r.test", &hosts);
    assert_eq!(site.top("r.test/a:v1", None).await.unwrap(), b"m");
    assert_eq!(paths(&absent), ["/a/manifests/v1?ns=r.test"]);
    assert_eq!(paths(&server), ["/v2/a/manifests/v1?ns=r.test"]);
    assert!(no_tags.asked().is_empty());
    let error = site.top("r.test/a:v2", None).await.unwrap_err();
    let text = chain(&error);
    assert_eq!(error.kind(), ErrorKind::NotFound, "{text}");
    for part in [
        format!("{} answered 404", absent.address),
        "then talk to 127.0.0.1:1: ".to_owned(),
        format!("then {} answered 404 Not Found: MANIFEST_UNKNOWN", server.address),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn credentials_of_the_registry_are_not_shown_to_a_mirror() {
    let mirror = guarded(b"wrong");
    let server = guarded(b"m");
    let hosts =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, mirror.address);
    let site = Site::with("r.test", &hosts);
    assert_eq!(site.top("r.test/a:v1", Some(&login())).await.unwrap(), b"m");
    assert_eq!(mirror.asked().len(), 1);
    assert_eq!(mirror.asked()[0].header("authorization"), None);
    // Unless they are the mirror's.
    let for_mirror = Auth { server_address: mirror.address.clone(), ..login() };
    assert_eq!(site.top("r.test/a:v1", Some(&for_mirror)).await.unwrap(), b"wrong");
}

#[tokio::test]
async fn a_document_that_is_not_what_its_digest_says_is_asked_of_the_next_host() {
    let mirror = Host::start(|_, _| Answer::ok(b"forged"));
    let server = Host::start(|_, _| Answer::ok(b"m"));
    let hosts =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, mirror.address);
    let site = Site::with("r.test", &hosts);
    let name = format!("r.test/a@{}", Digest::of(b"m"));
    assert_eq!(site.top(&name, None).await.unwrap(), b"m");
    assert_eq!(mirror.asked().len(), 1);
    let other = format!("r.test/a@{}", Digest::of(b"n"));
    let error = site.top(&other, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", chain(&error));
}

#[tokio::test]
async fn a_blob_that_breaks_off_goes_on_where_it_stopped_also_with_the_next_host() {
    let blob: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (whole, part) = (blob.clone(), blob.clone());
    // Its connections end, and it knows no ranges.
    let mirror = Host::start(move |_, number| match number {
        0 => Answer::Cut(whole.clone(), 30_000),
        1 => Answer::Cut(whole.clone(), 40_000),
        _ => Answer::status(404, ""),
    });
    let server = Host::start(move |asked, _| {
        let from = asked.header("range").unwrap().strip_prefix("bytes=").unwrap();
        let from: usize = from.strip_suffix('-').unwrap().parse().unwrap();
        let range = format!("Content-Range: bytes {from}-99999/100000\r\n");
        Answer::Whole(206, range, part[from..].to_vec())
    });
    let hosts =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, mirror.address);
    let site = Site::with("r.test", &hosts);
    let repository = site.open("r.test/a:v1", None).await.unwrap();
    assert!(pump(&repository, &blob).await.unwrap() == blob);
    assert_eq!(mirror.asked()[1].header("range"), Some("bytes=30000-"));
    assert_eq!(server.asked()[0].header("range"), Some("bytes=40000-"));
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_not_taken_for_the_rest() {
    let host = Host::start(|_, number| match number {
        0 => Answer::Cut(b"0123456789".to_vec(), 4),
        _ => Answer::Whole(206, "Content-Range: bytes 0-9/10\r\n".into(), b"0123456789".to_vec()),
    });
    let name = format!("{}/a:v1", host.address);
    let repository = Site::new().open(&name, None).await.unwrap();
    let error = pump(&repository, b"0123456789").await.unwrap_err();
    assert!(chain(&error).contains("bytes from 4 were asked for"), "{}", chain(&error));
}

#[tokio::test]
async fn a_host_that_says_nothing_is_left_for_the_next_one_and_named() {
    let silent = Host::start(|_, _| Answer::Nothing);
    let server = Host::start(|_, _| Answer::ok(b"m"));
    let hosts =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.address, silent.address);
    let mut site = Site::with("r.test", &hosts);
    site.config.progress_timeout_seconds = 1;
    let repository = site.open("r.test/a:v1", None).await.unwrap();
    assert_eq!(repository.top().await.unwrap().0, b"m");
    // The next time it is asked last.
    assert_eq!(repository.top().await.unwrap().0, b"m");
    assert_eq!((silent.asked().len(), server.asked().len()), (1, 2));
    let error = site.top(&format!("{}/a:v1", silent.address), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let wanted = format!("{} sent nothing for 1s", silent.address);
    assert!(chain(&error).contains(&wanted), "{}", chain(&error));
}

#[tokio::test]
async fn a_document_without_an_end_is_not_read_to_the_end() {
    let host = Host::start(|_, _| Answer::ok(&vec![b' '; 5 << 20]));
    let error = Site::new().top(&format!("{}/a:v1", host.address), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(chain(&error).contains("more than 4194304 bytes"), "{}", chain(&error));
}

#[tokio::test]
async fn the_nodes_credentials_are_used_when_the_request_brings_none() {
    let host = guarded(b"m");
    let mut site = Site::new();
    let path = site.dir.path().join("config.json");
    site.config.docker_config = Some(path.clone());
    let name = format!("{}/team/web:v1", host.address);
    for (key, auth, good) in [
        (host.address.clone(), "dTpw", true),
        (format!("{}/team", host.address), "dTpw", true),
        (format!("{}/other", host.address), "dTpw", false),
        ("127.0.0.1".to_owned(), "dTpw", false),
        (host.address.clone(), "!", false),
    ] {
        write_auth(&path, &key, auth);
        let result = site.top(&name, None).await;
        assert_eq!(result.is_ok(), good, "{key} {result:?}");
    }
    write_auth(&path, &host.address, "eDp5");
    assert_eq!(site.top(&name, Some(&login())).await.unwrap(), b"m");
}

fn write_auth(path: &Path, key: &str, auth: &str) {
    let text = serde_json::json!({"auths": {key: {"auth": auth}}}).to_string();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_hosts_file_with_a_mistake_fails_before_anybody_is_asked() {
    let server = Host::start(|_, _| Answer::ok(b"m"));
    let site =
        Site::with("r.test", &format!("server = \"http://{}\"\nmirrors = 1\n", server.address));
    let error = site.top("r.test/a:v1", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(chain(&error).contains("r.test/hosts.toml: mirrors: unknown key"), "{}", chain(&error));
    assert!(server.asked().is_empty());
}
