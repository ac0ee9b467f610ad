//! The connections of probes, and how they end.
//!
//! A probe a second must not leave 60 connections in TIME_WAIT, a thousand of them not 60,000. So an HTTP probe, when it
//! has its answer, waits a moment for the server, which was asked to close, and then [resets](reset) what is left: both
//! sides forget the connection at once. A tcpSocket probe has nothing to wait for, and is closed as any other connection
//! is: a reset may come before the server accepts it, and then getpeername(2) fails there and servers complain.
//!
//! Kubelets set SO_LINGER to 1 s for this end. On Linux that does not do it. Of 500 exchanges on 6.18, in a network
//! namespace of their own, that many were in TIME_WAIT afterwards, at the client or the server:
//!
//! | who closes first | no SO_LINGER | 1 s | 0 s, a reset |
//! | --- | --- | --- | --- |
//! | the client | 500, 0 | 500, 0 | 0, 0 |
//! | the server, and the client reads its end | 0, 500 | 0, 500 | 0, 0 |
//! | the server, and the client closes at once | 1, 499 | 74, 426 | 0, 0 |
//!
//! What 1 s does is that close(2) waits for the peer to acknowledge the end, although the socket does not block, so that
//! a pod that drops packets would hold a thread of the daemon for that second (tcp_close in net/ipv4/tcp.c).

use std::io;
use std::net::IpAddr;
use tokio::net::TcpStream;

/// Connects to an address or a name.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}

/// Ends a connection over which nothing is under way so that neither side keeps anything of it. Waits for nobody.
pub(super) fn reset(stream: TcpStream) {
    // Where it cannot be set the connection is closed as any other is.
    stream.set_zero_linger().ok();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;
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
        reset(client);
        assert_eq!(state(own), None);
        let row = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let remote = format!("0100007F:{:04X}", peer.port());
        assert!(!row.contains(&remote), "{row}");
    }
}
