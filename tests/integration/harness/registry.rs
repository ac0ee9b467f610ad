//! Debian's docker-registry: plain, or with a password, a certificate and clients' certificates, or as a mirror.

use super::image::{add_file, digest, gzip, spec, write_layout_as};
use super::node::Node;
use super::poll::eventually;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tonic::Status;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Whom a registry with a password knows.
pub(crate) const LOGIN: (&str, &str) = ("tester", "open sesame");
/// The same for the registry: user, and bcrypt of the password.
const HTPASSWD: &str = "tester:$2b$05$YaXEQfEjXXUlPoUn2abfce/CiQNVFVlBXKgNiJRe6BHQCGkxfyUP6\n";

/// What a registry is besides plain.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// It wants the user name and the password of [`LOGIN`].
    pub(crate) login: bool,
    /// It speaks TLS with a certificate of this authority, and wants one from its clients.
    pub(crate) authority: Option<Authority>,
    /// It fetches what it has not from the registry at this address.
    pub(crate) mirror_of: Option<String>,
}

/// A registry with a folder of its own; ends with the value.
pub(crate) struct Registry {
    /// Host and port.
    pub(crate) address: String,
    process: Child,
}

impl Registry {
    /// A plain one that keeps its data in `folder`.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        Self::in_manner(folder, "plain", &Manner::default())
    }

    /// One that keeps its data in `folder` and its configuration under `name`: several can have the same data.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub(crate) fn in_manner(folder: &Path, name: &str, manner: &Manner) -> Result<Self> {
        // Free until a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        std::fs::create_dir_all(folder)?;
        let config = folder.join(format!("{name}.yml"));
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp:\n  addr: {address:?}\n",
            folder.join("data")
        );
        if let Some(authority) = &manner.authority {
            let (certificate, key) = authority.issue("server", "subjectAltName=IP:127.0.0.1")?;
            text.push_str(&format!(
                "  tls: {{certificate: {certificate:?}, key: {key:?}, clientcas: [{:?}]}}\n",
                authority.certificate()
            ));
        }
        if manner.login {
            let file = folder.join("htpasswd");
            std::fs::write(&file, HTPASSWD)?;
            text.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {file:?}}}}}\n"));
        }
        if let Some(origin) = &manner.mirror_of {
            text.push_str(&format!("proxy: {{remoteurl: \"http://{origin}\"}}\n"));
        }
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
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
            TcpStream::connect(&registry.address)?;
            Ok(Some(()))
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
    ///
    /// # Errors
    /// The registry refuses it.
    pub(crate) fn push(&self, archive: &Path, repository: &str, tag: &str) -> Result<String> {
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

/// A certificate authority of a test, by openssl.
#[derive(Clone)]
pub(crate) struct Authority(PathBuf);

impl Authority {
    /// Makes one in a new folder.
    ///
    /// # Errors
    /// openssl is missing or fails.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let this = Self(folder.to_owned());
        this.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=authority -keyout ca.key -out ca.pem",
        )?;
        Ok(this)
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// A certificate and its key.
    ///
    /// # Errors
    /// openssl fails.
    pub(crate) fn issue(&self, name: &str, extension: &str) -> Result<(PathBuf, PathBuf)> {
        self.issue_to(name, &format!("/CN={name}"), extension)
    }

    /// The same for any subject: `/O=group/CN=user`.
    ///
    /// # Errors
    /// openssl fails.
    pub(crate) fn issue_to(
        &self,
        name: &str,
        subject: &str,
        extension: &str,
    ) -> Result<(PathBuf, PathBuf)> {
        std::fs::write(self.0.join("extension"), extension)?;
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj {subject} \
             -keyout {name}.key -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile extension -out {name}.pem"
        ))?;
        Ok((self.0.join(format!("{name}.pem")), self.0.join(format!("{name}.key"))))
    }

    fn openssl(&self, words: &str) -> Result<()> {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .output()
            .context("run openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {words}: {errors}");
        Ok(())
    }
}

/// PullImage without credentials.
pub(crate) fn pull(node: &Node, name: &str) -> Result<String, Status> {
    pull_as(node, name, None)
}

/// PullImage.
pub(crate) fn pull_as(
    node: &Node,
    name: &str,
    auth: Option<proto::AuthConfig>,
) -> Result<String, Status> {
    let request = proto::PullImageRequest { image: spec(name), auth, ..Default::default() };
    node.cri.pull_image(request).map(|answer| answer.image_ref)
}

/// A layer with busybox and a large file, so that a pull takes more than one read.
pub(crate) fn write_image(node: &Node, name: &str) -> Result<PathBuf> {
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "bin/busybox", &std::fs::read("/bin/busybox")?, 0o755)?;
    let noise: Vec<u8> = (0..3_000_000u64).map(|n| (n * n).to_le_bytes()[1]).collect();
    add_file(&mut tar, "noise", &noise, 0o644)?;
    let layer = tar.into_inner()?;
    let archive = node.path("pushed.tar");
    write_layout_as(&archive, name, &layer, &gzip(&layer)?)?;
    Ok(archive)
}
