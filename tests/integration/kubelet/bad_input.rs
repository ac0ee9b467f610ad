//! Manifests that are wrong, and what becomes of those beside them.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{kubelet, patient, pod};
use crate::harness::{Node, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::io::Write as _;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_broken_manifest_leaves_the_others_alone", NETWORK, kubelet, broken),
        own("a_manifest_that_becomes_broken_keeps_its_pod", NETWORK, kubelet, becomes_broken),
        own("of_two_of_a_name_the_first_file_counts", NETWORK, kubelet, duplicates),
        own("what_is_no_file_is_not_opened", NETWORK, kubelet, no_files),
        own("a_file_that_is_being_written_is_not_read", NETWORK, kubelet, in_pieces),
        own("sixty_manifests_at_once_all_run", NETWORK, kubelet, sixty),
        own("yaml_and_lists_are_read_as_json_is", NETWORK, kubelet, forms),
    ]
}

fn plain(name: &str) -> serde_json::Value {
    pod(name, json!({"containers": [patient("main")]}))
}

/// What the daemon said about its manifests.
fn said(node: &Node, what: &str) -> Result<()> {
    eventually("the daemon says so", || {
        let log = std::fs::read_to_string(node.log_file())?;
        ensure!(log.contains(what), "no {what:?} in the log");
        Ok(Some(()))
    })
}

fn broken(node: &mut Node) -> Result<()> {
    node.manifest("a.yaml", &plain("a"))?;
    node.wait_ready("a")?;
    node.manifest_text("broken.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: [\n")?;
    node.manifest_text("binary.yaml", "\u{0}\u{1}\u{2}")?;
    node.manifest_text("empty.yaml", "")?;
    node.manifest("kind.yaml", &json!({"apiVersion": "v1", "kind": "Deployment"}))?;
    node.manifest("name.yaml", &plain("No_Name"))?;
    let mut typed = plain("typed");
    typed["spec"]["containers"][0]["image"] = json!(["a", "list"]);
    node.manifest("typed.yaml", &typed)?;
    let mut field = plain("field");
    field["spec"]["containers"][0]["comand"] = json!(["x"]);
    node.manifest("field.yaml", &field)?;
    node.manifest("z.yaml", &plain("z"))?;
    node.wait_ready("z")?;
    // An unknown field is told, and the pod runs.
    node.wait_ready("field")?;
    for what in ["broken.yaml", "binary.yaml", "kind.yaml", "name.yaml", "typed.yaml", "comand"] {
        said(node, what)?;
    }
    said(node, "containers[0].image")?;
    let mut names: Vec<String> =
        node.shown()?.iter().map(|shown| shown.name().to_owned()).collect();
    names.sort();
    ensure!(names == ["a-node", "field-node", "z-node"], "{names:?}");
    ensure!(node.find("a")?.is_some_and(|a| a.restarts("main") == 0), "a was restarted");
    Ok(())
}

fn becomes_broken(node: &mut Node) -> Result<()> {
    node.manifest("a.yaml", &plain("a"))?;
    let before = node.wait_ready("a")?;
    let first = node.first_pid(&before, "main")?;
    node.manifest_text("a.yaml", "{\"kind\": \"Pod\", ")?;
    node.manifest("b.yaml", &plain("b"))?;
    node.wait_ready("b")?;
    ensure!(kernel::alive(first), "its pod ended");
    ensure!(node.find("a")?.context("no status")?.id("main") == before.id("main"));
    // A file that is gone has no pod, whatever was last in it.
    node.remove_manifest("a.yaml")?;
    node.wait_gone("a")?;
    ensure!(!kernel::alive(first), "its process is left");
    Ok(())
}

fn duplicates(node: &mut Node) -> Result<()> {
    node.manifest("a.yaml", &plain("same"))?;
    let before = node.wait_ready("same")?;
    node.manifest("b.yaml", &plain("same"))?;
    said(node, "b.yaml is left out")?;
    let all = node.shown()?;
    ensure!(all.len() == 1 && all[0].uid() == before.uid(), "{all:?}");
    ensure!(all[0].text("/origin").ends_with("/a.yaml"), "{all:?}");
    // When the first goes, the other one's turn comes.
    node.remove_manifest("a.yaml")?;
    node.wait_for("same", "the other one runs", |shown| {
        shown.text("/origin").ends_with("/b.yaml") && shown.condition("Ready")
    })?;
    Ok(())
}

fn no_files(node: &mut Node) -> Result<()> {
    std::fs::create_dir_all(node.path("manifests"))?;
    nix::unistd::mkfifo(&node.manifest_file("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU)?;
    std::fs::create_dir(node.manifest_file("folder.yaml"))?;
    std::os::unix::fs::symlink("/nowhere", node.manifest_file("link.yaml"))?;
    let large = std::fs::File::create(node.manifest_file("large.yaml"))?;
    large.set_len(11 << 20)?;
    node.manifest(".hidden.yaml", &plain("hidden"))?;
    node.manifest("good.yaml", &plain("good"))?;
    node.wait_ready("good")?;
    for (name, what) in [
        ("fifo.yaml", "a FIFO"),
        ("folder.yaml", "a directory"),
        ("link.yaml", "a symbolic link to nothing"),
        ("large.yaml", "bytes"),
    ] {
        said(node, name)?;
        said(node, what)?;
    }
    ensure!(node.shown()?.len() == 1, "{:?}", node.shown()?);
    Ok(())
}

fn in_pieces(node: &mut Node) -> Result<()> {
    std::fs::create_dir_all(node.path("manifests"))?;
    // What is there halfway is a whole manifest of its own.
    let half = format!("---\n{}", plain("pieces"));
    let mut file = std::fs::File::create(node.manifest_file("pieces.yaml"))?;
    for piece in half.as_bytes().chunks(40) {
        file.write_all(piece)?;
        poll::pause(Duration::from_millis(20));
    }
    file.write_all(b"\n---\n")?;
    file.flush()?;
    poll::pause(Duration::from_millis(300));
    ensure!(node.shown()?.is_empty(), "a half was read: {:?}", node.shown()?);
    file.write_all(plain("second").to_string().as_bytes())?;
    drop(file);
    node.wait_ready("pieces")?;
    node.wait_ready("second")?;
    let log = std::fs::read_to_string(node.log_file())?;
    ensure!(!log.contains("problem="), "a piece was read");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how long it took belongs into the test's output")]
fn sixty(node: &mut Node) -> Result<()> {
    const COUNT: usize = 60;
    let began = Instant::now();
    for number in 0..COUNT {
        let name = format!("pod{number}");
        node.manifest(&format!("{name}.yaml"), &plain(&name))?;
    }
    poll::within(Duration::from_secs(240), "all are ready", || {
        let ready = node.shown()?.iter().filter(|shown| shown.condition("Ready")).count();
        ensure!(ready == COUNT, "{ready} are ready");
        Ok(Some(()))
    })?;
    println!("{COUNT} pods were ready after {:?}", began.elapsed());
    let mut firsts = Vec::new();
    for shown in node.shown()? {
        firsts.push(node.first_pid(&shown, "main")?);
        ensure!(shown.restarts("main") == 0, "{shown:?}");
    }
    ensure!(firsts.iter().all(|pid| kernel::alive(*pid)), "one does not run");
    let began = Instant::now();
    for number in 0..COUNT {
        node.remove_manifest(&format!("pod{number}.yaml"))?;
    }
    poll::within(Duration::from_secs(240), "all are gone", || {
        let left = node.shown()?.len();
        ensure!(left == 0, "{left} are left");
        Ok(Some(()))
    })?;
    println!("{COUNT} pods were gone after {:?}", began.elapsed());
    Ok(())
}

fn forms(node: &mut Node) -> Result<()> {
    let image = crate::harness::image::BUSYBOX;
    let yaml = format!(
        "# two in one file\napiVersion: v1\nkind: Pod\nmetadata:\n  name: one\nspec:\n  \
         terminationGracePeriodSeconds: 3\n  containers:\n  - name: main\n    image: {image}\n    \
         imagePullPolicy: Never\n    command: [sh, -c, \"trap 'exit 0' TERM; sleep 1000 & wait\"]\n\
         ---\n{}\n",
        plain("two")
    );
    node.manifest_text("both.yaml", &yaml)?;
    let list =
        json!({"apiVersion": "v1", "kind": "PodList", "items": [plain("three"), plain("four")]});
    node.manifest("list.json", &list)?;
    for name in ["one", "two", "three", "four"] {
        node.wait_ready(name)?;
    }
    Ok(())
}
