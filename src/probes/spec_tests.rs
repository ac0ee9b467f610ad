use super::*;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction,
};

fn container() -> Container {
    let port = |name: &str, container_port| ContainerPort {
        name: Some(name.to_owned()),
        container_port,
        ..Default::default()
    };
    let var = EnvVar { name: "F".into(), value: Some("/ready".into()), value_from: None };
    Container {
        ports: Some(vec![port("web", 8080), port("admin", 9090)]),
        env: Some(vec![var]),
        ..Default::default()
    }
}

fn tcp(port: IntOrString) -> v1::Probe {
    let tcp_socket = Some(TCPSocketAction { host: None, port });
    v1::Probe { tcp_socket, ..Default::default() }
}

fn check(probe: &v1::Probe) -> Result<Check, SpecError> {
    Probe::of(Kind::Readiness, probe, &container()).check
}

#[test]
fn what_a_manifest_leaves_out_is_the_default() {
    let usual = Timing {
        initial_delay: Duration::ZERO,
        timeout: Duration::from_secs(1),
        period: Duration::from_secs(10),
        successes: 1,
        failures: 3,
    };
    let zero = v1::Probe {
        timeout_seconds: Some(0),
        period_seconds: Some(0),
        success_threshold: Some(0),
        failure_threshold: Some(0),
        initial_delay_seconds: Some(0),
        ..Default::default()
    };
    for (row, probe) in [("absent", v1::Probe::default()), ("zero", zero)] {
        assert_eq!(Timing::of(Kind::Readiness, &probe), usual, "{row}");
    }
}

#[test]
fn one_success_counts_but_for_readiness() {
    let probe = v1::Probe { success_threshold: Some(4), ..Default::default() };
    let successes = |kind| Timing::of(kind, &probe).successes;
    assert_eq!(Kind::ALL.map(successes), [1, 4, 1]);
}

#[test]
fn a_grace_of_its_own_is_at_least_a_second_and_not_readiness_s() {
    let grace = |kind, seconds| {
        let probe =
            v1::Probe { termination_grace_period_seconds: seconds, ..tcp(IntOrString::Int(80)) };
        Probe::of(kind, &probe, &container()).grace
    };
    assert_eq!(grace(Kind::Liveness, None), None);
    assert_eq!(grace(Kind::Liveness, Some(7)), Some(Duration::from_secs(7)));
    assert_eq!(grace(Kind::Startup, Some(0)), Some(Duration::from_secs(1)));
    assert_eq!(grace(Kind::Readiness, Some(7)), None);
}

#[test]
fn a_port_is_a_number_or_the_container_s_name_of_one() {
    let text = |name: &str| IntOrString::String(name.to_owned());
    for (row, port, expected) in [
        ("number", IntOrString::Int(80), Ok(80)),
        ("name", text("admin"), Ok(9090)),
        ("number as text", text("81"), Ok(81)),
        ("unknown name", text("ssh"), Err(SpecError::PortName { name: "ssh".into() })),
        ("zero", IntOrString::Int(0), Err(SpecError::Port { port: 0 })),
        ("beyond", IntOrString::Int(65_536), Err(SpecError::Port { port: 65_536 })),
        ("beyond as text", text("70000"), Err(SpecError::Port { port: 70_000 })),
    ] {
        let got = check(&tcp(port)).map(|check| match check {
            Check::Tcp { port, .. } => port,
            other => panic!("{other:?}"),
        });
        assert_eq!(got, expected, "{row}");
    }
}

#[test]
fn a_command_is_expanded_by_the_container_s_own_variables() {
    let exec = Some(ExecAction { command: Some(vec!["cat".into(), "$(F)".into()]) });
    let probe = v1::Probe { exec, ..Default::default() };
    let Ok(Check::Exec { command }) = check(&probe) else { panic!() };
    assert_eq!(command, ["cat", "/ready"]);
}

#[test]
fn a_probe_that_names_nothing_to_do_is_an_error() {
    let empty = v1::Probe { exec: Some(ExecAction::default()), ..Default::default() };
    assert_eq!(check(&empty).unwrap_err(), SpecError::NoCommand);
    assert_eq!(check(&v1::Probe::default()).unwrap_err(), SpecError::Nothing);
}

#[test]
fn a_request_has_a_scheme_a_port_and_a_path() {
    let get = |scheme: Option<&str>| HTTPGetAction {
        scheme: scheme.map(str::to_owned),
        port: IntOrString::String("web".into()),
        host: Some(String::new()),
        ..Default::default()
    };
    let of = |scheme| HttpGet::of(&get(scheme), &container(), Agent::Probe);
    let usual = of(None).unwrap();
    assert_eq!((usual.scheme, usual.host, usual.port), (Scheme::Http, None, 8080));
    assert_eq!(of(Some("HTTPS")).unwrap().scheme, Scheme::Https);
    assert_eq!(of(Some("FTP")).unwrap_err(), SpecError::Scheme { scheme: "FTP".into() });
}

#[test]
fn a_question_of_grpc_is_after_the_server_unless_it_names_a_service() {
    let grpc = |service: Option<&str>| v1::Probe {
        grpc: Some(GRPCAction {
            port: 50,
            service: service.map(str::to_owned),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (wanted, expected) in [(None, ""), (Some("a"), "a")] {
        let Ok(Check::Grpc { port: 50, service }) = check(&grpc(wanted)) else { panic!() };
        assert_eq!(service, expected);
    }
}
