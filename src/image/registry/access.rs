//! What all pulls of a node share: the configuration about registries, clients, and where helpers run.

use super::super::error::ImageError;
use super::super::info::Auth;
use super::clients::Clients;
use super::credentials::{self, Credentials};
use super::docker_config::{DockerConfig, Found};
use super::error::RegistryError;
use super::helper;
use super::hosts::{self, Candidate};
use super::proxies::Proxies;
use crate::blocking;
use crate::cgroups::Cgroups;
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(in crate::image) struct Access {
    hosts_dirs: Vec<PathBuf>,
    plain_http: Vec<String>,
    docker_config: Option<PathBuf>,
    pub(super) silence: Duration,
    pub(super) clients: Arc<Clients>,
    helpers: OnceLock<Cgroups>,
}

impl Access {
    /// By this configuration, and the proxies of the environment.
    pub(in crate::image) fn new(config: &ImageConfig) -> Self {
        Self {
            hosts_dirs: config.hosts_dirs.clone(),
            plain_http: config.plain_http.clone(),
            docker_config: config.docker_config.clone(),
            silence: Duration::from_secs(config.progress_timeout_seconds),
            clients: Arc::new(Clients::new(Proxies::of(|name| std::env::var_os(name)))),
            helpers: OnceLock::new(),
        }
    }

    /// From now on credential helpers can be run, below these cgroups.
    pub(in crate::image) fn run_helpers_in(&self, cgroups: Cgroups) {
        // Once a start: a second call changes nothing.
        self.helpers.set(cgroups).ok();
    }

    /// The hosts of a registry, in order.
    ///
    /// # Errors
    /// A `hosts.toml` that cannot be used.
    pub(super) async fn candidates(
        self: &Arc<Self>,
        registry: &str,
    ) -> Result<Vec<Candidate>, ImageError> {
        let (access, name) = (Arc::clone(self), registry.to_owned());
        let found = blocking::run("read the hosts of a registry", move || {
            hosts::candidates(&access.hosts_dirs, &name, &access.plain_http)
        });
        found.await?.map_err(|e| ImageError::registry("look up the hosts of", registry, e))
    }
}

/// Whose credentials a host is shown, found when it asks for them.
#[derive(Debug)]
pub(super) enum Identity {
    /// Those that came with the request.
    Given(Credentials),
    /// Those of the node for a name (a registry, or a mirror's host) and a repository.
    Node { access: Arc<Access>, host: String, repository: String },
}

impl Identity {
    /// Those given, if they are for this host; else those of the node. `registry` is the registry's name if the host
    /// is the registry itself.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`].
    pub(super) fn choose(
        access: &Arc<Access>,
        given: Option<&Auth>,
        (host, registry): (&str, Option<&str>),
        repository: &str,
    ) -> Result<Self, RegistryError> {
        let name = registry.unwrap_or(host);
        if let Some(auth) = given {
            let is_for = match auth.server_address.as_str() {
                "" => registry.is_some(),
                server => credentials::is_for(server, name),
            };
            if is_for {
                let kind = ErrorKind::InvalidArgument;
                return Credentials::of(auth, name, kind).map(Self::Given);
            }
        }
        let (access, host) = (Arc::clone(access), name.to_owned());
        Ok(Self::Node { access, host, repository: repository.to_owned() })
    }

    /// The credentials.
    ///
    /// # Errors
    /// A file or a helper that has none to give, though it should.
    pub(super) async fn credentials(&self) -> Result<Credentials, RegistryError> {
        let (access, host, repository) = match self {
            Self::Given(credentials) => return Ok(credentials.clone()),
            Self::Node { access, host, repository } => {
                (Arc::clone(access), host.clone(), repository.clone())
            }
        };
        let name = host.clone();
        let found = blocking::run("look for credentials", move || access.find(&name, &repository));
        found.await.map_err(|e| RegistryError::Credentials {
            host,
            reason: e.to_string(),
            kind: e.kind(),
        })?
    }
}

impl Access {
    /// The node's credentials for a repository. Blocks.
    fn find(&self, host: &str, repository: &str) -> Result<Credentials, RegistryError> {
        let Some(path) = &self.docker_config else { return Ok(Credentials::Anonymous) };
        match DockerConfig::read(path)?.find(host, repository) {
            Found::Nothing => Ok(Credentials::Anonymous),
            Found::Here(auth) => Credentials::of(&auth, host, ErrorKind::FailedPrecondition),
            Found::Helper { helper, server } => match self.helpers.get() {
                Some(cgroups) => helper::ask(&helper, &server, cgroups),
                None => Err(RegistryError::Credentials {
                    host: host.to_owned(),
                    reason: format!("docker-credential-{helper} cannot be run here"),
                    kind: ErrorKind::FailedPrecondition,
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(server: &str) -> Auth {
        let (username, server_address) = ("u".into(), server.into());
        Auth { username, server_address, ..Auth::default() }
    }

    #[test]
    fn given_credentials_are_for_the_registry_or_the_host_they_name_and_for_nobody_else() {
        let access = Arc::new(Access::new(&ImageConfig::default()));
        let given = |server: &str, host: &str, registry: Option<&str>| {
            let auth = auth(server);
            let chosen = Identity::choose(&access, Some(&auth), (host, registry), "a").unwrap();
            matches!(chosen, Identity::Given(Credentials::Basic(..)))
        };
        for (server, host, registry, is) in [
            ("", "q.test", Some("q.test"), true),
            ("", "m.test", None, false),
            ("q.test", "q.test", Some("q.test"), true),
            ("q.test", "m.test", None, false),
            ("m.test", "m.test", None, true),
            ("m.test", "q.test", Some("q.test"), false),
            ("https://index.docker.io/v1/", "registry-1.docker.io", Some("docker.io"), true),
            // The folder of q.test says that it is there.
            ("q.test", "real.test", Some("q.test"), true),
        ] {
            assert_eq!(given(server, host, registry), is, "{server} {host} {registry:?}");
        }
    }

    #[tokio::test]
    async fn the_nodes_credentials_are_those_of_the_file_for_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths": {"m.test": {"auth": "eDp5"}}}"#).unwrap();
        let config = ImageConfig { docker_config: Some(path), ..ImageConfig::default() };
        let access = Arc::new(Access::new(&config));
        let of = async |host: &str, registry: Option<&str>| {
            let elsewhere = auth("q.test");
            let id = Identity::choose(&access, Some(&elsewhere), (host, registry), "a").unwrap();
            id.credentials().await.unwrap()
        };
        assert_eq!(of("m.test", None).await, Credentials::Basic("x".into(), "y".into()));
        assert_eq!(of("n.test", None).await, Credentials::Anonymous);
        assert_eq!(of("m.test", Some("r.test")).await, Credentials::Anonymous);
        assert_eq!(of("x.test", Some("m.test")).await, Credentials::Basic("x".into(), "y".into()));
    }
}
