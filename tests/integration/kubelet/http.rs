//! The HTTP API of the kubelet half: figures, pods, logs, commands, over its socket.

use super::lifecycle::NETWORK;
use crate::harness::http::{Answer, Http, port_of_socket};
use crate::harness::kubelet::{kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, channels, eventually, own, spdy};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("the_http_api_shows_pods_and_figures", NETWORK, kubelet, figures),
        own("the_http_api_gives_logs_as_they_are_asked_for", NETWORK, kubelet, logs),
        own("the_http_api_runs_commands_by_every_protocol", NETWORK, kubelet, commands),
        own("the_http_api_attaches_and_forwards", NETWORK, kubelet, attach_and_forward),
    ]
}

/// A pod that listens, with a probe.
fn web() -> Value {
    let probe = json!({"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1});
    let script = "trap 'exit 0' TERM; httpd -p 80 -h /www; sleep 100000 & wait";
    let main = with(sh("main", script), json!({"readinessProbe": probe}));
    pod("web", json!({"containers": [main, patient("other")]}))
}

fn figures(node: &mut Node) -> Result<()> {
    let http = Http::of(node);
    for path in ["/healthz", "/healthz/ping", "/healthz/syncloop"] {
        ensure!(http.get(path)?.ok()? == "ok", "{path}");
    }
    node.manifest("web.yaml", &web())?;
    let shown = node.wait_ready("web")?;

    let pods = http.get("/pods")?.json()?;
    let one = &pods["items"][0];
    ensure!(pods["kind"] == "PodList" && pods["items"].as_array().map(Vec::len) == Some(1));
    ensure!(one["metadata"]["uid"] == shown.uid() && one["status"]["podIP"] == shown.ip(), "{one}");
    ensure!(one["status"]["phase"] == "Running", "{one}");

    let running = http.get("/runningpods/")?.json()?;
    let containers = running.pointer("/items/0/spec/containers").and_then(Value::as_array);
    let mut names: Vec<&str> =
        containers.into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    names.sort_unstable();
    ensure!(names == ["main", "other"], "{running}");

    let summary = http.get("/stats/summary")?.json()?;
    ensure!(summary["node"]["nodeName"] == "node", "{summary}");
    ensure!(summary["node"]["memory"]["workingSetBytes"].as_u64() > Some(0), "{summary}");
    let of = &summary["pods"][0];
    ensure!(of["podRef"]["uid"] == shown.uid(), "{summary}");
    ensure!(of["containers"].as_array().map(Vec::len) == Some(2), "{of}");

    let config = http.get("/configz")?.json()?;
    let folder = node.path("manifests").to_string_lossy().into_owned();
    ensure!(config["kubeletconfig"]["staticPodPath"] == folder, "{config}");
    metrics(node, &http)?;

    for (method, path, code) in [
        ("GET", "/nothing", 404),
        ("POST", "/pods", 405),
        ("GET", "/run/default/web-node/main?cmd=true", 405),
        ("GET", "/containerLogs/default/none/main", 404),
        ("GET", "/containerLogs/default/web-node/none", 404),
        ("GET", "/containerLogs/default/web-node/main?tailLines=x", 400),
        ("GET", "/exec/default/web-node/main?command=true&output=1", 400),
    ] {
        let answer = http.ask(method, path)?;
        ensure!(answer.code == code && !answer.text.is_empty(), "{method} {path}: {answer:?}");
    }
    Ok(())
}

/// Every page of figures is what Prometheus reads, and says what there is.
fn metrics(node: &Node, http: &Http) -> Result<()> {
    let page = |path: &str| -> Result<String> {
        let answer = http.get(path)?;
        ensure!(answer.kind == "text/plain; version=0.0.4; charset=utf-8", "{path}: {answer:?}");
        answer.ok()
    };
    let own = page("/metrics")?;
    for line in ["kubelet_running_pods 1", "kubelet_runtime_up 1"] {
        ensure!(own.lines().any(|l| l == line), "no {line:?} in {own}");
    }
    let resource = page("/metrics/resource")?;
    ensure!(resource.contains("node_memory_working_set_bytes "), "{resource}");
    eventually("a probe is counted", || {
        let probes = page("/metrics/probes")?;
        let counted = probes.lines().any(|line| {
            line.starts_with("prober_probe_total{")
                && line.contains("container=\"main\"")
                && line.contains("result=\"successful\"")
        });
        ensure!(counted, "{probes}");
        Ok(Some(()))
    })?;
    if node.has_other_runtime() {
        let answer = http.get("/metrics/cadvisor")?;
        ensure!(answer.code == 501 && answer.text.contains("metric"), "{answer:?}");
        return Ok(());
    }
    let cadvisor = page("/metrics/cadvisor")?;
    ensure!(
        cadvisor.contains("container=\"main\"") && cadvisor.contains("container_"),
        "{cadvisor}"
    );
    Ok(())
}

fn logs(node: &mut Node) -> Result<()> {
    let shared = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let lines = sh(
        "lines",
        "for n in 1 2 3; do echo line $n; sleep 0.2; done; \
        until test -e /shared/more; do sleep 0.1; done; echo last; sleep 100000",
    );
    let runs = "echo x >>/shared/runs; n=$(wc -l </shared/runs); echo run $n; test $n = 2 || exit 1; sleep 100000";
    let spec = json!({
        "containers": [with(lines, shared.clone()), with(sh("twice", runs), shared)],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    node.manifest("logs.yaml", &pod("logs", spec))?;
    node.wait_for("logs", "both run", |shown| {
        shown.running("lines") && shown.running("twice") && shown.restarts("twice") == 1
    })?;
    let http = Http::of(node);
    let log = |container: &str, query: &str| -> Result<Answer> {
        http.get(&format!("/containerLogs/default/logs-node/{container}{query}"))
    };
    eventually("all lines", || {
        Ok((log("lines", "")?.ok()? == "line 1\nline 2\nline 3\n").then_some(()))
    })?;
    ensure!(log("lines", "?tailLines=2")?.ok()? == "line 2\nline 3\n");
    ensure!(log("lines", "?limitBytes=9")?.ok()? == "line 1\nli");
    let timed = log("lines", "?timestamps=true")?.ok()?;
    let second = timed.lines().nth(1).and_then(|line| line.split_once(' ')).context("no time")?;
    ensure!(second.1 == "line 2", "{timed}");
    let since = format!("?sinceTime={}", second.0.replace('+', "%2B"));
    ensure!(log("lines", &since)?.ok()? == "line 2\nline 3\n", "since {}", second.0);
    ensure!(log("lines", "?sinceSeconds=3600&tailLines=1")?.ok()? == "line 3\n");
    eventually("both runs", || {
        let (now, before) = (log("twice", "")?.ok()?, log("twice", "?previous=true")?.ok()?);
        ensure!(now == "run 2\n" && before == "run 1\n", "{before:?}, {now:?}");
        Ok(Some(()))
    })?;
    let none = log("lines", "?previous=true")?;
    ensure!(none.code == 400 && none.text.contains("no instance"), "{none:?}");

    // One that is followed brings what is written later.
    let path = "/containerLogs/default/logs-node/lines?follow=true&tailLines=1";
    let mut reader = http.command("GET", path).stdout(Stdio::piped()).spawn()?;
    let mut found = BufReader::new(reader.stdout.take().context("no output")?).lines();
    ensure!(found.next().context("no line")?? == "line 3");
    let shown = node.find("logs")?.context("no status")?;
    node.exec_ok(&shown.id("lines"), &["touch", "/shared/more"])?;
    ensure!(found.next().context("no line")?? == "last");
    reader.kill()?;
    reader.wait()?;
    Ok(())
}

fn commands(node: &mut Node) -> Result<()> {
    node.manifest("web.yaml", &web())?;
    node.wait_ready("web")?;
    let http = Http::of(node);
    let ran = http.ask("POST", "/run/default/web-node/main?cmd=echo%20some%20words")?;
    ensure!(ran.ok()? == "some words\n");
    let failed = http.ask("POST", "/run/default/web-node/main?cmd=cat%20/none")?;
    ensure!(failed.code == 500 && failed.text.contains("/none"), "{failed:?}");

    let port = port_of_socket(node)?;
    // Not every version has an end of stdin.
    let script = "head%20-c%2012;%20echo%20errors%20%3E%262;%20exit%207";
    let query = format!("command=sh&command=-c&command={script}&input=1&output=1&error=1");
    let url = format!("http://127.0.0.1:{port}/exec/default/web-node/main?{query}");

    let mut client = channels::Client::connect(node, &url, "v4.channel.k8s.io")?;
    client.send(channels::STDIN, b"by websocket")?;
    ensure!(client.code()? == 7);
    ensure!(client.text(channels::STDOUT) == "by websocket");
    ensure!(client.text(channels::STDERR) == "errors\n");

    let (client, _) = spdy::Client::connect(&url, &["v4.channel.k8s.io"])?;
    let ids = client.open_all(&["error", "stdin", "stdout", "stderr"])?;
    client.write(ids["stdin"], b"by SPDY/3.1!")?;
    client.fin(ids["stdin"])?;
    // Some servers end all streams at once when all is said.
    client.read_until(ids["stdout"], |bytes| bytes == b"by SPDY/3.1!")?;
    client.read_until(ids["stderr"], |bytes| bytes == b"errors\n")?;
    let told = client.read_until(ids["error"], |bytes| bytes.ends_with(b"}"))?;
    ensure!(channels::code(&String::from_utf8(told)?)? == 7);

    // The uid may be told, and another one is another pod's.
    let uid = node.find("web")?.context("no status")?.uid().to_owned();
    let of = |uid: &str| format!("/run/default/web-node/{uid}/main?cmd=true");
    ensure!(http.ask("POST", &of(&uid))?.code == 200);
    ensure!(http.ask("POST", &of("other"))?.code == 404);
    Ok(())
}

fn attach_and_forward(node: &mut Node) -> Result<()> {
    let script = "while read line; do echo \"out $line\"; done";
    let reads = with(sh("reads", script), json!({"stdin": true}));
    let echo = sh("echo", "trap 'exit 0' TERM; nc -ll -p 7011 -e cat & wait");
    let spec = json!({"containers": [reads, echo]});
    node.manifest("talk.yaml", &pod("talk", spec))?;
    node.wait_ready("talk")?;
    let port = port_of_socket(node)?;
    let base = format!("http://127.0.0.1:{port}");

    let url = format!("{base}/attach/default/talk-node/reads?input=1&output=1");
    let mut client = channels::Client::connect(node, &url, "v4.channel.k8s.io")?;
    client.send(channels::STDIN, b"hello\n")?;
    client.until(channels::STDOUT, "out hello\n")?;
    drop(client);

    let url = format!("{base}/portForward/default/talk-node");
    let (client, _) = spdy::Client::connect(&url, &["portforward.k8s.io"])?;
    eventually("the port answers", || {
        let (_, data) = client.forward(7011, 1)?;
        client.write(data, b"through spdy")?;
        client.read_until(data, |bytes| bytes == b"through spdy").map(|_| Some(()))
    })?;
    let (error, _) = client.forward(7012, 2)?;
    let told = String::from_utf8(client.read_to_end(error)?)?;
    ensure!(told.contains("7012"), "{told}");

    let url = format!("{base}/portForward/default/talk-node?port=7011");
    let mut client = channels::Client::connect(node, &url, "v4.channel.k8s.io")?;
    client.send(0, b"through websocket")?;
    // Each channel begins with its port.
    eventually("the echo", || {
        ensure!(client.next()?, "it was cut off");
        Ok(client.got(0).ends_with(b"through websocket").then_some(()))
    })
}
