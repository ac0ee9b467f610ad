//! ConfigMaps and Secrets as environment and files, and the downward API.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{config_map, kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, eventually, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("objects_become_environment", NETWORK, kubelet, environment),
        own("objects_become_files_with_their_modes", NETWORK, kubelet, files),
        own("an_updated_object_reaches_a_running_container", NETWORK, kubelet, updated),
        own("two_keys_change_together", NETWORK, kubelet, together),
        own("a_missing_object_is_named_and_waited_for", NETWORK, kubelet, missing),
        own("a_missing_volume_object_is_named_and_waited_for", NETWORK, kubelet, missing_volume),
        own("what_is_optional_may_be_missing", NETWORK, kubelet, optional),
        own("a_pod_knows_itself", NETWORK, kubelet, downward),
        own("a_projected_volume_has_all_its_sources", NETWORK, kubelet, projected),
        own("a_group_owns_a_pods_files", NETWORK, kubelet, fs_group),
    ]
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

/// A container with the volume `files` at /files.
fn filed(container: Value) -> Value {
    with(container, json!({"volumeMounts": [{"name": "files", "mountPath": "/files"}]}))
}

fn environment(node: &mut Node) -> Result<()> {
    node.manifest("map.yaml", &config_map("map", json!({"ONE": "1", "TWO": "2"})))?;
    node.manifest("secret.yaml", &secret("secret", json!({"password": "hush", "TWO": "two"})))?;
    let main = with(
        sh("main", "env; echo end; trap 'exit 0' TERM; sleep 100000 & wait"),
        json!({
            "envFrom": [
                {"configMapRef": {"name": "map"}},
                {"prefix": "S_", "secretRef": {"name": "secret"}},
            ],
            "env": [
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
                {"name": "ALL", "value": "$(ONE)-$(PASSWORD)-$$(ONE)-$(NONE)"},
                {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "TWO"}}},
            ],
        }),
    );
    node.manifest("env.yaml", &pod("env", json!({"containers": [main]})))?;
    let shown = node.wait_ready("env")?;
    let text = eventually("its environment", || {
        let text = node.log_text(&shown, "main", 0);
        Ok(text.ends_with("end\n").then_some(text))
    })?;
    let has = |line: &str| text.lines().any(|found| found == line);
    for line in ["TWO=2", "S_TWO=two", "S_password=hush", "PASSWORD=hush", "ONE=2"] {
        ensure!(has(line), "no {line} in {text}");
    }
    ensure!(has("ALL=1-hush-$(ONE)-$(NONE)"), "another expansion in {text}");
    Ok(())
}

fn files(node: &mut Node) -> Result<()> {
    node.manifest("map.yaml", &config_map("map", json!({"a": "text of a", "b": "text of b"})))?;
    node.manifest("secret.yaml", &secret("secret", json!({"key": "hush"})))?;
    let main = with(
        patient("main"),
        json!({"volumeMounts": [
            {"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"},
            {"name": "some", "mountPath": "/some"},
            {"name": "map", "mountPath": "/single/file", "subPath": "b"},
        ]}),
    );
    let some = json!([{"key": "b", "path": "deep/b", "mode": 256}]);
    let spec = json!({
        "containers": [main],
        "volumes": [
            {"name": "map", "configMap": {"name": "map"}},
            {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 384}},
            {"name": "some", "configMap": {"name": "map", "items": some}},
        ],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    let id = node.wait_ready("files")?.id("main");
    let sees = |command: &[&str]| node.exec_ok(&id, command);
    ensure!(sees(&["cat", "/map/a", "/map/b"])? == "text of atext of b");
    ensure!(sees(&["ls", "/some"])? == "deep" && sees(&["cat", "/some/deep/b"])? == "text of b");
    ensure!(sees(&["cat", "/single/file"])? == "text of b");
    for (path, mode) in [("/map/a", "644"), ("/secret/key", "600"), ("/some/deep/b", "400")] {
        let found = sees(&["stat", "-L", "-c", "%a", path])?;
        ensure!(found == mode, "{path} has the mode {found}");
    }
    let kind = sees(&["stat", "-f", "-c", "%T", "/secret"])?;
    ensure!(kind == "tmpfs", "a secret is on {kind}");
    let (_, _, code) = node.exec(&id, &["sh", "-c", "echo x >/map/a"], 0)?;
    ensure!(code != 0, "a container can write to its ConfigMap");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "how long it took belongs into the test's output")]
fn updated(node: &mut Node) -> Result<()> {
    node.manifest("map.yaml", &config_map("map", json!({"key": "before", "old": ""})))?;
    let spec = json!({
        "containers": [filed(patient("main"))],
        "volumes": [{"name": "files", "configMap": {"name": "map"}}],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    let shown = node.wait_ready("files")?;
    // As the container sees it, without the time of an exec.
    let first = node.first_pid(&shown, "main")?;
    let folder = format!("/proc/{first}/root/files");
    let file = format!("{folder}/key");
    ensure!(std::fs::read_to_string(&file)? == "before");
    let began = Instant::now();
    node.manifest("map.yaml", &config_map("map", json!({"key": "after", "new": ""})))?;
    eventually("the new text", || Ok((std::fs::read_to_string(&file)? == "after").then_some(())))?;
    println!("a changed ConfigMap was in the container after {:?}", began.elapsed());
    ensure!(std::path::Path::new(&format!("{folder}/new")).exists(), "the new key is missing");
    ensure!(!std::path::Path::new(&format!("{folder}/old")).exists(), "the old key is left");
    let after = node.find("files")?.context("no status")?;
    ensure!(after.restarts("main") == 0 && after.id("main") == shown.id("main"), "{after:?}");
    Ok(())
}

fn together(node: &mut Node) -> Result<()> {
    let both = |value: u32| {
        let text = format!("{value:0>4000}");
        config_map("map", json!({"a": text, "b": text}))
    };
    node.manifest("map.yaml", &both(0))?;
    // One look is one folder: that is what the link is for.
    let script = "cd /files; while :; do d=$(readlink ..data) && a=$(cat $d/a) && b=$(cat $d/b) && \
        { test \"$a\" = \"$b\" && echo same || echo mixture; }; done 2>/dev/null";
    let spec = json!({
        "containers": [filed(sh("main", script))],
        "volumes": [{"name": "files", "configMap": {"name": "map"}}],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    let shown = node.wait_ready("files")?;
    let first = node.first_pid(&shown, "main")?;
    let file = format!("/proc/{first}/root/files/a");
    for value in 1..=10 {
        node.manifest("map.yaml", &both(value))?;
        let wanted = format!("{value:0>4000}");
        eventually("the new text", || {
            Ok(std::fs::read_to_string(&file).is_ok_and(|text| text == wanted).then_some(()))
        })?;
    }
    let text = node.log_text(&shown, "main", 0);
    ensure!(text.contains("same"), "nothing was read");
    ensure!(!text.contains("mixture"), "a mixture was read");
    Ok(())
}

fn waits(node: &Node, name: &str, object: &str) -> Result<()> {
    let shown = node.wait_for(name, "the object is named", |shown| {
        let waiting = &shown.container("main")["state"]["waiting"];
        waiting["message"].as_str().is_some_and(|message| message.contains(object))
    })?;
    ensure!(shown.phase() == "Pending", "{}", shown.phase());
    Ok(())
}

fn missing(node: &mut Node) -> Result<()> {
    let reference = json!({"configMapKeyRef": {"name": "later", "key": "key"}});
    let main = with(
        sh("main", "echo $VALUE; trap 'exit 0' TERM; sleep 100000 & wait"),
        json!({"env": [{"name": "VALUE", "valueFrom": reference}]}),
    );
    node.manifest("env.yaml", &pod("env", json!({"containers": [main]})))?;
    waits(node, "env", "later")?;
    let shown = node.find("env")?.context("no status")?;
    ensure!(shown.waiting("main") == "CreateContainerConfigError", "{shown:?}");
    // A key that is missing is named, too.
    node.manifest("later.yaml", &config_map("later", json!({"other": "x"})))?;
    waits(node, "env", "key")?;
    node.manifest("later.yaml", &config_map("later", json!({"key": "value"})))?;
    let shown = node.wait_ready("env")?;
    eventually("its value", || Ok((node.log_text(&shown, "main", 0) == "value\n").then_some(())))
}

fn missing_volume(node: &mut Node) -> Result<()> {
    let spec = json!({
        "containers": [filed(patient("main"))],
        "volumes": [{"name": "files", "secret": {"secretName": "later"}}],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    waits(node, "files", "later")?;
    let shown = node.find("files")?.context("no status")?;
    ensure!(shown.event("FailedMount").is_some(), "{shown:?}");
    node.manifest("later.yaml", &secret("later", json!({"key": "hush"})))?;
    let shown = node.wait_ready("files")?;
    ensure!(node.exec_ok(&shown.id("main"), &["cat", "/files/key"])? == "hush");
    Ok(())
}

fn optional(node: &mut Node) -> Result<()> {
    let reference = json!({"secretKeyRef": {"name": "none", "key": "key", "optional": true}});
    let main = with(
        filed(patient("main")),
        json!({
            "env": [{"name": "VALUE", "valueFrom": reference}],
            "envFrom": [{"configMapRef": {"name": "none", "optional": true}}],
        }),
    );
    let spec = json!({
        "containers": [main],
        "volumes": [{"name": "files", "configMap": {"name": "none", "optional": true}}],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    let id = node.wait_ready("files")?.id("main");
    ensure!(node.exec_ok(&id, &["ls", "/files"])?.is_empty());
    ensure!(!node.exec_ok(&id, &["env"])?.contains("VALUE"));
    // What comes later is seen, all the same.
    node.manifest("none.yaml", &config_map("none", json!({"key": "text"})))?;
    eventually("the file", || {
        let (text, _, _) = node.exec(&id, &["cat", "/files/key"], 0)?;
        Ok((text == "text").then_some(()))
    })
}

fn downward(node: &mut Node) -> Result<()> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resource = |name: &str, resource: &str, divisor: &str| {
        let of = json!({"resource": resource, "divisor": divisor});
        json!({"name": name, "valueFrom": {"resourceFieldRef": of}})
    };
    let main = with(
        filed(sh("main", "env; echo end; trap 'exit 0' TERM; sleep 100000 & wait")),
        json!({
            "env": [
                field("NAME", "metadata.name"), field("SPACE", "metadata.namespace"),
                field("POD_UID", "metadata.uid"), field("LABEL", "metadata.labels['app']"),
                field("NODE", "spec.nodeName"), field("IP", "status.podIP"),
                resource("CPU", "requests.cpu", "1m"), resource("MEMORY", "limits.memory", "1Ki"),
            ],
            "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}},
        }),
    );
    let items = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}},
    ]);
    let spec = json!({
        "containers": [main],
        "volumes": [{"name": "files", "downwardAPI": {"items": items}}],
    });
    let mut manifest = pod("self", spec);
    manifest["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
    node.manifest("self.yaml", &manifest)?;
    let shown = node.wait_ready("self")?;
    let text = eventually("its environment", || {
        let text = node.log_text(&shown, "main", 0);
        Ok(text.ends_with("end\n").then_some(text))
    })?;
    let (uid, ip) = (format!("POD_UID={}", shown.uid()), format!("IP={}", shown.ip()));
    let rows = [
        "NAME=self-node",
        "SPACE=default",
        "LABEL=web",
        "NODE=node",
        "CPU=250",
        "MEMORY=65536",
        &uid,
        &ip,
    ];
    for row in rows {
        ensure!(text.lines().any(|line| line == row), "no {row} in {text}");
    }
    let files = node.exec_ok(&shown.id("main"), &["cat", "/files/labels", "/files/cpu"])?;
    ensure!(
        files == "app=\"web\"\ntier=\"front\"250" || files == "app=\"web\"\ntier=\"front\"\n250",
        "{files:?}"
    );
    Ok(())
}

fn projected(node: &mut Node) -> Result<()> {
    node.manifest("map.yaml", &config_map("map", json!({"a": "of the map"})))?;
    node.manifest("secret.yaml", &secret("secret", json!({"b": "of the secret"})))?;
    let name = json!({"path": "own/name", "fieldRef": {"fieldPath": "metadata.name"}});
    let sources = json!([
        {"configMap": {"name": "map"}},
        {"secret": {"name": "secret", "items": [{"key": "b", "path": "hidden/b", "mode": 256}]}},
        {"downwardAPI": {"items": [name]}},
    ]);
    let spec = json!({
        "containers": [filed(patient("main"))],
        "volumes": [{"name": "files", "projected": {"sources": sources, "defaultMode": 288}}],
    });
    node.manifest("files.yaml", &pod("files", spec))?;
    let id = node.wait_ready("files")?.id("main");
    let rows = [
        ("a", "of the map", "440"),
        ("hidden/b", "of the secret", "400"),
        ("own/name", "files-node", "440"),
    ];
    for (name, text, mode) in rows {
        let path = format!("/files/{name}");
        let read = node.exec_ok(&id, &["cat", &path])?;
        ensure!(read == text, "{name} says {read:?}");
        let found = node.exec_ok(&id, &["stat", "-L", "-c", "%a", &path])?;
        ensure!(found == mode, "{name} has the mode {found}");
    }
    Ok(())
}

fn fs_group(node: &mut Node) -> Result<()> {
    node.manifest("secret.yaml", &secret("secret", json!({"key": "hush"})))?;
    let main = with(
        patient("main"),
        json!({"volumeMounts": [
            {"name": "files", "mountPath": "/files"}, {"name": "empty", "mountPath": "/empty"},
        ]}),
    );
    let spec = json!({
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 4242},
        "containers": [main],
        "volumes": [
            {"name": "files", "secret": {"secretName": "secret", "defaultMode": 256}},
            {"name": "empty", "emptyDir": {}},
        ],
    });
    node.manifest("group.yaml", &pod("group", spec))?;
    let id = node.wait_ready("group")?.id("main");
    let sees = |command: &[&str]| node.exec_ok(&id, command);
    ensure!(sees(&["id", "-G"])?.split(' ').any(|group| group == "4242"), "{}", sees(&["id"])?);
    ensure!(sees(&["cat", "/files/key"])? == "hush");
    sees(&["sh", "-c", "echo own >/empty/file"])?;
    let rows = [("/files/key", "440 4242"), ("/empty", "2777 4242"), ("/empty/file", "644 4242")];
    for (path, wanted) in rows {
        let found = sees(&["stat", "-L", "-c", "%a %g", path])?;
        ensure!(found == wanted, "{path} is {found}");
    }
    Ok(())
}
