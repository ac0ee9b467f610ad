//! Bad files: mount sources, image archives, Pod files. Named in the error, and nothing is left behind.

use crate::bad_input::{no_containers, nothing_listed};
use crate::harness::image::{add_file, gzip, write_layout_as};
use crate::harness::kubelet::kubelet;
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::{Node, Test, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::Path;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("mount_sources_that_cannot_be_resolved_are_named", &[], bad_sources),
        shared("bad_image_archives_are_refused_and_leave_nothing", &[], bad_archives),
        own("malformed_pod_files_are_refused", &[], kubelet, bad_pod_files),
    ]
}

fn bad_sources(node: &Node) -> Result<()> {
    let folder = node.volume("sources")?;
    let in_folder = |name: &str| folder.join(name);
    std::os::unix::fs::symlink(in_folder("loop-b"), in_folder("loop-a"))?;
    std::os::unix::fs::symlink(in_folder("loop-a"), in_folder("loop-b"))?;
    std::fs::write(in_folder("file"), "text")?;
    let config = pod(node, "sources");
    let id = node.run_pod(&config)?;
    let with = |source: &Path| {
        let mut c = container("main", PATIENT);
        c.mounts = vec![proto::Mount {
            host_path: source.to_string_lossy().into_owned(),
            container_path: "/data".into(),
            ..Default::default()
        }];
        c
    };
    for (name, errno) in [
        ("loop-a", "symbolic links"),
        ("loop-a/below", "symbolic links"),
        ("file/below", "Not a directory"),
        (&"n".repeat(300), "too long"),
    ] {
        let source = in_folder(name);
        let made = node.create(&id, &config, &with(&source));
        let Err(status) = made else { anyhow::bail!("{name}: taken") };
        let told = [&*source.to_string_lossy(), errno].iter().all(|w| status.message().contains(w));
        ensure!(told && status.code() == Code::InvalidArgument, "{name}: {status:?}");
        no_containers(node)?;
    }
    // The control: a missing one is made, as others do.
    let missing = in_folder("made/on/the/way");
    let made = node.launch_container(&id, &config, &with(&missing))?;
    ensure!(missing.is_dir(), "a missing source is not made");
    ensure!(node.exec_ok(&made, &["ls", "-a", "/data"])? == ".\n..");
    Ok(())
}

fn bad_archives(node: &Node) -> Result<()> {
    let images = || node.berth_ok(&["images", "-o", "json"]);
    let before = images()?;
    // A layer that is not there yet: of one that is, nothing is read.
    let layer = noise_layer()?;
    let good = node.path("good.tar");
    write_layout_as(&good, "bad.test/x:1", &layer, &gzip(&layer)?)?;
    let whole = std::fs::read(&good)?;
    let mut flipped = whole.clone();
    // In the middle lies the compressed layer.
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let rows: [(&str, &[u8]); 4] = [
        ("text", b"this is no archive"),
        ("empty", b""),
        ("cut", &whole[..whole.len() / 2]),
        ("flipped", &flipped),
    ];
    for (name, bytes) in rows {
        let file = node.path(&format!("{name}.tar"));
        std::fs::write(&file, bytes)?;
        let output = node.berth(&["image", "import", &file.to_string_lossy()])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(1 | 2)), "{name}: {}", output.status);
        ensure!(errors.trim_end().lines().count() == 1, "{name}: {errors}");
        ensure!(errors.contains(&format!("{name}.tar")), "{name}: {errors}");
        ensure!(images()? == before, "{name}: the list has changed");
    }
    let layers = node.layers();
    ensure!(layers.len() == 1, "more than busybox's layer: {layers:?}");
    node.import(&good).context("the control")?;
    node.berth_ok(&["image", "rm", "bad.test/x:1"])?;
    ensure!(images()? == before);
    Ok(())
}

/// Does not get smaller by compression, so that the layer is most of its archive.
fn noise_layer() -> Result<Vec<u8>> {
    let mut seed = 1_u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_le_bytes()[7]
    });
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "noise", &noise.take(1 << 20).collect::<Vec<u8>>(), 0o644)?;
    Ok(tar.into_inner()?)
}

fn bad_pod_files(node: &mut Node) -> Result<()> {
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\n";
    let rows = [
        ("syntax", "a: [b".to_owned(), "line"),
        ("empty", String::new(), "no object in it"),
        (
            "podless",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n".to_owned(),
            "no Pod in it",
        ),
        ("two", format!("{head}spec: {{}}\n---\n{head}"), "spec.containers"),
        ("kind", "apiVersion: v1\nkind: Deployment\n".to_owned(), "kind"),
        ("nothing", format!("{head}spec: {{containers: []}}\n"), "spec.containers"),
        (
            "probe",
            format!(
                "{head}spec: {{containers: [{{name: a, image: b, livenessProbe: {{x: 1}}}}]}}\n"
            ),
            "spec.containers[0].livenessProbe",
        ),
        (
            "quantity",
            format!(
                "{head}spec: {{containers: [{{name: a, image: b, \
                 resources: {{limits: {{memory: lots}}}}}}]}}\n"
            ),
            "spec.containers[0].resources.limits[memory]",
        ),
    ];
    for (name, text, words) in rows {
        let file = node.path(&format!("{name}.yaml"));
        std::fs::write(&file, text)?;
        let output = node.berth(&["run", &file.to_string_lossy()])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{name}: {}: {errors}", output.status);
        ensure!(errors.contains(words) && errors.contains(&format!("{name}.yaml")), "{errors}");
        ensure!(errors.trim_end().lines().count() == 1, "{name}: {errors}");
        nothing_listed(node)?;
    }
    Ok(())
}
