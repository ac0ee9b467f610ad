//! The image store of a node: what is collected and what is not, what is damaged and told so.

use crate::harness::image::{BUSYBOX, add_file, find, gzip, spec, write_layout_as};
use crate::harness::machine::Machine;
use crate::harness::pod::{container, pod};
use crate::harness::{Node, Options, Test, eventually, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::Value;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("collection_leaves_what_is_used_or_pinned", &[], pinning, collection),
        shared("what_containers_write_is_told_apart_from_images", &[], written),
        shared("an_export_is_the_same_image_again", &[], exported),
        own("a_damaged_file_is_named_and_its_layer_comes_again", &[], plain, damaged),
        own("an_image_that_lost_a_layer_is_named_and_comes_again", &[], plain, corrupt),
        own("an_image_whose_record_is_damaged_is_named", &[], plain, damaged_record),
    ]
}

fn plain(_: &Machine) -> Options {
    Options::default()
}

fn pinning(_: &Machine) -> Options {
    let config = "[image]\npinned = [\"pinned.test/*\"]\n".into();
    Options { config, ..Options::default() }
}

/// Imports an image of busybox and a file that tells it apart.
fn import(node: &Node, name: &str) -> Result<String> {
    let marker = name.replace(['/', ':'], "-");
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "bin/busybox", &std::fs::read("/bin/busybox")?, 0o755)?;
    add_file(&mut tar, "marker", marker.as_bytes(), 0o644)?;
    let layer = tar.into_inner()?;
    let file = node.path(&format!("{marker}.tar"));
    write_layout_as(&file, name, &layer, &gzip(&layer)?)?;
    node.import(&file)?;
    let id = find(node, name)?.context("imported, and not there")?.id;
    Ok(id)
}

fn json(node: &Node, arguments: &[&str]) -> Result<Value> {
    let all = [arguments, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&node.berth_ok(&all)?)?)
}

fn collection(node: &mut Node) -> Result<()> {
    import(node, "pinned.test/x:1")?;
    import(node, "used.test/x:1")?;
    import(node, "idle.test/x:1")?;
    let pinned = |name: &str| Ok::<_, anyhow::Error>(find(node, name)?.context("gone")?.pinned);
    ensure!(pinned("pinned.test/x:1")? && !pinned("used.test/x:1")?);
    let config = pod(node, "user");
    let sandbox = node.run_pod(&config)?;
    let mut c = container("main", &["/bin/busybox", "sleep", "100000"]);
    c.image = spec("used.test/x:1");
    node.launch_container(&sandbox, &config, &c)?;
    let rows = json(node, &["image", "prune"])?;
    ensure!(rows == Value::Array(Vec::new()), "all have tags: {rows}");
    let rows = json(node, &["image", "prune", "--all", "--older-than", "1h"])?;
    ensure!(rows == Value::Array(Vec::new()), "all are young: {rows}");
    let rows = json(node, &["image", "prune", "--all", "--to", "100"])?;
    ensure!(rows == Value::Array(Vec::new()), "there is room: {rows}");
    let wanted = [BUSYBOX, "idle.test/x:1"];
    let names = |rows: &Value| -> Vec<String> {
        let of = |row: &Value| row["names"][0].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = rows.as_array().into_iter().flatten().map(of).collect();
        names.sort();
        names
    };
    let told = json(node, &["image", "prune", "--all", "--dry-run"])?;
    ensure!(names(&told) == wanted && find(node, "idle.test/x:1")?.is_some(), "{told}");
    let gone = json(node, &["image", "prune", "--all"])?;
    ensure!(names(&gone) == wanted, "{gone}");
    ensure!(gone[0]["freedBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{gone}");
    let left = json(node, &["image", "ls"])?;
    ensure!(left.as_array().is_some_and(|all| all.len() == 2), "{left}");
    // The pod goes; its image is the next.
    node.remove_pod(&sandbox)?;
    let gone = json(node, &["image", "prune", "--all"])?;
    ensure!(names(&gone) == ["used.test/x:1"], "{gone}");
    node.berth_ok(&["image", "rm", "pinned.test/x:1"]).map(drop)
}

fn written(node: &Node) -> Result<()> {
    const FILL: u64 = 8 << 20;
    let used = || -> Result<[(String, u64); 2]> {
        let info = node.cri.image_fs_info(proto::ImageFsInfoRequest::default())?;
        let of = |all: &[proto::FilesystemUsage]| -> Result<(String, u64)> {
            ensure!(all.len() == 1, "{all:?}");
            let at = all[0].fs_id.as_ref().context("no mountpoint")?.mountpoint.clone();
            Ok((at, all[0].used_bytes.as_ref().context("no bytes")?.value))
        };
        Ok([of(&info.image_filesystems)?, of(&info.container_filesystems)?])
    };
    let [images, containers] = used()?;
    // By different ones a kubelet would take them for two disks.
    ensure!(images.0 == containers.0, "{} {}", images.0, containers.0);
    let config = pod(node, "writer");
    let sandbox = node.run_pod(&config)?;
    let command = "dd if=/dev/zero of=/fill bs=1048576 count=8 && sleep 100000";
    let c = container("main", &["/bin/busybox", "sh", "-c", command]);
    node.launch_container(&sandbox, &config, &c)?;
    eventually("what was written is told", || {
        Ok((used()?[1].1 >= containers.1 + FILL).then_some(()))
    })?;
    ensure!(used()?[0].1 == images.1, "images took it");
    node.remove_pod(&sandbox)?;
    eventually("and that it is gone", || Ok((used()?[1].1 < containers.1 + FILL).then_some(())))
}

fn corrupt(node: &mut Node) -> Result<()> {
    let name = "lost.test/x:1";
    let before = node.layers();
    let id = import(node, name)?;
    let lost =
        node.layers().into_iter().find(|layer| !before.contains(layer)).context("no layer")?;
    node.stop()?;
    std::fs::remove_dir_all(node.state_dir().join("images/layers").join(&lost))?;
    node.launch()?;
    node.answers()?;
    let listed = node.berth_ok(&["images"])?;
    ensure!(listed.contains(&format!("{name} (corrupt)")), "{listed}");
    ensure!(listed.matches("(corrupt)").count() == 1, "busybox is whole: {listed}");
    let image = find(node, name)?.context("it is not there any more")?;
    let why = image.spec.context("no spec")?.annotations;
    ensure!(why.get("berth.corrupt").is_some_and(|why| why.contains("sha256:")), "{why:?}");
    let inspected = json(node, &["image", "inspect", name])?;
    ensure!(inspected["status"]["corrupt"].is_string(), "{inspected}");
    let config = pod(node, "of-lost");
    let sandbox = node.run_pod(&config)?;
    let mut c = container("main", &["/bin/busybox", "cat", "/marker"]);
    c.image = spec(name);
    let refused = node.create(&sandbox, &config, &c).err().context("made of a corrupt image")?;
    ensure!(refused.code() == Code::FailedPrecondition, "{refused:?}");
    ensure!(refused.message().contains("is corrupt"), "{refused:?}");
    ensure!(import(node, name)? == id);
    ensure!(!node.berth_ok(&["images"])?.contains("(corrupt)"));
    ensure!(before.iter().all(|layer| node.layers().contains(layer)), "others came again, too");
    let made = node.launch_container(&sandbox, &config, &c)?;
    ensure!(node.wait_exited(&made)?.exit_code == 0);
    node.remove_pod(&sandbox)?;
    node.berth_ok(&["image", "rm", name]).map(drop)
}

fn damaged_record(node: &mut Node) -> Result<()> {
    let name = "record.test/x:1";
    let id = import(node, name)?;
    let hex = id.trim_start_matches("sha256:");
    let record = node.state_dir().join(format!("images/records/{hex}.json"));
    node.stop()?;
    let text = std::fs::read_to_string(&record)?;
    std::fs::write(&record, text.replace("record.test", "broken.test"))?;
    node.launch()?;
    node.answers()?;
    let listed = node.berth_ok(&["image", "ls"])?;
    let row = listed.lines().find(|line| line.contains("(corrupt)")).context("it is not listed")?;
    ensure!(row.contains(&hex[..12]), "{listed}");
    let output = node.berth(&["image", "verify", hex])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{errors}");
    ensure!(errors.contains("its record is damaged on disk"), "{errors}");
    let log = std::fs::read_to_string(node.log_file())?;
    let told = |line: &str| line.contains("image is corrupt") && line.contains(hex);
    ensure!(log.lines().any(told), "it is not in the log");
    ensure!(import(node, name)? == id);
    ensure!(!node.berth_ok(&["images"])?.contains("(corrupt)"));
    node.berth_ok(&["image", "rm", name]).map(drop)
}

fn exported(node: &Node) -> Result<()> {
    let name = "exported.test/x:1";
    let id = import(node, name)?;
    for target in ["exported", "exported.tar"] {
        let path = node.path(target);
        let told = node.berth_ok(&["image", "export", name, &path.to_string_lossy()])?;
        ensure!(told.trim_end() == id, "{told}");
        node.berth_ok(&["image", "rm", name])?;
        node.import(&path)?;
        ensure!(find(node, name)?.context("not there")?.id == id, "{target}");
        // What is there is not overwritten.
        let again = node.berth(&["image", "export", name, &path.to_string_lossy()])?;
        let errors = String::from_utf8_lossy(&again.stderr).into_owned();
        ensure!(again.status.code() == Some(2) && errors.contains("there already"), "{errors}");
    }
    let layers = json(node, &["image", "history", name])?;
    ensure!(layers[0]["layer"].as_str().is_some_and(|l| l.starts_with("sha256:")), "{layers}");
    let tree = node.berth_ok(&["image", "tree", name])?;
    ensure!(tree.starts_with(name) && tree.contains("└── "), "{tree}");
    node.berth_ok(&["image", "rm", name]).map(drop)
}

fn damaged(node: &mut Node) -> Result<()> {
    let name = "damaged.test/x:1";
    let id = import(node, name)?;
    let rows = json(node, &["image", "verify", name])?;
    ensure!(rows[0]["problems"] == Value::Array(Vec::new()), "{rows}");
    let layers = node.state_dir().join("images/layers");
    let marker = |layer: &String| layers.join(layer).join("d/marker");
    let layer = node.layers().into_iter().find(|l| marker(l).exists()).context("no layer")?;
    let whole = std::fs::read_to_string(marker(&layer))?;
    std::fs::write(marker(&layer), whole.to_uppercase())?;
    let output = node.berth(&["image", "verify", name])?;
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(1), "{told} {errors}");
    ensure!(told.contains("/marker: its content has changed"), "{told}");
    ensure!(errors.contains("is corrupt") && errors.contains("hint"), "{errors}");
    ensure!(node.berth_ok(&["images"])?.contains(&format!("{name} (corrupt)")));
    ensure!(import(node, name)? == id);
    ensure!(!node.berth_ok(&["images"])?.contains("(corrupt)"));
    node.berth_ok(&["image", "verify", name])?;
    node.berth_ok(&["image", "rm", name]).map(drop)
}
