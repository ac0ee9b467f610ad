//! The command line, end to end: a Pod file runs, is looked at, and goes.

use crate::harness::image::BUSYBOX;
use crate::harness::kubelet::kubelet;
use crate::harness::machine::Need;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, eventually, kernel, own, poll, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_pod_file_runs_end_to_end", &[], kubelet, end_to_end),
        own("what_cannot_run_is_taken_back_whole", &[], kubelet, taken_back),
        own("a_run_that_is_interrupted_is_taken_back", &[], kubelet, interrupted),
        shared("logs_are_followed_to_their_end", &[], logs),
        shared("exec_passes_output_input_and_exit_code", &[], exec),
        shared("events_are_told_as_they_happen", &[], events),
        shared("inspect_and_stats_are_documents", &[], documents),
        shared("errors_are_one_line_with_a_hint_and_a_code", &[], errors),
        shared("completions_and_manual_pages_are_written", &[], generated),
    ]
}

/// `hostNetwork` where pods cannot have a network of their own.
fn network(node: &Node) -> &'static str {
    if node.machine.has(Need::PodNetwork) { "" } else { "  hostNetwork: true\n" }
}

/// Writes a Pod file: `spec` is what follows `spec:`, indented by two.
fn pod_file(node: &Node, name: &str, spec: &str) -> Result<PathBuf> {
    let path = node.path(&format!("{name}.yaml"));
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: cli\n  \
         labels: {{app: {name}}}\nspec:\n  restartPolicy: Never\n{}{spec}",
        network(node)
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

/// A pod with one container that runs a shell script, made by CRI.
fn run(node: &Node, name: &str, script: &str) -> Result<()> {
    let cli = |config: &mut proto::PodSandboxConfig| {
        config.metadata.get_or_insert_default().namespace = "cli".to_owned();
    };
    Scene::with(node, name, cli)?.script("main", script, as_is).map(drop)
}

fn json(node: &Node, arguments: &[&str]) -> Result<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    let text = node.berth_ok(&all)?;
    serde_json::from_str(&text).with_context(|| format!("berth {all:?}: {text}"))
}

const PATIENT: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

fn end_to_end(node: &mut Node) -> Result<()> {
    let host = node.volume("given")?;
    std::fs::write(host.join("note"), "from the host\n")?;
    let spec = format!(
        "  terminationGracePeriodSeconds: 50\n  hostAliases: [{{ip: 192.0.2.7, hostnames: [aliased]}}]\n  \
         volumes:\n  - {{name: scratch, emptyDir: {{}}}}\n  - name: host\n    hostPath: {{path: {host:?}}}\n  \
         containers:\n  \
         - name: writer\n    image: {BUSYBOX}\n    imagePullPolicy: Never\n    command: [sh, -c]\n    \
           args: [\"echo $GREETING > /scratch/said; trap 'exit 0' TERM; sleep 100000 & wait\"]\n    \
           env: [{{name: GREETING, value: hello}}]\n    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}\n    \
           volumeMounts: [{{name: scratch, mountPath: /scratch}}]\n  \
         - name: reader\n    image: {BUSYBOX}\n    imagePullPolicy: Never\n    command: [sh, -c]\n    \
           args: [\"until cat /scratch/said; do sleep 0.1; done; cat /host/note; exit 4\"]\n    \
           volumeMounts: [{{name: scratch, mountPath: /scratch, readOnly: true}}, \
                          {{name: host, mountPath: /host, readOnly: true}}]\n"
    );
    let file = pod_file(node, "pair", &spec)?;
    let ran = json(node, &["run", &file.to_string_lossy()])?;
    ensure!(ran["name"] == "pair" && ran["namespace"] == "cli", "{ran}");
    ensure!(ran["containers"].as_array().is_some_and(|all| all.len() == 2), "{ran}");

    let pods = json(node, &["pods", "--label", "app=pair"])?;
    ensure!(pods[0]["state"] == "Ready" && pods[1].is_null(), "{pods}");
    let table = node.berth_ok(&["pods"])?;
    ensure!(table.starts_with("POD ID") && table.contains("pair"), "{table}");
    let reader = eventually("the reader has ended", || {
        let all = json(node, &["ps", "-a", "--pod", "cli/pair"])?;
        let all = all.as_array().context("no list")?;
        ensure!(all.len() == 2, "{all:?}");
        Ok(all.iter().find(|c| c["name"] == "reader" && c["state"] == "Exited").cloned())
    })?;
    ensure!(reader["exitCode"] == 4 && reader["reason"] == "Error", "{reader}");
    let running = json(node, &["ps"])?;
    ensure!(running[0]["name"] == "writer" && running[1].is_null(), "only what runs: {running}");
    let said = node.berth_ok(&["logs", "pair/reader"])?;
    ensure!(said.ends_with("hello\nfrom the host\n"), "{said:?}");
    let hosts = node.berth_ok(&["exec", "pair/writer", "cat", "/etc/hosts"])?;
    ensure!(hosts.lines().any(|l| l.starts_with("192.0.2.7") && l.contains("aliased")), "{hosts}");
    if node.machine.has(Need::Controllers) {
        let shown = node.find("pair")?.context("no status")?;
        let groups = kernel::cgroups_below(&node.kubelet_pod_cgroup(&shown));
        let own = groups.into_iter().find(|group| group.ends_with(shown.id("writer")));
        let group = own.context("no cgroup")?;
        ensure!(kernel::read(group.join("memory.max"))? == (64 << 20).to_string());
        ensure!(kernel::read(group.join("cpu.max"))? == "50000 100000");
    }

    let second = node.berth(&["run", &file.to_string_lossy()])?;
    let errors = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(1) && errors.contains("exists already"), "{errors}");
    for refused in [&["rm", "--force", "pair"][..], &["stop", "pair"]] {
        let output = node.berth(refused)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{refused:?} of a pod that is kept");
        ensure!(errors.contains("`berth delete pod`"), "{errors}");
    }
    node.berth_ok(&["stop", "pair/writer"])?;
    let stopped = json(node, &["ps", "-a", "--pod", "pair"])?;
    let writer = stopped.as_array().and_then(|all| all.iter().find(|c| c["name"] == "writer"));
    ensure!(writer.is_some_and(|c| c["exitCode"] == 0), "it heeds SIGTERM: {stopped}");
    let deleted = node.berth_ok(&["delete", "pod", "pair", "-n", "cli"])?;
    ensure!(deleted == "pod/pair -n cli deleted\n", "{deleted:?}");
    nothing_left(node)?;
    ensure!(host.join("note").exists(), "a hostPath is the host's and stays");
    Ok(())
}

/// Sandboxes, volumes and logs of `berth run` are gone.
fn nothing_left(node: &Node) -> Result<()> {
    ensure!(json(node, &["pods"])? == Value::Array(Vec::new()), "a sandbox is left");
    for folder in ["state/kubelet/pods", "state/kubelet/local", "state/kubelet/status", "pod-logs"]
    {
        let names = kernel::names_in(&node.path(folder));
        ensure!(names.is_empty(), "left in {folder}: {names:?}");
    }
    Ok(())
}

fn taken_back(node: &mut Node) -> Result<()> {
    let container = |name: &str, command: &str| {
        format!(
            "  - {{name: {name}, image: {BUSYBOX}, imagePullPolicy: Never, command: [{command}]}}\n"
        )
    };
    let spec = format!(
        "  terminationGracePeriodSeconds: 2\n  containers:\n{}{}---\napiVersion: v1\nkind: ConfigMap\n\
         metadata: {{name: beside, namespace: cli}}\n",
        container("good", "sleep, '100000'"),
        container("bad", "/no/such/program")
    );
    let rows = [
        ("broken", spec, "/no/such/program"),
        (
            "imageless",
            "  containers:\n  - {name: bad, image: 'berth.test/none:1', imagePullPolicy: Never}\n"
                .to_owned(),
            "ErrImageNeverPull",
        ),
        (
            "large",
            "  containers:\n  - {name: bad, image: i, resources: {requests: {cpu: '5000'}}}\n"
                .to_owned(),
            "OutOfcpu",
        ),
    ];
    for (name, spec, words) in rows {
        let file = pod_file(node, name, &spec)?;
        let output = node.berth(&["run", &file.to_string_lossy()])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{name}: {output:?}");
        ensure!(errors.contains(words) && errors.contains(&format!("pod cli/{name}")), "{errors}");
        ensure!(errors.trim_end().lines().count() == 1, "{name}: {errors}");
        nothing_left(node)?;
    }
    Ok(())
}

/// One that waits for what does not come is taken back by Ctrl-C.
fn interrupted(node: &mut Node) -> Result<()> {
    let spec = format!(
        "  terminationGracePeriodSeconds: 1\n  initContainers:\n  \
         - {{name: slow, image: {BUSYBOX}, imagePullPolicy: Never, command: [sleep, '100000']}}\n  \
         containers:\n  - {{name: main, image: {BUSYBOX}, imagePullPolicy: Never, command: [sleep, '100000']}}\n"
    );
    let file = pod_file(node, "waits", &spec)?;
    let mut running = Running(node.command(&["run", &file.to_string_lossy()])?.spawn()?);
    node.wait_for("waits", "the init container runs", |shown| shown.running("slow"))?;
    ensure!(running.0.try_wait()?.is_none(), "the run did not wait");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(running.0.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let status = running.0.wait()?;
    ensure!(status.code() == Some(130), "{status}");
    nothing_left(node)
}

fn logs(node: &Node) -> Result<()> {
    let script = "for n in 1 2 3 4 5 6; do echo out $n; echo err $n >&2; sleep 0.2; done";
    run(node, "talks", script)?;
    // Ends by itself when the container does.
    let followed = node.command(&["logs", "-f", "talks/main"])?.output()?;
    ensure!(followed.status.success(), "{followed:?}");
    let lines =
        |kind: &str, from: u32| -> String { (from..=6).map(|n| format!("{kind} {n}\n")).collect() };
    ensure!(followed.stdout == lines("out", 1).as_bytes(), "{followed:?}");
    ensure!(followed.stderr == lines("err", 1).as_bytes(), "{followed:?}");
    let tail = node.berth(&["logs", "--tail", "4", "talks/main"])?;
    ensure!(tail.stdout == lines("out", 5).as_bytes(), "{tail:?}");
    ensure!(tail.stderr == lines("err", 5).as_bytes(), "{tail:?}");
    let stamped = node.berth_ok(&["logs", "-t", "--tail", "1", "talks/main"])?
        + &String::from_utf8(node.berth(&["logs", "-t", "--tail", "1", "talks/main"])?.stderr)?;
    ensure!(stamped.split(' ').next().is_some_and(|time| time.len() > 20), "{stamped:?}");
    node.berth_ok(&["rm", "--force", "talks"]).map(drop)
}

fn exec(node: &Node) -> Result<()> {
    run(node, "shell", PATIENT)?;
    for name in ["main", "shell/main", "cli/shell/main"] {
        let output = node.berth(&["exec", name, "sh", "-c", "echo o; echo e >&2; exit 7"])?;
        ensure!(output.status.code() == Some(7), "{name}: {output:?}");
        ensure!(output.stdout == b"o\n" && output.stderr == b"e\n", "{name}: {output:?}");
    }
    let killed = node.berth(&["exec", "main", "sh", "-c", "kill -9 $$"])?;
    ensure!(killed.status.code() == Some(137), "{killed:?}");
    let missing = node.berth(&["exec", "main", "/no/such/program"])?;
    ensure!(missing.status.code() == Some(125), "{missing:?}");
    let mut cat = node
        .command(&["exec", "-i", "main", "sh", "-c", "cat; echo end"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let text = "x".repeat(300_000);
    let mut stdin = cat.stdin.take().context("no stdin")?;
    let writer = {
        let text = text.clone();
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()))
    };
    let output = cat.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(output.status.success(), "{:?}", output.status);
    ensure!(output.stdout == format!("{text}end\n").as_bytes(), "{} bytes", output.stdout.len());
    node.berth_ok(&["rm", "--force", "shell"]).map(drop)
}

/// Ends the command with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn events(node: &Node) -> Result<()> {
    let mut command = node.command(&["events", "-o", "json"])?;
    let mut running = Running(command.stdout(Stdio::piped()).spawn()?);
    let out = BufReader::new(running.0.stdout.take().context("no output")?);
    let (send, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        out.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    // Events are told from the moment of the question on: try until it was asked.
    let mut told: Vec<Value> = Vec::new();
    let mut turn = 0;
    poll::within(3 * poll::DEADLINE, "a pod is told from its beginning to its end", || {
        turn += 1;
        let name = format!("told-{turn}");
        run(node, &name, "exit 0")?;
        node.berth_ok(&["rm", "--force", &name])?;
        let wait = std::time::Duration::from_secs(1);
        while let Ok(line) = received.recv_timeout(wait) {
            told.push(serde_json::from_str(&line).with_context(|| line)?);
        }
        let of = |kind: &str, container: bool| {
            told.iter().any(|event| {
                event["event"] == kind
                    && event["pod"] == format!("cli/{name}")
                    && (event["container"] == "main") == container
            })
        };
        let all = ["created", "started", "stopped", "deleted"].iter().all(|kind| of(kind, true));
        Ok((all && of("created", false) && of("deleted", false)).then_some(()))
    })
    .with_context(|| format!("{told:?}"))
}

fn documents(node: &Node) -> Result<()> {
    run(node, "seen", PATIENT)?;
    let of_pod = json(node, &["inspect", "seen"])?;
    ensure!(of_pod["status"]["state"] == "Ready" || of_pod["kind"] == "Pod", "{of_pod}");
    let of_container = json(node, &["inspect", "seen/main"])?;
    ensure!(of_container["status"]["logPath"].is_string(), "{of_container}");
    let image = json(node, &["inspect", BUSYBOX])?;
    ensure!(image["kind"] == "Image" && image["status"]["tags"][0] == BUSYBOX, "{image}");
    let yaml = node.berth_ok(&["inspect", "-o", "yaml", "seen"])?;
    ensure!(yaml.contains("kind: ") && !yaml.starts_with('{'), "{yaml}");
    let stats = json(node, &["stats"])?;
    ensure!(stats[0]["name"] == "main" && stats[0]["diskBytes"].is_u64(), "{stats}");
    let pods = json(node, &["stats", "--pods"])?;
    ensure!(pods[0]["pod"] == "cli/seen", "{pods}");
    if node.machine.has(Need::Controllers) {
        ensure!(stats[0]["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
        ensure!(pods[0]["processes"].as_u64().is_some_and(|n| n >= 2), "{pods}");
    }
    let images = json(node, &["images"])?;
    let busybox = |image: &Value| image["tags"].to_string().contains(BUSYBOX);
    ensure!(images.as_array().is_some_and(|all| all.iter().any(busybox)), "{images}");
    node.berth_ok(&["rm", "--force", "seen"]).map(drop)
}

fn errors(node: &Node) -> Result<()> {
    let rows: [(&[&str], i32, &str); 7] = [
        (&["logs", "nobody"], 3, "`berth ps -a`"),
        (&["stop", "nobody"], 3, "`berth ps -a`"),
        (&["inspect", "nobody"], 3, "`berth ps -a`"),
        (&["ps", "--pod", "nobody"], 3, "`berth pods`"),
        (&["image", "import", "/no/such.tar"], 1, "/no/such.tar"),
        (&["run", "/no/such.yaml"], 1, "/no/such.yaml"),
        (&["exec", "nobody", "true"], 125, "`berth ps -a`"),
    ];
    for (arguments, code, words) in rows {
        let output = node.berth(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {errors}", output.status);
        ensure!(errors.trim_end().lines().count() == 1, "{arguments:?}: {errors}");
        ensure!(errors.starts_with("berth: ") && errors.contains(words), "{arguments:?}: {errors}");
        ensure!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    let config = node.path("elsewhere.toml");
    std::fs::write(&config, "[server]\nsocket = \"/no/such.sock\"\n")?;
    let output = std::process::Command::new(crate::harness::node::binary()?)
        .arg("--config")
        .arg(&config)
        .arg("pods")
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4), "{}: {errors}", output.status);
    ensure!(errors.contains("/no/such.sock") && errors.contains("`berth serve`"), "{errors}");
    let usage = node.berth(&["pods", "--no-such-option"])?;
    ensure!(usage.status.code() == Some(2), "{usage:?}");
    Ok(())
}

fn generated(node: &Node) -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let text = node.berth_ok(&["completions", shell])?;
        ensure!(text.contains("inspect") && text.contains("events"), "{shell}");
    }
    let folder = node.path("man");
    node.berth_ok(&["man", &folder.to_string_lossy()])?;
    let pages = kernel::names_in(&folder);
    for page in ["berth.1", "berth-run.1", "berth-image-pull.1"] {
        ensure!(pages.iter().any(|name| name == page), "{page} is not in {pages:?}");
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
