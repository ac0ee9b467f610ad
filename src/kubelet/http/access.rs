//! Who may do what: by the path alone. A method says nothing: exec over a WebSocket is a GET.

use super::user::{Caller, Tokens, User};
use crate::config;
use std::collections::BTreeSet;

/// What a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To see: health, pods, figures, logs.
    Read,
    /// To do what a process in a container can do.
    Exec,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may go on.
    Allowed,
    /// The caller has not this right.
    Forbidden(Right),
}

/// Which right a path needs: by its first part.
pub fn right(path: &str) -> Right {
    // However many slashes are before it.
    let first = path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    let commands = ["exec", "attach", "run", "portforward"];
    // Paths are case sensitive, and what is none of them is not found: this does not depend on it.
    match commands.iter().any(|command| first.eq_ignore_ascii_case(command)) {
        true => Right::Exec,
        false => Right::Read,
    }
}

/// Users and groups, as the configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subjects(BTreeSet<String>);

impl Subjects {
    fn have(&self, user: &User) -> bool {
        let group = |group: &String| self.0.contains(&format!("group:{group}"));
        self.0.contains(&format!("user:{}", user.name)) || user.groups.iter().any(group)
    }
}

/// Who is let in, and what for.
#[derive(Clone, Default)]
pub struct Access {
    tokens: Tokens,
    anonymous: bool,
    readers: Subjects,
    executors: Subjects,
}

impl Access {
    /// As configured; `tokens` are those of its file.
    pub fn new(config: &config::Kubelet, tokens: Tokens) -> Self {
        let subjects = |of: &[String]| Subjects(of.iter().cloned().collect());
        Self {
            tokens,
            anonymous: config.anonymous,
            readers: subjects(&config.readers),
            executors: subjects(&config.executors),
        }
    }

    /// Who asks, by a certificate that was verified, else by the `Authorization` header. None: nobody who is known. A
    /// token that is not known is never taken for no token.
    pub fn authenticate(&self, certificate: Option<&User>, header: Option<&str>) -> Option<User> {
        if let Some(user) = certificate {
            return Some(user.clone());
        }
        match header {
            Some(header) => {
                let (scheme, token) = header.trim().split_once(' ')?;
                let bearer = scheme.eq_ignore_ascii_case("bearer");
                self.tokens.find(token.trim()).filter(|_| bearer).cloned()
            }
            None => self.anonymous.then(User::anonymous),
        }
    }

    /// Whether `caller` may ask for `path`.
    pub fn decide(&self, caller: &Caller, path: &str) -> Decision {
        let right = right(path);
        let allowed = match (caller, right) {
            (Caller::Root, _) => true,
            (Caller::User(user), Right::Read) => self.readers.have(user),
            (Caller::User(user), Right::Exec) => self.executors.have(user),
        };
        if allowed { Decision::Allowed } else { Decision::Forbidden(right) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(anonymous: bool) -> Access {
        let config = config::Kubelet {
            anonymous,
            readers: vec!["user:ann".into(), "group:ops".into()],
            executors: vec!["group:ops".into()],
            ..config::Kubelet::default()
        };
        Access::new(&config, Tokens::parse("t1,ann\nt2,olga,ops\nt3,ops\n").unwrap())
    }

    #[test]
    fn a_caller_is_known_by_a_certificate_or_a_token() {
        let shown = User { name: "cert".into(), groups: vec![] };
        type Row<'a> = (&'a str, bool, Option<&'a User>, Option<&'a str>, Option<&'a str>);
        let rows: [Row<'_>; 10] = [
            ("a certificate", false, Some(&shown), None, Some("cert")),
            ("a certificate before a token", false, Some(&shown), Some("Bearer t1"), Some("cert")),
            ("a token", false, None, Some("Bearer t1"), Some("ann")),
            ("a scheme in any case", false, None, Some("bEARER  t1"), Some("ann")),
            ("an unknown token", false, None, Some("Bearer t9"), None),
            ("an unknown token is not anonymous", true, None, Some("Bearer t9"), None),
            ("another scheme", false, None, Some("Basic t1"), None),
            ("a token alone", false, None, Some("t1"), None),
            ("nothing", false, None, None, None),
            ("nothing, where that is allowed", true, None, None, Some("system:anonymous")),
        ];
        for (row, anonymous, certificate, header, expected) in rows {
            let user = access(anonymous).authenticate(certificate, header);
            assert_eq!(user.as_ref().map(|u| u.name.as_str()), expected, "{row}");
        }
    }

    #[test]
    fn rights_are_by_path_and_by_user_and_group() {
        let access = access(true);
        let token = |token| Caller::User(access.tokens.find(token).unwrap().clone());
        let (reader, both) = (token("t1"), token("t2"));
        // A user that has a group's name is not of that group.
        let neither = token("t3");
        let anonymous = Caller::User(User::anonymous());
        let read = ["/healthz", "/pods", "/metrics/cadvisor", "/containerLogs/n/p/c", "/what", "/"];
        let exec = ["/exec/n/p/c", "/attach/n/p/c", "/portForward/n/p", "/run/n/p/c", "//exec/n"];
        for (path, right) in
            read.map(|path| (path, Right::Read)).into_iter().chain(exec.map(|p| (p, Right::Exec)))
        {
            let rows = [
                (&Caller::Root, true),
                (&reader, right == Right::Read),
                (&both, true),
                (&neither, false),
                (&anonymous, false),
            ];
            for (caller, allowed) in rows {
                let expected = if allowed { Decision::Allowed } else { Decision::Forbidden(right) };
                assert_eq!(access.decide(caller, path), expected, "{caller} {path}");
            }
        }
    }
}
