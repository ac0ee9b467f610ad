//! Attacks on processes: on the runtime's own while they are within a container's reach, and by those
//! that do not want to end. Each is made twice, with all defences and without the one it is about;
//! the table is in docs/security.md.

use crate::harness::attack::{Gap, NOTHING};
use crate::harness::node::binary;
use crate::harness::oci::{Outcome, Runtime, SLEEPS, mapped, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("the_runtimes_program_cannot_be_overwritten", &[], program),
        shared("a_process_that_joins_cannot_be_looked_into", &[], joining),
        shared("a_process_that_joins_a_user_namespace_cannot_be_looked_into", &[], joining_mapped),
        shared("no_descriptor_of_the_host_is_a_working_directory", &[], descriptors),
        shared("who_forks_while_being_killed_is_killed", &[], forking),
        shared("what_is_installed_has_all_its_defences", &[], installed),
    ]
}

fn program_file(path: &Path, content: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// CVE-2019-5736. The container's command is the runtime's own program, started by a dynamic loader
/// of the image's, which waits until nobody executes the program any more and writes it.
fn program(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "program")?;
    let takeover = binary()?.with_file_name("test-takeover");
    let script = "while :; do \
        if said=$( (echo taken >/proc/self/fd/3) 2>&1 ); then echo written; break; fi; \
        case \"$said\" in *busy*) sleep 0.1 ;; *) echo \"$said\"; break ;; esac; done; \
        exec sleep 100000";
    for (attempt, without) in [("defended", NOTHING), ("undefended", "program")] {
        // A copy that nobody else executes.
        let own = oci.path(&format!("own-{attempt}/berth-oci"));
        program_file(&own, &fs::read(oci.program())?)?;
        let bundle =
            oci.bundle(attempt, "", |config| config["process"]["args"] = json!(["/attack"]))?;
        let root = bundle.join("rootfs");
        program_file(&root.join("attack"), b"#!/proc/self/exe\n")?;
        program_file(&root.join("lib64/ld-linux-x86-64.so.2"), &fs::read(&takeover)?)?;
        fs::write(root.join("takeover"), script)?;
        let usual = oci.command(&["create", "-b", text(&bundle)?, attempt]);
        let mut create = Command::new(&own);
        create.args(usual.get_args()).env("BERTH_UNDEFENDED", without).stdin(Stdio::null());
        let created = oci.finish(create)?;
        ensure!(created.code == Some(0), "{attempt}: {created:?}");
        oci.ok(&["start", attempt])?;
        let said = eventually("the attack has come to an end", || {
            let said = fs::read_to_string(&created.out_file)?;
            Ok(said.ends_with('\n').then_some(said))
        })?;
        let intact = fs::read(&own)? == fs::read(oci.program())?;
        match without.is_empty() {
            true => ensure!(intact && said.contains("Read-only file system"), "{said:?}"),
            false => ensure!(fs::read(&own)? == b"taken\n", "it was not written: {said:?}"),
        }
        oci.ok(&["delete", "--force", attempt])?;
    }
    Ok(())
}

/// CVE-2016-9962. A command's process is in the container and has no more capabilities than the
/// container's own, but executes nothing of the container's yet: its memory is the runtime's.
fn joining(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "joining")?;
    oci.running("c1", SLEEPS)?;
    let file = oci.path("c1/rootfs/tmp/gap");
    for (attempt, without) in [("defended", NOTHING), ("undefended", "dumpable")] {
        let gap = Gap { site: "exec", file: &file, seen: "/tmp/gap" };
        let held = oci.hold(without, &gap, &["exec", "c1", "true"])?;
        let look = "for p in /proc/[0-9]*; do tr '\\0' '\\n' <$p/environ; done 2>/dev/null; true";
        let seen = oci.ok(&["exec", "c1", "sh", "-c", look])?;
        ensure!(seen.contains("OF_CONTAINER=yes"), "nothing was read at all: {seen:?}");
        // Only the runtime has it in its environment.
        let read = seen.contains("BERTH_UNDEFENDED");
        ensure!(read != without.is_empty(), "{attempt}: {seen:?}");
        let ended = held.release()?;
        ensure!(ended.code == Some(0), "{attempt}: {ended:?}");
    }
    oci.ok(&["delete", "--force", "c1"])?;
    Ok(())
}

/// The same by who has CAP_SYS_PTRACE, in a user namespace, while the process still is the host's user
/// 0: the namespace gives rights over processes in it, and not over memory that was made outside.
fn joining_mapped(node: &Node) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let oci = Runtime::new(node, "joining-mapped")?;
    let bundle = oci.bundle("c1", SLEEPS, |config| {
        mapped(config, None);
        for set in ["bounding", "permitted", "effective"] {
            if let Some(list) = config["process"]["capabilities"][set].as_array_mut() {
                list.push(json!("CAP_SYS_PTRACE"));
            }
        }
    })?;
    let root = bundle.join("rootfs");
    let owner = Command::new("chown").args(["-hR", "200000:200000", text(&root)?]).status()?;
    ensure!(owner.success(), "chown");
    // The held process is a stranger there.
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    oci.create("c1", &bundle)?;
    oci.ok(&["start", "c1"])?;
    let file = root.join("tmp/gap");
    for (attempt, without) in [("defended", NOTHING), ("undefended", "dumpable")] {
        let gap = Gap { site: "joined", file: &file, seen: "/tmp/gap" };
        let held = oci.hold(without, &gap, &["exec", "c1", "true"])?;
        let look =
            "for p in /proc/[0-9]*; do echo \"$(readlink $p/exe) $(grep Uid: $p/status)\"; done";
        let seen = oci.ok(&["exec", "c1", "sh", "-c", look])?;
        ensure!(seen.contains("/bin/busybox Uid:\t0\t0"), "nothing was read at all: {seen:?}");
        // It has a user that has no number here.
        let held_one = seen.lines().find(|line| line.contains("Uid:\t65534\t65534"));
        let held_one = held_one.with_context(|| format!("no process on its way: {seen:?}"))?;
        ensure!(held_one.starts_with('/') != without.is_empty(), "{attempt}: {seen:?}");
        let ended = held.release()?;
        ensure!(ended.code == Some(0), "{attempt}: {ended:?}");
    }
    oci.ok(&["delete", "--force", "c1"])?;
    Ok(())
}

/// CVE-2024-21626. A working directory that is a descriptor which the runtime left open leads to the
/// host's cgroups. There are two defences, and each of them is enough.
fn descriptors(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "descriptors")?;
    oci.running("c1", SLEEPS)?;
    let escaped = oci.cgroup("/berth-oci/c1/escaped");
    let attempt = |number: u32, without: &str| -> Result<(bool, Outcome)> {
        let folder = format!("/proc/self/fd/{number}");
        let outcome =
            oci.call_without(without, &["exec", "--cwd", &folder, "c1", "mkdir", "escaped"])?;
        let reached = escaped.exists();
        if reached {
            fs::remove_dir(&escaped)?;
        }
        Ok((reached, outcome))
    };
    let mut open = None;
    for number in 3..40 {
        if attempt(number, "descriptors,working-directory")?.0 {
            open = Some(number);
            break;
        }
    }
    let open = open.context("no descriptor leads to the cgroup without both defences")?;
    for (without, told) in [
        ("descriptors", "is outside the container's root"),
        ("working-directory", "no such file or directory"),
        (NOTHING, "no such file or directory"),
    ] {
        let (reached, outcome) = attempt(open, without)?;
        ensure!(!reached && outcome.code == Some(255), "without {without:?}: {outcome:?}");
        ensure!(outcome.err.contains(told), "without {without:?}: {outcome:?}");
    }
    for number in (3..open + 4).filter(|number| *number != open) {
        let (reached, outcome) = attempt(number, NOTHING)?;
        ensure!(!reached && outcome.code == Some(255), "{number}: {outcome:?}");
    }
    oci.ok(&["delete", "--force", "c1"])?;
    Ok(())
}

/// Twelve lines of processes, in each of which a process has a child and ends. They are not of the
/// first process' pid namespace, so that nothing ends them but the cgroup.
fn forking(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "forking")?;
    // Has the orphans of its pid namespace, and reaps them.
    oci.running("reaper", "while :; do sleep 0.05; done")?;
    let pids = format!("/proc/{}/ns/pid", oci.pid("reaper")?);
    let script = "hop() { hop & }; for n in 1 2 3 4 5 6 7 8 9 10 11 12; do hop & done; \
        echo begun; exec sleep 100000";
    let bundle = oci.bundle("c1", script, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().into_iter().flatten();
        for namespace in namespaces.filter(|namespace| namespace["type"] == "pid") {
            namespace["path"] = Value::from(pids.clone());
        }
    })?;
    let created = oci.create("c1", &bundle)?;
    oci.ok(&["start", "c1"])?;
    oci.says(&created.out_file, "begun\n")?;
    let group = oci.cgroup("/berth-oci/c1");
    let now = || -> Result<BTreeSet<i32>> { Ok(kernel::pids_in(&group)?.into_iter().collect()) };

    // The control: they are listed, and then killed one by one.
    let file = oci.path("gap");
    let gap = Gap { site: "cgroup-kill", file: &file, seen: text(&file)? };
    let held = oci.hold("cgroup-kill", &gap, &["kill", "--all", "c1", "KILL"])?;
    let first = oci.pid("c1")?;
    let listed = now()?;
    eventually("each has a child and ends", || {
        Ok(now()?.iter().all(|pid| *pid == first || !listed.contains(pid)).then_some(()))
    })?;
    let killed = held.release()?;
    ensure!(killed.code == Some(0), "{killed:?}");
    oci.becomes("c1", "stopped")?;
    let before = now()?;
    eventually("the others live on", || {
        Ok(now()?.iter().any(|pid| !before.contains(pid)).then_some(()))
    })
    .context("the attack never worked")?;
    oci.ok(&["kill", "--all", "c1", "KILL"])?;
    eventually("nobody is left", || {
        Ok((kernel::counter(&group.join("cgroup.events"), "populated")? == 0).then_some(()))
    })?;
    oci.ok(&["delete", "c1"])?;
    oci.ok(&["delete", "--force", "reaper"])?;
    Ok(())
}

/// The shim that is tested is the one that is installed: nothing can be taken away from it.
fn installed(_: &Node) -> Result<()> {
    let holds = |name: &str| -> Result<bool> {
        let program = fs::read(binary()?.with_file_name(name))?;
        let mark = b"BERTH_UNDEFENDED";
        Ok(program.windows(mark.len()).any(|bytes| bytes == mark))
    };
    ensure!(holds("berth")?, "the tests' own program cannot be attacked");
    ensure!(!holds("berth-shim")?, "a shim of tests is about to be installed");
    Ok(())
}
