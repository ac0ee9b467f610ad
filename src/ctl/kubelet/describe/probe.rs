//! A probe in a line; pure.

use k8s_openapi::api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the probe does, and its times: `http-get http://:80/ready delay=0s timeout=1s period=10s #success=1
/// #failure=3`.
pub(super) fn probe(probe: &Probe) -> String {
    let what = match (&probe.exec, &probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(exec), ..) => of_exec(exec),
        (_, Some(get), ..) => of_http(get),
        (_, _, Some(socket), _) => of_tcp(socket),
        (.., Some(grpc)) => of_grpc(grpc),
        _ => "nothing".to_owned(),
    };
    let of = |value: Option<i32>, default: i32| value.unwrap_or(default);
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        of(probe.initial_delay_seconds, 0),
        of(probe.timeout_seconds, 1),
        of(probe.period_seconds, 10),
        of(probe.success_threshold, 1),
        of(probe.failure_threshold, 3),
    )
}

fn of_exec(exec: &ExecAction) -> String {
    format!("exec [{}]", exec.command.as_deref().unwrap_or_default().join(" "))
}

fn of_http(get: &HTTPGetAction) -> String {
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = get.host.as_deref().unwrap_or_default();
    let path = get.path.as_deref().unwrap_or("/").trim_start_matches('/');
    format!("http-get {scheme}://{host}:{}/{path}", port(&get.port))
}

fn of_tcp(socket: &TCPSocketAction) -> String {
    format!("tcp-socket {}:{}", socket.host.as_deref().unwrap_or_default(), port(&socket.port))
}

fn of_grpc(grpc: &GRPCAction) -> String {
    format!("grpc :{} {}", grpc.port, grpc.service.as_deref().unwrap_or_default())
        .trim_end()
        .to_owned()
}

/// A port by its number or its name.
fn port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_is_a_line() {
        let defaults = "delay=0s timeout=1s period=10s #success=1 #failure=3";
        for (value, expected) in [
            (json!({"exec": {"command": ["cat", "/x"]}}), format!("exec [cat /x] {defaults}")),
            (json!({"httpGet": {"port": 80}}), format!("http-get http://:80/ {defaults}")),
            (
                json!({"httpGet": {"port": "web", "path": "/ready", "scheme": "HTTPS", "host": "h"}}),
                format!("http-get https://h:web/ready {defaults}"),
            ),
            (json!({"tcpSocket": {"port": 5432}}), format!("tcp-socket :5432 {defaults}")),
            (json!({"grpc": {"port": 9, "service": "s"}}), format!("grpc :9 s {defaults}")),
            (
                json!({"grpc": {"port": 9}, "periodSeconds": 2, "timeoutSeconds": 3,
                    "initialDelaySeconds": 4, "successThreshold": 5, "failureThreshold": 6}),
                "grpc :9 delay=4s timeout=3s period=2s #success=5 #failure=6".to_owned(),
            ),
        ] {
            let of: Probe = serde_json::from_value(value).unwrap();
            assert_eq!(probe(&of), expected);
        }
    }
}
