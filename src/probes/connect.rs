//! The connections of probes, and how they end.
//!
//! A probe a second must not leave 60 connections in TIME_WAIT, so HTTP probes end as [`Ended::ByServer`]: the server
//! is asked to close, has closed, and a reset of what is left of the connection lets both sides forget it at once.
//!
//! Kubelets set SO_LINGER to 1 s for this end. On Linux that does not do it: who closes first has a TIME_WAIT of 60 s
//! all the same (500 of 500 connections on 6.18, as without it), and close(2) waits for the peer to acknowledge the
//! end, although the socket does not block, so that a pod that drops packets would hold a thread of the daemon for
//! that second (tcp_close in net/ipv4/tcp.c). So a connection that the server has not closed is closed as any other is.

use std::io;
use std::net::IpAddr;
use tokio::net::TcpStream;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server has closed it; nothing of it is under way.
    ByServer,
    /// It is to be closed from here.
    ByUs,
}

/// Connects to an address or a name.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}

/// Closes a connection without ever waiting for the peer.
pub(super) fn close(stream: TcpStream, ended: Ended) {
    if ended == Ended::ByServer {
        // Where it cannot be set the connection is closed as any other is.
        stream.set_zero_linger().ok();
    }
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;
    use tokio::io::AsyncReadExt as _;

    /// The state of the connection from `port` on, as /proc/net/tcp has it; `None` for none.
    fn state(port: u16) -> Option<String> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let of = format!(":{port:04X}");
        let mut rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row[1].ends_with(&of)).map(|row| row[3].to_owned())
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closes_leaves_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().port();
        let mut client = connect("127.0.0.1", server).await.unwrap();
        let own = client.local_addr().unwrap().port();
        let (accepted, peer) = listener.accept().unwrap();
        drop(accepted);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        close(client, Ended::ByServer);
        assert_eq!(state(own), None);
        let row = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let remote = format!("0100007F:{:04X}", peer.port());
        assert!(!row.contains(&remote), "{row}");
    }

    #[tokio::test]
    async fn a_server_sees_the_orderly_end_of_a_connection_closed_from_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = connect("localhost", port).await.unwrap();
        close(client, Ended::ByUs);
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }
}
