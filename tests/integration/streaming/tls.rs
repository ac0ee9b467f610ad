//! With a certificate the URLs are https, and nothing else is spoken there.

use super::ask;
use crate::harness::machine::Machine;
use crate::harness::registry::Authority;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, own, pod, poll};
use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(super) fn tests() -> Vec<Test> {
    vec![own("a_certificate_makes_urls_https", &[], options, https)]
}

/// Made before the daemon is, so not in a folder of it.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("berth-streaming-tls-{}", std::process::id()))
}

fn options(_: &Machine) -> Options {
    let issued = Authority::make(&folder())
        .and_then(|authority| authority.issue("server", "subjectAltName=IP:127.0.0.1"));
    // Without it the daemon does not start, and says why.
    let (certificate, key) = issued.unwrap_or_default();
    let config = format!("[streaming]\ntls_cert = {certificate:?}\ntls_key = {key:?}\n");
    Options { config, ..Default::default() }
}

fn https(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-tls")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "o", "true")?;
    let address = url.strip_prefix("https://").with_context(|| format!("{url} is not https"))?;
    let address = address.split('/').next().context("no address")?;
    // By a client of other people: the certificate is the configured one, for the address in the URL.
    let output = Command::new("openssl")
        .args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-CAfile"])
        .arg(folder().join("ca.pem"))
        .args(["-connect", address])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.contains("Verify return code: 0"), "{text}");
    // Who does not speak TLS gets no answer of HTTP.
    let mut plain = TcpStream::connect(address)?;
    plain.set_read_timeout(Some(poll::DEADLINE))?;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: berth\r\n\r\n")?;
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).ok();
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    // berth's own client, with bytes both ways and a code.
    ensure!(node.berth_ok(&["exec", &made.id, "echo", "safe"])? == "safe\n");
    let output = node.berth(&["exec", &made.id, "sh", "-c", "seq 1 100000; exit 3"])?;
    let lines: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    ensure!(output.status.code() == Some(3), "{}", output.status);
    ensure!(output.stdout == lines.as_bytes(), "{} bytes", output.stdout.len());
    std::fs::remove_dir_all(folder()).ok();
    Ok(())
}
