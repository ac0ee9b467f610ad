//! A real docker-registry on a free port, and a proxy before it that listens in and breaks things.

use super::digest::Digest;
use super::fixtures::Made;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running docker-registry; killed when dropped.
pub(super) struct Registry {
    child: Child,
    pub(super) address: String,
    _dir: TempDir,
}

impl Registry {
    /// Starts `/usr/bin/docker-registry` (Debian's package of that name, see `make deps`).
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed (make deps)");
        let mut registry = Self { child, address, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.address).is_err() {
            assert_eq!(registry.child.try_wait().unwrap(), None, "docker-registry ended");
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        registry
    }

    /// Pushes all of an image under a tag.
    pub(super) fn push(&self, repository: &str, tag: &str, made: &Made) {
        self.push_blobs(repository, made);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.push_manifest(repository, tag, kind, &made.manifest);
    }

    pub(super) fn push_blobs(&self, repository: &str, made: &Made) {
        for blob in made.blobs() {
            let (status, head) =
                self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]);
            assert_eq!(status, 202, "{head}");
            let location = head
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .unwrap()
                .trim()
                .replace(&format!("http://{}", self.address), "");
            let target = format!("{location}&digest={}", Digest::of(blob));
            let (status, head) = self.request("PUT", &target, "application/octet-stream", blob);
            assert_eq!(status, 201, "{head}");
        }
    }

    pub(super) fn push_manifest(&self, repository: &str, name: &str, kind: &str, bytes: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{name}");
        let (status, head) = self.request("PUT", &path, kind, bytes);
        assert_eq!(status, 201, "{head}");
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the proxy does to the first answer whose request it picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Closes the connection after so many bytes.
    Cut(usize),
    /// Flips a bit at this byte.
    Flip(usize),
    /// Never answers.
    Stall,
}

/// A TCP proxy to a registry. Lives as long as the test.
pub(super) struct Proxy {
    pub(super) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `picked` is a part of the path of the request whose first answer is spoiled.
    pub(super) fn start(registry: &Registry, fault: Fault, picked: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let pending = Arc::new(AtomicBool::new(fault != Fault::None));
        let (upstream, picked, heard) =
            (registry.address.clone(), picked.to_owned(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let connection = Connection {
                    client: client.unwrap(),
                    upstream: TcpStream::connect(&upstream).unwrap(),
                    fault,
                    picked: picked.clone(),
                    pending: Arc::clone(&pending),
                    requests: Arc::clone(&heard),
                };
                std::thread::spawn(move || connection.run());
            }
        });
        Self { address, requests }
    }

    /// What was asked for, in order.
    pub(super) fn targets(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
    }

    /// How many requests had `part` in their first line or their range.
    pub(super) fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

struct Connection {
    client: TcpStream,
    upstream: TcpStream,
    fault: Fault,
    picked: String,
    pending: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Connection {
    /// One request after the other, so that an answer belongs to the last request.
    fn run(self) {
        let spoil = Arc::new(AtomicBool::new(false));
        let back = {
            let (mut from, mut to) =
                (self.upstream.try_clone().unwrap(), self.client.try_clone().unwrap());
            let (spoil, fault) = (Arc::clone(&spoil), self.fault);
            std::thread::spawn(move || answer(&mut from, &mut to, fault, &spoil))
        };
        let (mut from, mut to) = (self.client, self.upstream);
        let mut buffer = [0; 16 << 10];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let first = text.lines().next().unwrap_or_default().to_owned();
            let range = text.lines().find(|l| l.to_lowercase().starts_with("range:"));
            self.requests.lock().unwrap().push(format!("{first} {}", range.unwrap_or_default()));
            if first.contains(&self.picked) && self.pending.swap(false, Ordering::SeqCst) {
                spoil.store(true, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
        back.join().ok();
    }
}

fn answer(from: &mut TcpStream, to: &mut TcpStream, fault: Fault, spoil: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    let mut passed = 0usize;
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        let chunk = &mut buffer[..n];
        if spoil.load(Ordering::SeqCst) {
            match fault {
                Fault::Stall => continue,
                Fault::Cut(at) if passed + n > at => {
                    to.write_all(&chunk[..at.saturating_sub(passed)]).ok();
                    break;
                }
                Fault::Flip(at) if (passed..passed + n).contains(&at) => chunk[at - passed] ^= 1,
                _ => {}
            }
            passed += n;
        }
        if to.write_all(chunk).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
