//! AppArmor: which profile a process runs under, what the default one forbids, what is refused.

use crate::harness::machine::Need;
use crate::harness::scene::{Scene, as_is};
use crate::harness::syscalls::profile;
use crate::harness::{Node, Test, kernel, pod, shared};
use crate::{bad_input, userns};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use berth::cri::proto::security_profile::ProfileType;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tonic::Code;

const DEFAULT: &str = "berth-default-1 (enforce)";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_process_runs_under_the_profile_that_is_asked_for", &[Need::AppArmor], which),
        shared(
            "a_user_namespace_takes_no_profile_off",
            &[Need::AppArmor, Need::MappedTmpfs],
            mapped,
        ),
        shared("the_default_forbids_what_reaches_the_node", &[Need::AppArmor], default_profile),
        shared("a_profile_that_cannot_be_had_is_refused_by_name", &[], refused),
    ]
}

/// A profile of the node's own, loaded for as long as this lives. It lets write to all but `/fenced`.
pub(crate) struct Loaded(String);

impl Loaded {
    /// # Errors
    /// The kernel does not take it.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let made = Self(format!("berth-test-{name}-{}", std::process::id()));
        made.parser("--replace")?;
        Ok(made)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn parser(&self, verb: &str) -> Result<()> {
        let text = format!(
            "profile {} flags=(attach_disconnected) {{ file, capability, network, signal, \
             deny /fenced w, }}",
            self.0
        );
        let mut parser = Command::new("apparmor_parser")
            .args([verb, "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()?;
        parser.stdin.take().context("stdin")?.write_all(text.as_bytes())?;
        ensure!(parser.wait()?.success(), "apparmor_parser {verb}");
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.parser("--remove").ok();
    }
}

fn asks(kind: ProfileType, name: &str) -> impl Fn(&mut proto::ContainerConfig) + use<> {
    let asked = profile(kind, name);
    move |config| pod::security(config).apparmor.clone_from(&asked)
}

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn old(name: &str) -> impl Fn(&mut proto::ContainerConfig) + use<> {
    let name = name.to_owned();
    move |config| pod::security(config).apparmor_profile.clone_from(&name)
}

/// What the kernel says of a process.
pub(crate) fn current(pid: i32) -> Result<String> {
    Ok(kernel::read(format!("/proc/{pid}/attr/current"))?.trim_end_matches(['\n', '\0']).to_owned())
}

fn which(node: &Node) -> Result<()> {
    let loaded = Loaded::new("asked")?;
    let own = format!("{} (enforce)", loaded.0);
    let scene = Scene::with(node, "apparmor-which", |c| {
        c.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
    })?;
    let new_wins = |c: &mut proto::ContainerConfig| {
        old("unconfined")(c);
        asks(ProfileType::Localhost, &loaded.0)(c);
    };
    let privileged = |c: &mut proto::ContainerConfig| pod::security(c).privileged = true;
    let privileged_own = |c: &mut proto::ContainerConfig| {
        privileged(c);
        asks(ProfileType::Localhost, &loaded.0)(c);
    };
    let no_new_privs = |c: &mut proto::ContainerConfig| pod::security(c).no_new_privs = true;
    let default = asks(ProfileType::RuntimeDefault, "");
    let unconfined = asks(ProfileType::Unconfined, "");
    let localhost = asks(ProfileType::Localhost, &loaded.0);
    let (old_default, old_none) = (old("runtime/default"), old("unconfined"));
    let old_own = old(&format!("localhost/{}", loaded.0));
    type Change<'a> = &'a dyn Fn(&mut proto::ContainerConfig);
    let rows: [(&str, Change<'_>, &str); 11] = [
        ("nothing", &as_is, DEFAULT),
        ("default", &default, DEFAULT),
        ("no-new-privs", &no_new_privs, DEFAULT),
        ("unconfined", &unconfined, "unconfined"),
        ("localhost", &localhost, &own),
        ("old-default", &old_default, DEFAULT),
        ("old-unconfined", &old_none, "unconfined"),
        ("old-localhost", &old_own, &own),
        ("new-wins", &new_wins, &own),
        ("privileged", &privileged, "unconfined"),
        ("privileged-localhost", &privileged_own, &own),
    ];
    for (name, change, expected) in rows {
        let made = scene.start(name, &["sleep", "100000"], change)?;
        let found = current(made.init()?)?;
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
        let own = node.exec_ok(&made.id, &["cat", "/proc/self/attr/current"])?;
        ensure!(own == expected, "{name}: a command has {own:?} instead of {expected:?}");
    }
    // What the profile says holds, and what it does not say is allowed.
    let made = scene.start("fenced", &["sleep", "100000"], localhost)?;
    let fenced = node.exec(&made.id, &["touch", "/fenced"], 0)?;
    ensure!(fenced.2 != 0, "it was written: {fenced:?}");
    node.exec_ok(&made.id, &["touch", "/open"])?;
    Ok(())
}

fn mapped(node: &Node) -> Result<()> {
    let loaded = Loaded::new("mapped")?;
    let own = format!("{} (enforce)", loaded.0);
    let (localhost, none) =
        (asks(ProfileType::Localhost, &loaded.0), asks(ProfileType::Unconfined, ""));
    type Change<'a> = &'a dyn Fn(&mut proto::ContainerConfig);
    let rows: [(&str, Change<'_>, &str); 3] = [
        ("nothing", &as_is, DEFAULT),
        ("localhost", &localhost, &own),
        ("none", &none, "unconfined"),
    ];
    let scene = Scene::with(node, "apparmor-mapped", userns::pod_from(userns::BASE))?;
    for (name, change, expected) in rows {
        let made = scene.start(name, &["sleep", "100000"], |c| {
            userns::from(c, userns::BASE);
            change(c);
        })?;
        let found = current(made.init()?)?;
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
        let own = node.exec_ok(&made.id, &["cat", "/proc/self/attr/current"])?;
        ensure!(own == expected, "{name}: a command has {own:?} instead of {expected:?}");
    }
    Ok(())
}

/// With the capabilities and without the mounts that would forbid it before AppArmor does.
fn loosened(config: &mut proto::ContainerConfig) {
    let security = pod::security(config);
    security.masked_paths.clear();
    security.readonly_paths.clear();
    pod::add_capabilities(config, &["SYS_ADMIN"]);
}

fn default_profile(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "apparmor-default")?;
    let under = scene.start("under", &["sleep", "100000"], loosened)?;
    let control = scene.start("control", &["sleep", "100000"], |c| {
        loosened(c);
        asks(ProfileType::Unconfined, "")(c);
    })?;
    // Each does nothing that lasts: a mount in the container's own namespace, a value written as it is.
    let same = |file: &str| format!("value=$(cat {file}) && echo \"$value\" >{file}");
    let forbidden = [
        "mkdir -p /a && mount -t tmpfs none /a".to_owned(),
        "mkdir -p /b && mount --bind /dev /b".to_owned(),
        same("/proc/sys/vm/swappiness"),
        same("/proc/sys/kernel/printk_delay"),
        same("/proc/sys/kernel/sched_rt_period_us"),
        same("/proc/sys/fs/pipe-max-size"),
        ": >>/proc/sysrq-trigger".to_owned(),
    ];
    for line in &forbidden {
        let mine = node.exec(&under.id, &["sh", "-c", line], 0)?;
        ensure!(mine.2 != 0, "{line}: allowed");
        let other = node.exec(&control.id, &["sh", "-c", line], 0)?;
        ensure!(other.2 == 0, "{line}: the control cannot either: {other:?}");
    }
    let allowed = [
        "touch /c && chmod 700 /c && mv /c /d && ln -s d e && rm e",
        "ping -c1 127.0.0.1 || true; nc -z 127.0.0.1 1 || true; hostname",
        "sleep 1000 & kill $!",
        "cat /proc/1/status /proc/self/maps >/dev/null",
    ];
    for line in allowed {
        node.exec_ok(&under.id, &["sh", "-c", line]).with_context(|| line.to_owned())?;
    }
    let name = same("/proc/sys/kernel/shmmni");
    node.exec_ok(&under.id, &["sh", "-c", &name]).context("a parameter of the pod's own")?;
    // The node may end it.
    node.stop_container(&under.id, std::time::Duration::ZERO)?;
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "apparmor-refused")?;
    let local = asks(ProfileType::Localhost, "no-such-profile");
    let old_local = old("localhost/no-such-profile");
    let default = asks(ProfileType::RuntimeDefault, "");
    let old_default = old("runtime/default");
    type Change<'a> = &'a dyn Fn(&mut proto::ContainerConfig);
    let rows: [(&str, Change<'_>, &str); 4] = [
        ("new", &local, "no-such-profile"),
        ("old", &old_local, "no-such-profile"),
        ("default", &default, "RuntimeDefault"),
        ("old-default", &old_default, "RuntimeDefault"),
    ];
    let enabled = node.machine.has(Need::AppArmor);
    let reason = if enabled { "is not loaded" } else { "AppArmor is not enabled" };
    // The default is to be had where there is AppArmor.
    for (name, change, words) in rows.into_iter().take(if enabled { 2 } else { 4 }) {
        let answer = scene.create(name, &["true"], change);
        bad_input::refused(name, answer, Code::FailedPrecondition, &["AppArmor", words, reason])?;
        bad_input::no_containers(node)?;
    }
    // The control: without a profile it is made.
    scene.create("control", &["true"], asks(ProfileType::Unconfined, ""))?;
    Ok(())
}
