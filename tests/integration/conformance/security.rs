//! What a container's security context asks for.

use super::target::{Peer, Target, cases};
use crate::harness::machine::Need::{PodNetwork, Resources};
use crate::harness::pod::security;
use anyhow::{Result, ensure};
use berth::cri::proto;
use proto::security_profile::ProfileType;

cases! {
    "users_and_groups_are_those_of_the_context", &[PodNetwork], Peer::Agrees, users;
    // The field is younger than Debian's containerd, which merges always.
    "groups_of_the_image_are_left_out_when_asked", &[PodNetwork],
        Peer::Differs("supplemental_groups_policy came after 1.6"), strict;
    // It knows names without CAP_ alone, and leaves out what it does not know: of the two that are
    // asked for it gives one. The interface has both spellings in use.
    "capabilities_are_added_and_dropped", &[PodNetwork],
        Peer::Differs("names with CAP_ are left out"), capabilities;
    // It clears them all, in every version: what they mean for a process that is not root is not
    // said by Kubernetes. The interface does say what the field means.
    "capabilities_are_ambient_when_asked", &[PodNetwork],
        Peer::Differs("all ambient capabilities are cleared"), ambient;
    "a_container_sees_and_writes_no_more_than_asked", &[PodNetwork], Peer::Agrees, narrow;
    "a_containers_system_calls_are_filtered", &[PodNetwork], Peer::Agrees, filtered;
    "an_apparmor_profile_that_is_not_there_is_an_error", &[PodNetwork], Peer::Agrees, apparmor;
    "a_privileged_container_has_all_capabilities", &[PodNetwork, Resources], Peer::Agrees,
        privileged;
}

fn value(value: i64) -> Option<proto::Int64Value> {
    Some(proto::Int64Value { value })
}

fn users(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("users", |_| {})?;
    const ASK: &str = "echo $(id -u) $(id -g) $(id -G)";
    let number = pod.start("number", |c| {
        let context = security(c);
        (context.run_as_user, context.run_as_group) = (value(1234), value(2345));
        context.supplemental_groups = vec![3456];
    })?;
    number.says(ASK, "1234 2345 2345 3456")?;
    let name = pod.start("name", |c| security(c).run_as_username = "web".into())?;
    let ids = name.ask("echo $(id -u) $(id -g)")?;
    ensure!(ids == "1000 1000", "{ids}");
    let nobody = pod.start("image", |_| {})?;
    nobody.says("id -u", "0")
}

fn strict(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("strict", |_| {})?;
    for (name, policy, groups) in [
        ("merge", proto::SupplementalGroupsPolicy::Merge, "1000 2000 3456"),
        ("strict", proto::SupplementalGroupsPolicy::Strict, "1000 3456"),
    ] {
        let main = pod.start(name, |c| {
            let context = security(c);
            context.run_as_user = value(1000);
            context.supplemental_groups = vec![3456];
            context.supplemental_groups_policy = policy.into();
        })?;
        let told = main.ask("for g in $(id -G); do echo $g; done | sort -n")?;
        ensure!(told.split_whitespace().eq(groups.split_whitespace()), "{name}: {told:?}");
    }
    Ok(())
}

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

fn capabilities(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("capabilities", |_| {})?;
    let main = pod.start("main", |c| {
        security(c).capabilities = Some(proto::Capability {
            add_capabilities: vec!["NET_ADMIN".into(), "CAP_NET_RAW".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        });
    })?;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let bits = u64::from_str_radix(&main.proc(set)?, 16)?;
        ensure!(bits == NET_ADMIN | NET_RAW, "{set} {bits:x}");
    }
    let usual = pod.start("usual", |_| {})?;
    let bits = u64::from_str_radix(&usual.proc("CapEff")?, 16)?;
    ensure!(bits & NET_ADMIN == 0 && bits != 0, "without a wish: {bits:x}");
    Ok(())
}

fn ambient(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("ambient", |_| {})?;
    let main = pod.start("main", |c| {
        let context = security(c);
        context.run_as_user = value(1000);
        context.capabilities = Some(proto::Capability {
            add_ambient_capabilities: vec!["NET_ADMIN".into()],
            ..Default::default()
        });
    })?;
    let bits = u64::from_str_radix(&main.proc("CapAmb")?, 16)?;
    ensure!(bits == NET_ADMIN, "CapAmb {bits:x}");
    Ok(())
}

fn narrow(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("narrow", |_| {})?;
    let main = pod.start("main", |c| {
        let context = security(c);
        context.readonly_rootfs = true;
        context.no_new_privs = true;
        context.masked_paths = vec!["/etc/passwd".into(), "/www".into()];
        context.readonly_paths = vec!["/proc/sys".into()];
    })?;
    const ROOT: &str = "touch /tmp/new 2>/dev/null && echo written || echo refused";
    const PATH: &str = "cat /etc/passwd | wc -c; ls /www | wc -l";
    const SYS: &str =
        "(echo 1 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo written || echo refused";
    main.says(ROOT, "refused")?;
    main.says(PATH, "0\n0")?;
    main.says(SYS, "refused")?;
    ensure!(main.proc("NoNewPrivs")? == "1");
    // The control.
    let usual = pod.start("usual", |_| {})?;
    usual.says(ROOT, "written")?;
    usual.says("test -s /etc/passwd && ls /www", "index.html")?;
    ensure!(usual.proc("NoNewPrivs")? == "0");
    Ok(())
}

/// Name, the new field's kind and file, the old field, the kernel's mode, what mkdir says.
type Row<'a> = (&'a str, Option<ProfileType>, &'a str, &'a str, &'a str, &'a str);

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn filtered(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("filtered", |_| {})?;
    // 38 is ENOSYS, which nothing else answers here.
    let file = target.file(
        "no-mkdir.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
    )?;
    let old = format!("localhost/{file}");
    let rows: [Row<'_>; 5] = [
        ("default", Some(ProfileType::RuntimeDefault), "", "", "2", "made"),
        ("unconfined", Some(ProfileType::Unconfined), "", "", "0", "made"),
        ("localhost", Some(ProfileType::Localhost), &file, "", "2", "refused"),
        ("old-localhost", None, "", &old, "2", "refused"),
        ("old-unconfined", None, "", "unconfined", "0", "made"),
    ];
    for (name, kind, file, old, mode, mkdir) in rows {
        let main = pod.start(name, |c| {
            let context = security(c);
            context.seccomp = kind.map(|kind| proto::SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: file.into(),
            });
            context.seccomp_profile_path = old.into();
        })?;
        ensure!(main.proc("Seccomp")? == mode, "{name}: Seccomp {}", main.proc("Seccomp")?);
        main.says("mkdir /tmp/new 2>/dev/null && echo made || echo refused", mkdir)?;
    }
    Ok(())
}

/// Nothing is enforced in silence: there is no such profile, on a node with AppArmor or without.
#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn apparmor(target: &Target<'_>) -> Result<()> {
    const NAME: &str = "no-such-profile";
    let pod = target.pod("apparmor", |_| {})?;
    let new = proto::SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref: NAME.into(),
    };
    for (name, new, old) in
        [("new", Some(new), String::new()), ("old", None, format!("localhost/{NAME}"))]
    {
        let started = pod.start(name, |c| {
            security(c).apparmor = new;
            security(c).apparmor_profile = old;
        });
        let Err(error) = started else { anyhow::bail!("{name}: it runs") };
        let words = format!("{error:#}").to_lowercase();
        ensure!(words.contains("apparmor") || words.contains(NAME), "{name}: {words}");
    }
    pod.start("none", |_| {})?;
    Ok(())
}

fn privileged(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("privileged", |c| {
        let linux = c.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().privileged = true;
    })?;
    let all = pod.start("all", |c| security(c).privileged = true)?;
    let last: u32 = crate::harness::kernel::read("/proc/sys/kernel/cap_last_cap")?.parse()?;
    let bits = u64::from_str_radix(&all.proc("CapEff")?, 16)?;
    ensure!(bits == (2u64 << last) - 1, "CapEff {bits:x}");
    all.says("test -w /sys/kernel/mm && test -e /dev/kmsg && echo yes", "yes")?;
    let usual = pod.start("usual", |_| {})?;
    let bits = u64::from_str_radix(&usual.proc("CapEff")?, 16)?;
    ensure!(bits & (1 << 21) == 0, "CapEff {bits:x}");
    Ok(())
}
