//! Attacks by what the daemon is given: archives, images, requests, output. Where a defence can be
//! taken away, a daemon without it shows that the attack works; the table is in docs/security.md.

use crate::harness::attack::{NOTHING, without};
use crate::harness::image::{add_file, gzip, write_layout_as};
use crate::harness::oci::{Runtime, text};
use crate::harness::pod::{container, security};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, logs, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("an_image_stays_in_its_folder", &[], |node| image(node, Defended::Yes)),
        own(
            "without_resolving_below_its_root_an_image_escapes",
            &[],
            |_| weak("resolve"),
            |node| image(node, Defended::No),
        ),
        shared("a_log_stays_in_its_folder", &[], |node| log(node, Defended::Yes)),
        own(
            "without_a_check_of_its_path_a_log_escapes",
            &[],
            |_| weak("log-path"),
            |node| log(node, Defended::No),
        ),
        shared("a_kernel_parameter_is_one_and_of_a_namespace", &[], sysctl),
        shared("output_cannot_forge_a_line_of_the_log", &[], forged),
        shared("a_name_is_no_path", &[], names),
    ]
}

/// A daemon without a defence.
fn weak(defence: &str) -> Options {
    Options { env: without(defence), ..Options::default() }
}

/// Whether the daemon has all its defences.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defended {
    Yes,
    No,
}

const IMAGE: &str = "berth.test/escape:latest";

/// An entry whose name or target the tar library would not write.
fn add_raw(
    tar: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    to: &str,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(if kind == tar::EntryType::Regular { to.len() as u64 } else { 0 });
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let field = &mut header.as_old_mut().name;
    field.get_mut(..name.len()).context("a long name")?.copy_from_slice(name.as_bytes());
    if kind != tar::EntryType::Regular {
        let field = &mut header.as_old_mut().linkname;
        field.get_mut(..to.len()).context("a long target")?.copy_from_slice(to.as_bytes());
    }
    header.set_cksum();
    let content = if kind == tar::EntryType::Regular { to.as_bytes() } else { &[] };
    Ok(tar.append(&header, content)?)
}

/// A layer that is after `victim`: by a symlink, by `..`, and by a passwd that is the host's.
fn layer(victim: &Path) -> Result<Vec<u8>> {
    use tar::EntryType::{Regular, Symlink};
    let victim = text(victim)?;
    let mut tar = tar::Builder::new(Vec::new());
    add_raw(&mut tar, "out", Symlink, victim)?;
    add_raw(&mut tar, "out/in/through", Regular, "x\n")?;
    let up = format!("{}{victim}/above", "../".repeat(12).trim_end_matches('/'));
    add_raw(&mut tar, &up, Regular, "x\n")?;
    add_raw(&mut tar, "etc/passwd", Symlink, &format!("{victim}/passwd"))?;
    add_file(&mut tar, "bin/busybox", &fs::read("/bin/busybox")?, 0o755)?;
    Ok(tar.into_inner()?)
}

fn image(node: &Node, defended: Defended) -> Result<()> {
    let victim = node.path("victim");
    fs::create_dir_all(victim.join("in"))?;
    fs::write(victim.join("passwd"), "ghost:x:4242:4242::/:/bin/sh\n")?;
    let layer = layer(&victim)?;
    if defended == Defended::Yes {
        // A control that has nothing to do with berth: the archive is what it is meant to be.
        let (file, folder) = (node.path("layer.tar"), node.path("unpacked"));
        fs::write(&file, &layer)?;
        fs::create_dir_all(&folder)?;
        let unpacked =
            Command::new("tar").arg("-xPf").arg(&file).arg("-C").arg(&folder).output()?;
        ensure!(unpacked.status.success(), "{unpacked:?}");
        for name in ["in/through", "above"] {
            fs::remove_file(victim.join(name))
                .with_context(|| format!("{name} does not escape"))?;
        }
        fs::remove_file(&file)?;
        fs::remove_dir_all(&folder)?;
    }

    let archive = node.path("escape.tar");
    write_layout_as(&archive, IMAGE, &layer, &gzip(&layer)?)?;
    node.import(&archive)?;
    match defended {
        Defended::Yes => {
            let found = (kernel::names_in(&victim), kernel::names_in(&victim.join("in")));
            ensure!(found == (vec!["in".into(), "passwd".into()], vec![]), "{found:?}");
        }
        Defended::No => ensure!(victim.join("in/through").exists(), "the attack never worked"),
    }

    // The user is looked up in the image's passwd.
    let scene = Scene::new(node, "escape")?;
    let answer = scene.create("main", &["true"], |config| {
        config.image = Some(proto::ImageSpec { image: IMAGE.into(), ..Default::default() });
        security(config).run_as_username = "ghost".into();
    });
    match (defended, answer) {
        (Defended::Yes, Err(refused)) => {
            ensure!(refused.code() == Code::InvalidArgument, "{refused:?}");
            ensure!(refused.message().contains("ghost"), "{refused:?}");
        }
        (Defended::No, Ok(id)) => {
            let user = node.container(&id)?.user.and_then(|user| user.linux).context("no user")?;
            ensure!(user.uid == 4242, "{user:?}");
        }
        (_, answer) => anyhow::bail!("{answer:?}"),
    }
    // A part of the image is mounted.
    let (_, seen) = scene.output("part", "cat /v/passwd 2>/dev/null; ls /v", |config| {
        config.mounts.push(proto::Mount {
            container_path: "/v".into(),
            image: Some(proto::ImageSpec { image: IMAGE.into(), ..Default::default() }),
            image_sub_path: "out".into(),
            readonly: true,
            ..Default::default()
        });
    })?;
    ensure!(seen.contains("ghost") == (defended == Defended::No), "{seen:?}");
    ensure!(seen.contains("in\n"), "nothing is mounted: {seen:?}");
    node.remove_pod(&scene.pod)?;
    node.berth_ok(&["image", "rm", IMAGE])?;
    fs::remove_file(&archive)?;
    Ok(fs::remove_dir_all(&victim)?)
}

fn log(node: &Node, defended: Defended) -> Result<()> {
    let victim: PathBuf = node.path("victim");
    fs::create_dir_all(&victim)?;
    let scene = Scene::new(node, "log-escape")?;
    let folder = PathBuf::from(&scene.config.log_directory);
    fs::create_dir_all(&folder)?;
    // By a container that has the folders of logs among its volumes.
    symlink(&victim, folder.join("web"))?;
    symlink(victim.join("linked.log"), folder.join("link.log"))?;
    for (path, made) in [
        ("../../victim/above.log", "above.log"),
        ("web/through.log", "through.log"),
        ("link.log", "linked.log"),
    ] {
        let answer = scene.create("main", &["true"], |config| config.log_path = path.into());
        let made = victim.join(made).exists();
        match (defended, answer) {
            (Defended::Yes, Err(refused)) => {
                ensure!(refused.code() == Code::InvalidArgument, "{path}: {refused:?}");
                ensure!(!made, "{path}: a file of the host was made");
            }
            (Defended::No, Ok(id)) => {
                ensure!(made, "{path}: the attack never worked");
                let id = proto::RemoveContainerRequest { container_id: id };
                node.cri.remove_container(id)?;
            }
            (_, answer) => anyhow::bail!("{path}: {answer:?}"),
        }
    }
    // The control of the refusals: such a log is fine where it belongs.
    scene.create("main", &["true"], |config| config.log_path = "db/0.log".into())?;
    ensure!(folder.join("db/0.log").exists());
    node.remove_pod(&scene.pod)?;
    Ok(fs::remove_dir_all(&victim)?)
}

/// CVE-2022-0811: a value that goes on with `+` and a further parameter; names that climb; and
/// parameters of the host.
fn sysctl(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "sysctl")?;
    let pattern = kernel::read("/proc/sys/kernel/core_pattern")?;
    let swappiness = kernel::read("/proc/sys/vm/swappiness")?;
    let create = |id: &str, without: &str, name: &str, value: &str| {
        let bundle = oci.bundle(id, "true", |config| {
            config["linux"]["sysctl"] = json!({ name: value });
        })?;
        oci.call_without(without, &["create", "-b", text(&bundle)?, id])
    };
    let appended = "4242+kernel.core_pattern=|/tmp/attack";
    for (n, (name, value, told)) in [
        ("kernel.msgmax", appended, "Invalid argument"),
        ("kernel.core_pattern", "|/tmp/attack", "is not of a namespace"),
        ("net/../kernel/core_pattern", "|/tmp/attack", "is not a name"),
        ("net.ipv4/../../kernel/core_pattern", "|/tmp/attack", "is not a name"),
        ("vm.swappiness", swappiness.trim(), "is not of a namespace"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = create(&format!("refused-{n}"), NOTHING, name, value)?;
        ensure!(refused.code == Some(1) && refused.err.contains(told), "{name}: {refused:?}");
    }
    for (id, without, name, value) in [
        ("fine", NOTHING, "kernel.msgmax", "4242"),
        // The host's own value: nothing changes, but it is written.
        ("undefended", "sysctl-name", "vm.swappiness", swappiness.trim()),
    ] {
        let made = create(id, without, name, value)?;
        ensure!(made.code == Some(0), "{name}: the control fails: {made:?}");
        oci.ok(&["delete", "--force", id])?;
    }

    let run = |name: &str, key: &str, value: &str| {
        Scene::with(node, name, |config| {
            let sysctls = &mut config.linux.get_or_insert_default().sysctls;
            sysctls.insert(key.into(), value.into());
        })
    };
    ensure!(run("appended", "kernel.shm_rmid_forced", "1+kernel.core_pattern=x").is_err());
    ensure!(run("host", "kernel.core_pattern", "x").is_err());
    run("fine", "kernel.shm_rmid_forced", "1").context("the control")?;
    ensure!(kernel::read("/proc/sys/kernel/core_pattern")? == pattern, "the host's was set");
    Ok(())
}

fn forged(node: &Node) -> Result<()> {
    let forged = "2016-10-06T00:17:09.669794202Z stderr F forged";
    // The control: as it is, it would be an entry.
    let file = node.path("forged.log");
    fs::write(&file, format!("{forged}\n"))?;
    let read = logs::read(&file)?;
    ensure!(read.first().is_some_and(|line| line.stream == "stderr"), "{read:?}");
    fs::remove_file(&file)?;

    let scene = Scene::new(node, "forged")?;
    // At the start of a line, and where a long line is divided.
    let script = format!(
        "echo '{forged}'; head -c 16384 /dev/zero | tr '\\0' x; echo '{forged}'; \
         printf 'a\\r{forged}\\0\\033[2Kb'"
    );
    let made = scene.script("main", &script, as_is)?;
    made.end()?;
    let lines = made.lines()?;
    ensure!(lines.iter().all(|line| line.stream == "stdout"), "{lines:?}");
    ensure!(lines.iter().filter(|line| line.text.contains(forged)).count() == 3, "{lines:?}");
    Ok(())
}

fn names(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "names")?;
    for name in ["../main", "a/b", "..", "a\nb", "a\0b", "a;b"] {
        let mut config = container("main", &["true"]);
        if let Some(metadata) = &mut config.metadata {
            metadata.name = name.into();
        }
        let answer = node.create(&scene.pod, &scene.config, &config);
        let code = answer.as_ref().err().map(tonic::Status::code);
        // Names are in no path: identifiers are random.
        ensure!(code == Some(Code::InvalidArgument) || name == "..", "{name:?}: {answer:?}");
        let field = |id: &str| proto::ContainerStatusRequest {
            container_id: id.into(),
            ..Default::default()
        };
        let asked = node.cri.container_status(field(name)).err().map(|status| status.code());
        ensure!(
            matches!(asked, Some(Code::NotFound | Code::InvalidArgument)),
            "{name:?}: {asked:?}"
        );
    }
    scene.create("main", &["true"], as_is).context("the control")?;
    Ok(())
}
