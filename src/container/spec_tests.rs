use super::*;
use crate::container::config::Profile;
use crate::container::test_values::{container, sandbox};
use crate::error::ErrorKind;
use crate::selinux::Label;
use oci_spec::runtime::LinuxNamespaceType;

/// Owns what [`SpecInputs`] borrows.
struct Fixture {
    sandbox: SandboxConfig,
    sandbox_id: SandboxId,
    container_id: ContainerId,
    config: ContainerConfig,
    user: ResolvedUser,
    files: PodFiles,
    image: ImageSpec,
    labels: Option<Labels>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            sandbox: sandbox(),
            sandbox_id: SandboxId::parse(&"a".repeat(64)).unwrap(),
            container_id: ContainerId::parse(&"b".repeat(64)).unwrap(),
            config: container(),
            user: ResolvedUser {
                uid: 1000,
                gid: 1001,
                additional_gids: vec![1001, 6],
                home: "/home/app".into(),
                name: Some("app".into()),
            },
            files: PodFiles {
                hosts: "/pod/hosts".into(),
                resolv_conf: "/pod/resolv.conf".into(),
                hostname: "/pod/hostname".into(),
            },
            image: ImageSpec { entrypoint: vec!["/entry".into()], ..Default::default() },
            labels: None,
        }
    }

    fn build(&self) -> Result<Spec, SpecError> {
        build(&SpecInputs {
            sandbox: &self.sandbox,
            sandbox_id: &self.sandbox_id,
            container_id: &self.container_id,
            config: &self.config,
            image: &self.image,
            user: &self.user,
            pause: Some(7),
            files: &self.files,
            cgroup_path: "/kubepods/pod1/web",
            apparmor: None,
            labels: self.labels.as_ref(),
            nofile: (1024, 4096),
            target: None,
            effective_hostname: "pod",
        })
    }
}

#[test]
fn a_plain_request_becomes_a_whole_specification() {
    let spec = Fixture::new().build().unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_deref(), Some(&["/bin/true".to_owned()][..]));
    assert_eq!(process.cwd(), &PathBuf::from("/"));
    assert_eq!((process.user().uid(), process.user().gid()), (1000, 1001));
    assert_eq!(process.user().additional_gids(), &Some(vec![1001, 6]));
    assert_eq!(process.user().umask(), Some(0o022));
    assert_eq!(process.oom_score_adj(), Some(0));
    assert_eq!(process.no_new_privileges(), Some(false));
    assert!(process.env().as_ref().unwrap().contains(&"HOSTNAME=pod".to_owned()));
    assert!(process.env().as_ref().unwrap().contains(&"HOME=/home/app".to_owned()));
    assert_eq!(spec.hostname(), &None, "pause has set the name");
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(false));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path(), &Some("/kubepods/pod1/web".into()));
    assert_eq!(linux.seccomp(), &None);
    assert_eq!(linux.masked_paths(), &Some(Vec::new()), "no default sneaks in");
    assert_eq!(linux.readonly_paths(), &Some(Vec::new()));
    assert_eq!(linux.sysctl(), &None);
    let namespaces: Vec<_> = linux.namespaces().as_ref().unwrap().iter().map(|n| n.typ()).collect();
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    assert_eq!(namespaces, [Mount, Cgroup, Network, Ipc, Uts, Pid]);
    let annotations = spec.annotations().as_ref().unwrap();
    assert_eq!(annotations["io.kubernetes.cri.sandbox-id"], "a".repeat(64));
}

#[test]
fn labels_are_written_where_there_are_some() {
    let mut fixture = Fixture::new();
    let written = |fixture: &Fixture| {
        let spec = fixture.build().unwrap();
        let process = spec.process().as_ref().unwrap().selinux_label().clone();
        (process, spec.linux().as_ref().unwrap().mount_label().clone())
    };
    assert_eq!(written(&fixture), (None, None));
    let label = |role: &str, typ: &str| Label {
        user: "u".into(),
        role: role.into(),
        typ: typ.into(),
        level: "s0:c1,c2".into(),
    };
    let (process, mount) = (label("r", "container_t"), label("object_r", "container_file_t"));
    fixture.labels = Some(Labels { process, mount });
    let expected = ["u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2"];
    let [process, mount] = expected.map(|text| Some(text.to_owned()));
    assert_eq!(written(&fixture), (process, mount));
}

#[test]
fn a_specification_survives_its_file() {
    let spec = Fixture::new().build().unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    let read: Spec = serde_json::from_str(&text).unwrap();
    assert_eq!(read, spec);
}

#[test]
fn resources_are_written_as_given() {
    let mut fixture = Fixture::new();
    fixture.config.resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(Limit::Max),
        cpu_period: Some(100_000),
        memory_limit: Some(Limit::Value(64 << 20)),
        memory_swap_limit: Some(Limit::Max),
        oom_score_adj: Some(-997),
        cpuset_cpus: Some("0-1".into()),
        cpuset_mems: None,
        hugepage_limits: [("2MB".to_owned(), 4 << 20)].into(),
        unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
        pids_limit: Some(Limit::Value(64)),
    };
    let spec = fixture.build().unwrap();
    assert_eq!(spec.process().as_ref().unwrap().oom_score_adj(), Some(-997));
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    let cpu = resources.cpu().clone().unwrap();
    assert_eq!((cpu.shares(), cpu.quota(), cpu.period()), (Some(512), Some(-1), Some(100_000)));
    assert_eq!((cpu.cpus().as_deref(), cpu.mems().as_deref()), (Some("0-1"), None));
    let memory = resources.memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(-1)));
    assert_eq!(resources.pids().unwrap().limit(), 64);
    assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), 4 << 20);
    assert_eq!(resources.unified().as_ref().unwrap()["memory.high"], "1000");
}

#[test]
fn nothing_asked_is_nothing_limited() {
    let spec = Fixture::new().build().unwrap();
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert!(resources.cpu().is_none() && resources.memory().is_none());
    assert!(resources.pids().is_none() && resources.unified().is_none());
    assert!(resources.devices().as_ref().is_some_and(|rules| !rules.is_empty()));
}

#[test]
fn absurd_numbers_and_unreadable_profiles_are_errors() {
    let mut fixture = Fixture::new();
    fixture.config.resources.memory_limit = Some(Limit::Value(u64::MAX));
    assert_eq!(fixture.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut fixture = Fixture::new();
    fixture.config.resources.oom_score_adj = Some(1001);
    assert_eq!(fixture.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut fixture = Fixture::new();
    fixture.config.security.seccomp = Some(Profile::Localhost("/no/such/file".into()));
    assert_eq!(fixture.build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    fixture.config.security.seccomp = Some(Profile::RuntimeDefault);
    assert!(fixture.build().unwrap().linux().as_ref().unwrap().seccomp().is_some());
}

#[test]
fn the_images_entrypoint_runs_when_the_request_has_no_command() {
    let mut fixture = Fixture::new();
    fixture.config.command.clear();
    let spec = fixture.build().unwrap();
    let args = spec.process().as_ref().unwrap().args().clone().unwrap();
    assert_eq!(args, ["/entry"]);
    fixture.image.entrypoint.clear();
    assert!(matches!(fixture.build(), Err(SpecError::NoCommand(_))));
}
