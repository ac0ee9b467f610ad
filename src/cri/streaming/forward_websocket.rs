//! Ports as channels of a WebSocket: two for each port, in the order of the request. Channel 2i has the data,
//! 2i + 1 the error; on each the server's first message is the port, two bytes, little-endian. A port is
//! connected once.

use super::forward::{Connection, Pod};
use super::websocket::Mux;
use crate::engine::Engine;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// How many ports have channels: their numbers are a byte, in base64 a digit, and the last closes others.
const MOST_PORTS: usize = 127;
const MOST_PORTS_BASE64: usize = 5;
/// How long a pod may take for what a client said before it went.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The ports that a client names in the query of its URL, `port=1&port=2` or `port=1,2`.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn ports_of(query: Option<&str>, pod: &Pod, base64: bool) -> Result<Vec<u16>, String> {
    let pairs = query.unwrap_or_default().split('&');
    let named =
        pairs.filter_map(|pair| pair.strip_prefix("port=")).flat_map(|list| list.split(','));
    let parse = |text: &str| match text.parse::<u16>() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!("port {text:?} is not 1 to 65535")),
    };
    let mut ports = named.map(parse).collect::<Result<Vec<_>, _>>()?;
    if ports.is_empty() {
        ports.clone_from(&pod.ports);
    }
    let most = if base64 { MOST_PORTS_BASE64 } else { MOST_PORTS };
    let different: BTreeSet<u16> = ports.iter().copied().collect();
    match ports.len() {
        0 => Err("no port is named; add ?port=NUMBER to the URL".to_owned()),
        count if count > most => Err(format!("{count} ports are more than {most}")),
        count if count > different.len() => Err("a port is named twice".to_owned()),
        _ => Ok(ports),
    }
}

/// The channels that the client writes.
pub(super) fn inputs(ports: &[u16]) -> Vec<u8> {
    (0..ports.len()).filter_map(|index| u8::try_from(2 * index).ok()).collect()
}

/// Connects every port, and ends when all connections have ended.
pub(super) async fn run(engine: &Engine, pod: &Pod, ports: &[u16], mut mux: Mux) {
    let (gone, half_closes) = (mux.gone(), mux.closes());
    let mut connections = Vec::new();
    for (data, port) in inputs(ports).into_iter().zip(ports) {
        let Some(from) = mux.input(data) else { continue };
        let (mut to, mut error) = (mux.output_with_end(data), mux.output(data.saturating_add(1)));
        connections.push(async move {
            for channel in [&mut to, &mut error] {
                // A client that is gone is noticed by what follows.
                channel.write_all(&port.to_le_bytes()).await.ok();
            }
            let connection = Connection { port: *port, from, to, error, half_closes };
            connection.run(engine, &pod.sandbox).await;
        });
    }
    drop(mux);
    let all = join_all(connections);
    tokio::pin!(all);
    tokio::select! {
        _ = &mut all => gone.cancelled().await,
        // What the client said last is still passed on.
        () = gone.cancelled() => drop(tokio::time::timeout(LAST_WORDS, all).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ports: &[u16]) -> Pod {
        Pod { sandbox: "pod".into(), ports: ports.to_vec() }
    }

    #[test]
    fn ports_are_those_of_the_url_or_of_the_call() {
        let read = |query, ports: &[u16]| ports_of(query, &pod(ports), false);
        assert_eq!(read(Some("port=80&port=443"), &[1]), Ok(vec![80, 443]));
        assert_eq!(read(Some("port=80,443&x=1"), &[]), Ok(vec![80, 443]));
        assert_eq!(read(None, &[7, 8]), Ok(vec![7, 8]));
        for bad in ["", "port=", "port=0", "port=65536", "port=80&port=80", "port=x"] {
            assert!(read(Some(bad), &[]).is_err(), "{bad}");
        }
        assert_eq!(inputs(&[80, 443, 1]), [0, 2, 4]);
        let many: Vec<u16> = (1..=6).collect();
        assert!(ports_of(None, &pod(&many), true).is_err());
        assert!(ports_of(None, &pod(&many), false).is_ok());
        let many: Vec<u16> = (1..=128).collect();
        assert!(ports_of(None, &pod(&many), false).is_err());
    }
}
