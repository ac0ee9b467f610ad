//! PullImage from a registry: Debian's docker-registry, on this machine.

use crate::harness::image::{digest, gzip, write_layout_as};
use crate::harness::pod::{container, pod};
use crate::harness::{Node, Options, Test, eventually, logs, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tonic::{Code, Status};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

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

/// A registry with a folder of its own; ends with the value.
struct Registry {
    address: String,
    process: Child,
}

impl Registry {
    fn start(folder: &Path) -> Result<Self> {
        // Free until a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        std::fs::create_dir_all(folder)?;
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: {address:?}}}\n",
            folder.join("data")
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start docker-registry")?;
        let registry = Self { address, process };
        eventually("the registry answers", || {
            let (status, _) = registry.send("GET", "/v2/", "", &[])?;
            Ok((status == 200).then_some(()))
        })?;
        Ok(registry)
    }

    /// One request on a connection of its own: the status and the `Location`.
    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<(u32, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).context("no status line")?.parse()?;
        let location = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        Ok((status, location.unwrap_or_default()))
    }

    /// Puts the image of an OCI layout archive there; the digest of its manifest.
    fn push(&self, archive: &Path, repository: &str, tag: &str) -> Result<String> {
        let mut manifest = Vec::new();
        for entry in tar::Archive::new(std::fs::File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if !path.starts_with("blobs") {
                continue;
            }
            if bytes.windows(MANIFEST_TYPE.len()).any(|part| part == MANIFEST_TYPE.as_bytes()) {
                manifest = bytes;
                continue;
            }
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            let (status, location) = self.send("POST", &uploads, "", &[])?;
            ensure!(status == 202, "begin an upload: {status}");
            let path = location.split_once(&self.address).map_or(&*location, |(_, path)| path);
            let path = format!("{path}&digest={}", digest(&bytes));
            let (status, _) = self.send("PUT", &path, "application/octet-stream", &bytes)?;
            ensure!(status == 201, "upload a blob: {status}");
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _) = self.send("PUT", &path, MANIFEST_TYPE, &manifest)?;
        ensure!(status == 201, "put the manifest: {status}");
        Ok(digest(&manifest))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn pull(node: &Node, name: &str) -> Result<String, Status> {
    let image = Some(proto::ImageSpec { image: name.into(), ..Default::default() });
    let request = proto::PullImageRequest { image, ..Default::default() };
    node.cri.pull_image(request).map(|answer| answer.image_ref)
}

fn find(node: &Node, name: &str) -> Result<Option<proto::Image>> {
    let image = Some(proto::ImageSpec { image: name.into(), ..Default::default() });
    Ok(node.cri.image_status(proto::ImageStatusRequest { image, verbose: false })?.image)
}

fn remove(node: &Node, name: &str) -> Result<()> {
    let image = Some(proto::ImageSpec { image: name.into(), ..Default::default() });
    node.cri.remove_image(proto::RemoveImageRequest { image })?;
    Ok(())
}

/// A layer with busybox and a large file, so that a pull takes more than one read.
fn write_image(node: &Node, name: &str) -> Result<std::path::PathBuf> {
    use crate::harness::image::add_file;
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "bin/busybox", &std::fs::read("/bin/busybox")?, 0o755)?;
    let noise: Vec<u8> = (0..3_000_000u64).map(|n| (n * n).to_le_bytes()[1]).collect();
    add_file(&mut tar, "noise", &noise, 0o644)?;
    let layer = tar.into_inner()?;
    let archive = node.path("pushed.tar");
    write_layout_as(&archive, name, &layer, &gzip(&layer)?)?;
    Ok(archive)
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
