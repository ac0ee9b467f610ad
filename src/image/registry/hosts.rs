//! Which hosts are asked for an image, and how: the folder of a registry, read.
//!
//! For `r.test:5000` the folders are `r.test_5000_`, `r.test:5000` and `_default`, in this order, as containerd
//! reads them; the first that exists is used and the others are not looked at. A folder with a
//! `hosts.toml` is what that file says; without one, it may hold `*.crt` (authorities) and `*.cert` with `*.key` (the
//! client's), as docker reads them.

use super::error::RegistryError;
use super::hosts_file::{self, HostsFile, Server, Settings};
use reqwest::Url;
use std::io;
use std::path::{Path, PathBuf};

/// The name of docker's registry in references, and its host.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The folder for registries without one of their own.
const DEFAULT: &str = "_default";

/// What a host must prove, and what it is shown, in TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// Certificates of further authorities, PEM.
    pub(super) ca: Vec<u8>,
    /// The client's certificate and key, PEM.
    pub(super) identity: Option<Vec<u8>>,
    /// Any certificate will do.
    pub(super) skip_verify: bool,
}

/// A host to ask.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Down to the path before `/<repository>/manifests/…`.
    pub(super) url: Url,
    /// It is the registry itself: credentials for the registry are for this host.
    pub(super) is_registry: bool,
    /// Its files, read.
    pub(super) tls: Tls,
    /// How it is asked.
    pub(super) settings: Settings,
}

/// The hosts to ask for images of `registry`, in order; the registry's server is the last. Blocks.
///
/// # Errors
/// [`RegistryError::HostsFile`], [`RegistryError::File`].
pub(super) fn candidates(
    dirs: &[PathBuf],
    registry: &str,
    plain_http: &[String],
) -> Result<Vec<Candidate>, RegistryError> {
    let own = own_url(registry, plain_http, &Settings::default())?;
    let Some((folder, path)) = find(dirs, registry)? else {
        let (tls, settings) = (Tls::default(), Settings::default());
        return Ok(vec![Candidate { url: own, is_registry: true, tls, settings }]);
    };
    let file = read_folder(&path)?;
    let place = path.join("hosts.toml");
    let mut all = Vec::new();
    for (number, mirror) in file.mirrors.into_iter().enumerate() {
        let tls = read_tls(&place, &format!("host number {}", number + 1), &mirror.settings)?;
        let is_registry = same_host(&mirror.url, &own);
        all.push(Candidate { url: mirror.url, is_registry, tls, settings: mirror.settings });
    }
    let Server { url, settings } = file.server;
    let tls = read_tls(&place, "server", &settings)?;
    let (url, is_registry) = match url {
        // Who writes a folder for one registry says where that is; one for all of them does not.
        Some(url) => {
            let is_registry = folder == Folder::Own || same_host(&url, &own);
            (url, is_registry)
        }
        None => (own_url(registry, plain_http, &settings)?, true),
    };
    all.push(Candidate { url, is_registry, tls, settings });
    Ok(all)
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

/// Where a registry is when no file says otherwise.
fn own_url(registry: &str, plain: &[String], settings: &Settings) -> Result<Url, RegistryError> {
    let host = if registry == DOCKER.0 { DOCKER.1 } else { registry };
    let listed = plain.iter().any(|entry| entry == registry || entry == bare(registry));
    let plain = listed || (is_loopback(registry) && !settings.wants_tls());
    let scheme = if plain { "http" } else { "https" };
    let text = format!("{scheme}://{host}/v2");
    Url::parse(&text).map_err(|e| RegistryError::protocol(registry, format!("no address: {e}")))
}

/// A host without its port.
fn bare(registry: &str) -> &str {
    match registry.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    }
}

/// Whether a host (with a port or without) is this machine itself.
fn is_loopback(registry: &str) -> bool {
    let host = bare(registry);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folder {
    Own,
    Default,
}

/// The folder of a registry: its own in any of the roots, else the default one in any of them.
fn find(dirs: &[PathBuf], registry: &str) -> Result<Option<(Folder, PathBuf)>, RegistryError> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push((Folder::Own, format!("{host}_{port}_")));
    }
    names.push((Folder::Own, registry.to_owned()));
    names.push((Folder::Default, DEFAULT.to_owned()));
    for (kind, name) in names {
        for dir in dirs {
            let path = dir.join(&name);
            match std::fs::metadata(&path) {
                Ok(found) if found.is_dir() => return Ok(Some((kind, path))),
                Ok(_) => {
                    let source = io::Error::from(io::ErrorKind::NotADirectory);
                    return Err(RegistryError::File { path, source });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RegistryError::File { path, source }),
            }
        }
    }
    Ok(None)
}

fn read_folder(folder: &Path) -> Result<HostsFile, RegistryError> {
    let path = folder.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => hosts_file::parse(&text).map_err(|flaw| RegistryError::HostsFile {
            path,
            key: flaw.key,
            reason: flaw.reason,
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => docker_files(folder),
        Err(source) => Err(RegistryError::File { path, source }),
    }
}

/// A folder of certificates without a `hosts.toml`.
fn docker_files(folder: &Path) -> Result<HostsFile, RegistryError> {
    let failed = |source| RegistryError::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    let mut settings = Settings::default();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => settings.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                settings.client.push((file, Some(key)));
            }
            _ => {}
        }
    }
    Ok(HostsFile { mirrors: Vec::new(), server: Server { url: None, settings } })
}

/// Reads the certificates of a host. Their paths are relative to the folder of `file`.
fn read_tls(file: &Path, host: &str, settings: &Settings) -> Result<Tls, RegistryError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let flawed = |key: &str, reason: String| RegistryError::HostsFile {
        path: file.to_owned(),
        key: format!("{key} of {host}"),
        reason,
    };
    let read = |key: &str, path: &Path| {
        let path = folder.join(path);
        std::fs::read(&path).map_err(|e| flawed(key, format!("read {}: {e}", path.display())))
    };
    let mut tls = Tls { skip_verify: settings.skip_verify == Some(true), ..Tls::default() };
    for path in &settings.ca {
        let pem = read("ca", path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem);
        if !certificates.is_ok_and(|found| !found.is_empty()) {
            return Err(flawed("ca", format!("{} holds no PEM certificate", path.display())));
        }
        tls.ca.extend(pem);
        tls.ca.push(b'\n');
    }
    if settings.client.len() > 1 {
        let reason = "several certificates: one can be shown to a host".to_owned();
        return Err(flawed("client", reason));
    }
    if let Some((certificate, key)) = settings.client.first() {
        let mut pem = read("client", certificate)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read("client", key)?);
        }
        if let Err(error) = reqwest::Identity::from_pem(&pem) {
            let why = crate::error::chain(&error);
            return Err(flawed("client", format!("{}: {why}", certificate.display())));
        }
        tls.identity = Some(pem);
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(dir: &Path, registry: &str) -> Result<Vec<Candidate>, RegistryError> {
        candidates(&[dir.to_owned()], registry, &["plain.test".to_owned(), "other.test:81".into()])
    }

    fn urls(dir: &Path, registry: &str) -> Vec<String> {
        all(dir, registry).unwrap().into_iter().map(|c| c.url.to_string()).collect()
    }

    fn write(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn only_this_machine_and_listed_hosts_are_spoken_to_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        for (registry, url) in [
            ("localhost", "http://localhost/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
            ("127.8.9.1", "http://127.8.9.1/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("plain.test", "http://plain.test/v2"),
            ("plain.test:5000", "http://plain.test:5000/v2"),
            ("other.test:81", "http://other.test:81/v2"),
            ("other.test", "https://other.test/v2"),
            ("localhost.evil.test", "https://localhost.evil.test/v2"),
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ] {
            assert_eq!(urls(dir.path(), registry), [url], "{registry}");
        }
    }

    #[test]
    fn the_folder_of_a_registry_is_found_in_all_its_forms_and_goes_before_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = |folder: &str, mirror: &str| {
            write(dir.path().join(folder).join("hosts.toml"), &format!("[host.\"{mirror}\"]\n"));
        };
        file("_default", "d.test");
        file("r.test", "m.test");
        file("r.test:5000", "p.test");
        assert_eq!(urls(dir.path(), "r.test"), ["https://m.test/v2", "https://r.test/v2"]);
        let with_port = "https://r.test:5000/v2";
        assert_eq!(urls(dir.path(), "r.test:5000"), ["https://p.test/v2", with_port]);
        file("r.test_5000_", "u.test");
        assert_eq!(urls(dir.path(), "r.test:5000"), ["https://u.test/v2", with_port]);
        assert_eq!(urls(dir.path(), "q.test"), ["https://d.test/v2", "https://q.test/v2"]);
        // The second root has an own folder; the first one has only a default.
        let second = tempfile::tempdir().unwrap();
        write(second.path().join("q.test/hosts.toml"), "server = \"https://s.test\"\n");
        let dirs = [dir.path().to_owned(), second.path().to_owned()];
        let found = candidates(&dirs, "q.test", &[]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].url.as_str(), "https://s.test/v2");
    }

    #[test]
    fn a_server_of_a_folder_for_all_registries_is_not_the_registry() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("_default/hosts.toml"), "server = \"https://proxy.test\"\n");
        write(
            dir.path().join("own.test/hosts.toml"),
            "server = \"https://real.test\"\n[host.\"own.test\"]\n[host.\"m.test\"]\n",
        );
        let flags = |registry: &str| -> Vec<bool> {
            all(dir.path(), registry).unwrap().iter().map(|c| c.is_registry).collect()
        };
        assert_eq!(flags("proxy.test"), [true]);
        assert_eq!(flags("r.test"), [false]);
        assert_eq!(flags("own.test"), [true, false, true]);
    }

    #[test]
    fn settings_of_the_file_itself_are_for_the_registry_and_mean_tls() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("127.0.0.1:5000/hosts.toml"), "skip_verify = true\n");
        let found = all(dir.path(), "127.0.0.1:5000").unwrap();
        assert_eq!(found[0].url.as_str(), "https://127.0.0.1:5000/v2");
        assert!(found[0].tls.skip_verify);
    }

    #[test]
    fn a_mistake_is_told_with_file_key_and_cause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.test/hosts.toml");
        for (text, wanted) in [
            ("[host.x]\nmirror = 1", "host.\"x\".mirror: unknown key"),
            ("ca = \"none.pem\"", "ca of server: read "),
            ("ca = \"hosts.toml\"", "ca of server: hosts.toml holds no PEM certificate"),
            ("[host.x]\nclient = \"hosts.toml\"", "client of host number 1: hosts.toml: "),
            ("client = [[\"a\", \"b\"], [\"c\", \"d\"]]", "client of server: several certificates"),
        ] {
            write(path.clone(), text);
            let error = all(dir.path(), "r.test").expect_err(text).to_string();
            let wanted = format!("{}: {wanted}", path.display());
            assert!(error.starts_with(&wanted), "{error}\nnot {wanted}");
        }
        std::fs::write(dir.path().join("q.test"), "").unwrap();
        let error = all(dir.path(), "q.test").unwrap_err();
        assert!(matches!(error, RegistryError::File { .. }), "{error}");
    }
}
