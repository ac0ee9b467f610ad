//! PullImage from a registry: Debian's docker-registry, on this machine.

use crate::harness::image::{find, remove};
use crate::harness::pod::{container, pod};
use crate::harness::registry::{Registry, pull, write_image};
use crate::harness::{Node, Options, Test, logs, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::Path;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    let options = |_: &crate::harness::machine::Machine| Options {
        config: "[image]\nplain_http = [\"127.0.0.1\"]\n".into(),
        ..Default::default()
    };
    vec![
        own("an_image_is_pulled_and_run", &[], options, pull_and_run),
        own("a_pull_that_cannot_be_says_why", &[], options, refusals),
    ]
}

fn pull_and_run(node: &mut Node) -> Result<()> {
    let registry = Registry::start(&node.path("registry"))?;
    let repository = format!("{}/team/web", registry.address);
    let manifest = registry.push(&write_image(node, "any:1")?, "team/web", "v1")?;
    let name = format!("{repository}:v1");
    let by_digest = format!("{repository}@{manifest}");

    let pulled = pull(node, &name)?;
    let image = find(node, &name)?.context("not there after the pull")?;
    ensure!(image.id == pulled, "{pulled} is told, {} is there", image.id);
    ensure!(image.repo_tags == [name.clone()], "{image:?}");
    ensure!(image.repo_digests == [by_digest.clone()], "{image:?}");
    ensure!(pull(node, &name)? == pulled, "a repeat is the same image");
    ensure!(pull(node, &by_digest)? == pulled, "by digest it is the same image");

    let config = pod(node, "pulled");
    let sandbox = node.run_pod(&config)?;
    let script = "/bin/busybox wc -c < /noise";
    let mut c = container("main", &["/bin/busybox", "sh", "-c", script]);
    c.image = Some(proto::ImageSpec { image: pulled.clone(), ..Default::default() });
    let id = node.launch_container(&sandbox, &config, &c)?;
    ensure!(node.wait_exited(&id)?.exit_code == 0);
    let lines = logs::read(&node.log_of("pulled", "main"))?;
    ensure!(logs::stream(&lines, "stdout").trim() == "3000000", "{lines:?}");
    node.remove_pod(&sandbox)?;

    // By digest alone it has no tag; then by the command line.
    remove(node, &name)?;
    ensure!(find(node, &by_digest)?.is_none(), "removed by its tag");
    pull(node, &by_digest)?;
    let image = find(node, &by_digest)?.context("not there by digest")?;
    ensure!(image.repo_tags.is_empty() && image.repo_digests == [by_digest], "{image:?}");
    remove(node, &image.id)?;
    let told = node.berth_ok(&["image", "pull", "-o", "json", &name])?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    ensure!(told.to_string().contains(&pulled), "{told}");
    ensure!(find(node, &name)?.is_some_and(|image| image.id == pulled));
    Ok(())
}

fn refusals(node: &mut Node) -> Result<()> {
    let registry = Registry::start(&node.path("registry"))?;
    registry.push(&write_image(node, "any:1")?, "team/web", "v1")?;
    let repository = format!("{}/team/web", registry.address);
    let refused = |name: &str, code: Code| -> Result<String> {
        let answer = pull(node, name);
        let status = answer.err().with_context(|| format!("{name} was pulled"))?;
        ensure!(status.code() == code, "{name}: {status:?}");
        ensure!(status.message().contains(&repository) || code == Code::InvalidArgument);
        Ok(status.message().to_owned())
    };
    let nothing = format!("{repository}@sha256:{}", "0".repeat(64));
    refused(&format!("{repository}:v2"), Code::NotFound)?;
    refused(&format!("{repository}/none:v1"), Code::NotFound)?;
    refused(&nothing, Code::NotFound)?;
    refused(&format!("{repository}:not a tag"), Code::InvalidArgument)?;

    // A blob that is not what its digest says.
    let data = node.path("registry/data");
    let largest = largest_file(&data)?;
    let mut bytes = std::fs::read(&largest)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&largest, bytes)?;
    let damaged = pull(node, &format!("{repository}:v1"));
    let status = damaged.err().context("a damaged blob was taken")?;
    ensure!(status.message().contains("is damaged: expected sha256:"), "{status:?}");
    ensure!(find(node, &format!("{repository}:v1"))?.is_none(), "a damaged image is listed");
    let layers = node.layers();
    ensure!(layers.len() == 1, "more than busybox's layer: {layers:?}");

    drop(registry);
    let message = refused(&format!("{repository}:v1"), Code::Unavailable)?;
    ensure!(message.starts_with("RegistryUnavailable: "), "kubelets look for it: {message}");
    let output = node.berth(&["image", "pull", &format!("{repository}:v1")])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {errors}", output.status);
    ensure!(errors.contains("hint:") && errors.trim_end().lines().count() == 1, "{errors}");
    Ok(())
}

fn largest_file(folder: &Path) -> Result<std::path::PathBuf> {
    let mut largest = (0, None);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.len() > largest.0 {
                largest = (meta.len(), Some(entry.path()));
            }
        }
    }
    largest.1.context("no file")
}
