//! What a probe of a manifest asks for, with every default in place and ports as numbers.
//!
//! Defaults: no initial delay, a timeout of 1 s, a period of 10 s, one success, three failures. Validation has seen
//! the manifest before; what it cannot see (a port's name that the container does not have) is kept as the probe's
//! error, and tells itself at every tick.

use super::command::expand;
pub use super::header::Headers;
pub use super::place::Scheme;
use crate::error::{ErrorKind, kinded};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::fmt;
use std::time::Duration;

const DEFAULT_TIMEOUT_SECONDS: u32 = 1;
const DEFAULT_PERIOD_SECONDS: u32 = 10;
const DEFAULT_SUCCESSES: u32 = 1;
const DEFAULT_FAILURES: u32 = 3;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Failure ends the container.
    Liveness,
    /// Failure takes traffic away from the container.
    Readiness,
    /// The others wait for its success; failure ends the container.
    Startup,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// As events and metrics name it: capitalised.
    pub fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }

    /// The probe of this kind that a container has.
    pub fn of(self, container: &v1::Container) -> Option<&v1::Probe> {
        match self {
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Startup => container.startup_probe.as_ref(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        })
    }
}

/// When a probe is made, and how many equal answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Whole seconds from the container's start in which no attempt is made.
    pub initial_delay: Duration,
    /// The time that an attempt may take; at least a second.
    pub timeout: Duration,
    /// From one attempt to the next; at least a second.
    pub period: Duration,
    /// Consecutive successes that count; at least one, and one but for readiness.
    pub successes: u32,
    /// Consecutive failures that count; at least one.
    pub failures: u32,
}

/// A probe of a container.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What for.
    pub kind: Kind,
    /// When.
    pub timing: Timing,
    /// The container's time to end after a failure of this probe, in place of the pod's; zero and less count
    /// as one second.
    pub grace: Option<Duration>,
    /// What is tried; or why nothing can be.
    pub check: Result<Check, SpecError>,
}

/// What is tried.
#[derive(Clone, Debug)]
pub enum Check {
    /// A command in the container, which must end with 0.
    Exec {
        /// Program and arguments, references to the container's own variables expanded; not empty.
        command: Vec<String>,
    },
    /// A request of HTTP, which must be answered with 200 to 399.
    Http(HttpGet),
    /// A connection, which must be accepted.
    Tcp {
        /// Where to, if not to the pod.
        host: Option<String>,
        /// Which port.
        port: u16,
    },
    /// A question of `grpc.health.v1`, which must be answered with SERVING.
    Grpc {
        /// Which port of the pod.
        port: u16,
        /// Which service is asked for; empty for the server as a whole.
        service: String,
    },
}

/// A request of HTTP.
#[derive(Clone, Debug)]
pub struct HttpGet {
    /// Over TLS or not.
    pub scheme: Scheme,
    /// Where to, if not to the pod.
    pub host: Option<String>,
    /// Which port.
    pub port: u16,
    /// Path and query, as the manifest has them.
    pub path: String,
    /// What the request says of itself.
    pub headers: Headers,
}

/// Who asks, as a server sees it in `User-Agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// A probe.
    Probe,
    /// A hook.
    Lifecycle,
}

/// A probe or a hook that cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither exec, nor httpGet, nor tcpSocket, nor grpc.
    #[error("it names nothing to do")]
    Nothing,
    /// An exec without a command.
    #[error("its command is empty")]
    NoCommand,
    /// A number that is no port.
    #[error("{port} is not a port: 1 to 65535")]
    Port {
        /// The number.
        port: i32,
    },
    /// A name that is no port's.
    #[error("the container has no port with the name {name:?}")]
    PortName {
        /// The name.
        name: String,
    },
    /// Neither HTTP nor HTTPS.
    #[error("{scheme:?} is not a scheme: HTTP or HTTPS")]
    Scheme {
        /// What it is.
        scheme: String,
    },
    /// A header that cannot be sent.
    #[error("the header {name:?} cannot be sent as it is")]
    Header {
        /// Its name.
        name: String,
    },
}

impl SpecError {
    /// What the caller can do about it: nothing, the manifest is wrong.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}
kinded!(SpecError);

/// A number of the API: absent, zero and less are the default.
fn or_default(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

impl Timing {
    fn of(kind: Kind, probe: &v1::Probe) -> Self {
        Self {
            initial_delay: seconds(or_default(probe.initial_delay_seconds, 0)),
            timeout: seconds(or_default(probe.timeout_seconds, DEFAULT_TIMEOUT_SECONDS)),
            period: seconds(or_default(probe.period_seconds, DEFAULT_PERIOD_SECONDS)),
            successes: match kind {
                Kind::Readiness => or_default(probe.success_threshold, DEFAULT_SUCCESSES),
                Kind::Liveness | Kind::Startup => DEFAULT_SUCCESSES,
            },
            failures: or_default(probe.failure_threshold, DEFAULT_FAILURES),
        }
    }
}

impl Probe {
    /// `probe` of `container`, which is asked for the numbers of its ports and for its variables.
    pub fn of(kind: Kind, probe: &v1::Probe, container: &v1::Container) -> Self {
        // Readiness ends nothing, so a grace of it is no one's.
        let grace = match kind {
            Kind::Readiness => None,
            Kind::Liveness | Kind::Startup => probe.termination_grace_period_seconds,
        };
        Self {
            kind,
            timing: Timing::of(kind, probe),
            grace: grace.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0).max(1))),
            check: Check::of(probe, container),
        }
    }
}

impl Check {
    fn of(probe: &v1::Probe, container: &v1::Container) -> Result<Self, SpecError> {
        if let Some(exec) = &probe.exec {
            let command = exec.command.iter().flatten().map(|word| expand(word, container));
            let command: Vec<String> = command.collect();
            return match command.is_empty() {
                true => Err(SpecError::NoCommand),
                false => Ok(Self::Exec { command }),
            };
        }
        if let Some(get) = &probe.http_get {
            return HttpGet::of(get, container, Agent::Probe).map(Self::Http);
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = port(&tcp.port, container)?;
            return Ok(Self::Tcp { host: named(tcp.host.as_deref()), port });
        }
        let grpc = probe.grpc.as_ref().ok_or(SpecError::Nothing)?;
        let service = grpc.service.clone().unwrap_or_default();
        Ok(Self::Grpc { port: number(grpc.port)?, service })
    }
}

impl HttpGet {
    /// A request of a probe or of a hook of `container`.
    ///
    /// # Errors
    /// No such port, no such scheme, a header that cannot be sent.
    pub fn of(
        get: &v1::HTTPGetAction,
        container: &v1::Container,
        agent: Agent,
    ) -> Result<Self, SpecError> {
        Ok(Self {
            scheme: Scheme::parse(get.scheme.as_deref().unwrap_or_default())?,
            host: named(get.host.as_deref()),
            port: port(&get.port, container)?,
            path: get.path.clone().unwrap_or_default(),
            headers: Headers::of(get.http_headers.as_deref().unwrap_or_default(), agent)?,
        })
    }
}

/// An empty host is none.
fn named(host: Option<&str>) -> Option<String> {
    host.filter(|host| !host.is_empty()).map(str::to_owned)
}

fn number(port: i32) -> Result<u16, SpecError> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or(SpecError::Port { port })
}

/// A port by its number, by the name that the container gives it, or by a number written as text.
fn port(port: &IntOrString, container: &v1::Container) -> Result<u16, SpecError> {
    let name = match port {
        IntOrString::Int(port) => return number(*port),
        IntOrString::String(name) => name,
    };
    let mut ports = container.ports.iter().flatten();
    match ports.find(|port| port.name.as_deref() == Some(name)) {
        Some(port) => number(port.container_port),
        None => {
            name.parse().map_err(|_| SpecError::PortName { name: name.clone() }).and_then(number)
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
