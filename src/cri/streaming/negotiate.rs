//! Which protocol a client and berth speak: by the headers of the request alone.
//!
//! | framing | asked for by | protocols, best first |
//! | --- | --- | --- |
//! | SPDY/3.1 | `Upgrade: SPDY/3.1`, `X-Stream-Protocol-Version` | exec, attach: v4 to v1; port-forward: one |
//! | WebSocket (RFC 6455) | `Upgrade: websocket`, `Sec-WebSocket-Protocol` | exec, attach: v5 to v1, from v4 on down as base64, too; port-forward: SPDY in a tunnel, v4, v5 |

use hyper::header::{CONNECTION, HeaderMap, UPGRADE};

/// The header of SPDY clients with the protocols they know.
pub(super) const PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// The header with the protocols that berth knows, in an answer that refuses.
pub(super) const ACCEPTED_HEADER: &str = "x-accepted-stream-protocol-versions";
const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
const WEBSOCKET_KEY: &str = "sec-websocket-key";
const WEBSOCKET_VERSION: &str = "sec-websocket-version";

/// The protocol of port-forward over SPDY.
const FORWARD: &str = "portforward.k8s.io";
/// The same within a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SPDY_COMMAND: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const WEBSOCKET_COMMAND: [&str; 9] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v3.base64.channel.k8s.io",
    "v2.base64.channel.k8s.io",
    "base64.channel.k8s.io",
];
/// The best first, whichever the client's order: v5 tells the end of a connection, of which clients that offer it for
/// everything know nothing. `berth` itself offers it alone.
const WEBSOCKET_FORWARD: [&str; 4] =
    [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "v5.channel.k8s.io"];

/// What a URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Exec or attach.
    Command,
    Forward,
}

/// What both sides speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) framing: Framing,
    /// As the client names it; none where a WebSocket client names none.
    pub(super) protocol: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Spdy,
    WebSocket {
        /// `Sec-WebSocket-Key`.
        key: String,
        /// Text messages, base64 after the channel's digit.
        base64: bool,
    },
    /// SPDY in the binary messages of a WebSocket.
    Tunnel {
        /// `Sec-WebSocket-Key`.
        key: String,
    },
}

impl Agreed {
    /// The version of the remote command protocol, 1 to 5.
    pub(super) fn version(&self) -> u8 {
        let name = self.protocol.unwrap_or_default();
        name.strip_prefix('v').and_then(|rest| rest.get(..1)?.parse().ok()).unwrap_or(1)
    }
}

/// A request that is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// 400 with this text.
    Bad(String),
    /// 403: none of the client's protocols is known; these are.
    NoProtocol(&'static [&'static str]),
}

/// Chooses by the request's headers.
pub(super) fn negotiate(headers: &HeaderMap, purpose: Purpose) -> Result<Agreed, Refused> {
    let bad = |text: &str| Err(Refused::Bad(text.to_owned()));
    if !words(headers, CONNECTION.as_str()).any(|word| word.eq_ignore_ascii_case("upgrade")) {
        return bad("the request must have the header Connection: Upgrade");
    }
    let asks = |name: &str| words(headers, UPGRADE.as_str()).any(|w| w.eq_ignore_ascii_case(name));
    if asks("websocket") {
        return websocket(headers, purpose);
    }
    if !asks("SPDY/3.1") {
        return bad("the request must ask for Upgrade: SPDY/3.1 or websocket");
    }
    let known: &'static [&'static str] = match purpose {
        Purpose::Command => &SPDY_COMMAND,
        Purpose::Forward => &[FORWARD],
    };
    if words(headers, PROTOCOL_HEADER).next().is_none() {
        return bad("the request must have the header X-Stream-Protocol-Version");
    }
    match choose(headers, PROTOCOL_HEADER, known) {
        Some(protocol) => Ok(Agreed { framing: Framing::Spdy, protocol: Some(protocol) }),
        None => Err(Refused::NoProtocol(known)),
    }
}

fn websocket(headers: &HeaderMap, purpose: Purpose) -> Result<Agreed, Refused> {
    if words(headers, WEBSOCKET_VERSION).next() != Some("13") {
        return Err(Refused::Bad("Sec-WebSocket-Version must be 13".to_owned()));
    }
    let Some(key) = words(headers, WEBSOCKET_KEY).next().map(str::to_owned) else {
        return Err(Refused::Bad("the request must have the header Sec-WebSocket-Key".to_owned()));
    };
    let known: &'static [&'static str] = match purpose {
        Purpose::Command => &WEBSOCKET_COMMAND,
        Purpose::Forward => &WEBSOCKET_FORWARD,
    };
    if words(headers, WEBSOCKET_PROTOCOL).next().is_none() {
        return Ok(Agreed { framing: Framing::WebSocket { key, base64: false }, protocol: None });
    }
    let best = || {
        let asked = |name: &&&str| words(headers, WEBSOCKET_PROTOCOL).any(|word| word == **name);
        known.iter().find(asked).copied()
    };
    let chosen = match purpose {
        Purpose::Command => choose(headers, WEBSOCKET_PROTOCOL, known),
        Purpose::Forward => best(),
    };
    let Some(protocol) = chosen else {
        return Err(Refused::NoProtocol(known));
    };
    let framing = match protocol {
        TUNNEL => Framing::Tunnel { key },
        _ => Framing::WebSocket { key, base64: protocol.contains("base64") },
    };
    Ok(Agreed { framing, protocol: Some(protocol) })
}

/// The first of the client's protocols that is known: clients name the best first.
fn choose(
    headers: &HeaderMap,
    header: &str,
    known: &'static [&'static str],
) -> Option<&'static str> {
    words(headers, header).find_map(|asked| known.iter().find(|name| **name == asked).copied())
}

/// The words of a header that may be given several times, or be a list.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn asked(
        headers: &[(&'static str, &'static str)],
        purpose: Purpose,
    ) -> Result<Agreed, Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        negotiate(&map, purpose)
    }

    const SPDY: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    const WS: [(&str, &str); 4] = [
        ("connection", "keep-alive, upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "a2V5"),
    ];

    fn with<'a>(
        base: &[(&'static str, &'static str)],
        more: &[(&'a str, &'static str)],
    ) -> Vec<(&'a str, &'static str)> {
        base.iter().chain(more).copied().collect()
    }

    #[test]
    fn the_clients_best_protocol_is_chosen() {
        let spdy = with(
            &SPDY,
            &[
                (PROTOCOL_HEADER, "v9.channel.k8s.io"),
                (PROTOCOL_HEADER, "v3.channel.k8s.io"),
                (PROTOCOL_HEADER, "v4.channel.k8s.io"),
            ],
        );
        let agreed = asked(&spdy, Purpose::Command).unwrap();
        assert_eq!((agreed.protocol, agreed.version()), (Some("v3.channel.k8s.io"), 3));
        let ws = with(&WS, &[("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")]);
        let agreed = asked(&ws, Purpose::Command).unwrap();
        assert_eq!(agreed.version(), 5);
        assert_eq!(agreed.framing, Framing::WebSocket { key: "a2V5".into(), base64: false });
        let agreed = asked(&WS, Purpose::Command).unwrap();
        assert_eq!((agreed.protocol, agreed.version()), (None, 1));
        let base64 = with(&WS, &[("sec-websocket-protocol", "base64.channel.k8s.io")]);
        let agreed = asked(&base64, Purpose::Command).unwrap();
        assert_eq!(agreed.version(), 1);
        assert!(matches!(agreed.framing, Framing::WebSocket { base64: true, .. }));
        let both = with(&WS, &[("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io")]);
        assert_eq!(asked(&both, Purpose::Forward).unwrap().version(), 4);
        let tunnel = with(&WS, &[("sec-websocket-protocol", TUNNEL)]);
        let agreed = asked(&tunnel, Purpose::Forward).unwrap();
        assert!(matches!(agreed.framing, Framing::Tunnel { .. }));
    }

    #[test]
    fn what_is_no_upgrade_or_has_no_known_protocol_is_refused() {
        let bad = [
            vec![],
            vec![("upgrade", "SPDY/3.1"), (PROTOCOL_HEADER, "v4.channel.k8s.io")],
            vec![("connection", "Upgrade"), ("upgrade", "h2c")],
            SPDY.to_vec(),
            WS[..3].to_vec(),
            with(&WS[..2], &[("sec-websocket-key", "a2V5"), ("sec-websocket-version", "8")]),
        ];
        for headers in bad {
            let refused = asked(&headers, Purpose::Command);
            assert!(matches!(refused, Err(Refused::Bad(_))), "{headers:?}: {refused:?}");
        }
        let unknown = with(&SPDY, &[(PROTOCOL_HEADER, "v5.channel.k8s.io")]);
        assert_eq!(
            asked(&unknown, Purpose::Command),
            Err(Refused::NoProtocol(&SPDY_COMMAND)),
            "v5 is not spoken over SPDY"
        );
        let unknown = with(&SPDY, &[(PROTOCOL_HEADER, "v4.channel.k8s.io")]);
        assert_eq!(asked(&unknown, Purpose::Forward), Err(Refused::NoProtocol(&[FORWARD])));
        let unknown = with(&WS, &[("sec-websocket-protocol", "v6.channel.k8s.io")]);
        assert!(matches!(asked(&unknown, Purpose::Command), Err(Refused::NoProtocol(_))));
    }
}
