//! What a sandbox's request asks for.

use super::target::{Peer, Target, cases};
use crate::harness::kernel;
use crate::harness::machine::Need::PodNetwork;
use crate::harness::pod::{pod_namespaces, security};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use proto::NamespaceMode as Mode;
use proto::security_profile::ProfileType;

cases! {
    "a_sandbox_is_told_as_it_was_asked_for", &[PodNetwork], Peer::Agrees, told;
    "a_sandbox_has_its_host_name_and_its_resolver", &[PodNetwork], Peer::Agrees, names;
    "a_sandbox_has_the_namespaces_that_it_asks_for", &[PodNetwork], Peer::Agrees, shared_namespaces;
    "a_sandbox_has_its_kernel_parameters", &[PodNetwork], Peer::Agrees, sysctls;
    "a_sandboxs_own_process_has_the_user_that_was_asked_for", &[PodNetwork], Peer::Agrees, user;
    // Its user is set after its groups, and takes them away.
    "a_sandboxs_own_process_has_groups_beside_its_user", &[PodNetwork],
        Peer::Differs("the user takes the groups away"), user_with_groups;
    "a_sandboxs_own_process_is_filtered", &[PodNetwork], Peer::Agrees, filtered;
    "a_container_may_be_privileged_where_its_request_says_so_of_the_pod", &[PodNetwork],
        Peer::Agrees, privileged_later;
}

fn told(target: &Target<'_>) -> Result<()> {
    let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let pod = target.pod("told", |c| {
        c.metadata.get_or_insert_default().attempt = 3;
        c.labels = pair("app", "web");
        c.annotations = pair("example.test/note", "kept");
    })?;
    let status = pod.status()?;
    ensure!(status.metadata == pod.config.metadata, "{status:?}");
    ensure!(status.labels == pod.config.labels, "{status:?}");
    ensure!(status.annotations == pod.config.annotations, "{status:?}");
    let filter = proto::PodSandboxFilter { id: pod.id.clone(), ..Default::default() };
    let request = proto::ListPodSandboxRequest { filter: Some(filter) };
    let listed = target.cri.list_pod_sandbox(request)?.items;
    ensure!(listed.len() == 1 && listed[0].metadata == pod.config.metadata, "{listed:?}");
    ensure!(listed[0].annotations == pod.config.annotations, "{listed:?}");
    // What is not asked for is not told.
    let ask = |verbose| {
        let pod_sandbox_id = pod.id.clone();
        target.cri.pod_sandbox_status(proto::PodSandboxStatusRequest { pod_sandbox_id, verbose })
    };
    ensure!(ask(false)?.info.is_empty() && !ask(true)?.info.is_empty());
    Ok(())
}

fn names(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("names", |c| {
        c.hostname = "some-other-name".into();
        c.dns_config = Some(proto::DnsConfig {
            servers: vec!["192.0.2.53".into()],
            searches: vec!["one.test".into(), "two.test".into()],
            options: vec!["ndots:3".into()],
        });
    })?;
    let main = pod.start("main", |_| {})?;
    main.says("hostname", "some-other-name")?;
    let resolver = main.ask("cat /etc/resolv.conf")?;
    for line in ["nameserver 192.0.2.53", "search one.test two.test", "options ndots:3"] {
        ensure!(resolver.lines().any(|l| l.trim() == line), "{line:?} is not in {resolver:?}");
    }
    Ok(())
}

/// The host's are those of this process: it began where the daemon did.
fn shared_namespaces(target: &Target<'_>) -> Result<()> {
    let host = |kind: &str| -> Result<String> {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
        Ok(link.to_string_lossy().into_owned())
    };
    let pod = target.pod("host", |c| {
        c.hostname = String::new();
        let options = pod_namespaces(c);
        (options.network, options.pid, options.ipc) =
            (Mode::Node.into(), Mode::Node.into(), Mode::Node.into());
    })?;
    let main = pod.start("main", |c| {
        let options = security(c).namespace_options.get_or_insert_default();
        (options.network, options.pid, options.ipc) =
            (Mode::Node.into(), Mode::Node.into(), Mode::Node.into());
    })?;
    for kind in ["net", "pid", "ipc"] {
        main.says(&format!("readlink /proc/self/ns/{kind}"), &host(kind)?)?;
    }
    // The control, and the pid namespace of another container.
    let pod = target.pod("own", |_| {})?;
    let main = pod.start("main", |_| {})?;
    for kind in ["net", "pid", "ipc"] {
        let own = main.ask(&format!("readlink /proc/self/ns/{kind}"))?;
        ensure!(own != host(kind)?, "{kind} is the host's");
    }
    let guest = pod.start("guest", |c| {
        let options = security(c).namespace_options.get_or_insert_default();
        options.pid = Mode::Target.into();
        options.target_id = main.id.clone();
    })?;
    guest.says("readlink /proc/self/ns/pid", &main.ask("readlink /proc/self/ns/pid")?)
}

fn sysctls(target: &Target<'_>) -> Result<()> {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let pod = target.pod("sysctls", |c| {
        let linux = c.linux.get_or_insert_default();
        linux.sysctls.insert(NAME.into(), "20000\t20100".into());
    })?;
    let main = pod.start("main", |_| {})?;
    main.says("cat /proc/sys/net/ipv4/ip_local_port_range", "20000\t20100")?;
    let host = kernel::read("/proc/sys/net/ipv4/ip_local_port_range")?;
    ensure!(host != "20000\t20100", "the host's has changed");
    Ok(())
}

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn filtered(target: &Target<'_>) -> Result<()> {
    let profile = target.file(
        "pause.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )?;
    let rows: [(&str, Option<ProfileType>, &str, &str, &str); 5] = [
        ("default", Some(ProfileType::RuntimeDefault), "", "", "2"),
        ("unconfined", Some(ProfileType::Unconfined), "", "", "0"),
        ("localhost", Some(ProfileType::Localhost), &profile, "", "2"),
        ("old-default", None, "", "runtime/default", "2"),
        ("old-unconfined", None, "", "unconfined", "0"),
    ];
    for (name, kind, file, old, mode) in rows {
        let pod = target.pod(name, |c| {
            let linux = c.linux.get_or_insert_default();
            let context = linux.security_context.get_or_insert_default();
            context.seccomp = kind.map(|kind| proto::SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: file.into(),
            });
            context.seccomp_profile_path = old.into();
        })?;
        let seccomp = kernel::status_field(pod.pid()?, "Seccomp")?;
        ensure!(seccomp == mode, "{name}: Seccomp {seccomp}");
    }
    Ok(())
}

type Ids = Option<i64>;

fn value(id: Ids) -> Option<proto::Int64Value> {
    id.map(|value| proto::Int64Value { value })
}

/// A pod of this user, group and groups, whose own process has these two ids.
fn pod_of(
    target: &Target<'_>,
    name: &str,
    (uid, gid, groups): (Ids, Ids, &[i64]),
    ids: [&str; 2],
) -> Result<()> {
    let pod = target.pod(name, |c| {
        let linux = c.linux.get_or_insert_default();
        let context = linux.security_context.get_or_insert_default();
        (context.run_as_user, context.run_as_group) = (value(uid), value(gid));
        context.supplemental_groups = groups.to_vec();
        // Which a process without capabilities could not load.
        context.seccomp = Some(proto::SecurityProfile::default());
    })?;
    let pid = pod.pid()?;
    for (field, id) in ["Uid", "Gid"].into_iter().zip(ids) {
        let all = kernel::status_field(pid, field)?;
        ensure!(all.split_whitespace().all(|one| one == id), "{name}: {field} {all}");
    }
    // Some add the primary group.
    let all = kernel::status_field(pid, "Groups")?;
    let all: Vec<&str> = all.split_whitespace().filter(|group| *group != ids[1]).collect();
    let asked: Vec<String> = groups.iter().map(i64::to_string).collect();
    ensure!(all == asked, "{name}: groups {all:?}");
    ensure!(kernel::status_field(pid, "Seccomp")? == "2", "{name}: not filtered");
    // The pod is as any other.
    pod.start("main", |_| {})?.says("id -u", "0")
}

fn user(target: &Target<'_>) -> Result<()> {
    pod_of(target, "user", (Some(4242), None, &[]), ["4242", "0"])?;
    pod_of(target, "user-and-group", (Some(4242), Some(2000), &[]), ["4242", "2000"])?;
    pod_of(target, "groups", (None, None, &[3000, 4000]), ["0", "0"])?;
    pod_of(target, "nobody-in-particular", (None, None, &[]), ["0", "0"])?;
    let config = || {
        let mut config = target.pod_config("group-alone");
        let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.run_as_group = value(Some(2000));
        proto::RunPodSandboxRequest { config: Some(config), ..Default::default() }
    };
    ensure!(target.cri.run_pod_sandbox(config()).is_err(), "a group without a user");
    Ok(())
}

fn user_with_groups(target: &Target<'_>) -> Result<()> {
    pod_of(target, "all", (Some(4242), Some(2000), &[3000, 4000]), ["4242", "2000"])
}

/// A kubelet calls a pod privileged when one of its containers is, and a debug container is added to
/// a pod that runs.
fn privileged_later(target: &Target<'_>) -> Result<()> {
    let mut pod = target.pod("debugged", |_| {})?;
    let refused = pod.create("early", |c| security(c).privileged = true).err();
    ensure!(refused.is_some(), "a privileged container in a pod that is not");
    let linux = pod.config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
    pod.create("debugger", |c| security(c).privileged = true).context("CreateContainer")?;
    Ok(())
}
