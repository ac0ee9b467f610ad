//! Attacks by names that lead elsewhere: what an image, a volume or a neighbour put there is never a
//! way out of the root. Each is made twice, with all defences and without the one it is about; the
//! table is in docs/security.md.

use crate::apparmor;
use crate::harness::attack::{Gap, NOTHING};
use crate::harness::machine::Need;
use crate::harness::oci::{Runtime, SLEEPS, text};
use crate::harness::{Node, Test, eventually, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_destination_through_a_symlink_stays_inside", &[], destination),
        shared("a_destination_that_a_neighbour_swaps_stays_inside", &[], swapped),
        shared("a_masked_path_is_not_covered_by_what_is_in_dev", &[], mask),
        shared("the_console_is_the_terminal_whatever_has_its_name", &[], console),
        shared("a_kernel_parameter_is_not_written_through_a_false_proc", &[], false_proc),
        shared("a_label_is_not_written_through_a_false_proc", &[Need::AppArmor], false_label),
    ]
}

const SECRET: &str = "of the host\n";

/// A folder of the host's with a file in it.
fn victim(oci: &Runtime<'_>, name: &str) -> Result<PathBuf> {
    let folder = oci.path(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("secret"), SECRET)?;
    Ok(folder)
}

fn secret(folder: &Path) -> Result<String> {
    fs::read_to_string(folder.join("secret")).context("read the secret")
}

fn bind(source: &Path, at: &str) -> Value {
    json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] })
}

fn add_mount(config: &mut Value, mount: Value) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
}

/// What the tests of each attack do with a name of the attempt and the defences it goes without.
const ATTEMPTS: fn(&'static str) -> [(&'static str, &'static str); 2] =
    |defence| [("defended", NOTHING), ("undefended", defence)];

fn destination(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "destination")?;
    let volume = oci.path("volume");
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("file"), "of the volume\n")?;
    for (attempt, without) in ATTEMPTS("target") {
        let victim = victim(&oci, &format!("victim-{attempt}"))?;
        let bundle = oci.bundle(attempt, "cat /data/x/file", |config| {
            add_mount(config, bind(&volume, "/data/x"));
        })?;
        symlink(&victim, bundle.join("rootfs/data"))?;
        let outcome = oci.call_without(without, &["run", "-b", text(&bundle)?, attempt])?;
        let reached = kernel::names_in(&victim) != ["secret"];
        ensure!(reached != without.is_empty(), "{attempt}: {outcome:?}");
        if without.is_empty() {
            ensure!(outcome.out == "of the volume\n", "{outcome:?}");
        }
    }
    Ok(())
}

/// CVE-2021-30465: two containers share a volume, and the first one exchanges a folder in it after
/// the second one's mount point was looked at.
fn swapped(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "swapped")?;
    let own = oci.path("own");
    fs::create_dir_all(&own)?;
    fs::write(own.join("file"), "of the second\n")?;
    for (attempt, without) in ATTEMPTS("target") {
        let (victim, volume) = (victim(&oci, &format!("victim-{attempt}"))?, oci.path(attempt));
        let shared = volume.join("shared");
        fs::create_dir_all(shared.join("sub"))?;
        let first = format!("first-{attempt}");
        let bundle = oci.bundle(&first, "exec sleep 100000", |config| {
            add_mount(config, bind(&shared, "/v"));
        })?;
        oci.create(&first, &bundle)?;
        oci.ok(&["start", &first])?;

        let second = format!("second-{attempt}");
        let bundle = oci.bundle(&second, "cat /v/before/x/file", |config| {
            add_mount(config, bind(&shared, "/v"));
            add_mount(config, bind(&own, "/v/sub/x"));
        })?;
        let file = volume.join("gap");
        let gap = Gap { site: "target:/v/sub/x", file: &file, seen: text(&file)? };
        let held = oci.hold(without, &gap, &["run", "-b", text(&bundle)?, &second])?;
        let swap = format!("mv /v/sub /v/before && ln -s {} /v/sub", victim.display());
        oci.ok(&["exec", &first, "sh", "-c", &swap])?;
        let outcome = held.release()?;
        let reached = kernel::names_in(&victim) != ["secret"];
        ensure!(reached != without.is_empty(), "{attempt}: {outcome:?}");
        if without.is_empty() {
            ensure!(outcome.out == "of the second\n", "{outcome:?}");
        }
        oci.ok(&["delete", "--force", &first])?;
    }
    Ok(())
}

/// CVE-2025-31133: /dev/null is a symlink when the masks are made.
fn mask(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "mask")?;
    for (attempt, without) in ATTEMPTS("mask") {
        let (victim, dev) = (victim(&oci, &format!("victim-{attempt}"))?, oci.path("dev"));
        fs::create_dir_all(&dev)?;
        fs::remove_file(dev.join("null")).ok();
        symlink(victim.join("secret"), dev.join("null"))?;
        let script = "cat /tmp/masked; echo overwritten >/tmp/masked";
        let bundle = oci.bundle(attempt, script, |config| {
            add_mount(config, bind(&dev, "/dev"));
            config["linux"]["maskedPaths"] = json!(["/tmp/masked"]);
        })?;
        fs::write(bundle.join("rootfs/tmp/masked"), "of the image\n")?;
        let outcome = oci.call_without(without, &["run", "-b", text(&bundle)?, attempt])?;
        ensure!(outcome.code == Some(0), "{attempt}: {outcome:?}");
        let seen = (outcome.out.as_str(), &*secret(&victim)?);
        let expected = match without.is_empty() {
            true => ("", SECRET),
            false => (SECRET, "overwritten\n"),
        };
        ensure!(seen == expected, "{attempt}: {seen:?}");
    }
    Ok(())
}

/// CVE-2025-52565: the name of the terminal leads elsewhere when /dev/console is made. Masks and
/// read-only paths come later and would not cover it.
fn console(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "console")?;
    for (attempt, without) in ATTEMPTS("console") {
        let victim = victim(&oci, &format!("victim-{attempt}"))?;
        let dev = oci.path(&format!("dev-{attempt}"));
        fs::create_dir_all(&dev)?;
        let script = "if [ -c /dev/console ]; then echo terminal; \
            else cat /dev/console; echo overwritten >/dev/console; fi";
        let bundle = oci.bundle(attempt, script, |config| {
            config["process"]["terminal"] = json!(true);
            let mounts = config["mounts"].as_array_mut().into_iter().flatten();
            for mount in mounts.filter(|mount| mount["destination"] == "/dev") {
                *mount = bind(&dev, "/dev");
            }
        })?;
        let file = oci.path("gap");
        let gap = Gap { site: "console", file: &file, seen: text(&file)? };
        let held = oci.hold(without, &gap, &["run", "-b", text(&bundle)?, attempt])?;
        // A neighbour with the same volume: the file system of terminals goes where the folder goes.
        fs::rename(dev.join("pts"), dev.join("before"))?;
        fs::create_dir(dev.join("pts"))?;
        symlink(victim.join("secret"), dev.join("pts/0"))?;
        let outcome = held.release()?;
        ensure!(outcome.code == Some(0), "{attempt}: {outcome:?}");
        let seen = (outcome.out.replace('\r', ""), secret(&victim)?);
        let expected = match without.is_empty() {
            true => ("terminal\n".to_owned(), SECRET.to_owned()),
            false => (SECRET.to_owned(), "overwritten\n".to_owned()),
        };
        ensure!(seen == expected, "{attempt}: {seen:?}");
    }
    Ok(())
}

/// CVE-2025-52881: what the runtime writes below /proc goes through what the container has there.
fn false_proc(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "proc")?;
    let host = kernel::read("/proc/sys/kernel/msgmax")?;
    for (attempt, without) in ATTEMPTS("proc") {
        let victim = victim(&oci, &format!("victim-{attempt}"))?;
        let sys = oci.path(&format!("sys-{attempt}"));
        fs::create_dir_all(sys.join("kernel"))?;
        symlink(victim.join("secret"), sys.join("kernel/msgmax"))?;
        let bundle = oci.bundle(attempt, "exec sleep 100000", |config| {
            config["linux"]["sysctl"] = json!({ "kernel.msgmax": "4242" });
            add_mount(config, bind(&sys, "/proc/sys"));
        })?;
        let created = oci.call_without(without, &["create", "-b", text(&bundle)?, attempt])?;
        ensure!(created.code == Some(0), "{attempt}: {created:?}");
        let pid = oci.pid(attempt)?.to_string();
        let within = Command::new("nsenter")
            .args(["--ipc", "--target", &pid, "cat", "/proc/sys/kernel/msgmax"])
            .output()?;
        let within = String::from_utf8(within.stdout)?.trim().to_owned();
        let seen = (within.as_str(), secret(&victim)?.starts_with("4242"));
        let expected = match without.is_empty() {
            true => ("4242", false),
            false => (host.trim(), true),
        };
        ensure!(seen == expected, "{attempt}: {seen:?}");
        oci.ok(&["delete", "--force", attempt])?;
    }
    ensure!(kernel::read("/proc/sys/kernel/msgmax")? == host, "the host's parameter was set");
    Ok(())
}

/// The same of a label: it goes to a file of the host's, and the process runs without one.
fn false_label(node: &Node) -> Result<()> {
    let oci = Runtime::new(node, "label")?;
    let loaded = apparmor::Loaded::new("label")?;
    let confined = format!("{} (enforce)", loaded.name());
    for (attempt, without) in ATTEMPTS("proc") {
        let victim = victim(&oci, &format!("victim-{attempt}"))?;
        let attr = oci.path(&format!("attr-{attempt}"));
        fs::create_dir_all(attr.join("apparmor"))?;
        symlink(victim.join("secret"), attr.join("apparmor/exec"))?;
        let bundle = oci.bundle(attempt, SLEEPS, |config| {
            config["process"]["apparmorProfile"] = json!(loaded.name());
            add_mount(config, bind(&attr, "/proc/1/attr"));
        })?;
        let created = oci.call_without(without, &["create", "-b", text(&bundle)?, attempt])?;
        ensure!(created.code == Some(0), "{attempt}: {created:?}");
        oci.ok(&["start", attempt])?;
        let pid = oci.pid(attempt)?;
        eventually("the program runs", || {
            Ok((kernel::read(format!("/proc/{pid}/comm"))?.trim() == "sleep").then_some(()))
        })?;
        let seen = (apparmor::current(pid)?, secret(&victim)?);
        let expected = match without.is_empty() {
            true => (confined.clone(), SECRET.to_owned()),
            false => ("unconfined".to_owned(), format!("exec {}", loaded.name())),
        };
        ensure!(seen == expected, "{attempt}: {seen:?}");
        oci.ok(&["delete", "--force", attempt])?;
    }
    Ok(())
}
