//! The certificates and tokens that count now: read at the start, and again when their files change.
//!
//! The folders of the files are watched, so that a file that is replaced and a link that is moved (as Kubernetes does
//! with mounted Secrets) count at once; what links lead to further away is looked at every minute. What cannot be used
//! is told once, and what counted before counts on. A new certificate is for connections to come, and so are new
//! authorities; new tokens are for the next request.

use super::access::Access;
use super::error::HttpError;
use super::pki::{Files, own_certificate};
use super::user::Tokens;
use crate::blocking::Overdue;
use crate::config;
use crate::error::chain;
use crate::kubelet::node::NodeFacts;
use crate::small_file;
use crate::tls::{self, Clients};
use crate::watch::{Watch, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// How often the files are looked at though nothing was told.
const LOOK: Duration = Duration::from_secs(60);
/// How long nothing may be told before a change is read: a certificate and its key are two files.
const SETTLE: Duration = Duration::from_millis(200);
/// How many times longer a change is left unread while the next ones come.
const MOST_SETTLES: u32 = 20;
/// How long a look may take: the files may be on a file system that hangs.
const WITHIN: Duration = Duration::from_secs(30);

/// What counts now.
#[derive(Clone)]
pub(super) struct Live {
    /// None where there is no address.
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) access: Arc<Access>,
}

/// What files had when they were looked at; of one that cannot be read, why.
type Seen = Vec<Result<Vec<u8>, String>>;

fn see(files: &[&Path]) -> Seen {
    let read = |file: &&Path| small_file::read(file).map_err(|error| error.to_string());
    files.iter().map(read).collect()
}

/// Knows the files, and what they had.
#[derive(Clone)]
pub(super) struct Keeper {
    kubelet: config::Kubelet,
    /// The folder of the certificate that the node signs itself.
    pki: PathBuf,
    node: NodeFacts,
    tls: Seen,
    tokens: Seen,
    /// What was wrong with the certificates at the last look.
    problem: Option<String>,
}

impl Keeper {
    /// Reads the files for the first time. Blocking.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn read(
        kubelet: config::Kubelet,
        pki: PathBuf,
        node: NodeFacts,
    ) -> Result<(Self, Live), HttpError> {
        let mut keeper =
            Self { kubelet, pki, node, tls: Seen::new(), tokens: Seen::new(), problem: None };
        keeper.tokens = keeper.see_tokens();
        let access = Arc::new(keeper.access()?);
        let tls = match keeper.kubelet.http_address {
            None => None,
            Some(_) => {
                let files = keeper.files()?;
                keeper.tls = keeper.see_tls(&files);
                Some(keeper.acceptor(&files)?)
            }
        };
        Ok((keeper, Live { tls, access }))
    }

    /// What counts after another look; none when nothing is new, or nothing new can be used. Blocking.
    fn look(&mut self, now: &Live) -> Option<Live> {
        let tokens = self.see_tokens();
        let access = (tokens != self.tokens).then(|| self.access());
        self.tokens = tokens;
        let access = usable(access, "tokens");
        let tls = match now.tls {
            Some(_) => usable(self.look_at_tls(), "certificates"),
            None => None,
        };
        if access.is_none() && tls.is_none() {
            return None;
        }
        let access = access.map_or_else(|| Arc::clone(&now.access), Arc::new);
        Some(Live { tls: tls.or_else(|| now.tls.clone()), access })
    }

    fn look_at_tls(&mut self) -> Option<Result<TlsAcceptor, HttpError>> {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => return self.once(error),
        };
        let seen = self.see_tls(&files);
        if seen == self.tls && self.problem.is_none() {
            return None;
        }
        self.tls = seen;
        match self.acceptor(&files) {
            Ok(acceptor) => {
                self.problem = None;
                Some(Ok(acceptor))
            }
            // The next look tries again: it may have been a passing one.
            Err(error) => self.once(error),
        }
    }

    /// An error that was not the last one, too.
    fn once<T>(&mut self, error: HttpError) -> Option<Result<T, HttpError>> {
        let told = chain(&error);
        let is_new = self.problem.as_ref() != Some(&told);
        self.problem = Some(told);
        is_new.then_some(Err(error))
    }

    /// The certificate and its key; the node's own is made anew when it is about to end.
    fn files(&self) -> Result<Files, HttpError> {
        match (&self.kubelet.http_tls_cert, &self.kubelet.http_tls_key) {
            (Some(certificate), Some(key)) => {
                Ok(Files { certificate: certificate.clone(), key: key.clone() })
            }
            _ => own_certificate(&self.pki, &self.node, jiff::Timestamp::now()),
        }
    }

    fn see_tokens(&self) -> Seen {
        see(&self.kubelet.static_tokens.as_deref().into_iter().collect::<Vec<_>>())
    }

    fn see_tls(&self, files: &Files) -> Seen {
        let mut all = vec![files.certificate.as_path(), files.key.as_path()];
        all.extend(self.kubelet.client_ca.as_deref());
        see(&all)
    }

    fn access(&self) -> Result<Access, HttpError> {
        let tokens = match &self.kubelet.static_tokens {
            None => Tokens::default(),
            Some(path) => {
                let failed =
                    |source| HttpError::File { operation: "read", path: path.clone(), source };
                let bytes = small_file::read(path).map_err(failed)?;
                Tokens::parse(&String::from_utf8_lossy(&bytes))
                    .map_err(|source| HttpError::Tokens { path: path.clone(), source })?
            }
        };
        Ok(Access::new(&self.kubelet, tokens))
    }

    fn acceptor(&self, files: &Files) -> Result<TlsAcceptor, HttpError> {
        let clients = self.kubelet.client_ca.as_deref().map_or(Clients::None, Clients::SignedBy);
        Ok(tls::acceptor(&files.certificate, &files.key, clients)?)
    }

    /// The folders whose changes count.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let own = &self.kubelet;
        let files = [&own.http_tls_cert, &own.http_tls_key, &own.client_ca, &own.static_tokens];
        let folder = |file: &PathBuf| file.parent().map(Path::to_owned);
        files.into_iter().flatten().filter_map(folder).collect()
    }
}

/// What is new, if there is something and it can be used; else it is told why not.
fn usable<T>(new: Option<Result<T, HttpError>>, what: &'static str) -> Option<T> {
    match new? {
        Ok(new) => {
            info!(what, "the kubelet's HTTP API has new ones");
            Some(new)
        }
        Err(error) => {
            let error = chain(&error);
            warn!(what, error, "the kubelet's HTTP API keeps the old ones");
            None
        }
    }
}

/// Keeps `live` as the files are, for ever.
pub(super) async fn keep(mut keeper: Keeper, live: &watch::Sender<Live>, watcher: &Watcher) {
    let told = Arc::new(Notify::new());
    let _watches: Vec<Watch> =
        keeper.folders().into_iter().filter_map(|folder| watched(watcher, folder, &told)).collect();
    // Looks that hang are few: threads are there for all.
    let looks = Overdue::default();
    loop {
        let (before, now) = (keeper.clone(), live.borrow().clone());
        let look = looks.run_within("read the certificates and tokens", WITHIN, move |_| {
            let new = keeper.look(&now);
            (keeper, new)
        });
        match look.await {
            Ok((back, new)) => {
                keeper = back;
                new.into_iter().for_each(|new| drop(live.send_replace(new)));
            }
            Err(error) => {
                keeper = before;
                warn!(%error, "the files of the kubelet's HTTP API cannot be looked at");
            }
        }
        if tokio::time::timeout(LOOK, told.notified()).await.is_ok() {
            // In a folder where something is written all the time, no longer than that.
            tokio::time::timeout(SETTLE * MOST_SETTLES, quiet(&told)).await.ok();
        }
    }
}

/// Waits until nothing happened for a while.
async fn quiet(told: &Notify) {
    while tokio::time::timeout(SETTLE, told.notified()).await.is_ok() {}
}

/// None where it cannot be watched: then its files are only looked at now and then.
fn watched(watcher: &Watcher, folder: PathBuf, told: &Arc<Notify>) -> Option<Watch> {
    let told = Arc::clone(told);
    let dir = folder.display().to_string();
    let watch = watcher.folder(folder, move |_| told.notify_one());
    watch
        .inspect_err(|error| {
            warn!(dir, error = chain(error), "certificates and tokens are not watched");
        })
        .ok()
}
