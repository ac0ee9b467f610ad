//! From a manifest to a pod and back.

use crate::harness::image::PAGE;
use crate::harness::kubelet::{host_folder, kubelet, patient, pod, sh, with};
use crate::harness::machine::Need;
use crate::harness::{Node, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_manifest_becomes_a_pod_and_leaves_nothing", NETWORK, kubelet, from_file),
        own("an_edited_manifest_ends_the_old_pod_first", NETWORK, kubelet, edited),
        own("a_touched_manifest_changes_nothing", NETWORK, kubelet, touched),
        own("init_containers_run_in_order_before_the_others", NETWORK, kubelet, init_order),
        own("a_failed_init_container_fails_the_pod", NETWORK, kubelet, init_fails),
        own("sidecars_start_before_and_end_after_the_others", NETWORK, kubelet, sidecars),
        own("a_pod_that_is_done_has_succeeded", NETWORK, kubelet, succeeded),
        own("one_failure_fails_a_pod_that_never_restarts", NETWORK, kubelet, failed),
        own("a_failure_is_restarted_until_it_succeeds", NETWORK, kubelet, on_failure),
        own("a_crash_loop_tells_how_and_how_long", NETWORK, kubelet, crash_loop),
        own("the_last_lines_of_a_log_are_the_last_words", NETWORK, kubelet, last_words),
        own("a_deadline_ends_a_pod", NETWORK, kubelet, deadline),
        own("a_pod_that_ends_while_it_starts_leaves_nothing", NETWORK, kubelet, cut_short),
    ]
}

/// What every pod needs that is not in the host's network.
pub(super) const NETWORK: &[Need] = &[Need::PodNetwork];

/// The answer to a GET of `/`'s index from here.
pub(super) fn get(ip: &str, port: u16) -> Result<String> {
    let address: SocketAddr = format!("{ip}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn from_file(node: &mut Node) -> Result<()> {
    let web =
        sh("main", "trap 'exit 0' TERM; echo begun; httpd -p 80 -h /www; sleep 100000 & wait");
    node.manifest("web.yaml", &pod("web", json!({"containers": [web]})))?;
    let shown = node.wait_ready("web")?;
    let page = eventually("the pod's page", || Ok(Some(get(shown.ip(), 80)?)))?;
    ensure!(page.ends_with(PAGE), "the page is {page:?}");

    let group = node.kubelet_pod_cgroup(&shown);
    ensure!(group.parent() == Some(&node.kubelet_cgroup().join("besteffort")), "{group:?}");
    let first = node.first_pid(&shown, "main")?;
    let own = node.cgroup_in_pod(first)?;
    ensure!(own.contains(&format!("/kubepods/besteffort/pod{}/", shown.uid())), "in {own}");
    ensure!(node.log_text(&shown, "main", 0) == "begun\n", "the log has another text");

    let id = shown.id("main");
    let link = format!("web-node_default_main-{id}.log");
    let links = kernel::names_in(&node.path("container-logs"));
    ensure!(links == [link.clone()], "links: {links:?}");
    let through = std::fs::read_to_string(node.path("container-logs").join(link))?;
    ensure!(through.contains("begun"), "the link leads to {through:?}");

    node.remove_manifest("web.yaml")?;
    node.wait_gone("web")?;
    ensure!(!kernel::alive(first), "its process is left");
    eventually("the pod's cgroup goes", || Ok((!group.exists()).then_some(())))?;
    let left: Vec<String> = ["state/kubelet/pods", "pod-logs", "container-logs"]
        .iter()
        .flat_map(|folder| kernel::names_in(&node.path(folder)))
        .collect();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn edited(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let of = |version: &str| {
        let script = format!(
            "trap 'sleep 1; echo end-{version} >>/notes/all; exit 0' TERM; \
             echo begin-{version} >>/notes/all; sleep 100000 & wait"
        );
        let main = with(
            sh("main", &script),
            json!({"volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}),
        );
        let spec = json!({
            "containers": [main], "volumes": [host_folder("notes", &notes)],
            "terminationGracePeriodSeconds": 20,
        });
        pod("edited", spec)
    };
    node.manifest("edited.yaml", &of("one"))?;
    let first = node.wait_ready("edited")?;
    eventually("the first notes", || Ok(notes.join("all").exists().then_some(())))?;
    node.manifest("edited.yaml", &of("two"))?;
    let second = node.wait_for("edited", "the new pod is ready", |shown| {
        shown.uid() != first.uid() && shown.condition("Ready")
    })?;
    eventually("the notes of both", || {
        let all = kernel::read(notes.join("all"))?;
        ensure!(all == "begin-one\nend-one\nbegin-two", "{all:?}");
        Ok(Some(()))
    })?;
    ensure!(second.restarts("main") == 0, "a new pod begins anew");
    Ok(())
}

fn touched(node: &mut Node) -> Result<()> {
    let same = pod("same", json!({"containers": [patient("main")]}));
    node.manifest("same.yaml", &same)?;
    let before = node.wait_ready("same")?;
    // The same pod in other words, and another beside it that tells when the folder was read.
    node.manifest_text("same.yaml", &serde_json::to_string_pretty(&same)?)?;
    node.manifest("other.yaml", &pod("other", json!({"containers": [patient("main")]})))?;
    node.wait_ready("other")?;
    let after = node.find("same")?.context("no status")?;
    ensure!((after.uid(), after.id("main")) == (before.uid(), before.id("main")), "it is another");
    Ok(())
}

fn init_order(node: &mut Node) -> Result<()> {
    let step = |name: &str| {
        let script = format!("sleep 0.3; echo {name} >>/shared/all");
        with(
            sh(name, &script),
            json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}),
        )
    };
    let app = with(
        sh("app", "cat /shared/all; echo app; trap 'exit 0' TERM; sleep 100000 & wait"),
        json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}),
    );
    let spec = json!({
        "initContainers": [step("one"), step("two"), step("three")],
        "containers": [app],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    node.manifest("ordered.yaml", &pod("ordered", spec))?;
    let shown = node.wait_ready("ordered")?;
    eventually("the app's log", || {
        let text = node.log_text(&shown, "app", 0);
        ensure!(text == "one\ntwo\nthree\napp\n", "{text:?}");
        Ok(Some(()))
    })?;
    let done = &shown.container("three")["state"]["terminated"];
    ensure!(done["reason"] == "Completed" && done["exitCode"] == 0, "{done}");
    ensure!(shown.condition("Initialized"), "{:?}", shown.0["pod"]["status"]["conditions"]);
    Ok(())
}

fn init_fails(node: &mut Node) -> Result<()> {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [sh("bad", "exit 4")],
        "containers": [patient("app")],
    });
    node.manifest("bad.yaml", &pod("bad", spec))?;
    let shown = node.wait_phase("bad", "Failed")?;
    ensure!(shown.container("bad")["state"]["terminated"]["exitCode"] == 4, "{shown:?}");
    ensure!(shown.id("app").is_empty(), "the app was made: {shown:?}");
    Ok(())
}

fn sidecars(node: &mut Node) -> Result<()> {
    let notes = node.volume("notes")?;
    let mounts = json!([{"name": "notes", "mountPath": "/notes"}]);
    let noted = |name: &str, before: &str| {
        let script = format!(
            "trap 'echo end-{name} >>/notes/all; exit 0' TERM; {before} \
             echo begin-{name} >>/notes/all; sleep 100000 & wait"
        );
        with(sh(name, &script), json!({"volumeMounts": mounts}))
    };
    let gate = json!({
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1,
            "failureThreshold": 60},
    });
    let one = with(noted("one", "sleep 1; touch /tmp/started;"), gate.clone());
    let two = with(noted("two", "touch /tmp/started;"), gate);
    let spec = json!({
        "initContainers": [one, two],
        "containers": [noted("app", "")],
        "volumes": [host_folder("notes", &notes)],
        "terminationGracePeriodSeconds": 20,
    });
    node.manifest("cars.yaml", &pod("cars", spec))?;
    let shown = node.wait_ready("cars")?;
    ensure!(shown.running("one") && shown.running("two"), "{shown:?}");
    eventually("all have begun", || {
        let all = kernel::read(notes.join("all"))?;
        ensure!(all == "begin-one\nbegin-two\nbegin-app", "{all:?}");
        Ok(Some(()))
    })?;
    node.remove_manifest("cars.yaml")?;
    node.wait_gone("cars")?;
    let all = kernel::read(notes.join("all"))?;
    ensure!(all.ends_with("begin-app\nend-app\nend-two\nend-one"), "the end was {all:?}");
    Ok(())
}

fn succeeded(node: &mut Node) -> Result<()> {
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [sh("a", "echo result; exit 0"), sh("b", "sleep 0.5")],
    });
    node.manifest("job.yaml", &pod("job", spec))?;
    let shown = node.wait_phase("job", "Succeeded")?;
    ensure!(shown.restarts("a") == 0 && shown.restarts("b") == 0, "{shown:?}");
    ensure!(shown.container("a")["state"]["terminated"]["reason"] == "Completed", "{shown:?}");
    // What it wrote is there until the manifest goes, its sandbox is not.
    ensure!(node.log_text(&shown, "a", 0) == "result\n", "its log is gone");
    let group = node.kubelet_pod_cgroup(&shown);
    eventually("the pod's cgroup goes", || Ok((!group.exists()).then_some(())))
}

fn failed(node: &mut Node) -> Result<()> {
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [sh("good", "exit 0"), sh("bad", "exit 3")],
    });
    node.manifest("job.yaml", &pod("job", spec))?;
    let shown = node.wait_phase("job", "Failed")?;
    let bad = &shown.container("bad")["state"]["terminated"];
    ensure!(bad["exitCode"] == 3 && bad["reason"] == "Error", "{bad}");
    ensure!(shown.restarts("bad") == 0, "it was restarted");
    Ok(())
}

fn on_failure(node: &mut Node) -> Result<()> {
    let script = "echo try; test -e /shared/second && exit 0; touch /shared/second; exit 1";
    let main = with(
        sh("main", script),
        json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}),
    );
    let spec = json!({
        "restartPolicy": "OnFailure",
        "containers": [main],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    node.manifest("job.yaml", &pod("job", spec))?;
    let shown = node.wait_phase("job", "Succeeded")?;
    ensure!(shown.restarts("main") == 1, "{shown:?}");
    ensure!(node.log_text(&shown, "main", 1) == "try\n", "the second log is another");
    Ok(())
}

fn crash_loop(node: &mut Node) -> Result<()> {
    let main = sh("main", "echo from-the-file >/dev/termination-log; exit 7");
    node.manifest("crash.yaml", &pod("crash", json!({"containers": [main]})))?;
    // The first restart is at once, the next ten seconds later.
    let shown = node.wait_for("crash", "it backs off after a restart", |shown| {
        shown.restarts("main") == 1 && shown.waiting("main") == "CrashLoopBackOff"
    })?;
    let status = shown.container("main");
    let last = &status["lastState"]["terminated"];
    ensure!(last["exitCode"] == 7 && last["reason"] == "Error", "{last}");
    ensure!(last["message"] == "from-the-file\n", "{last}");
    let message = status["state"]["waiting"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("10s"), "the message is {message:?}");
    ensure!(shown.phase() == "Running", "{}", shown.phase());
    ensure!(!shown.condition("Ready"), "ready while it waits");
    let (count, told) = shown.event("BackOff").context("no event of the back-off")?;
    ensure!(count >= 1 && told.contains("main"), "{told}");
    node.wait_for("crash", "it is restarted after the back-off", |shown| {
        shown.restarts("main") == 2
    })?;
    Ok(())
}

fn last_words(node: &mut Node) -> Result<()> {
    let policy = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [
            with(sh("bad", "echo one; echo two; exit 1"), policy.clone()),
            with(sh("good", "echo one; exit 0"), policy.clone()),
            with(sh("file", "echo one; echo two >/dev/termination-log; exit 1"), policy),
        ],
    });
    node.manifest("words.yaml", &pod("words", spec))?;
    let shown = node.wait_phase("words", "Failed")?;
    let words = |name| &shown.container(name)["state"]["terminated"]["message"];
    ensure!(words("bad") == "one\ntwo\n", "{}", words("bad"));
    ensure!(words("good").is_null(), "{}", words("good"));
    ensure!(words("file") == "two\n", "{}", words("file"));
    Ok(())
}

fn deadline(node: &mut Node) -> Result<()> {
    let spec = json!({"activeDeadlineSeconds": 2, "containers": [patient("main")]});
    node.manifest("late.yaml", &pod("late", spec))?;
    let running = node.wait_for("late", "it runs", |shown| shown.running("main"))?;
    let first = node.first_pid(&running, "main")?;
    let shown = node.wait_phase("late", "Failed")?;
    ensure!(shown.text("/pod/status/reason") == "DeadlineExceeded", "{shown:?}");
    eventually("its process ends", || Ok((!kernel::alive(first)).then_some(())))
}

/// Each time a little later: what is begun must be ended, too, whoever waits for it.
fn cut_short(node: &mut Node) -> Result<()> {
    let of = pod("short", json!({"containers": [patient("main")]}));
    for step in 0..15 {
        node.manifest("short.yaml", &of)?;
        let began = node.path("pod-logs");
        eventually("the pod begins", || Ok((!kernel::names_in(&began).is_empty()).then_some(())))?;
        poll::pause(Duration::from_millis(step * 10));
        node.end_pods().with_context(|| format!("removed {step} × 10 ms after its beginning"))?;
        let left = kernel::cgroups_below(&node.kubelet_cgroup().join("besteffort"));
        ensure!(left.is_empty(), "{step} × 10 ms after its beginning: {left:?}");
    }
    Ok(())
}
