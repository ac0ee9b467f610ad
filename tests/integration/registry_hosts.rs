//! Registries behind `hosts.toml`, certificates, passwords, helpers and proxies, and one that breaks.

use crate::harness::image::{find, remove};
use crate::harness::pod::pod;
use crate::harness::registry::{Authority, LOGIN, Manner, Registry, pull, pull_as, write_image};
use crate::harness::spoiler::{Fault, Spoiler};
use crate::harness::{Node, Options, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::{Code, Status};

pub(crate) fn tests() -> Vec<Test> {
    let usual = |_: &crate::harness::machine::Machine| Options::default();
    vec![
        own("a_certificate_and_a_password_are_shown_to_who_wants_them", &[], usual, guarded),
        own("a_credential_helper_is_asked_in_a_cgroup_of_its_own", &[], usual, helpers),
        own("a_mirror_is_asked_first_and_every_failure_is_told", &[], usual, mirrors),
        own("a_registry_that_breaks_is_asked_again_and_nothing_half_is_seen", &[], usual, breaks),
        own("a_proxy_of_the_environment_is_used", &[], usual, proxy),
        own("a_start_fetches_what_an_image_lost_and_waits_for_nobody", &[], usual, mended),
    ]
}

const REPOSITORY: &str = "team/web";
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

/// Starts the daemon anew with further lines of configuration.
fn configure(node: &mut Node, lines: &str) -> Result<()> {
    let mut text = std::fs::read_to_string(node.config_file())?;
    text.push_str(lines);
    std::fs::write(node.config_file(), text)?;
    node.stop()?;
    node.launch()
}

/// `[image]` with the folder of this node's hosts.
fn hosts_dirs(node: &Node) -> String {
    format!("[image]\nhosts_dirs = [{:?}]\n", node.path("certs.d"))
}

fn write_hosts(node: &Node, registry: &str, text: &str) -> Result<()> {
    let folder = node.path("certs.d").join(registry);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join("hosts.toml"), text)?)
}

fn refused(answer: Result<String, Status>, code: Code, words: &[&str]) -> Result<()> {
    let status = answer.err().context("it was pulled")?;
    ensure!(status.code() == code, "not {code:?}: {status:?}");
    for word in words {
        ensure!(status.message().contains(word), "{word:?} is not in {:?}", status.message());
    }
    Ok(())
}

fn login(password: &str) -> Option<proto::AuthConfig> {
    let (username, password) = (LOGIN.0.to_owned(), password.to_owned());
    Some(proto::AuthConfig { username, password, ..Default::default() })
}

fn pulled(node: &Node, name: &str, auth: Option<proto::AuthConfig>) -> Result<()> {
    let id = pull_as(node, name, auth)?;
    ensure!(find(node, name)?.is_some_and(|image| image.id == id), "{name} is not there");
    Ok(remove(node, name)?)
}

fn guarded(node: &mut Node) -> Result<()> {
    let lines = hosts_dirs(node);
    configure(node, &lines)?;
    let folder = node.path("registry");
    let plain = Registry::start(&folder)?;
    plain.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let authority = Authority::make(&node.path("authority"))?;
    let (certificate, key) = authority.issue("client", "extendedKeyUsage=clientAuth")?;
    let manner = Manner { login: true, authority: Some(authority.clone()), ..Manner::default() };
    let registry = Registry::in_manner(&folder, "guarded", &manner)?;
    let address = registry.address.clone();
    let name = format!("{address}/{REPOSITORY}:v1");
    let server = format!("server = \"https://{address}\"\n");
    let ca = format!("ca = {:?}\n", authority.certificate());
    let client = format!("client = [[{certificate:?}, {key:?}]]\n");
    let good = || login(LOGIN.1);

    // Nobody vouches for it; then somebody does, but who is berth?
    write_hosts(node, &address, &format!("{server}{client}"))?;
    let unknown = ["RegistryUnavailable: ", address.as_str(), "certificate"];
    refused(pull_as(node, &name, good()), Code::Unavailable, &unknown)?;
    write_hosts(node, &address, &format!("{server}{ca}"))?;
    refused(pull_as(node, &name, good()), Code::Unavailable, &["RegistryUnavailable: "])?;
    // Both; now as whom?
    write_hosts(node, &address, &format!("{server}{ca}{client}"))?;
    let nobody = [address.as_str(), "there are none"];
    refused(pull(node, &name), Code::PermissionDenied, &nobody)?;
    refused(pull_as(node, &name, login("guess")), Code::PermissionDenied, &[&address, "401"])?;
    let elsewhere = good()
        .map(|auth| proto::AuthConfig { server_address: "https://other.test".into(), ..auth });
    refused(pull_as(node, &name, elsewhere), Code::PermissionDenied, &nobody)?;
    ensure!(find(node, &name)?.is_none(), "it is there");
    pulled(node, &name, good())?;
    // `auth` says the same.
    let auth = "dGVzdGVyOm9wZW4gc2VzYW1l".to_owned();
    pulled(node, &name, Some(proto::AuthConfig { auth, ..Default::default() }))?;
    // Without asking who it is.
    write_hosts(node, &address, &format!("{server}{client}skip_verify = true\n"))?;
    pulled(node, &name, good())?;
    // The files that docker reads, by their names, in place of the registry's own words.
    let folder = node.path("certs.d").join(&address);
    std::fs::remove_file(folder.join("hosts.toml"))?;
    for (file, name) in
        [(&authority.certificate(), "ca.crt"), (&certificate, "me.cert"), (&key, "me.key")]
    {
        std::fs::copy(file, folder.join(name))?;
    }
    pulled(node, &name, good())?;
    // A mistake in the file is told, and nobody is asked.
    write_hosts(node, &address, &format!("{server}{ca}skip_verfy = true\n"))?;
    let mistake = [address.as_str(), "hosts.toml: skip_verfy: unknown key"];
    refused(pull_as(node, &name, good()), Code::FailedPrecondition, &mistake)
}

const HELPER: &str = r#"#!/bin/sh
read -r server
cat /proc/self/cgroup > "$SEEN"
[ "$1" = get ] && [ "$server" = "$EXPECTED" ] || { echo "credentials not found in native keychain"; exit 1; }
echo "{\"ServerURL\": \"$server\", \"Username\": \"tester\", \"Secret\": \"open sesame\"}"
"#;

fn helpers(node: &mut Node) -> Result<()> {
    let folder = node.path("registry");
    let plain = Registry::start(&folder)?;
    plain.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let manner = Manner { login: true, ..Manner::default() };
    let registry = Registry::in_manner(&folder, "guarded", &manner)?;
    let name = format!("{}/{REPOSITORY}:v1", registry.address);
    let (bin, config, seen) = (node.path("bin"), node.path("docker.json"), node.path("seen"));
    std::fs::create_dir(&bin)?;
    let helper = bin.join("docker-credential-test");
    std::fs::write(&helper, HELPER)?;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    for (key, value) in [
        ("PATH", path.as_str()),
        ("SEEN", &seen.display().to_string()),
        ("EXPECTED", &registry.address),
    ] {
        node.set_env(key, value);
    }
    let lines = format!("{}docker_config = {config:?}\n", hosts_dirs(node));
    configure(node, &lines)?;
    let write = |key: &str, helper: &str| {
        std::fs::write(&config, format!(r#"{{"credHelpers": {{"{key}": "{helper}"}}}}"#))
    };
    // For another registry there is none; one that does not exist is named.
    write("other.test", "test")?;
    refused(pull(node, &name), Code::PermissionDenied, &["there are none"])?;
    ensure!(!seen.exists(), "a helper ran for another registry");
    write(&registry.address, "absent")?;
    let absent = [registry.address.as_str(), "docker-credential-absent is in none of"];
    refused(pull(node, &name), Code::FailedPrecondition, &absent)?;
    write(&registry.address, "test")?;
    pulled(node, &name, None)?;
    let cgroup = std::fs::read_to_string(&seen)?;
    ensure!(cgroup.contains("/berth-helpers/"), "it ran in {cgroup}");
    // What the request brings goes before it.
    refused(pull_as(node, &name, login("guess")), Code::PermissionDenied, &["401"])?;
    // By the store for all, which has nothing for a server that it does not know.
    std::fs::write(&config, r#"{"auths": {}, "credsStore": "test"}"#)?;
    pulled(node, &name, None)?;
    // One that never ends is ended, with what it started.
    let helper = bin.join("docker-credential-hang");
    std::fs::write(
        &helper,
        "#!/bin/sh\nsleep 100000 &\necho $! > \"$SEEN.new\"\nmv \"$SEEN.new\" \"$SEEN\"\nwait\n",
    )?;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
    write(&registry.address, "hang")?;
    std::fs::remove_file(&seen)?;
    let plan = node.path("fail-plan.within");
    std::fs::write(&plan, "3000")?;
    let hangs =
        ["docker-credential-hang", &registry.address, "did not end within 3s and was killed"];
    refused(pull(node, &name), Code::DeadlineExceeded, &hangs)?;
    std::fs::remove_file(&plan)?;
    let child = std::fs::read_to_string(&seen).context("it did not run")?;
    let child: i32 = child.trim().parse()?;
    // Who reaps it is the machine's affair.
    eventually("its child is gone", || Ok((!kernel::alive(child)).then_some(())))
}

fn mirrors(node: &mut Node) -> Result<()> {
    let lines = hosts_dirs(node);
    configure(node, &lines)?;
    let origin = Registry::start(&node.path("origin"))?;
    origin.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let manner = Manner { mirror_of: Some(origin.address.clone()), ..Manner::default() };
    let cache = Registry::in_manner(&node.path("cache"), "mirror", &manner)?;
    let empty = Registry::start(&node.path("empty"))?;
    let seen = Spoiler::start("127.0.0.1", &cache.address, |_, _| Fault::Pass)?;
    let hosts = format!(
        "server = \"http://{NOBODY}\"\n[host.\"http://127.0.0.1:2\"]\n[host.\"http://{}\"]\n\
         [host.\"http://{}\"]\nheader = {{x-kitchen = \"yes\"}}\n",
        empty.address, seen.address
    );
    // For all registries without a folder of their own.
    write_hosts(node, "_default", &hosts)?;
    let name = format!("up.test/{REPOSITORY}:v1");
    pulled(node, &name, login(LOGIN.1))?;
    let asked = seen.asked(REPOSITORY);
    ensure!(asked.len() == 3, "a manifest, a config and a layer: {asked:?}");
    for head in &asked {
        ensure!(head.target.ends_with("?ns=up.test"), "{head:?}");
        ensure!(head.header("x-kitchen") == Some("yes"), "{head:?}");
        ensure!(head.header("authorization").is_none(), "shown to a mirror: {head:?}");
    }
    let failures =
        ["RegistryUnavailable: ", "127.0.0.1:2", &empty.address, "404", &seen.address, NOBODY];
    refused(pull(node, &format!("up.test/{REPOSITORY}:v2")), Code::Unavailable, &failures)?;
    // Its own folder goes before; there the server is who decides.
    let own = format!("server = \"http://{}\"\n[host.\"http://{NOBODY}\"]\n", empty.address);
    write_hosts(node, "up.test", &own)?;
    refused(pull(node, &name), Code::NotFound, &[NOBODY, &empty.address])
}

fn breaks(node: &mut Node) -> Result<()> {
    let lines = format!("{}progress_timeout_seconds = 3\n", hosts_dirs(node));
    configure(node, &lines)?;
    let folder = node.path("registry");
    let plain = Registry::start(&folder)?;
    plain.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let manner = Manner { login: true, ..Manner::default() };
    let guarded = Registry::in_manner(&folder, "guarded", &manner)?;
    // Another host has the layers, and asks nobody who they are.
    let store = Spoiler::start("127.0.0.2", &plain.address, |_, number| match number {
        // The config comes through; the layer does at the fourth time.
        1 => Fault::Cut(50_000),
        2 => Fault::Stall,
        3 => Fault::Answer(503, String::new()),
        _ => Fault::Pass,
    })?;
    let to = store.address.clone();
    let front = Spoiler::start("127.0.0.1", &guarded.address, move |head, number| match number {
        0 => Fault::Answer(429, "Retry-After: 1\r\n".into()),
        2 => Fault::Cut(20),
        _ if head.target.contains("/blobs/") && head.header("authorization").is_some() => {
            Fault::Answer(307, format!("Location: http://{to}{}\r\n", head.target))
        }
        _ => Fault::Pass,
    })?;
    write_hosts(node, &front.address, "header = {x-own = \"secret\"}\n")?;
    let name = format!("{}/{REPOSITORY}:v1", front.address);
    pulled(node, &name, login(LOGIN.1))?;
    let ranges = store.asked("/blobs/");
    let ranges: Vec<_> = ranges.iter().filter_map(|head| head.header("range")).collect();
    ensure!(ranges.len() == 3, "three times for the rest of what was cut: {ranges:?}");
    ensure!(ranges.iter().all(|range| *range == ranges[0]), "{ranges:?}");
    for head in store.asked("/") {
        let leaked = head.header("authorization").or(head.header("x-own"));
        ensure!(leaked.is_none(), "it was taken along: {head:?}");
    }
    // The control: the registry itself was shown both.
    let shown = front.asked("/blobs/");
    ensure!(shown.iter().all(|head| head.header("authorization").is_some()), "{shown:?}");
    ensure!(shown.iter().all(|head| head.header("x-own") == Some("secret")), "{shown:?}");

    // Slow, for longer than a silence may last, but never silent.
    let slow = Spoiler::start("127.0.0.1", &plain.address, |head, _| {
        if head.target.contains("/blobs/") { Fault::Throttle(600_000) } else { Fault::Pass }
    })?;
    pulled(node, &format!("{}/{REPOSITORY}:v1", slow.address), None)?;
    let ranges = slow.asked("/blobs/").iter().filter(|head| head.header("range").is_some()).count();
    ensure!(ranges == 0, "it was taken for silent {ranges} times");

    // What never heals: nothing is left, and the next pull finds a registry that is well.
    let before = node.layers();
    let ill = |fault: Fault| {
        Spoiler::start("127.0.0.1", &plain.address, move |head, _| {
            if head.target.contains("/blobs/") { fault.clone() } else { Fault::Pass }
        })
    };
    for (fault, code, word) in [
        // The layer; the config and the heads of answers are shorter.
        (Fault::Flip(5000), Code::FailedPrecondition, "is damaged: expected sha256:"),
        (Fault::Stall, Code::Unavailable, "sent nothing for 3s"),
        (Fault::Cut(300), Code::Unavailable, "RegistryUnavailable: "),
        (Fault::Answer(404, String::new()), Code::NotFound, "404"),
        (Fault::Answer(429, "Retry-After: 3600\r\n".into()), Code::Unavailable, "3600 s"),
    ] {
        let registry = ill(fault)?;
        let name = format!("{}/{REPOSITORY}:v1", registry.address);
        refused(pull(node, &name), code, &[word])?;
        ensure!(find(node, &name)?.is_none(), "{name} is there");
        ensure!(node.layers() == before, "{:?} is left of {before:?}", node.layers());
        let ingest = kernel::names_in(&node.state_dir().join("images/ingest"));
        ensure!(ingest.is_empty(), "{ingest:?} is left");
    }
    pulled(node, &format!("{}/{REPOSITORY}:v1", plain.address), None)
}

/// Removes the layer of an image while the daemon is away.
fn lose(node: &mut Node, layer: &str) -> Result<()> {
    node.stop()?;
    std::fs::remove_dir_all(node.state_dir().join("images/layers").join(layer))?;
    node.launch()?;
    node.answers()
}

fn mended(node: &mut Node) -> Result<()> {
    let folder = node.path("registry");
    let plain = Registry::start(&folder)?;
    plain.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let manner = Manner { login: true, ..Manner::default() };
    let guarded = Registry::in_manner(&folder, "guarded", &manner)?;
    let ill = Arc::new(AtomicBool::new(false));
    let is_ill = Arc::clone(&ill);
    let front = Spoiler::start("127.0.0.1", &guarded.address, move |head, _| {
        let stall = head.target.contains("/blobs/") && is_ill.load(Ordering::SeqCst);
        if stall { Fault::Stall } else { Fault::Pass }
    })?;
    let config = node.path("docker.json");
    let auth = r#"{"auth": "dGVzdGVyOm9wZW4gc2VzYW1l"}"#;
    std::fs::write(&config, format!(r#"{{"auths": {{"{}": {auth}}}}}"#, front.address))?;
    let lines =
        format!("{}docker_config = {config:?}\nprogress_timeout_seconds = 3\n", hosts_dirs(node));
    configure(node, &lines)?;
    let before = node.layers();
    let name = format!("{}/{REPOSITORY}:v1", front.address);
    let id = pull(node, &name)?;
    let new = |node: &Node| node.layers().into_iter().find(|layer| !before.contains(layer));
    let is_corrupt =
        |node: &Node| Ok::<_, anyhow::Error>(node.berth_ok(&["images"])?.contains("(corrupt)"));
    let lost = new(node).context("no layer")?;
    let asked = front.asked("").len();
    lose(node, &lost)?;
    eventually("the image is whole again", || Ok((!is_corrupt(node)?).then_some(())))?;
    let again = front.asked("").split_off(asked);
    let targets: BTreeSet<&str> = again.iter().map(|head| head.target.as_str()).collect();
    ensure!(targets.len() == 1 && targets.iter().all(|t| t.contains("/blobs/")), "{again:?}");
    let shown = again.last().and_then(|head| head.header("authorization"));
    ensure!(shown.is_some_and(|value| value.starts_with("Basic ")), "{again:?}");
    let image = find(node, &name)?.context("it is gone")?;
    ensure!(image.id == id && node.layers().len() == before.len() + 1, "{image:?}");
    node.berth_ok(&["image", "verify", &name])?;

    // From a registry that does not answer: the start waits for nothing, and the failure is told.
    ill.store(true, Ordering::SeqCst);
    let lost = new(node).context("no layer")?;
    lose(node, &lost)?;
    ensure!(is_corrupt(node)?, "it came from a registry that is silent");
    let config = pod(node, "meanwhile");
    let sandbox = node.run_pod(&config)?;
    node.remove_pod(&sandbox)?;
    eventually("the failure is told", || {
        let log = std::fs::read_to_string(node.log_file())?;
        let told = log.lines().find(|line| line.contains("corrupt image not mended"));
        let words = [name.as_str(), id.trim_start_matches("sha256:"), "sent nothing for 3s"];
        Ok(told.filter(|line| words.iter().all(|word| line.contains(word))).map(drop))
    })?;
    ensure!(is_corrupt(node)?, "it is whole without its layer");
    ill.store(false, Ordering::SeqCst);
    ensure!(pull(node, &name)? == id && !is_corrupt(node)?);
    Ok(remove(node, &name)?)
}

fn proxy(node: &mut Node) -> Result<()> {
    let registry = Registry::start(&node.path("registry"))?;
    registry.push(&write_image(node, "any:1")?, REPOSITORY, "v1")?;
    let proxy = Spoiler::start("127.0.0.1", &registry.address, |_, _| Fault::Pass)?;
    node.set_env("HTTP_PROXY", &format!("http://{}", proxy.address));
    configure(node, "[image]\nplain_http = [\"far.test\"]\n")?;
    pulled(node, &format!("far.test/{REPOSITORY}:v1"), None)?;
    let asked = proxy.asked("http://far.test/v2/");
    ensure!(asked.len() == 3, "{asked:?}");
    // This machine itself is not asked through it.
    pulled(node, &format!("{}/{REPOSITORY}:v1", registry.address), None)?;
    ensure!(proxy.asked("").len() == 3, "{:?}", proxy.asked(""));
    Ok(())
}
