//! A forwarded connection: the bytes of a client and those of a port of the pod's localhost.

use super::channels::{Input, Output};
use super::pump::BLOCK;
use crate::engine::Engine;
use crate::error::chain;
use std::io::ErrorKind;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Whose ports.
#[derive(Clone, Debug)]
pub(in crate::cri) struct Pod {
    pub(in crate::cri) sandbox: String,
    /// The ports of clients that do not name them themselves.
    pub(in crate::cri) ports: Vec<u16>,
}

/// One connection of a client.
pub(super) struct Connection {
    pub(super) port: u16,
    pub(super) from: Input,
    pub(super) to: Output,
    pub(super) error: Output,
    /// Whether the client can tell the end of what it says. Where it cannot, the pod's end is the connection's.
    pub(super) half_closes: bool,
}

impl Connection {
    /// Connects it, and passes bytes on until both directions have ended. A side that has said all may
    /// listen on; one that is cut off takes the other with it.
    pub(super) async fn run(self, engine: &Engine, sandbox: &str) {
        let Self { port, mut from, mut to, mut error, half_closes } = self;
        let mut pod = match engine.dial(sandbox, port).await {
            Ok(stream) => stream,
            Err(refused) => {
                // Told before the end of the data, by which clients take the connection for over.
                if error.write_all(chain(&refused).as_bytes()).await.is_ok() {
                    error.shutdown().await.ok();
                }
                to.shutdown().await.ok();
                return;
            }
        };
        let (mut answers, mut requests) = pod.split();
        let there = async {
            match pass(&mut from, &mut requests).await {
                Passed::All => requests.shutdown().await.is_ok(),
                // It listens no more, and may still speak.
                Passed::Refused => true,
                Passed::Cut => false,
            }
        };
        let back = async {
            match pass(&mut answers, &mut to).await {
                Passed::All => to.shutdown().await.is_ok(),
                Passed::Refused | Passed::Cut => false,
            }
        };
        tokio::pin!(there, back);
        let whole = tokio::select! {
            whole = &mut there => whole && back.await,
            whole = &mut back => whole && (!half_closes || there.await),
        };
        if !whole {
            // Where the client is gone nobody reads it.
            let cut = format!("the connection to port {port} was cut off");
            error.write_all(cut.as_bytes()).await.ok();
        }
        error.shutdown().await.ok();
    }
}

enum Passed {
    /// To the end.
    All,
    /// The reader is gone.
    Refused,
    /// The writer is cut off.
    Cut,
}

async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Passed {
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block).await {
            Ok(0) => return Passed::All,
            Ok(count) => {
                match to.write_all(block.get(..count).unwrap_or_default()).await {
                    Ok(()) => {}
                    // Told once: who reads from there would take it for the end.
                    Err(e) if e.kind() == ErrorKind::ConnectionReset => return Passed::Cut,
                    Err(_) => return Passed::Refused,
                }
            }
            Err(_) => return Passed::Cut,
        }
    }
}
