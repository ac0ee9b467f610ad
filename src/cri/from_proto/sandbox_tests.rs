//! Requests for sandboxes: what is carried over, and what is refused by its name.

#![expect(deprecated, reason = "older kubelets send the deprecated fields")]

use super::sandbox_config;
use crate::cri::proto::security_profile::ProfileType;
use crate::cri::proto::*;
use crate::error::ErrorKind;
use crate::sandbox::config::{PidNamespace, PodNamespace, PodUser, Profile, Protocol as Transport};
use std::collections::BTreeMap;

fn minimal() -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..PodSandboxConfig::default()
    }
}

fn with_options(options: NamespaceOption) -> PodSandboxConfig {
    let context = LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..LinuxSandboxSecurityContext::default()
    };
    with_context(context)
}

fn with_context(context: LinuxSandboxSecurityContext) -> PodSandboxConfig {
    let linux = LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() };
    PodSandboxConfig { linux: Some(linux), ..minimal() }
}

#[test]
fn a_minimal_request_has_the_interface_s_defaults() {
    let made = sandbox_config("config", Some(minimal())).unwrap();
    assert_eq!(made.metadata.reservation(), "web_default_u-1_2");
    assert_eq!(made.namespaces.network, PodNamespace::Pod);
    assert_eq!(made.namespaces.ipc, PodNamespace::Pod);
    assert_eq!(made.namespaces.pid, PidNamespace::Pod);
    assert_eq!((made.dns, made.log_directory, made.cgroup_parent), (None, None, None));
    assert!(made.resources.is_none() && !made.privileged);
}

#[test]
fn a_kubelet_s_request_is_carried_over() {
    let mut given = with_context(LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container.into(),
            userns_options: Some(UserNamespace {
                mode: NamespaceMode::Node.into(),
                ..UserNamespace::default()
            }),
            ..NamespaceOption::default()
        }),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault.into(),
            localhost_ref: String::new(),
        }),
        run_as_user: Some(Int64Value { value: 1000 }),
        selinux_options: Some(SeLinuxOption::default()),
        privileged: true,
        ..LinuxSandboxSecurityContext::default()
    });
    given.hostname = "web-0".into();
    given.log_directory = "/var/log/pods/default_web_u-1".into();
    given.dns_config = Some(DnsConfig { servers: vec!["10.0.0.10".into()], ..Default::default() });
    given.port_mappings = vec![
        PortMapping { container_port: 80, host_port: 8080, ..Default::default() },
        PortMapping { container_port: 53, protocol: Protocol::Udp.into(), ..Default::default() },
        PortMapping {
            container_port: 443,
            host_port: 443,
            host_ip: "0.0.0.0".into(),
            ..Default::default()
        },
    ];
    let linux = given.linux.as_mut().unwrap();
    linux.cgroup_parent = "/kubepods/burstable/podu-1".into();
    linux.sysctls = BTreeMap::from([("net.core.somaxconn".into(), "1024".into())]);
    linux.overhead = Some(LinuxContainerResources::default());
    let made = sandbox_config("config", Some(given)).unwrap();
    assert_eq!(made.namespaces.pid, PidNamespace::Container);
    assert_eq!(made.hostname, "web-0");
    assert_eq!(made.dns.unwrap().servers, ["10.0.0.10"]);
    assert_eq!(made.cgroup_parent.as_deref(), Some("/kubepods/burstable/podu-1"));
    assert_eq!(made.sysctls["net.core.somaxconn"], "1024");
    assert!(made.privileged && made.overhead.is_some());
    // The mapping without a host port forwards nothing.
    assert_eq!(made.port_mappings.len(), 2);
    assert_eq!(made.port_mappings[0].protocol, Transport::Tcp);
    assert_eq!(made.port_mappings[1].host_ip, None);
}

type Change = fn(&mut PodSandboxConfig);

fn linux(c: &mut PodSandboxConfig) -> &mut LinuxPodSandboxConfig {
    c.linux.get_or_insert_default()
}

fn context(c: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    linux(c).security_context.get_or_insert_default()
}

/// With a user namespace of 100 ids.
fn mapped(c: &mut PodSandboxConfig) {
    let ids = || vec![IdMapping { host_id: 70_000, container_id: 0, length: 100 }];
    let own = UserNamespace { mode: NamespaceMode::Pod.into(), uids: ids(), gids: ids() };
    context(c).namespace_options.get_or_insert_default().userns_options = Some(own);
}

#[test]
fn pause_runs_as_the_user_of_the_request() {
    let user = |uid, gid, groups: &[i64]| {
        let value = |value| Int64Value { value };
        let given = with_context(LinuxSandboxSecurityContext {
            run_as_user: Option::map(uid, value),
            run_as_group: Option::map(gid, value),
            supplemental_groups: groups.to_vec(),
            ..Default::default()
        });
        sandbox_config("config", Some(given)).unwrap().user
    };
    let made = |uid, gid, groups: &[u32]| Some(PodUser { uid, gid, groups: groups.to_vec() });
    assert_eq!(user(None, None, &[]), None);
    assert_eq!(user(Some(0), None, &[]), made(0, 0, &[0]));
    assert_eq!(user(Some(5), None, &[]), made(5, 0, &[0]));
    assert_eq!(user(Some(5), Some(6), &[7, 6, 7]), made(5, 6, &[6, 7]));
    assert_eq!(user(None, None, &[7]), made(0, 0, &[0, 7]));
}

fn meta(c: &mut PodSandboxConfig) -> &mut PodSandboxMetadata {
    c.metadata.get_or_insert_default()
}

#[test]
fn what_no_version_could_honour_is_invalid_by_its_field() {
    let cases: [(&str, Change); 25] = [
        ("config.metadata: required", |c| c.metadata = None),
        ("config.metadata.name: required", |c| meta(c).name.clear()),
        ("config.metadata.uid: required", |c| meta(c).uid.clear()),
        ("config.metadata.namespace: required", |c| meta(c).namespace.clear()),
        ("config.metadata.name: ", |c| meta(c).name = "a;K8S_POD_NAME=b".into()),
        ("config.hostname: ", |c| c.hostname = "a b".into()),
        ("config.hostname: ", |c| c.hostname = "a".repeat(65)),
        ("config.log_directory: ", |c| c.log_directory = "logs".into()),
        ("config.log_directory: ", |c| c.log_directory = "/var/log/../../etc".into()),
        ("config.dns_config.servers[0]: ", |c| {
            c.dns_config = Some(DnsConfig {
                servers: vec!["1.1.1.1\nnameserver x".into()],
                ..Default::default()
            });
        }),
        ("config.port_mappings[0].container_port: ", |c| {
            c.port_mappings = vec![PortMapping::default()];
        }),
        ("config.port_mappings[0].host_port: ", |c| {
            c.port_mappings =
                vec![PortMapping { container_port: 1, host_port: 65536, ..Default::default() }];
        }),
        ("config.port_mappings[0].host_ip: ", |c| {
            c.port_mappings =
                vec![PortMapping { container_port: 1, host_ip: "x".into(), ..Default::default() }];
        }),
        ("config.port_mappings[0].protocol: ", |c| {
            c.port_mappings =
                vec![PortMapping { container_port: 1, protocol: 9, ..Default::default() }];
        }),
        ("config.linux.cgroup_parent: ", |c| linux(c).cgroup_parent = "/a/../../b".into()),
        ("config.linux.sysctls[\"../x\"]: ", |c| {
            drop(linux(c).sysctls.insert("../x".into(), String::new()))
        }),
        ("config.linux.resources.cpu_quota: ", |c| {
            linux(c).resources.get_or_insert_default().cpu_quota = -7
        }),
        ("config.linux.overhead.memory_limit_in_bytes: ", |c| {
            linux(c).overhead.get_or_insert_default().memory_limit_in_bytes = -7
        }),
        ("config.linux.security_context.run_as_user: ", |c| {
            context(c).run_as_user = Some(Int64Value { value: -1 })
        }),
        ("config.linux.security_context.run_as_group: needs run_as_user", |c| {
            context(c).run_as_group = Some(Int64Value { value: 1 })
        }),
        ("config.linux.security_context.run_as_user: 100 is not mapped", |c| {
            mapped(c);
            context(c).run_as_user = Some(Int64Value { value: 100 })
        }),
        ("config.linux.security_context.run_as_group: 100 is not mapped", |c| {
            mapped(c);
            context(c).run_as_user = Some(Int64Value { value: 99 });
            context(c).run_as_group = Some(Int64Value { value: 100 })
        }),
        ("config.linux.security_context.supplemental_groups: 100 is not mapped", |c| {
            mapped(c);
            context(c).supplemental_groups = vec![99, 100]
        }),
        ("config.linux.security_context.supplemental_groups[0]: ", |c| {
            context(c).supplemental_groups = vec![1 << 40]
        }),
        ("config.linux.security_context.supplemental_groups_policy: ", |c| {
            context(c).supplemental_groups_policy = 7
        }),
    ];
    for (message, change) in cases {
        let mut given = minimal();
        change(&mut given);
        let error = sandbox_config("config", Some(given)).expect_err(message);
        assert!(error.to_string().starts_with(message), "{message}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{message}");
    }
    assert_eq!(sandbox_config("config", None).unwrap_err().to_string(), "config: required");
}

#[test]
fn namespace_modes_that_make_no_sense_are_invalid() {
    for (field, options) in [
        ("network", NamespaceOption { network: 1, ..Default::default() }),
        ("ipc", NamespaceOption { ipc: 3, ..Default::default() }),
        ("pid", NamespaceOption { pid: 3, target_id: "abc".into(), ..Default::default() }),
        ("pid", NamespaceOption { pid: 9, ..Default::default() }),
        ("target_id", NamespaceOption { target_id: "abc".into(), ..Default::default() }),
    ] {
        let error = sandbox_config("c", Some(with_options(options))).expect_err(field);
        let start = format!("c.linux.security_context.namespace_options.{field}: ");
        assert!(error.to_string().starts_with(&start), "{field}: {error}");
    }
}

#[test]
fn what_this_version_does_not_honour_is_unimplemented_by_its_field() {
    let localhost = || {
        Some(SecurityProfile {
            profile_type: ProfileType::Localhost.into(),
            localhost_ref: "/p.json".into(),
        })
    };
    type Change = Box<dyn Fn(&mut PodSandboxConfig)>;
    let cases: [(&str, Change); 2] = [
        ("windows", Box::new(|c| c.windows = Some(WindowsPodSandboxConfig::default()))),
        ("linux.security_context.apparmor", Box::new(move |c| context(c).apparmor = localhost())),
    ];
    for (field, change) in cases {
        let mut given = minimal();
        change(&mut given);
        let error = sandbox_config("config", Some(given)).expect_err(field);
        assert!(error.to_string().starts_with(&format!("config.{field}: ")), "{field}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{field}");
    }
}

#[test]
fn the_parts_of_a_label_are_carried_over_and_checked_one_by_one() {
    let asked = |change: &dyn Fn(&mut SeLinuxOption)| {
        let mut options = SeLinuxOption::default();
        change(&mut options);
        let given = with_context(LinuxSandboxSecurityContext {
            selinux_options: Some(options),
            ..LinuxSandboxSecurityContext::default()
        });
        sandbox_config("config", Some(given)).map(|made| made.selinux)
    };
    assert_eq!(asked(&|_| {}).unwrap(), None);
    let level = asked(&|o| o.level = "s0:c1,c2".into()).unwrap().unwrap();
    assert_eq!((level.typ.as_str(), level.level.as_str()), ("", "s0:c1,c2"));
    type Change<'a> = &'a dyn Fn(&mut SeLinuxOption);
    let rows: [(&str, Change<'_>); 4] = [
        ("user", &|o| o.user = "a:b".into()),
        ("role", &|o| o.role = "a,b".into()),
        ("type", &|o| o.r#type = "a b".into()),
        ("level", &|o| o.level = "c1".into()),
    ];
    for (part, change) in rows {
        let error = asked(change).expect_err(part);
        let start = format!("config.linux.security_context.selinux_options.{part}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{part}");
    }
}

#[test]
fn the_seccomp_profile_of_pause_comes_from_the_new_field_and_else_from_the_old_one() {
    let new = |kind: ProfileType, path: &str| {
        Some(SecurityProfile { profile_type: kind.into(), localhost_ref: path.into() })
    };
    let file = Some(Profile::Localhost("/p.json".into()));
    let rows = [
        (None, "", None),
        (None, "unconfined", Some(Profile::Unconfined)),
        (None, "runtime/default", Some(Profile::RuntimeDefault)),
        (None, "docker/default", Some(Profile::RuntimeDefault)),
        (None, "localhost//p.json", file.clone()),
        (new(ProfileType::Localhost, "/p.json"), "", file.clone()),
        (new(ProfileType::Localhost, "localhost//p.json"), "", file),
        (new(ProfileType::Unconfined, ""), "runtime/default", Some(Profile::Unconfined)),
    ];
    for (seccomp, old, expected) in rows {
        let row = format!("{seccomp:?} {old:?}");
        let given = with_context(LinuxSandboxSecurityContext {
            seccomp,
            seccomp_profile_path: old.into(),
            ..LinuxSandboxSecurityContext::default()
        });
        assert_eq!(sandbox_config("config", Some(given)).unwrap().seccomp, expected, "{row}");
    }
    for (seccomp, old) in [
        (new(ProfileType::Localhost, "p.json"), ""),
        (new(ProfileType::RuntimeDefault, "/p.json"), ""),
        (None, "localhost/p.json"),
        (None, "default"),
    ] {
        let row = format!("{seccomp:?} {old:?}");
        let given = with_context(LinuxSandboxSecurityContext {
            seccomp,
            seccomp_profile_path: old.into(),
            ..LinuxSandboxSecurityContext::default()
        });
        assert!(sandbox_config("config", Some(given)).is_err(), "{row}");
    }
}
