//! Unix stream sockets that carry descriptors: SCM_RIGHTS of unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr,
};

/// The most descriptors that one message carries (SCM_MAX_FD).
pub const MAX_FDS: usize = 253;

/// The address of `name` in `dir`: by the descriptor, since sun_path holds 107 bytes and a root
/// may lie deep.
fn address(dir: BorrowedFd<'_>, name: &Path) -> io::Result<UnixAddr> {
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok(UnixAddr::new(&path)?)
}

fn new_socket(flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    Ok(nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Two connected sockets, blocking.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(nix::sys::socket::socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?)
}

/// A listening socket at `name` in `dir`, mode 0600. What was there before is replaced.
///
/// # Errors
/// The errno of unlink, bind, chmod or listen.
pub fn listen(dir: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
    match nix::unistd::unlinkat(dir, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    // The inode takes its mode from the socket's, less the umask (unix(7)).
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address(dir, name)?)?;
    nix::sys::socket::listen(&socket, Backlog::new(8)?)?;
    Ok(socket)
}

/// A non-blocking connection to `name` in `dir`. Unix sockets connect at once or not at all.
///
/// # Errors
/// ENOENT, ECONNREFUSED (nobody listens any more), EAGAIN (its backlog is full).
pub fn connect(dir: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address(dir, name)?)?;
    Ok(socket)
}

/// Accepts one connection, non-blocking; `None` when there is none.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match nix::sys::socket::accept4(listener.as_raw_fd(), flags) {
        // SAFETY: accept4 returned a new descriptor that nobody else owns.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ECONNABORTED) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The user of the process that made the connection (SO_PEERCRED).
///
/// # Errors
/// ENOTCONN.
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let peer = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(peer.uid())
}

/// Sends bytes with at most [`MAX_FDS`] descriptors, without waiting and without SIGPIPE. The
/// descriptors travel with the first byte; fewer bytes than given may be taken.
///
/// # Errors
/// EAGAIN when the socket's buffer is full; EPIPE, ECONNRESET; ETOOMANYREFS.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        let part = [IoSlice::new(bytes)];
        match nix::sys::socket::sendmsg::<()>(socket.as_raw_fd(), &part, control, flags, None) {
            Err(nix::Error::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives bytes and the descriptors that came with them, close-on-exec, without waiting. 0 is
/// the end of the connection.
///
/// # Errors
/// EAGAIN when there is nothing; ECONNRESET; EMSGSIZE when descriptors were lost, because this
/// process may not open more: the stream is useless then.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut part = [IoSliceMut::new(buffer)];
        let received = nix::sys::socket::recvmsg::<()>(
            socket.as_raw_fd(),
            &mut part,
            Some(&mut control),
            flags,
        );
        let message = match received {
            Err(nix::Error::EINTR) => continue,
            other => other?,
        };
        let lost = message.flags.contains(MsgFlags::MSG_CTRUNC);
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel installed these descriptors for this message; nobody else
                // owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if lost {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        return Ok(message.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let deep = std::fs::File::open(&deep).unwrap();
        let name = Path::new("s.sock");
        let listener = listen(deep.as_fd(), name).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect(deep.as_fd(), name).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        (client, server)
    }

    #[test]
    fn descriptors_travel_with_the_bytes_also_below_a_long_path() {
        let (client, server) = pair();
        let (read, write) = nix::unistd::pipe().unwrap();
        assert_eq!(send(client.as_fd(), b"x", &[write.as_fd()]).unwrap(), 1);
        let (mut buffer, mut fds) = ([0u8; 8], Vec::new());
        assert_eq!(receive(server.as_fd(), &mut buffer, &mut fds).unwrap(), 1);
        nix::unistd::write(&fds[0], b"through").unwrap();
        let mut text = [0u8; 7];
        nix::unistd::read(&read, &mut text).unwrap();
        assert_eq!(&text, b"through");
    }

    #[test]
    fn an_empty_socket_answers_at_once_and_a_closed_one_says_so() {
        let (client, server) = pair();
        let (mut buffer, mut fds) = ([0u8; 8], Vec::new());
        let error = receive(server.as_fd(), &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(peer_uid(server.as_fd()).unwrap(), nix::unistd::geteuid().as_raw());
        drop(client);
        crate::testing::eventually("the end", || {
            receive(server.as_fd(), &mut buffer, &mut fds).is_ok_and(|n| n == 0)
        });
        assert_eq!(send(server.as_fd(), b"x", &[]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
