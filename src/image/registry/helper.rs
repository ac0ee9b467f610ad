//! docker's credential helpers: a program `docker-credential-NAME` that is asked `get` with a server on stdin and answers
//! JSON. It runs in a cgroup of its own below that of helpers, with the daemon's environment, and with a deadline.

use super::credentials::Credentials;
use super::error::RegistryError;
use crate::cgroups::Cgroups;
use crate::cni::helper::{self, Helper, Output};
use crate::error::ErrorKind;
use crate::ids::{SandboxId, random_hex};
use crate::sys::process::Ended;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// How long a helper may take. Some ask a cloud first.
const LIMIT: Duration = Duration::from_secs(60);
/// The user name that says that the secret is an identity token.
const TOKEN: &str = "<token>";
/// What helpers print, on whichever stream, when they know of nothing.
const NOTHING: &str = "credentials not found";

/// The credentials that a helper has for a server; those of nobody when it has none. Blocks.
///
/// # Errors
/// [`RegistryError::Helper`], [`RegistryError::Credentials`].
pub(super) fn ask(
    name: &str,
    server: &str,
    cgroups: &Cgroups,
) -> Result<Credentials, RegistryError> {
    let refuse = |reason: String| RegistryError::Credentials {
        host: server.to_owned(),
        reason: format!("docker-credential-{name} {reason}"),
        kind: ErrorKind::FailedPrecondition,
    };
    // The daemon's own: helpers look for HOME, for tokens and for regions of clouds.
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value.as_str());
    let program = find(name, path).ok_or_else(|| refuse(format!("is in none of {path}")))?;
    let id = random_hex().map_err(|e| refuse(format!("gets no cgroup: {e}")))?;
    let id = SandboxId::parse(&id).map_err(|e| refuse(format!("gets no cgroup: {e}")))?;
    let group = cgroups.helpers(&id);
    let env: Vec<(&str, String)> = env.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    let asked = Helper {
        program: &program,
        args: &["get"],
        env: &env,
        stdin: server.as_bytes(),
        limit: crate::failpoint::within(LIMIT),
    };
    let output = helper::run(&asked, &group);
    helper::tidy_group(&group);
    let output = output.map_err(|source| RegistryError::Helper {
        helper: name.to_owned(),
        host: server.to_owned(),
        source,
    })?;
    read(&output).map_err(refuse)
}

/// A helper's file. Its name is a word and no path.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    let file = format!("docker-credential-{name}");
    path.split(':').map(|dir| PathBuf::from(dir).join(&file)).find(|file| file.is_file())
}

/// What an answer says. A reason never quotes what may be a secret.
fn read(output: &Output) -> Result<Credentials, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if output.ended != Ended::Code(0) {
        let printed = String::from_utf8_lossy(&output.stdout);
        if printed.contains(NOTHING) || output.stderr.contains(NOTHING) {
            return Ok(Credentials::Anonymous);
        }
        // By the protocol, a failed one says why on stdout.
        let said = if output.stderr.is_empty() { printed.trim() } else { output.stderr.trim() };
        let said: String = said.chars().take(256).collect();
        return Err(format!("failed: {}", said.replace('\n', "; ")));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| "answered what is no JSON with Username and Secret".to_owned())?;
    Ok(match answer.username.as_str() {
        TOKEN => Credentials::Identity(answer.secret),
        "" => Credentials::Anonymous,
        _ => Credentials::Basic(answer.username, answer.secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        let ended = Ended::Code(code);
        Output { ended, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn an_answer_is_a_password_or_an_identity_token_or_nothing() {
        let answer = |text: &str| read(&output(0, text, ""));
        let whole = r#"{"ServerURL": "q.test", "Username": "u", "Secret": "p"}"#;
        assert_eq!(answer(whole), Ok(Credentials::Basic("u".into(), "p".into())));
        let token = r#"{"Username": "<token>", "Secret": "t"}"#;
        assert_eq!(answer(token), Ok(Credentials::Identity("t".into())));
        let none = "credentials not found in native keychain\n";
        assert_eq!(read(&output(1, none, "")), Ok(Credentials::Anonymous));
        assert_eq!(read(&output(1, "", "no\nkey")), Err("failed: no; key".into()));
        let error = answer("{\"Secret\": \"hunter2\"}").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_helper_is_a_file_in_path_and_never_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("docker-credential-x");
        std::fs::write(&file, "").unwrap();
        let path = format!("/nowhere:{}", dir.path().display());
        assert_eq!(find("x", &path), Some(file));
        assert_eq!(find("y", &path), None);
        assert_eq!(find("../x", &format!("{path}/a")), None);
    }
}
