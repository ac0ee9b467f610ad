//! logind, as far as a shutdown needs it (org.freedesktop.login1(5), logind.conf(5)).

use crate::error::ErrorKind;
use crate::store::{StoreError, replace};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::zvariant::OwnedFd;

/// Where the bus is.
const ADDRESS: &str = "unix:path=/run/dbus/system_bus_socket";
/// The drop-in by which logind waits long enough.
const DROP_IN: &str = "/etc/systemd/logind.conf.d/99-berth.conf";
/// How long logind may take to read it, and how often it is asked.
const READS_WITHIN: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_millis(100);
/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(25);

/// A shutdown that cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// The bus or logind.
    #[error("graceful node shutdown: {operation} logind")]
    Logind {
        /// What was attempted.
        operation: &'static str,
        /// What it said.
        source: Box<zbus::Error>,
    },
    /// No answer.
    #[error("graceful node shutdown: {operation} logind took longer than 25 s")]
    Late {
        /// What was attempted.
        operation: &'static str,
    },
    /// The folder of the drop-in.
    #[error("create folder {path}")]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The drop-in.
    #[error(transparent)]
    DropIn(#[from] StoreError),
    /// The drop-in was not heeded.
    #[error(
        "logind delays a shutdown by {has:?} and not by {wanted:?}: something goes before {DROP_IN}"
    )]
    TooShort {
        /// How long it delays one.
        has: Duration,
        /// How long the pods may take.
        wanted: Duration,
    },
}

impl ShutdownError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Logind { .. } | Self::Late { .. } => ErrorKind::Unavailable,
            Self::Folder { .. } => ErrorKind::Internal,
            Self::DropIn(error) => error.kind(),
            Self::TooShort { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_blocking = false
)]
pub(super) trait Login {
    /// A lock, which lasts as long as the descriptor.
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;

    /// How long a delay lock delays, microseconds.
    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;

    /// Whether a shutdown waits for delay locks.
    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> zbus::Result<bool>;

    /// A shutdown begins to wait for delay locks, or was called off.
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Units {
    /// Sends a signal to processes of a unit.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
}

/// A request with a deadline and its name.
pub(super) async fn ask<T>(
    operation: &'static str,
    request: impl Future<Output = zbus::Result<T>>,
) -> Result<T, ShutdownError> {
    match tokio::time::timeout(WITHIN, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ShutdownError::Logind { operation, source: Box::new(source) }),
        Err(_) => Err(ShutdownError::Late { operation }),
    }
}

/// Connects.
pub(super) async fn connect() -> Result<LoginProxy<'static>, ShutdownError> {
    ask("connect to", async {
        let bus = zbus::connection::Builder::address(ADDRESS)?.build().await?;
        LoginProxy::builder(&bus).cache_properties(zbus::proxy::CacheProperties::No).build().await
    })
    .await
}

/// Sees to it that logind delays a shutdown for so long.
pub(super) async fn delay_for(
    login: &LoginProxy<'static>,
    wanted: Duration,
) -> Result<(), ShutdownError> {
    if delays(login).await? >= wanted {
        return Ok(());
    }
    let path = Path::new(DROP_IN);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| ShutdownError::Folder { path: folder.to_owned(), source })?;
    }
    replace(path, drop_in(wanted).as_bytes())?;
    let units = ask("reload", UnitsProxy::new(login.inner().connection())).await?;
    ask("reload", units.kill_unit("systemd-logind.service", "main", libc::SIGHUP)).await?;
    let began = tokio::time::Instant::now();
    loop {
        let has = delays(login).await?;
        if has >= wanted {
            return Ok(());
        }
        if began.elapsed() >= READS_WITHIN {
            return Err(ShutdownError::TooShort { has, wanted });
        }
        tokio::time::sleep(ASK).await;
    }
}

async fn delays(login: &LoginProxy<'static>) -> Result<Duration, ShutdownError> {
    ask("ask", login.inhibit_delay_max_usec()).await.map(Duration::from_micros)
}

fn drop_in(wanted: Duration) -> String {
    format!(
        "# Written by berth: pods may take so long to end before the node does.\n\
         [Login]\nInhibitDelayMaxSec={}\n",
        wanted.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_is_one_of_logind() {
        let text = drop_in(Duration::from_secs(90));
        assert!(text.ends_with("[Login]\nInhibitDelayMaxSec=90\n") && text.starts_with("# "));
    }
}
