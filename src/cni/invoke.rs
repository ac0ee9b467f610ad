//! One run of a plugin (CNI spec, section 3): environment, configuration on stdin, answer on stdout.

use super::helper::{self, Helper, HelperError};
use super::result::parse_error;
use crate::cgroups::Leaf;
use crate::error::ErrorKind;
use crate::sys::process::Ended;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Attach a container, or change what an earlier plugin attached.
    Add,
    /// Undo an ADD, also a half-made or missing one.
    Del,
    /// Is what ADD made still there?
    Check,
    /// Drop what belongs to none of the attachments named.
    Gc,
    /// Can ADD be answered?
    Status,
}

impl Command {
    /// The value of CNI_COMMAND.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

/// Which container a plugin works on. GC and STATUS have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) container: String,
    /// Empty when the namespace is gone, which only DEL permits.
    pub(super) netns: PathBuf,
    pub(super) interface: String,
    /// `KEY=value;KEY=value`.
    pub(super) args: String,
}

/// A plugin that failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Its file is in none of the folders.
    #[error("plugin {plugin} is in none of {dirs}")]
    Missing {
        /// The plugin.
        plugin: String,
        /// Where it was looked for.
        dirs: String,
    },
    /// It did not run to its end.
    #[error("plugin {plugin} {command}")]
    Run {
        /// The plugin.
        plugin: String,
        /// CNI_COMMAND.
        command: &'static str,
        /// Why.
        #[source]
        source: HelperError,
    },
    /// It answered with an error.
    #[error("plugin {plugin} {command}: {message}")]
    Failed {
        /// The plugin.
        plugin: String,
        /// CNI_COMMAND.
        command: &'static str,
        /// The error's code; 0 when it gave none.
        code: u32,
        /// What it said.
        message: String,
    },
    /// Its answer is no result.
    #[error("plugin {plugin} {command} answered what is no result: {why}")]
    Answer {
        /// The plugin.
        plugin: String,
        /// CNI_COMMAND.
        command: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl PluginError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::FailedPrecondition,
            Self::Run { source, .. } => source.kind(),
            // 11: "try again later" (spec, section 5).
            Self::Failed { code: 11, .. } => ErrorKind::Unavailable,
            Self::Failed { .. } | Self::Answer { .. } => ErrorKind::Internal,
        }
    }
}

/// How plugins are found and run on this node.
#[derive(Clone, Debug)]
pub(super) struct Invoker {
    /// Folders of plugins, in order.
    pub(super) bin_dirs: Vec<PathBuf>,
    /// How long one plugin may take.
    pub(super) limit: Duration,
}

impl Invoker {
    /// Runs a plugin; its JSON answer, `Null` when it printed nothing. Blocks the thread.
    ///
    /// # Errors
    /// [`PluginError`]; it does not run any more then.
    pub(super) fn invoke(
        &self,
        (plugin, command): (&str, Command),
        target: Option<&Target>,
        conf: &Value,
        group: &Leaf,
    ) -> Result<Value, PluginError> {
        let program = self.find(plugin)?;
        let verb = command.as_str();
        let stdin = conf.to_string();
        let helper = Helper {
            program: &program,
            args: &[],
            env: &self.env(command, target),
            stdin: stdin.as_bytes(),
            limit: self.limit,
        };
        let output = helper::run(&helper, group).map_err(|source| PluginError::Run {
            plugin: plugin.to_owned(),
            command: verb,
            source,
        })?;
        if output.ended != Ended::Code(0) {
            let (code, message) = explain(&output);
            return Err(PluginError::Failed {
                plugin: plugin.to_owned(),
                command: verb,
                code,
                message,
            });
        }
        if !output.stderr.is_empty() {
            tracing::debug!(plugin, command = verb, stderr = output.stderr, "plugin said");
        }
        if output.stdout.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout).map_err(|e| PluginError::Answer {
            plugin: plugin.to_owned(),
            command: verb,
            why: e.to_string(),
        })
    }

    fn find(&self, plugin: &str) -> Result<PathBuf, PluginError> {
        let found = self.bin_dirs.iter().map(|dir| dir.join(plugin)).find(|path| path.is_file());
        found.ok_or_else(|| PluginError::Missing {
            plugin: plugin.to_owned(),
            dirs: join_dirs(&self.bin_dirs, ", "),
        })
    }

    fn env(&self, command: Command, target: Option<&Target>) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("CNI_COMMAND", command.as_str().to_owned()),
            ("CNI_PATH", join_dirs(&self.bin_dirs, ":")),
            // Plugins start programs of their own: iptables, nft, tc.
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ];
        if let Some(target) = target {
            env.push(("CNI_CONTAINERID", target.container.clone()));
            env.push(("CNI_NETNS", lossy(&target.netns)));
            env.push(("CNI_IFNAME", target.interface.clone()));
            env.push(("CNI_ARGS", target.args.clone()));
        }
        env
    }
}

/// The code and the words of a failure: its JSON error, else its end and what it said.
fn explain(output: &helper::Output) -> (u32, String) {
    if let Some(error) = parse_error(&output.stdout) {
        let details = if error.details.is_empty() || error.details == error.msg {
            String::new()
        } else {
            format!("; {}", error.details)
        };
        return (error.code, format!("{}{details} (code {})", error.msg, error.code));
    }
    let end = match output.ended {
        Ended::Code(code) => format!("exit code {code}"),
        Ended::Signal(signal) => format!("killed by signal {signal}"),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = if output.stderr.is_empty() { printed.trim() } else { &output.stderr };
    let said: String = said.chars().take(1024).collect();
    (0, if said.is_empty() { end } else { format!("{end}: {said}") })
}

fn join_dirs(dirs: &[PathBuf], separator: &str) -> String {
    dirs.iter().map(|dir| lossy(dir)).collect::<Vec<_>>().join(separator)
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(OsStr::as_bytes(path.as_os_str())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(ended: Ended, stdout: &str, stderr: &str) -> helper::Output {
        helper::Output { ended, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn a_failure_is_told_in_the_plugins_own_words() {
        let json = r#"{"cniVersion":"1.0.0","code":7,"msg":"no range","details":"10.1.0.0/16"}"#;
        for (name, output, code, says) in [
            ("json", output(Ended::Code(1), json, "x"), 7, "no range; 10.1.0.0/16 (code 7)"),
            ("stderr", output(Ended::Code(2), "", "panic: nil"), 0, "exit code 2: panic: nil"),
            ("stdout", output(Ended::Code(2), "oops\n", ""), 0, "exit code 2: oops"),
            ("signal", output(Ended::Signal(9), "", ""), 0, "killed by signal 9"),
        ] {
            assert_eq!(explain(&output), (code, says.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_missing_plugin_is_told_with_the_folders() {
        let dirs = vec![PathBuf::from("/nowhere/a"), PathBuf::from("/nowhere/b")];
        let invoker = Invoker { bin_dirs: dirs, limit: Duration::from_secs(1) };
        let error = invoker.find("bridge").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert_eq!(error.to_string(), "plugin bridge is in none of /nowhere/a, /nowhere/b");
    }

    #[test]
    fn gc_and_status_name_no_container() {
        let invoker = Invoker { bin_dirs: vec!["/a".into(), "/b".into()], limit: Duration::ZERO };
        let keys = |env: Vec<(&'static str, String)>| env.into_iter().map(|(k, _)| k).collect();
        let status: Vec<_> = keys(invoker.env(Command::Status, None));
        assert_eq!(status, ["CNI_COMMAND", "CNI_PATH", "PATH"]);
        let env = invoker.env(Command::Add, None);
        assert!(env.contains(&("CNI_PATH", "/a:/b".to_owned())));
    }
}
