//! Requests for containers: what is carried over, and what is refused by its name.

#![expect(deprecated, reason = "older kubelets send the deprecated fields")]

use super::fits::Asked;
use super::{container_config, fit};
use crate::container::config::{self as own, MountPropagation as Way, Profile, RunAs};
use crate::cri::proto::security_profile::ProfileType;
use crate::cri::proto::*;
use crate::error::ErrorKind;
use crate::idmap::{IdMaps, IdRange};
use crate::sandbox::config::{PidNamespace, PodNamespace};
use std::path::Path;

fn minimal() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 1 }),
        image: Some(ImageSpec { image: "busybox".into(), ..ImageSpec::default() }),
        ..ContainerConfig::default()
    }
}

fn context(c: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    c.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn made(given: ContainerConfig) -> own::ContainerConfig {
    container_config("config", Some(given)).unwrap().0
}

#[test]
fn a_minimal_request_has_the_interface_s_defaults() {
    let made = made(minimal());
    assert_eq!((made.name.as_str(), made.attempt), ("main", 1));
    assert_eq!(made.security.run_as, RunAs::Image);
    assert_eq!(made.security.pid, PidNamespace::Pod);
    assert_eq!(made.security.seccomp, None);
    assert!(made.security.masked_paths.is_empty());
    assert_eq!(made.stop_signal, None);
    assert_eq!(made.log_path, Path::new(""));
}

#[test]
fn a_kubelet_s_request_is_carried_over() {
    let mut given = minimal();
    given.command = vec!["/bin/sh".into(), "-c".into()];
    given.envs = vec![KeyValue { key: "A".into(), value: b"b=c".to_vec() }];
    given.log_path = "main/1.log".into();
    given.stop_signal = Signal::Sigusr1.into();
    given.mounts = vec![Mount {
        container_path: "/data".into(),
        host_path: "/var/lib/kubelet/pods/u/volumes/x".into(),
        propagation: MountPropagation::PropagationHostToContainer.into(),
        selinux_relabel: true,
        ..Mount::default()
    }];
    given.devices = vec![Device {
        host_path: "/dev/fuse".into(),
        container_path: String::new(),
        permissions: "mrw".into(),
    }];
    let security = context(&mut given);
    security.run_as_user = Some(Int64Value { value: 1000 });
    security.run_as_group = Some(Int64Value { value: 2000 });
    security.capabilities = Some(Capability {
        add_capabilities: vec!["net_admin".into(), "CAP_SYS_TIME".into()],
        drop_capabilities: vec!["ALL".into()],
        ..Capability::default()
    });
    security.apparmor_profile = "localhost/web".into();
    security.seccomp = Some(SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    });
    security.seccomp_profile_path = "unconfined".into();
    security.namespace_options = Some(NamespaceOption {
        pid: NamespaceMode::Target.into(),
        target_id: "abc".into(),
        ..NamespaceOption::default()
    });
    let made = made(given);
    assert_eq!(made.envs, [("A".to_owned(), "b=c".to_owned())]);
    assert_eq!(made.log_path, Path::new("main/1.log"));
    assert_eq!(made.stop_signal.as_deref(), Some("SIGUSR1"));
    assert_eq!(made.mounts[0].propagation, Way::HostToContainer);
    assert_eq!(made.devices[0].container_path, Path::new("/dev/fuse"));
    assert_eq!(made.security.run_as, RunAs::Uid(1000));
    assert_eq!(made.security.run_as_group, Some(2000));
    assert_eq!(made.security.add_capabilities, ["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
    assert_eq!(made.security.drop_capabilities, ["ALL"]);
    assert_eq!(made.security.apparmor, Some(Profile::Localhost("web".into())));
    // The new field wins over the deprecated one.
    assert_eq!(made.security.seccomp, Some(Profile::RuntimeDefault));
    assert_eq!(made.security.pid, PidNamespace::Target("abc".into()));
}

type Change = fn(&mut ContainerConfig);

fn mount(c: &mut ContainerConfig) -> &mut Mount {
    c.mounts =
        vec![Mount { container_path: "/c".into(), host_path: "/h".into(), ..Mount::default() }];
    &mut c.mounts[0]
}

fn image_mount(c: &mut ContainerConfig) -> &mut Mount {
    let image = Some(ImageSpec { image: "x".into(), ..Default::default() });
    *mount(c) = Mount { container_path: "/c".into(), readonly: true, image, ..Default::default() };
    &mut c.mounts[0]
}

fn profile(kind: ProfileType, name: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: kind.into(), localhost_ref: name.into() })
}

#[test]
fn what_no_version_could_honour_is_invalid_by_its_field() {
    let cases: [(&str, Change); 42] = [
        ("metadata: required", |c| c.metadata = None),
        ("metadata.name: required", |c| c.metadata = Some(ContainerMetadata::default())),
        ("image: required", |c| c.image = None),
        ("image.image: required", |c| c.image = Some(ImageSpec::default())),
        ("image.runtime_handler: ", |c| {
            c.image.as_mut().unwrap().runtime_handler = "No/label".into()
        }),
        ("command[0]: ", |c| c.command = vec!["a\0b".into()]),
        ("args[1]: ", |c| c.args = vec!["a".into(), "\0".into()]),
        ("working_dir: ", |c| c.working_dir = "tmp".into()),
        ("envs[0].key: ", |c| c.envs = vec![KeyValue::default()]),
        ("envs[0].key: ", |c| c.envs = vec![KeyValue { key: "A=B".into(), value: vec![] }]),
        ("envs[0].value: ", |c| c.envs = vec![KeyValue { key: "A".into(), value: vec![0xff] }]),
        ("log_path: ", |c| c.log_path = "../../../etc/cron.d/x".into()),
        ("log_path: ", |c| c.log_path = "/etc/cron.d/x".into()),
        ("stop_signal: ", |c| c.stop_signal = 99),
        ("mounts[0].container_path: ", |c| mount(c).container_path = "c".into()),
        ("mounts[0].host_path: ", |c| mount(c).host_path.clear()),
        ("mounts[0].host_path: ", |c| mount(c).host_path = "/a/../b".into()),
        ("mounts[0].propagation: ", |c| mount(c).propagation = 5),
        ("mounts[0].recursive_read_only: needs readonly", |c| mount(c).recursive_read_only = true),
        ("mounts[0].recursive_read_only: needs PROPAGATION_PRIVATE", |c| {
            let mount = mount(c);
            (mount.recursive_read_only, mount.readonly, mount.propagation) = (true, true, 1);
        }),
        ("mounts[0].image_sub_path: ", |c| mount(c).image_sub_path = "x".into()),
        ("mounts[0].image_sub_path: ", |c| image_mount(c).image_sub_path = "a/../../x".into()),
        ("mounts[0].image_sub_path: ", |c| image_mount(c).image_sub_path = "/x".into()),
        ("mounts[0].host_path: excludes image", |c| image_mount(c).host_path = "/h".into()),
        ("mounts[0].readonly: an image volume needs it", |c| image_mount(c).readonly = false),
        ("mounts[0].propagation: ", |c| image_mount(c).propagation = 1),
        ("mounts[0].image.image: required", |c| {
            let image = ImageSpec { user_specified_image: "x".into(), ..Default::default() };
            image_mount(c).image = Some(image);
        }),
        ("devices[0].permissions: ", |c| {
            c.devices = vec![Device {
                host_path: "/dev/null".into(),
                permissions: "rx".into(),
                ..Default::default()
            }];
        }),
        ("CDI_devices[0].name: ", |c| c.cdi_devices = vec![CdiDevice { name: "gpu0".into() }]),
        ("annotations[\"cdi.k8s.io/gpu\"]: ", |c| {
            c.annotations.insert("cdi.k8s.io/gpu".into(), "v/c=d,".into());
        }),
        ("linux.resources.memory_limit_in_bytes: ", |c| {
            let linux = c.linux.get_or_insert_default();
            linux.resources.get_or_insert_default().memory_limit_in_bytes = -2;
        }),
        ("linux.security_context.run_as_user: ", |c| {
            context(c).run_as_user = Some(Int64Value { value: i64::from(u32::MAX) })
        }),
        ("linux.security_context.run_as_username: ", |c| {
            context(c).run_as_user = Some(Int64Value { value: 1 });
            context(c).run_as_username = "web".into();
        }),
        ("linux.security_context.run_as_username: ", |c| context(c).run_as_username = "a:b".into()),
        ("linux.security_context.run_as_group: ", |c| {
            context(c).run_as_group = Some(Int64Value { value: 1 })
        }),
        ("linux.security_context.capabilities.add_capabilities[0]: ", |c| {
            context(c).capabilities.get_or_insert_default().add_capabilities = vec!["CAP_".into()];
        }),
        ("linux.security_context.seccomp.localhost_ref: required", |c| {
            context(c).seccomp = profile(ProfileType::Localhost, "")
        }),
        ("linux.security_context.seccomp.localhost_ref: ", |c| {
            context(c).seccomp = profile(ProfileType::Localhost, "x.json")
        }),
        ("linux.security_context.selinux_options.level: ", |c| {
            context(c).selinux_options =
                Some(SeLinuxOption { level: "c1".into(), ..Default::default() });
        }),
        ("linux.security_context.apparmor.localhost_ref: ", |c| {
            context(c).apparmor = profile(ProfileType::Unconfined, "x")
        }),
        ("linux.security_context.apparmor_profile: ", |c| {
            context(c).apparmor_profile = "web".into()
        }),
        ("linux.security_context.masked_paths[0]: ", |c| {
            context(c).masked_paths = vec!["proc".into()]
        }),
    ];
    for (message, change) in cases {
        let mut given = minimal();
        change(&mut given);
        let error = container_config("config", Some(given)).expect_err(message);
        assert!(error.to_string().starts_with(&format!("config.{message}")), "{message}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{message}");
    }
}

#[test]
fn cdi_devices_come_from_the_field_and_from_annotations_each_once() {
    let mut given = minimal();
    given.cdi_devices = vec![CdiDevice { name: "v/c=d".into() }];
    given.annotations.insert("cdi.k8s.io/gpu".into(), "v/c=e, v/c=d".into());
    assert_eq!(made(given).cdi_devices, ["v/c=d", "v/c=e"]);
}

#[test]
fn an_image_volume_is_carried_over() {
    let mut given = minimal();
    image_mount(&mut given).image_sub_path = "a/b/".into();
    let mounts = made(given).mounts;
    let volume = mounts[0].image.as_ref().unwrap();
    assert_eq!((volume.image.as_str(), volume.sub_path.as_path()), ("x", Path::new("a/b")));
    assert_eq!(mounts[0].host_path, Path::new(""));
}

#[test]
fn what_this_version_does_not_honour_is_unimplemented_by_its_field() {
    let cases: [(&str, Change); 2] = [
        ("windows", |c| c.windows = Some(WindowsContainerConfig::default())),
        ("mounts[0].mount_options", |c| mount(c).mount_options = vec!["noexec".into()]),
    ];
    for (field, change) in cases {
        let mut given = minimal();
        change(&mut given);
        let error = container_config("config", Some(given)).expect_err(field);
        assert!(error.to_string().starts_with(&format!("config.{field}: ")), "{field}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{field}");
    }
}

#[test]
fn a_container_asks_for_no_more_than_its_sandbox_has() {
    let request = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "n".into(),
            uid: "u".into(),
            namespace: "s".into(),
            attempt: 0,
        }),
        ..PodSandboxConfig::default()
    };
    let mut sandbox = super::sandbox_config("config", Some(request)).unwrap();
    let pod = Asked {
        namespaces: true,
        userns: None,
        network: PodNamespace::Pod,
        ipc: PodNamespace::Pod,
        privileged: false,
    };
    let mut config = made(minimal());
    let refused = [
        ("privileged", Asked { privileged: true, ..pod.clone() }),
        ("namespace_options.network", Asked { network: PodNamespace::Node, ..pod.clone() }),
        ("namespace_options.ipc", Asked { ipc: PodNamespace::Node, ..pod.clone() }),
    ];
    fit(&mut config, pod.clone(), &sandbox).unwrap();
    for (field, asked) in refused.clone() {
        let error = fit(&mut config, asked, &sandbox).expect_err(field);
        let start = format!("config.linux.security_context.{field}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    sandbox.privileged = true;
    sandbox.namespaces.network = PodNamespace::Node;
    sandbox.namespaces.ipc = PodNamespace::Node;
    for (field, asked) in refused {
        fit(&mut config, asked, &sandbox).expect(field);
    }
    fit(&mut config, pod.clone(), &sandbox).unwrap();
    // Its user namespace is exactly the sandbox's.
    let range = |host| vec![IdRange { container: 0, host, length: 10 }];
    let maps = |host| Some(IdMaps { uids: range(host), gids: range(host) });
    for (asked, has) in [(maps(100), None), (None, maps(100)), (maps(100), maps(200))] {
        sandbox.userns = has;
        let asked = Asked { userns: asked, ..pod.clone() };
        let error = fit(&mut config, asked.clone(), &sandbox).unwrap_err().to_string();
        assert!(error.contains("namespace_options.userns_options: "), "{error}");
        sandbox.userns.clone_from(&asked.userns);
        fit(&mut config, asked.clone(), &sandbox).unwrap();
        // Who says nothing about namespaces gets the sandbox's.
        fit(&mut config, Asked { namespaces: false, ..pod.clone() }, &sandbox).unwrap();
    }
}

#[test]
fn a_container_that_says_nothing_about_namespaces_gets_its_sandbox_s() {
    let request = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "n".into(),
            uid: "u".into(),
            namespace: "s".into(),
            attempt: 0,
        }),
        ..PodSandboxConfig::default()
    };
    let mut sandbox = super::sandbox_config("config", Some(request)).unwrap();
    let silent = minimal();
    let mut says = minimal();
    context(&mut says).namespace_options = Some(NamespaceOption::default());
    for pid in [PidNamespace::Pod, PidNamespace::Container, PidNamespace::Node] {
        sandbox.namespaces.pid = pid.clone();
        for (given, expected) in [(&silent, &pid), (&says, &PidNamespace::Pod)] {
            let (mut made, asked) = container_config("config", Some(given.clone())).unwrap();
            fit(&mut made, asked, &sandbox).unwrap();
            assert_eq!(made.security.pid, *expected, "in a sandbox with {pid:?}");
        }
    }
}
