//! The numbered steps from clone to exec, and the error that names one.
//!
//! A child can only say (step, errno, short detail) by its report pipe; the words are added here.

use std::fmt;
use std::io;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $words:literal;)*) => {
        /// What was being done. The numbers travel in reports; they are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Step {
            $($(#[$doc])* $name = $number,)*
        }

        impl Step {
            /// The step with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its number in reports.
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// What it does, in words.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Step] = &[$(Step::$name,)*];
    };
}

steps! {
    /// The plan is not one that this executor can do.
    Plan = 1, "read the plan";
    /// clone3(2) into the cgroup.
    Clone = 2, "clone";
    /// Moving into the cgroup after a clone beside it.
    Cgroup = 3, "join the cgroup";
    /// Closing what was inherited, becoming non-dumpable.
    Isolate = 4, "close inherited descriptors";
    /// setns(2).
    Namespaces = 5, "join namespaces";
    /// unshare(2) of the cgroup namespace.
    CgroupNamespace = 6, "make a cgroup namespace";
    /// setsid(2).
    Session = 7, "start a session";
    /// oom_score_adj.
    OomScore = 8, "set oom_score_adj";
    /// The session keyring.
    Keyring = 9, "join a session keyring";
    /// Policy, niceness, affinity, I/O priority.
    Scheduling = 10, "set scheduling";
    /// Host and domain name.
    Hostname = 11, "set the host name";
    /// The shim's mounts become private, the rootfs is attached.
    Rootfs = 12, "attach the root file system";
    /// One mount.
    Mount = 13, "mount";
    /// Device nodes and links.
    Device = 14, "make device";
    /// /dev/console.
    Console = 15, "set up the console";
    /// Making the working directory.
    MakeCwd = 16, "make working directory";
    /// A sysctl.
    Sysctl = 17, "set sysctl";
    /// A masked path.
    Mask = 18, "mask path";
    /// A read-only path.
    ReadonlyPath = 19, "make path read-only";
    /// The root's attributes.
    RootAttributes = 20, "set attributes of the root mount";
    /// pivot_root(2).
    Pivot = 21, "pivot into the root file system";
    /// Descriptors 0, 1, 2.
    Stdio = 22, "place standard descriptors";
    /// The controlling terminal.
    Terminal = 23, "set the controlling terminal";
    /// A resource limit.
    Limit = 24, "set resource limit";
    /// A seccomp program.
    Seccomp = 25, "load a seccomp program";
    /// Capability sets.
    Capabilities = 26, "set capabilities";
    /// User and group ids.
    User = 27, "set user and groups";
    /// no_new_privs.
    NoNewPrivileges = 28, "set no_new_privs";
    /// The AppArmor profile of the next exec.
    Apparmor = 29, "set AppArmor profile";
    /// chdir(2).
    Cwd = 30, "change to working directory";
    /// Personality and what prctl(2) resets.
    Attributes = 31, "reset process attributes";
    /// execve(2).
    Exec = 32, "exec";
    /// An OCI hook inside the container's namespaces.
    Hook = 33, "run hook";
    /// Waiting for the start of a created container.
    Start = 34, "wait for the start";
    /// The SELinux label of the next exec, and of what is made on the way to it.
    Selinux = 35, "set SELinux label";
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// The step.
    pub step: Step,
    /// Why; 0 when no system call failed.
    pub errno: i32,
    /// What it worked on, for people; may be empty.
    pub detail: String,
}

impl StepError {
    /// The step failed for this reason while working on `detail`.
    pub fn new(step: Step, error: &io::Error, detail: impl Into<String>) -> Self {
        Self { step, errno: error.raw_os_error().unwrap_or(0), detail: detail.into() }
    }

    /// What went wrong, without the step: `no such file or directory: "/nope"`.
    pub fn message(&self) -> String {
        let reason = match self.errno {
            0 => "",
            // The words that people search for, as other runtimes have them.
            libc::ENOENT => "no such file or directory",
            libc::EACCES => "permission denied",
            libc::ENOEXEC => "exec format error",
            errno => nix::errno::Errno::from_raw(errno).desc(),
        };
        match (reason.is_empty(), self.detail.is_empty()) {
            (false, false) => format!("{reason}: {}", self.detail),
            (false, true) => reason.to_owned(),
            (true, _) => self.detail.clone(),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.message())
    }
}

impl std::error::Error for StepError {}

/// Adds the step, and what it worked on, to a system call's error.
pub(super) trait At<T> {
    /// The error of this step.
    fn at(self, step: Step) -> Result<T, StepError>;
    /// The error of this step on something; `detail` is called for an error only.
    fn on<D: Into<String>>(self, step: Step, detail: impl FnOnce() -> D) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, StepError> {
        self.map_err(|e| StepError::new(step, &e.into(), ""))
    }

    fn on<D: Into<String>>(self, step: Step, detail: impl FnOnce() -> D) -> Result<T, StepError> {
        self.map_err(|e| StepError::new(step, &e.into(), detail()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_lead_back_to_the_step() {
        for step in ALL {
            assert_eq!(Step::from_number(step.number()), Some(*step));
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(255), None);
    }

    #[test]
    fn an_error_reads_as_a_sentence() {
        let error = StepError { step: Step::Exec, errno: 2, detail: "\"/nope\"".to_owned() };
        assert_eq!(error.to_string(), "exec: no such file or directory: \"/nope\"");
        let error = StepError { step: Step::Pivot, errno: 22, detail: String::new() };
        assert_eq!(error.to_string(), "pivot into the root file system: Invalid argument");
        let error = StepError { step: Step::Cwd, errno: 0, detail: "\"/x\" is outside".to_owned() };
        assert_eq!(error.to_string(), "change to working directory: \"/x\" is outside");
    }
}
