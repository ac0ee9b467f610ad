//! RuntimeDefault, Unconfined and nothing: which processes are filtered, and what they can call.

use crate::harness::machine::Need;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::syscalls::{
    PROGRAM32, SET_USER_ID, X32, call, file, filters, localhost, none, one, profile,
    runtime_default, start, try_call, unconfined,
};
use crate::harness::{Node, Test, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use berth::cri::proto::security_profile::ProfileType;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_process_is_filtered_as_its_container_asks", &[], who),
        shared("a_privileged_container_is_not_filtered", &[Need::Resources], privileged),
        shared("pause_is_filtered_as_its_sandbox_asks", &[], pause),
        shared("the_default_refuses_what_reaches_out_of_a_container", &[], reaching_out),
        shared("the_default_gives_back_what_a_capability_is_for", &[], capabilities),
        shared("the_default_holds_for_programs_of_32_bits_and_of_x32", &[], narrow),
        shared("users_change_under_the_default_while_no_new_privs_is_off", &[], users),
        shared("usual_programs_run_under_the_default", &[], usual),
    ]
}

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn old(path: &str) -> impl Fn(&mut proto::ContainerConfig) + use<> {
    let path = path.to_owned();
    move |config| pod::security(config).seccomp_profile_path.clone_from(&path)
}

fn who(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-who")?;
    let path = file(node, "allow", r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#)?;
    let from_file = |c: &mut proto::ContainerConfig| localhost(c, &path);
    let prefixed = |c: &mut proto::ContainerConfig| {
        let path = format!("localhost/{}", path.display());
        pod::security(c).seccomp = profile(ProfileType::Localhost, &path);
    };
    let both = |c: &mut proto::ContainerConfig| {
        old("runtime/default")(c);
        unconfined(c);
    };
    let old_file = old(&format!("localhost/{}", path.display()));
    let (old_runtime, old_docker) = (old("runtime/default"), old("docker/default"));
    let old_unconfined = old("unconfined");
    type Change<'a> = &'a dyn Fn(&mut proto::ContainerConfig);
    let rows: [(&str, Change<'_>, _); 10] = [
        ("nothing", &as_is, none()),
        ("unconfined", &unconfined, none()),
        ("default", &runtime_default, one()),
        ("file", &from_file, one()),
        ("file-with-prefix", &prefixed, one()),
        ("old-runtime", &old_runtime, one()),
        ("old-docker", &old_docker, one()),
        ("old-file", &old_file, one()),
        ("old-unconfined", &old_unconfined, none()),
        ("new-wins", &both, none()),
    ];
    for (name, change, expected) in rows {
        for no_new_privs in [false, true] {
            let name = format!("{name}-{no_new_privs}");
            let made = scene.start(&name, &["sleep", "100000"], |c| {
                change(c);
                pod::security(c).no_new_privs = no_new_privs;
            })?;
            let found = filters(made.init()?)?;
            ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
            let own = node.exec_ok(&made.id, &["grep", "^Seccomp", "/proc/self/status"])?;
            let expected = format!("Seccomp:\t{}\nSeccomp_filters:\t{}", expected.0, expected.1);
            ensure!(own == expected, "{name}: a command has {own:?} instead of {expected:?}");
        }
    }
    Ok(())
}

fn privileged_pod(config: &mut proto::PodSandboxConfig) {
    let linux = config.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    security.privileged = true;
    security.seccomp = profile(ProfileType::RuntimeDefault, "");
}

fn privileged(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "seccomp-privileged", privileged_pod)?;
    let made = scene.start("main", &["sleep", "100000"], |c| {
        runtime_default(c);
        pod::security(c).privileged = true;
    })?;
    ensure!(filters(made.init()?)? == none(), "it is filtered");
    let control = scene.start("control", &["sleep", "100000"], runtime_default)?;
    ensure!(filters(control.init()?)? == one(), "the other one is not filtered");
    Ok(())
}

fn pause(node: &Node) -> Result<()> {
    let path = file(node, "pause", r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#)?;
    let path = path.to_string_lossy();
    type Change<'a> = &'a dyn Fn(&mut proto::LinuxSandboxSecurityContext);
    let asks = |s: &mut proto::LinuxSandboxSecurityContext| {
        s.seccomp = profile(ProfileType::RuntimeDefault, "");
    };
    let rows: [(&str, Change<'_>, _); 5] = [
        ("nothing", &|_| {}, none()),
        ("default", &asks, one()),
        ("file", &|s| s.seccomp = profile(ProfileType::Localhost, &path), one()),
        ("unconfined", &|s| s.seccomp = profile(ProfileType::Unconfined, ""), none()),
        (
            "privileged",
            &|s| {
                asks(s);
                s.privileged = true;
            },
            none(),
        ),
    ];
    for (name, change, expected) in rows {
        let scene = Scene::with(node, &format!("seccomp-pause-{name}"), |c| {
            let linux = c.linux.get_or_insert_default();
            change(linux.security_context.get_or_insert_default());
        })?;
        let pause = node.pause_pid(&scene.pod)?;
        let found = filters(pause)?;
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
        // It still does its work: it ends when it is asked to.
        node.stop_pod(&scene.pod)?;
    }
    Ok(())
}

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;

/// Calls that the kernel would let a process without capabilities make, or would refuse for another
/// reason first: what the filter does is told from what the kernel does.
fn reaching_out(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-reaching-out")?;
    let confined = start(&scene, "default", runtime_default)?;
    let free = start(&scene, "unconfined", unconfined)?;
    let all = |c: &mut proto::ContainerConfig| pod::add_capabilities(c, &ALL);
    let capable = start(&scene, "capable", |c| {
        unconfined(c);
        all(c);
    })?;
    let rows: [(&str, &[&str], i64); 15] = [
        ("mount", &["165", "@none", "@/no/such/place", "@tmpfs", "0", "0"], EPERM),
        ("umount2", &["166", "@/no/such/place", "0"], EPERM),
        ("move_mount", &["429", "0xffffffffffffffff", "@", "0xffffffffffffffff", "@", "0"], EPERM),
        ("pivot_root", &["155", "@/no/such/place", "@/"], EPERM),
        ("unshare users", &["272", "0x10000000"], EPERM),
        ("unshare mounts", &["272", "0x20000"], EPERM),
        ("setns", &["308", "0xffffffffffffffff", "0"], EPERM),
        ("keyctl", &["250", "0", "0xfffffffffffffffd", "0"], EPERM),
        ("request_key", &["249", "@user", "@none", "0", "0"], EPERM),
        ("add_key", &["248", "@user", "@mine", "@text", "4", "0xfffffffffffffffd"], EPERM),
        ("init_module", &["175", "0", "0", "@"], EPERM),
        ("finit_module", &["313", "0xffffffffffffffff", "@", "0"], EPERM),
        ("delete_module", &["176", "@no_such_module", "0"], EPERM),
        ("bpf", &["321", "999", "0", "0x100000"], EPERM),
        ("clone3", &["435", "0", "0"], ENOSYS),
    ];
    for (name, words, expected) in rows {
        let found = call(&confined, "native", words)?;
        ensure!(found == expected, "{name} under the default: {found}, not {expected}");
        let control = call(&capable, "native", words)?;
        // Without modules in the kernel nobody can load one.
        let other = control != expected || control == ENOSYS;
        ensure!(other, "{name}, unconfined and capable: {control}");
    }
    // With the same capabilities the kernel answers otherwise than the filter.
    for (name, words, _) in &rows {
        let own_answer = ["mount", "unshare users", "keyctl", "add_key", "setns", "clone3"];
        if own_answer.contains(name) {
            let free = call(&free, "native", words)?;
            ensure!(free != EPERM && free != ENOSYS, "{name}, unconfined: {free}");
        }
    }
    Ok(())
}

const ALL: [&str; 3] = ["SYS_ADMIN", "SYS_MODULE", "BPF"];

/// With a capability RuntimeDefault permits what is for it, and the kernel's own answer is seen.
fn capabilities(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-capabilities")?;
    let rows: [(&str, &str, &[&str]); 6] = [
        ("mount", "SYS_ADMIN", &["165", "@none", "@/no/such/place", "@tmpfs", "0", "0"]),
        ("unshare", "SYS_ADMIN", &["272", "0x20000"]),
        ("clone3", "SYS_ADMIN", &["435", "0", "0"]),
        ("bpf", "BPF", &["321", "999", "0", "0x100000"]),
        ("kcmp", "SYS_PTRACE", &["312", "0xfffffff", "0xfffffff", "0"]),
        ("pidfd_getfd", "SYS_PTRACE", &["438", "0xffffffffffffffff", "0", "0"]),
    ];
    let without = start(&scene, "without", runtime_default)?;
    for (name, capability, words) in rows {
        let with = start(&scene, &format!("with-{name}"), |c| {
            runtime_default(c);
            pod::add_capabilities(c, &[capability]);
        })?;
        let (without, with) = (call(&without, "native", words)?, call(&with, "native", words)?);
        let refused = if name == "clone3" { ENOSYS } else { EPERM };
        ensure!(without == refused, "{name} without {capability}: {without}");
        ensure!(with != refused, "{name} with {capability}: {with}");
    }
    // Keys are not to be had with any.
    let all = start(&scene, "all", |c| {
        runtime_default(c);
        pod::add_capabilities(c, &ALL);
    })?;
    let found = call(&all, "native", &["250", "0", "0xfffffffffffffffd", "0"])?;
    ensure!(found == EPERM, "keyctl with capabilities: {found}");
    Ok(())
}

/// keyctl and clone3 by each way into the kernel.
fn narrow(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-narrow")?;
    let confined = start(&scene, "default", runtime_default)?;
    let free = start(&scene, "unconfined", unconfined)?;
    let session = "0xfffffffd";
    let by = |made: &Made<'_>, entry: &str, call: &[&str]| -> Result<i64> {
        let program =
            if entry == "program" { PROGRAM32 } else { crate::harness::syscalls::PROGRAM };
        let entry = if entry == "program" { "native" } else { entry };
        let (result, code) = try_call(made, program, entry, call)?;
        result.with_context(|| format!("{entry} {call:?} ended with {code}"))
    };
    // What is permitted comes through: getpid, 20.
    for entry in ["program", "int80"] {
        ensure!(by(&confined, entry, &["20"])? > 0, "getpid by {entry}");
        let keyctl = ["288", "0", session, "0"];
        ensure!(by(&confined, entry, &keyctl)? == EPERM, "keyctl by {entry}");
        ensure!(by(&free, entry, &keyctl)? != EPERM, "keyctl by {entry}, unconfined");
        ensure!(by(&confined, entry, &["435", "0", "0"])? == ENOSYS, "clone3 by {entry}");
        ensure!(by(&free, entry, &["435", "0", "0"])? == -22, "clone3 by {entry}, unconfined");
    }
    // Whether or not the kernel has x32, the filter is asked first.
    let keyctl = (X32 | 250).to_string();
    let keyctl = [keyctl.as_str(), "0", "0xfffffffffffffffd", "0"];
    ensure!(call(&confined, "native", &keyctl)? == EPERM, "keyctl of x32");
    ensure!(call(&free, "native", &keyctl)? != EPERM, "keyctl of x32, unconfined");
    Ok(())
}

fn users(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-users")?;
    let made = start(&scene, "root", runtime_default)?;
    let out = node.exec_ok(&made.id, &["su", "web", "-c", "id -u"])?;
    ensure!(out == "1000", "su became {out}");
    // A program that is set-user-id root, run by somebody else: geteuid, 107.
    for (no_new_privs, expected) in [(false, Some(0)), (true, Some(1000))] {
        let made = start(&scene, &format!("web-{no_new_privs}"), |c| {
            runtime_default(c);
            let security = pod::security(c);
            security.run_as_username = "web".into();
            security.no_new_privs = no_new_privs;
        })?;
        ensure!(filters(made.init()?)? == one(), "it is not filtered");
        let (found, _) = try_call(&made, SET_USER_ID, "native", &["107"])?;
        ensure!(found == expected, "no_new_privs {no_new_privs}: {found:?}");
    }
    Ok(())
}

/// Pipes, processes, files, sockets, signals, times.
fn usual(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-usual")?;
    let script = "set -e; cd /tmp; seq 1000 | sort -r | head -n 1; (sleep 0; echo child) & wait; \
        dd if=/dev/zero of=f bs=4096 count=4 2>/dev/null; chmod 600 f; chown 1000:1000 f; \
        ln -s f l; mv f g; stat -c %u:%a g; date +%s >/dev/null; kill -0 $$; \
        httpd -p 127.0.0.1:18080 -h /www; wget -qO- http://127.0.0.1:18080/; \
        timeout 5 true; df / >/dev/null; ps >/dev/null; echo done";
    let (status, text) = scene.output("main", script, runtime_default)?;
    let expected = "999\nchild\n1000:600\nhello from a pod\ndone\n";
    ensure!(status.exit_code == 0 && text == expected, "{}: {text:?}", status.exit_code);
    Ok(())
}
