//! Who may ask the HTTP API over TLS, and what Prometheus makes of its figures.

use super::lifecycle::NETWORK;
use crate::harness::http::{Http, own_certificate};
use crate::harness::kubelet::{kubelet, patient, pod};
use crate::harness::machine::Need;
use crate::harness::registry::Authority;
use crate::harness::{Node, Test, eventually, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("who_asks_over_tls_may_what_the_configuration_says", NETWORK, kubelet, access),
        own(
            "certificates_and_tokens_count_as_soon_as_they_are_replaced",
            NETWORK,
            kubelet,
            replaced,
        ),
        own("prometheus_scrapes_a_node", WITH_PROMETHEUS, kubelet, prometheus),
    ]
}

const WITH_PROMETHEUS: &[Need] = &[Need::PodNetwork, Need::Prometheus];

/// Free until a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Has the node listen over TLS: its port, and the authority of its clients.
fn listens(node: &mut Node) -> Result<(u16, Authority)> {
    let port = free_port()?;
    let authority = Authority::make(&node.path("clients"))?;
    let tokens = node.path("tokens");
    std::fs::write(&tokens, "reader-token,prometheus\nnobody-token,nobody\n")?;
    node.reconfigure(&format!(
        "http_address = \"127.0.0.1:{port}\"\nclient_ca = {:?}\nstatic_tokens = {tokens:?}\n\
         readers = [\"user:prometheus\", \"group:ops\"]\nexecutors = [\"group:ops\"]\n",
        authority.certificate()
    ))?;
    Ok((port, authority))
}

fn access(node: &mut Node) -> Result<()> {
    let (port, authority) = listens(node)?;
    node.manifest("web.yaml", &pod("web", json!({"containers": [patient("main")]})))?;
    node.wait_ready("web")?;
    let (certificate, key) =
        authority.issue_to("ann", "/O=ops/CN=ann", "keyUsage=digitalSignature")?;
    let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
    let (plain, plain_key) =
        authority.issue_to("bob", "/O=dev/CN=bob", "keyUsage=digitalSignature")?;
    let (plain, plain_key) = (plain.to_string_lossy(), plain_key.to_string_lossy());
    let token = |text: &str| format!("Authorization: Bearer {text}");
    let (reader, nobody, unknown) = (token("reader-token"), token("nobody-token"), token("x"));
    let run = "/run/default/web-node/main?cmd=echo%20yes";
    // Who, what reading is answered with, what commands are.
    let rows: [(&str, &[&str], u16, u16); 6] = [
        ("an operator by certificate", &["--cert", &certificate, "--key", &key], 200, 200),
        ("somebody else by certificate", &["--cert", &plain, "--key", &plain_key], 403, 403),
        ("a reader by token", &["--header", &reader], 200, 403),
        ("somebody else by token", &["--header", &nobody], 403, 403),
        ("a token that nobody has", &["--header", &unknown], 401, 401),
        ("nobody", &[], 401, 401),
    ];
    for (who, options, reads, runs) in rows {
        let http = Http::over_tls(node, port, options);
        let read = http.get("/pods")?;
        ensure!(read.code == reads, "{who} reads: {read:?}");
        let ran = http.ask("POST", run)?;
        ensure!(ran.code == runs, "{who} runs: {ran:?}");
        ensure!(runs != 200 || ran.text == "yes\n", "{who}: {ran:?}");
        // An upgrade is a GET, and a command all the same.
        let exec = http.get("/exec/default/web-node/main?command=true&output=1")?;
        ensure!(exec.code == if runs == 200 { 400 } else { runs }, "{who}: {exec:?}");
    }
    // A stranger's certificate ends the connection.
    let stranger = Authority::make(&node.path("strangers"))?;
    let (own, key) = stranger.issue_to("ann", "/O=ops/CN=ann", "keyUsage=digitalSignature")?;
    let (own, key) = (own.to_string_lossy(), key.to_string_lossy());
    let http = Http::over_tls(node, port, &["--cert", &own, "--key", &key]);
    ensure!(http.get("/pods").is_err(), "a stranger's certificate was taken");
    // The same server after all, and no other speaks without TLS.
    let url = format!("http://127.0.0.1:{port}/pods");
    let plain = Command::new("curl").args(["--silent", "--max-time", "10", &url]).output()?;
    ensure!(!String::from_utf8_lossy(&plain.stdout).contains("PodList"), "{plain:?}");
    Ok(())
}

/// Files as Kubernetes mounts those of a Secret: a name leads through a link, which is moved.
struct Mounted {
    folder: PathBuf,
    generations: u32,
}

impl Mounted {
    fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        for name in ["tls.crt", "tls.key", "tokens"] {
            symlink(format!("..data/{name}"), folder.join(name))?;
        }
        Ok(Self { folder, generations: 0 })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Replaces all of them at once.
    fn set(&mut self, certificate: &[u8], key: &[u8], tokens: &str) -> Result<()> {
        self.generations += 1;
        let generation = format!("..{}", self.generations);
        let folder = self.folder.join(&generation);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("tls.crt"), certificate)?;
        std::fs::write(folder.join("tls.key"), key)?;
        std::fs::write(folder.join("tokens"), tokens)?;
        symlink(&generation, self.folder.join("..data_tmp"))?;
        Ok(std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?)
    }
}

fn replaced(node: &mut Node) -> Result<()> {
    let port = free_port()?;
    let mut mounted = Mounted::new(node.path("mounted"))?;
    let authorities =
        [Authority::make(&node.path("first"))?, Authority::make(&node.path("second"))?];
    let issue = |authority: &Authority| -> Result<(Vec<u8>, Vec<u8>)> {
        let (certificate, key) = authority.issue("server", "subjectAltName=IP:127.0.0.1")?;
        Ok((std::fs::read(certificate)?, std::fs::read(key)?))
    };
    let [(first, first_key), (second, second_key)] =
        [issue(&authorities[0])?, issue(&authorities[1])?];
    mounted.set(&first, &first_key, "one,ann\n")?;
    // One file without links, replaced by a rename.
    let clients = node.path("clients.crt");
    std::fs::copy(authorities[0].certificate(), &clients)?;
    node.reconfigure(&format!(
        "http_address = \"127.0.0.1:{port}\"\nhttp_tls_cert = {:?}\nhttp_tls_key = {:?}\n\
         static_tokens = {:?}\nclient_ca = {clients:?}\nreaders = [\"user:ann\"]\n",
        mounted.file("tls.crt"),
        mounted.file("tls.key"),
        mounted.file("tokens"),
    ))?;
    let [one, two] = [&authorities[0], &authorities[1]]
        .map(|authority| authority.certificate().to_string_lossy().into_owned());
    // The code; none of a server that is not the authority's.
    let ask = |authority: &str, token: &str| -> Option<u16> {
        let header = format!("Authorization: Bearer {token}");
        let options = ["--cacert", authority, "--header", &header];
        Http::over_tls(node, port, &options).get("/pods").ok().map(|answer| answer.code)
    };
    eventually("the first certificate and token", || {
        Ok((ask(&one, "one") == Some(200)).then_some(()))
    })?;
    ensure!(ask(&two, "one").is_none() && ask(&one, "two") == Some(401), "the control");

    mounted.set(&second, &second_key, "two,ann\n")?;
    eventually("the second certificate and token", || {
        Ok((ask(&two, "two") == Some(200)).then_some(()))
    })?;
    ensure!(ask(&one, "two").is_none() && ask(&two, "one") == Some(401), "the first ones count");

    // A client of another authority, when that is the one.
    let (own, key) = authorities[1].issue_to("ann", "/CN=ann", "keyUsage=digitalSignature")?;
    let (own, key) = (own.to_string_lossy(), key.to_string_lossy());
    let shows = |node: &Node| {
        let options = ["--cacert", &two, "--cert", &own, "--key", &key];
        Http::over_tls(node, port, &options).get("/pods").ok().map(|answer| answer.code)
    };
    ensure!(shows(node).is_none(), "a stranger's certificate was taken");
    std::fs::copy(authorities[1].certificate(), node.path("clients.new"))?;
    std::fs::rename(node.path("clients.new"), &clients)?;
    eventually("the new authority of clients", || Ok((shows(node) == Some(200)).then_some(())))?;

    // What cannot be used is told, each file by its name, and changes nothing.
    mounted.set(b"rubbish", &second_key, "only-a-token\n")?;
    let files = ["tls.crt", "tokens"].map(|name| mounted.file(name).display().to_string());
    eventually("what is wrong is told", || {
        let log = std::fs::read_to_string(node.log_file())?;
        let told = |file: &String| {
            log.lines().any(|line| line.contains("keeps the old ones") && line.contains(file))
        };
        Ok(files.iter().all(told).then_some(()))
    })?;
    ensure!(ask(&two, "two") == Some(200) && shows(node) == Some(200), "the old ones are gone");
    mounted.set(&first, &first_key, "one,ann\n")?;
    eventually("good ones again", || Ok((ask(&one, "one") == Some(200)).then_some(())))
}

/// A Prometheus; ends with the value.
struct Prometheus {
    port: u16,
    process: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Prometheus {
    /// One that scrapes pages of a node each second.
    fn start(node: &Node, port: u16, pages: &[&str]) -> Result<Self> {
        let program = node.machine.prometheus.clone().context("no Prometheus")?;
        let folder = node.path("prometheus");
        std::fs::create_dir_all(&folder)?;
        let job = |page: &&str| {
            json!({
                "job_name": page, "scheme": "https", "metrics_path": page,
                "authorization": {"credentials": "reader-token"},
                "tls_config": {"ca_file": own_certificate(node)},
                "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
            })
        };
        let jobs: Vec<Value> = pages.iter().map(job).collect();
        // JSON is YAML.
        let config = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs});
        std::fs::write(folder.join("prometheus.yml"), config.to_string())?;
        let own = free_port()?;
        let log = std::fs::File::create(folder.join("log"))?;
        let process = Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{own}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start Prometheus")?;
        Ok(Self { port: own, process })
    }

    /// What it knows by a query: labels and values.
    fn query(&self, query: &str) -> Result<Vec<(Value, String)>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "10", "--get", "--data-urlencode"])
            .arg(format!("query={query}"))
            .arg(url)
            .output()?;
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(answer["status"] == "success", "{answer}");
        let all = answer["data"]["result"].as_array().context("no result")?;
        let one = |of: &Value| {
            let value = of["value"][1].as_str().unwrap_or_default().to_owned();
            (of["metric"].clone(), value)
        };
        Ok(all.iter().map(one).collect())
    }
}

fn prometheus(node: &mut Node) -> Result<()> {
    let (port, _) = listens(node)?;
    node.manifest("web.yaml", &pod("web", json!({"containers": [patient("main")]})))?;
    node.wait_ready("web")?;
    let mut pages = vec!["/metrics", "/metrics/resource", "/metrics/probes"];
    // Another runtime may have no figures of that kind.
    pages.extend((!node.has_other_runtime()).then_some("/metrics/cadvisor"));
    let prometheus = Prometheus::start(node, port, &pages)?;
    poll::within(Duration::from_secs(120), "every page is scraped", || {
        let up = prometheus.query("up")?;
        ensure!(up.len() == pages.len() && up.iter().all(|(_, value)| value == "1"), "{up:?}");
        Ok(Some(()))
    })?;
    let running = prometheus.query("kubelet_running_pods")?;
    ensure!(running.len() == 1 && running[0].1 == "1", "{running:?}");
    for once in [
        "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"}",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"run_podsandbox\",le=\"+Inf\"}",
        "kubelet_pod_start_duration_seconds_count",
    ] {
        let found = prometheus.query(once)?;
        ensure!(found.len() == 1 && found[0].1 == "1", "{once}: {found:?}");
    }
    if !node.has_other_runtime() {
        let query =
            "container_cpu_usage_seconds_total{job=\"/metrics/cadvisor\",container=\"main\"}";
        eventually("the container's figure", || {
            let found = prometheus.query(query)?;
            ensure!(found.len() == 1 && found[0].0["pod"] == "web-node", "{found:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}
