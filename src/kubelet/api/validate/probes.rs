//! Probes and hooks.

use super::containers::Role;
use super::names::{port_name, port_number};
use super::problem::{At, Problems};
use hyper::http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The probes of a container.
pub(super) fn probes(problems: &mut Problems, at: &At, container: &Container, role: Role) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (name, probe) in probes {
        let (at, Some(probe)) = (at.field(name), probe) else { continue };
        if role == Role::Init {
            problems.forbidden(&at, "a container that ends before the others begin has no probes");
        }
        one(problems, &at, probe);
        let grace = at.field("terminationGracePeriodSeconds");
        let seconds = probe.termination_grace_period_seconds;
        if name == "readinessProbe" {
            if seconds.is_some() {
                problems.forbidden(&grace, "a readiness probe kills nothing");
            }
        } else {
            if let Some(seconds) = seconds.filter(|seconds| *seconds <= 0) {
                problems.invalid(&grace, seconds, "must be more than 0");
            }
            let successes = probe.success_threshold.unwrap_or(1);
            if successes != 1 {
                problems.invalid(&at.field("successThreshold"), successes, "must be 1");
            }
        }
    }
}

fn one(problems: &mut Problems, at: &At, probe: &Probe) {
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        problems.not_negative(&at.field(name), number.map(i64::from));
    }
    let mut handlers = actions(problems, at, &probe.exec, &probe.http_get, &probe.tcp_socket);
    if let Some(grpc) = &probe.grpc {
        handlers += 1;
        if let Err(why) = port_number(grpc.port) {
            problems.invalid(&at.field("grpc.port"), grpc.port, why);
        }
        unread(problems, &at.field("grpc.mode"), grpc.mode.as_deref());
    }
    exactly_one(problems, at, handlers, "exec, httpGet, tcpSocket and grpc");
}

fn exactly_one(problems: &mut Problems, at: &At, number: usize, of: &str) {
    match number {
        0 => problems.required(at, format_args!("it has one of {of}")),
        1 => {}
        _ => problems.forbidden(at, format_args!("it has one of {of}, not several")),
    }
}

/// Checks the actions that probes and hooks share; how many there are.
fn actions(
    problems: &mut Problems,
    at: &At,
    exec: &Option<ExecAction>,
    http: &Option<HTTPGetAction>,
    tcp: &Option<TCPSocketAction>,
) -> usize {
    if let Some(exec) = exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        problems.required(&at.field("exec.command"), "it names a program");
    }
    if let Some(http) = http {
        http_get(problems, &at.field("httpGet"), http);
    }
    if let Some(tcp) = tcp {
        port(problems, &at.field("tcpSocket.port"), &tcp.port);
    }
    usize::from(exec.is_some()) + usize::from(http.is_some()) + usize::from(tcp.is_some())
}

fn http_get(problems: &mut Problems, at: &At, http: &HTTPGetAction) {
    port(problems, &at.field("port"), &http.port);
    problems.one_of(&at.field("scheme"), http.scheme.as_deref(), &["HTTP", "HTTPS"]);
    unread(problems, &at.field("protocol"), http.protocol.as_deref());
    for (at, header) in at.field("httpHeaders").each_of(&http.http_headers) {
        if HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            problems.invalid(&at.field("name"), &header.name, "must be the name of an HTTP header");
        }
        if HeaderValue::from_bytes(header.value.as_bytes()).is_err() {
            problems.invalid(
                &at.field("value"),
                &header.value,
                "must be the value of an HTTP header",
            );
        }
    }
}

/// Fields of a later version than this one's.
fn unread(problems: &mut Problems, at: &At, value: Option<&str>) {
    if value.is_some() {
        problems.forbidden(at, "is not supported by this version");
    }
}

fn port(problems: &mut Problems, at: &At, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => {
            if let Err(why) = port_number(*number) {
                problems.invalid(at, number, why);
            }
        }
        IntOrString::String(name) => problems.check(at, name, port_name(name)),
    }
}

/// The hooks of a container, at its `lifecycle`.
pub(super) fn hooks(problems: &mut Problems, at: &At, container: &Container, role: Role) {
    let Some(lifecycle) = &container.lifecycle else { return };
    if role == Role::Init {
        problems.forbidden(at, "a container that ends before the others begin has no hooks");
    }
    for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)]
    {
        if let Some(handler) = handler {
            hook(problems, &at.field(name), handler);
        }
    }
    if let Some(signal) = lifecycle.stop_signal.as_deref()
        && !(signal.starts_with("SIG") && signal.len() > 3)
    {
        problems.invalid(&at.field("stopSignal"), signal, "must be a signal such as SIGTERM");
    }
}

fn hook(problems: &mut Problems, at: &At, handler: &LifecycleHandler) {
    let LifecycleHandler { exec, http_get, tcp_socket, sleep } = handler;
    let mut handlers = actions(problems, at, exec, http_get, tcp_socket);
    if let Some(sleep) = sleep {
        handlers += 1;
        problems.not_negative(&at.field("sleep.seconds"), Some(sleep.seconds));
    }
    exactly_one(problems, at, handlers, "exec, httpGet, tcpSocket and sleep");
}
