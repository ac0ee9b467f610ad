//! The header of a probe's request.

use super::spec::{Agent, SpecError};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use k8s_openapi::api::core::v1::HTTPHeader;

/// `kube-probe/` and the version of berth: servers know probes by the part before the slash.
pub(super) const PROBE_AGENT: &str = concat!("kube-probe/", env!("CARGO_PKG_VERSION"));
const LIFECYCLE_AGENT: &str = concat!("kube-lifecycle/", env!("CARGO_PKG_VERSION"));

/// The header of a request, without `Host` unless the manifest has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    map: HeaderMap,
    host: Option<HeaderValue>,
}

impl Headers {
    /// What a manifest asks for, on top of what every request says. An empty `Accept` or `User-Agent` takes that
    /// away; a `Host` is the request's. The connection is never kept.
    ///
    /// # Errors
    /// A name or a value that HTTP does not have.
    pub fn of(wanted: &[HTTPHeader], agent: Agent) -> Result<Self, SpecError> {
        let mut map = HeaderMap::with_capacity(wanted.len() + 4);
        for header in wanted {
            let broken = |_| SpecError::Header { name: header.name.clone() };
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| broken(()))?;
            let value = HeaderValue::from_bytes(header.value.as_bytes()).map_err(|_| broken(()))?;
            map.append(name, value);
        }
        let agent = match agent {
            Agent::Probe => PROBE_AGENT,
            Agent::Lifecycle => LIFECYCLE_AGENT,
        };
        for (name, usual) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
            match map.get(&name).map(HeaderValue::is_empty) {
                None => drop(map.insert(name, HeaderValue::from_static(usual))),
                Some(true) => drop(map.remove(name)),
                Some(false) => {}
            }
        }
        let host = map.remove(HOST).filter(|host| !host.is_empty());
        map.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(Self { map, host })
    }

    /// The header of a request to `authority`, unless the manifest has named another host.
    pub(super) fn to(&self, authority: Option<HeaderValue>) -> HeaderMap {
        let mut map = self.map.clone();
        if let Some(host) = authority.or_else(|| self.host.clone()) {
            map.insert(HOST, host);
        }
        map
    }

    /// The same without what a client proves itself by.
    pub(super) fn without_credentials(mut self) -> Self {
        self.map.remove(AUTHORIZATION);
        self
    }

    /// Whether the manifest has named the host.
    pub(super) fn names_host(&self) -> bool {
        self.host.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(wanted: &[(&str, &str)], agent: Agent) -> Vec<String> {
        let wanted: Vec<HTTPHeader> = wanted
            .iter()
            .map(|(name, value)| HTTPHeader { name: (*name).into(), value: (*value).into() })
            .collect();
        let headers = Headers::of(&wanted, agent).unwrap();
        let own = HeaderValue::from_static("10.0.0.1:80");
        let map = headers.to((!headers.names_host()).then_some(own));
        let mut lines: Vec<String> =
            map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_header_is_what_the_manifest_asks_for_and_the_usual() {
        let version = env!("CARGO_PKG_VERSION");
        let agent = format!("user-agent: kube-probe/{version}");
        let (any, close, host) = ("accept: */*", "connection: close", "host: 10.0.0.1:80");
        for (row, wanted, expected) in [
            ("nothing asked", vec![], vec![any, close, host, &agent]),
            ("empty Accept", vec![("accept", "")], vec![close, host, &agent]),
            ("empty User-Agent", vec![("User-Agent", "")], vec![any, close, host]),
            ("own agent", vec![("user-agent", "x")], vec![any, close, host, "user-agent: x"]),
            ("Host", vec![("Host", "a.example")], vec![any, close, "host: a.example", &agent]),
            ("empty Host", vec![("Host", "")], vec![any, close, host, &agent]),
            ("kept alive", vec![("Connection", "keep-alive")], vec![any, close, host, &agent]),
            ("another empty one", vec![("A", "")], vec!["a: ", any, close, host, &agent]),
            ("twice", vec![("A", "1"), ("A", "2")], vec!["a: 1", "a: 2", any, close, host, &agent]),
        ] {
            assert_eq!(sent(&wanted, Agent::Probe), expected, "{row}");
        }
    }

    #[test]
    fn a_hook_names_itself() {
        let agent = format!("user-agent: kube-lifecycle/{}", env!("CARGO_PKG_VERSION"));
        assert!(sent(&[], Agent::Lifecycle).contains(&agent));
    }

    #[test]
    fn what_http_does_not_have_is_refused() {
        for (name, value) in [("a b", "x"), ("", "x"), ("a", "x\r\ny: z")] {
            let wanted = [HTTPHeader { name: name.into(), value: value.into() }];
            let refused = SpecError::Header { name: name.into() };
            assert_eq!(Headers::of(&wanted, Agent::Probe), Err(refused), "{name:?}: {value:?}");
        }
    }
}
