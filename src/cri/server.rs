//! The unix socket and the gRPC server on it.
//!
//! The socket belongs to root and, when one is configured, to a group; its mode is 0660 from the
//! first moment at which it has its name. A stale socket is replaced, one that answers is not.

use super::authority::AuthorityStream;
use super::instrument::InstrumentLayer;
use crate::error::ErrorKind;
use nix::unistd::Gid;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{info, warn};

/// The largest request, bytes: what a kubelet's client sends at most.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Who may connect: owner and group.
const SOCKET_MODE: u32 = 0o660;
/// Who may connect: the owner alone.
const PRIVATE_MODE: u32 = 0o600;

/// A server that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A daemon answers on the socket.
    #[error("socket {path} is in use by another process")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("{path} exists and is not a socket")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// There is no such group.
    #[error("group {group:?} does not exist")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// The socket cannot be made.
    #[error("{operation} {path}")]
    Socket {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The transport failed.
    #[error("serve gRPC")]
    Serve(#[source] tonic::transport::Error),
}

impl ServerError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::AlreadyExists,
            Self::NotASocket { .. } | Self::NoGroup { .. } => ErrorKind::InvalidArgument,
            Self::Socket { .. } | Self::Serve(_) => ErrorKind::Internal,
        }
    }
}

/// A socket that listens; dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket: removed when dropped, unless another socket has its name by then.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

impl Socket {
    /// Listens on `path`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Another daemon answers there, the file is no socket, the group does not exist, or a system
    /// call fails.
    pub async fn bind(path: &Path, group: Option<&str>) -> Result<Self, ServerError> {
        let group = group.map(lookup_group).transpose()?;
        Self::make(path, SOCKET_MODE, group).await
    }

    /// As [`bind`](Self::bind), for the owner alone.
    ///
    /// # Errors
    /// As there.
    pub async fn bind_private(path: &Path) -> Result<Self, ServerError> {
        Self::make(path, PRIVATE_MODE, None).await
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system call's.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    async fn make(path: &Path, mode: u32, group: Option<Gid>) -> Result<Self, ServerError> {
        refuse_foreign(path).await?;
        let failed = |operation| {
            let path = path.to_owned();
            move |source: io::Error| ServerError::Socket { operation, path, source }
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed("create the folder of socket"))?;
        }
        // Bound under another name first: it gets its own only once its mode is right.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        std::fs::remove_file(&temporary).ok();
        let listener = UnixListener::bind(&temporary).map_err(failed("bind socket"))?;
        let placed = place(&temporary, path, (mode, group)).map_err(failed("make socket"));
        if placed.is_err() {
            std::fs::remove_file(&temporary).ok();
        }
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode: placed? } })
    }

    /// Serves `routes` until `stop` resolves, then waits no longer than `drain` for the RPCs in
    /// flight.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve(
        self,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
        drain: Duration,
    ) -> Result<(), ServerError> {
        let Self { listener, file } = self;
        let (stopping, mut stopped) = tokio::sync::watch::channel(());
        let stop = async move {
            stop.await;
            // No new connection finds the socket while the old ones are drained.
            drop(file);
            stopping.send_replace(());
        };
        let connections = UnixListenerStream::new(listener).map(|c| c.map(AuthorityStream::new));
        let server = Server::builder()
            .layer(InstrumentLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, stop);
        let deadline = async {
            if stopped.changed().await.is_ok() {
                tokio::time::sleep(drain).await;
            }
            // Not told to stop: the server ends by itself, never the deadline.
            else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = server => result.map_err(ServerError::Serve),
            () = deadline => {
                info!("RPCs in flight were cut off at the end of the drain time");
                Ok(())
            }
        }
    }
}

/// Leaves what is not a stale socket alone.
async fn refuse_foreign(path: &Path) -> Result<(), ServerError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source: io::Error| ServerError::Socket { operation, path, source }
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("inspect socket")(source)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(ServerError::InUse { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Gone in between: so be it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("ask for an owner of socket")(source)),
    }
}

/// Gives the socket its mode, its group and its name; its inode is the answer.
fn place(temporary: &Path, path: &Path, of: (u32, Option<Gid>)) -> io::Result<u64> {
    let (mode, group) = of;
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(mode))?;
    if group.is_some() {
        nix::unistd::chown(temporary, None, group)?;
    }
    let inode = std::fs::symlink_metadata(temporary)?.ino();
    std::fs::rename(temporary, path)?;
    Ok(inode)
}

fn lookup_group(name: &str) -> Result<Gid, ServerError> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(ServerError::NoGroup { group: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/berth.sock");
        std::fs::create_dir(dir.path().join("run")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        eventually("nobody listens", || std::os::unix::net::UnixStream::connect(&path).is_err());
        let first = Socket::bind(&path, None).await.unwrap();
        let second = Socket::bind(&path, None).await;
        assert!(matches!(second, Err(ServerError::InUse { .. })));
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(first);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        let result = Socket::bind(&path, None).await;
        assert!(matches!(result, Err(ServerError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("berth.sock");
        let _socket = Socket::bind(&path, None).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, SOCKET_MODE);
    }

    #[tokio::test]
    async fn a_group_that_does_not_exist_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let result = Socket::bind(&dir.path().join("s"), Some("no-such-group")).await;
        assert!(matches!(result, Err(ServerError::NoGroup { group }) if group == "no-such-group"));
    }

    #[tokio::test]
    async fn a_socket_that_was_replaced_is_not_removed_by_its_old_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("berth.sock");
        let socket = Socket::bind(&path, None).await.unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        std::fs::write(&path, "another").unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
