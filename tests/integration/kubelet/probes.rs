//! Probes of running containers, and what follows from them.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{host_folder, kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_failed_liveness_probe_restarts_its_container", NETWORK, kubelet, liveness),
        own("the_grace_of_a_probe_goes_before_the_pods", NETWORK, kubelet, grace_of_probe),
        own("readiness_follows_an_http_server", NETWORK, kubelet, readiness),
        own("nothing_is_probed_before_the_container_has_started", NETWORK, kubelet, startup),
        own("a_startup_probe_that_never_passes_kills", NETWORK, kubelet, never_started),
        own("a_port_that_listens_is_ready", NETWORK, kubelet, tcp),
        own("an_exec_probe_that_hangs_leaves_no_process", NETWORK, kubelet, hanging),
    ]
}

/// A shared folder of the host at /shared.
fn sharing(container: Value) -> Value {
    with(container, json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}))
}

fn liveness(node: &mut Node) -> Result<()> {
    let shared = node.volume("shared")?;
    std::fs::write(shared.join("well"), "")?;
    let probe = json!({
        "exec": {"command": ["test", "-e", "/shared/well"]},
        "periodSeconds": 1, "failureThreshold": 2,
    });
    let main = with(sharing(patient("main")), json!({"livenessProbe": probe}));
    let spec = json!({
        "containers": [main, patient("other")], "volumes": [host_folder("shared", &shared)],
    });
    node.manifest("live.yaml", &pod("live", spec))?;
    let before = node.wait_ready("live")?;
    std::fs::remove_file(shared.join("well"))?;
    node.wait_for("live", "the probe's failure is told", |shown| {
        shown.event("Unhealthy").is_some_and(|(_, told)| told.starts_with("liveness probe failed"))
    })?;
    let killed = node.wait_for("live", "its killing is told", |shown| {
        shown.event("Killing").is_some_and(|(_, told)| told.contains("liveness"))
    })?;
    ensure!(killed.event("Unhealthy").is_some_and(|(count, _)| count >= 2), "{killed:?}");
    std::fs::write(shared.join("well"), "")?;
    let after = node.wait_for("live", "it is restarted", |shown| {
        shown.restarts("main") >= 1 && shown.running("main")
    })?;
    ensure!(after.id("main") != before.id("main"), "it is the same");
    ensure!(after.id("other") == before.id("other"), "the other was restarted, too");
    Ok(())
}

fn grace_of_probe(node: &mut Node) -> Result<()> {
    let probe = json!({
        "exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1,
        "initialDelaySeconds": 1, "terminationGracePeriodSeconds": 2,
    });
    let stubborn = sh("main", "trap '' TERM; while :; do sleep 1; done");
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [with(stubborn, json!({"livenessProbe": probe}))],
        "terminationGracePeriodSeconds": 600,
    });
    node.manifest("stubborn.yaml", &pod("stubborn", spec))?;
    let began = Instant::now();
    let shown = node.wait_phase("stubborn", "Failed")?;
    ensure!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    let end = &shown.container("main")["state"]["terminated"];
    ensure!(end["exitCode"] == 137, "{end}");
    Ok(())
}

fn readiness(node: &mut Node) -> Result<()> {
    let shared = node.volume("shared")?;
    let probe = json!({
        "httpGet": {"path": "/ready", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1,
    });
    let script = "trap 'exit 0' TERM; httpd -p 8080 -h /shared; sleep 100000 & wait";
    let main = with(
        sharing(sh("main", script)),
        json!({"readinessProbe": probe, "ports": [{"name": "web", "containerPort": 8080}]}),
    );
    let spec = json!({"containers": [main], "volumes": [host_folder("shared", &shared)]});
    node.manifest("web.yaml", &pod("web", spec))?;
    let unready = node.wait_for("web", "it is not ready, and why is told", |shown| {
        shown.running("main") && shown.event("Unhealthy").is_some()
    })?;
    ensure!(!unready.ready("main") && !unready.condition("Ready"), "{unready:?}");
    // The first answer may come before the server listens.
    node.wait_for("web", "the answer's code is told", |shown| {
        shown.event("Unhealthy").is_some_and(|(_, told)| told.contains("404"))
    })?;
    for _ in 0..2 {
        std::fs::write(shared.join("ready"), "yes")?;
        node.wait_ready("web")?;
        std::fs::remove_file(shared.join("ready"))?;
        node.wait_for("web", "it is unready", |shown| {
            !shown.ready("main") && !shown.condition("Ready") && !shown.condition("ContainersReady")
        })?;
    }
    let shown = node.find("web")?.context("no status")?;
    ensure!(shown.restarts("main") == 0, "readiness restarts nothing");
    Ok(())
}

fn startup(node: &mut Node) -> Result<()> {
    let shared = node.volume("shared")?;
    let noted = |name: &str, result: &str| {
        json!({
            "exec": {"command": ["sh", "-c", format!("echo {name} >>/shared/tries; {result}")]},
            "periodSeconds": 1, "failureThreshold": 100,
        })
    };
    let main = with(
        sharing(patient("main")),
        json!({
            "startupProbe": noted("startup", "test -e /shared/started"),
            "livenessProbe": noted("liveness", "true"),
            "readinessProbe": noted("readiness", "true"),
        }),
    );
    let spec = json!({"containers": [main], "volumes": [host_folder("shared", &shared)]});
    node.manifest("slow.yaml", &pod("slow", spec))?;
    let tries = || kernel::read(shared.join("tries")).unwrap_or_default();
    eventually("three tries", || Ok((tries().lines().count() >= 3).then_some(())))?;
    let early = tries();
    ensure!(early.lines().all(|line| line == "startup"), "tried: {early:?}");
    let shown = node.find("slow")?.context("no status")?;
    ensure!(shown.container("main")["started"] == false && !shown.ready("main"), "{shown:?}");
    std::fs::write(shared.join("started"), "")?;
    let shown = node.wait_ready("slow")?;
    ensure!(shown.container("main")["started"] == true, "{shown:?}");
    eventually("the others begin", || {
        let all = tries();
        Ok((all.contains("liveness") && all.contains("readiness")).then_some(()))
    })?;
    let count = || tries().lines().filter(|line| *line == "startup").count();
    let (startups, all) = (count(), tries().lines().count());
    eventually("further tries", || Ok((tries().lines().count() > all + 3).then_some(())))?;
    ensure!(count() == startups, "it is still asked whether it has started");
    Ok(())
}

fn never_started(node: &mut Node) -> Result<()> {
    let probe = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2});
    let main = with(patient("main"), json!({"startupProbe": probe}));
    node.manifest("never.yaml", &pod("never", json!({"containers": [main]})))?;
    let shown = node.wait_for("never", "it is restarted", |shown| shown.restarts("main") >= 1)?;
    let told = shown.event("Killing").map(|(_, told)| told).unwrap_or_default();
    ensure!(told.contains("startup"), "{told:?}");
    ensure!(!shown.condition("Ready"), "{shown:?}");
    Ok(())
}

fn tcp(node: &mut Node) -> Result<()> {
    let shared = node.volume("shared")?;
    let script = "trap 'exit 0' TERM; until test -e /shared/listen; do sleep 0.1; done; \
        httpd -p 9000 -h /www; sleep 100000 & wait";
    let probe = json!({"tcpSocket": {"port": 9000}, "periodSeconds": 1, "failureThreshold": 1});
    let main = with(sharing(sh("main", script)), json!({"readinessProbe": probe}));
    let spec = json!({"containers": [main], "volumes": [host_folder("shared", &shared)]});
    node.manifest("tcp.yaml", &pod("tcp", spec))?;
    let unready = node.wait_for("tcp", "it is refused", |shown| {
        shown.event("Unhealthy").is_some_and(|(_, told)| told.contains("refused"))
    })?;
    ensure!(!unready.condition("Ready"), "{unready:?}");
    std::fs::write(shared.join("listen"), "")?;
    node.wait_ready("tcp").map(drop)
}

fn hanging(node: &mut Node) -> Result<()> {
    let probe = json!({
        "exec": {"command": ["sh", "-c", "sleep 77777 & sleep 77777"]},
        "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1,
    });
    let main = with(patient("main"), json!({"readinessProbe": probe}));
    node.manifest("hang.yaml", &pod("hang", json!({"containers": [main]})))?;
    let shown = node.wait_for("hang", "three probes were cut", |shown| {
        shown.event("Unhealthy").is_some_and(|(count, _)| count >= 3)
    })?;
    // One may be in flight, never two.
    let most = || {
        let groups = kernel::cgroups_below(&node.kubelet_pod_cgroup(&shown));
        let pids = groups.iter().flat_map(|group| kernel::pids_in(group).unwrap_or_default());
        let hangs = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            kernel::alive(*pid) && words.starts_with(b"sleep\x0077777")
        };
        pids.filter(hangs).count()
    };
    for _ in 0..20 {
        let count = most();
        ensure!(count <= 2, "{count} processes of probes");
        poll::pause(Duration::from_millis(100));
    }
    Ok(())
}
