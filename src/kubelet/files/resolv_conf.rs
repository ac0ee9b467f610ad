//! The node's own resolver (resolv.conf(5)).

use super::write::FileError;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers, in order.
    pub servers: Vec<String>,
    /// Domains that are searched, in order, without a final dot.
    pub searches: Vec<String>,
    /// Options, as they stand.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text. Of several `search`, `domain` and `options` lines the last counts; what is not known is left
    /// out, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword {
                "nameserver" => found.servers.extend(words.next().map(str::to_owned)),
                "search" => found.searches = words.map(undotted).collect(),
                "domain" => found.searches = words.take(1).map(undotted).collect(),
                "options" => found.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found
    }

    /// Whether every server is on this host alone, out of reach for pods with their own network.
    fn is_loopback(&self) -> bool {
        // A zone may follow.
        let ip = |server: &String| server.split('%').next().unwrap_or("").parse::<IpAddr>();
        let loopback = |server: &String| ip(server).is_ok_and(|ip| ip.is_loopback());
        !self.servers.is_empty() && self.servers.iter().all(loopback)
    }
}

/// A domain counts once with and without a final dot; the root is a dot.
fn undotted(domain: &str) -> String {
    match domain.strip_suffix('.') {
        Some(short) if !short.is_empty() => short.to_owned(),
        _ => domain.to_owned(),
    }
}

/// Of several files, the first whose servers a pod can reach; if there is none, the first. `None` of nothing. Pure.
pub fn pick_resolv_conf(found: Vec<(PathBuf, ResolvConf)>) -> Option<(PathBuf, ResolvConf)> {
    let at = found.iter().position(|(_, conf)| !conf.is_loopback()).unwrap_or(0);
    found.into_iter().nth(at)
}

/// Reads `configured`, and `behind` (the servers behind a resolver on this host, /run/systemd/resolve/resolv.conf) when
/// the first leads to this host alone. Blocks.
///
/// # Errors
/// A `configured` that cannot be read; `behind` need not be there.
pub fn read_resolv_conf(
    configured: &Path,
    behind: &Path,
) -> Result<(PathBuf, ResolvConf), FileError> {
    let read = |path: &Path| -> Result<(PathBuf, ResolvConf), FileError> {
        let bytes = crate::small_file::read(path).map_err(FileError::at("read", path))?;
        Ok((path.to_owned(), ResolvConf::parse(&String::from_utf8_lossy(&bytes))))
    };
    let own = read(configured)?;
    let candidates = vec![own.clone()].into_iter().chain(read(behind).ok()).collect();
    Ok(pick_resolv_conf(candidates).unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_lines_that_resolvers_know_are_read() {
        let text = "# nameserver 1.1.1.1\n; search no\n\nnameserver 10.0.0.1 # trailing\n\
            \tnameserver\tfd00::1\nnameserver\nsearch old\nsearch a.example. b.example .\n\
            options ndots:1\noptions ndots:3 edns0\nsortlist 1.2.3.4\nsearching x\n";
        let expected = ResolvConf {
            servers: words("10.0.0.1 fd00::1"),
            searches: words("a.example b.example ."),
            options: words("ndots:3 edns0"),
        };
        assert_eq!(ResolvConf::parse(text), expected);
        assert_eq!(ResolvConf::parse("search a b\ndomain c d\n").searches, words("c"));
    }

    #[test]
    fn servers_that_a_pod_can_reach_are_preferred() {
        let rows = [
            ("reachable", "10.0.0.1", "10.0.0.2", "one"),
            ("on this host", "127.0.0.53", "10.0.0.2", "two"),
            ("on this host, IPv6", "::1", "10.0.0.2", "two"),
            ("both kinds", "127.0.0.53 10.0.0.1", "10.0.0.2", "one"),
            ("none reachable", "127.0.0.53", "127.0.0.1", "one"),
            ("no servers", "", "10.0.0.2", "one"),
        ];
        for (row, one, two, picked) in rows {
            let conf = |servers| ResolvConf { servers: words(servers), ..ResolvConf::default() };
            let found = vec![("one".into(), conf(one)), ("two".into(), conf(two))];
            assert_eq!(pick_resolv_conf(found).unwrap().0, Path::new(picked), "{row}");
        }
        assert_eq!(pick_resolv_conf(Vec::new()), None);
    }

    #[test]
    fn the_file_behind_need_not_be_there() {
        let temp = tempfile::tempdir().unwrap();
        let (own, behind) = (temp.path().join("own"), temp.path().join("behind"));
        assert!(read_resolv_conf(&own, &behind).is_err());
        std::fs::write(&own, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(read_resolv_conf(&own, &behind).unwrap().0, own);
        std::fs::write(&behind, "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(read_resolv_conf(&own, &behind).unwrap().0, behind);
    }

    proptest! {
        #[test]
        fn what_is_read_is_made_of_words(text in "(nameserver|search|options|domain)?[ a.\t\n#;]{0,30}") {
            let conf = ResolvConf::parse(&text);
            for word in conf.servers.iter().chain(&conf.searches).chain(&conf.options) {
                prop_assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
            }
        }
    }
}
