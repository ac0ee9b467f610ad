//! `berth-oci` by hand: where hooks run, user namespaces, and what is kept out of reach.

use crate::harness::oci::{Runtime, SLEEPS, mapped, script, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("hooks_run_in_order_in_their_namespaces", &[], hooks),
        shared("the_hosts_program_is_out_of_reach", &[], out_of_reach),
        shared("a_user_namespace_is_made_or_joined", &[], user_namespace),
    ]
}

/// A hook that writes down its name, its mount namespace, and what it is told.
fn noting(dir: &Path, name: &str, log: &str) -> Result<Value> {
    let path = dir.join(name);
    script(
        &path,
        &format!(
            "state=$(cat); s=${{state#*'\"status\":\"'}}; p=${{state#*'\"pid\":'}}\n\
             echo \"$0 $1 $NAME ${{s%%'\"'*}} ${{p%%,*}} $(readlink /proc/self/ns/mnt)\" >>{log}"
        ),
    )?;
    Ok(
        json!({ "path": path, "args": [name, "argument"], "env": [format!("NAME={name}"), "PATH=/bin:/usr/bin"] }),
    )
}

fn hooks(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "hooks")?;
    let rootfs = oci.path("b/rootfs");
    let log = oci.path("b/rootfs/hooks.log");
    let scripts = oci.path("scripts");
    fs::create_dir_all(&scripts)?;
    let mut hooks = serde_json::Map::new();
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks.insert(name.into(), json!([noting(&scripts, name, text(&log)?)?]));
    }
    // By the container's own path, with the container's own shell.
    let inside = noting(&scripts, "startContainer", "/hooks.log")?;
    let mut inside = inside;
    inside["path"] = json!("/startContainer");
    hooks.insert("startContainer".into(), json!([inside]));
    // What is mounted in the container is there for the hook before the pivot, at the host's path.
    let sees = scripts.join("sees");
    script(
        &sees,
        &format!("test -e {}/proc/self/status && echo sees >>{}", text(&rootfs)?, text(&log)?),
    )?;
    hooks["createContainer"].as_array_mut().context("a list")?.push(json!({ "path": sees }));
    let bundle = oci.bundle("b", "echo program >>/hooks.log; exec sleep 100000", |config| {
        config["hooks"] = Value::Object(hooks);
    })?;
    fs::copy(scripts.join("startContainer"), rootfs.join("startContainer"))?;

    let host = kernel::namespace(kernel::own_pid()?, "mnt")?;
    let read = || fs::read_to_string(&log).unwrap_or_default();
    oci.create("c1", &bundle)?;
    let pid = oci.pid("c1")?;
    let own = kernel::namespace(pid, "mnt")?;
    let line = |name: &str, status: &str, pid: i32, ns: u64| {
        format!("{}/{name} argument {name} {status} {pid} mnt:[{ns}]\n", scripts.display())
    };
    let mut expected = line("prestart", "creating", pid, host)
        + &line("createRuntime", "creating", pid, host)
        + &line("createContainer", "creating", pid, own)
        + "sees\n";
    ensure!(read() == expected, "after create:\n{}expected:\n{expected}", read());
    oci.ok(&["start", "c1"])?;
    let start = format!("/startContainer argument startContainer created {pid} mnt:[{own}]\n");
    eventually("the program begins", || Ok(read().contains("program\n").then_some(())))?;
    // The program and the hook after its start do not wait for one another.
    let mut rest: Vec<String> = read()
        .strip_prefix(&expected)
        .context("other hooks first")?
        .lines()
        .map(|l| format!("{l}\n"))
        .collect();
    ensure!(rest.first() == Some(&start), "{rest:?}, expected {start}");
    rest.remove(0);
    rest.sort();
    ensure!(rest == [line("poststart", "running", pid, host), "program\n".into()], "{rest:?}");
    expected = read();
    oci.ok(&["delete", "--force", "c1"])?;
    ensure!(read() == expected.clone() + &line("poststop", "stopped", 0, host), "{}", read());
    oci.nothing_of("c1", "/berth-oci/c1")
}

/// CVE-2019-5736: the program of a container's first process, before its execve, is the runtime.
/// Who holds on to it can open it for writing once it does not run any more.
fn out_of_reach(node: &Node) -> Result<()> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let oci = Runtime::new(node, "reach")?;
    let bundle = oci.bundle("b", SLEEPS, |_| ())?;
    // A program that nobody else runs.
    let program = oci.path("own/berth-oci");
    fs::create_dir(oci.path("own"))?;
    fs::copy(oci.program(), &program)?;
    let usual = oci.command(&["create", "-b", text(&bundle)?, "c1"]);
    let mut create = std::process::Command::new(&program);
    create.args(usual.get_args()).stdin(Stdio::null());
    let created = oci.finish(create)?;
    ensure!(created.code == Some(0), "{created:?}");
    let pid = oci.pid("c1")?;
    let exe = format!("/proc/{pid}/exe");
    ensure!(fs::metadata(&exe)?.len() == fs::metadata(&program)?.len(), "another program");
    let hold = |path: &str| open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let (held, control) = (hold(&exe)?, hold(text(&program)?)?);
    // Nothing of how it is done is in any mount table.
    for mount in kernel::mounts("self")?.iter().chain(&kernel::mounts(&pid.to_string())?) {
        ensure!(mount.point != text(&program)?, "{mount:?}");
    }
    oci.ok(&["delete", "--force", "c1"])?;
    let write = |fd: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::OpenOptions::new().write(true).open(path).map_err(|e| e.raw_os_error())
    };
    // As long as its last process is there, nobody can write it: ETXTBSY.
    eventually("it does not run any more", || Ok(write(&control).is_ok().then_some(())))?;
    let refused = write(&held).err();
    ensure!(refused == Some(Some(nix::errno::Errno::EROFS as i32)), "{refused:?}");
    Ok(())
}

fn user_namespace(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "userns")?;
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; echo x >/dev/null && echo null; \
        mkdir /made && stat -c %u /made /dev/null; echo again >>/dev/stdout; exec sleep 100000";
    let made = |name: &str, path: Option<&str>| -> Result<i32> {
        let bundle = oci.bundle(name, script, |config| mapped(config, path))?;
        // Whose the root file system is, is the engine's business.
        let rootfs = bundle.join("rootfs");
        let owner = std::process::Command::new("chown")
            .args(["-hR", "200000:200000", text(&rootfs)?])
            .status()?;
        ensure!(owner.success(), "chown");
        // The niceness of who calls is not the container's, and no obstacle.
        let plain = oci.command(&["create", "-b", text(&bundle)?, name]);
        let mut niced = std::process::Command::new("nice");
        niced.args(["-n", "5"]).arg(plain.get_program()).args(plain.get_args());
        let created = oci.finish(niced)?;
        ensure!(created.code == Some(0), "{created:?}");
        ensure!(kernel::niceness(oci.pid(name)?)? == 0, "it has a niceness");
        oci.ok(&["start", name])?;
        oci.says(&created.out_file, "0\n 0 200000 1000\nnull\n0\n0\nagain\n")?;
        let about = fs::metadata(rootfs.join("made"))?;
        ensure!(std::os::unix::fs::MetadataExt::uid(&about) == 200_000, "another owner");
        ensure!(oci.ok(&["exec", name, "id", "-u"])? == "0\n", "exec");
        oci.pid(name)
    };
    let first = made("first", None)?;
    let host = kernel::namespace(kernel::own_pid()?, "user")?;
    let user = kernel::namespace(first, "user")?;
    ensure!(user != host, "the host's");
    ensure!(kernel::status_field(first, "Uid")?.starts_with("200000"), "another user");
    let second = made("second", Some(&format!("/proc/{first}/ns/user")))?;
    ensure!(kernel::namespace(second, "user")? == user, "not joined");
    // Control: without it, the host's.
    oci.running("plain", SLEEPS)?;
    ensure!(kernel::namespace(oci.pid("plain")?, "user")? == host, "not the host's");
    type Field = (&'static str, fn(&mut Value));
    let fields: [Field; 3] = [
        ("linux.uidMappings", |c| {
            mapped(c, None);
            c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
        }),
        ("linux.gidMappings", |c| {
            mapped(c, None);
            c["linux"]["gidMappings"] = json!([{ "containerID": 1, "hostID": 2, "size": 3 }]);
        }),
        ("process.user.uid", |c| {
            mapped(c, None);
            c["process"]["user"]["uid"] = json!(1000);
        }),
    ];
    for (n, (field, change)) in fields.into_iter().enumerate() {
        let bundle = oci.bundle(&format!("u{n}"), SLEEPS, change)?;
        let message = oci.fails(&["create", "-b", text(&bundle)?, "c1"])?;
        ensure!(message.contains(field), "{field}: {message}");
    }
    for id in ["first", "second", "plain"] {
        oci.ok(&["delete", "--force", id])?;
    }
    Ok(())
}
