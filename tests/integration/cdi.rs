//! Devices by CDI names: what the specifications in the node's folders say is what a container has.

use crate::harness::machine::Machine;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::{Value, json};
use std::path::PathBuf;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_device_brings_what_its_specification_says", &[], options, brings),
        own("a_device_that_cannot_be_had_is_named", &[], options, refused),
    ]
}

/// A test is given its options before its folder: the folders are those of this process.
fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("berth-cdi-{}", std::process::id())).join(name)
}

fn options(_: &Machine) -> Options {
    let config = format!("\n[cdi]\ndirs = [{:?}, {:?}]\n", folder("etc"), folder("run"));
    Options { config, ..Options::default() }
}

/// The folders of specifications, as long as this lives.
struct Folders;

impl Folders {
    fn make() -> Result<Self> {
        for name in ["etc", "run"] {
            std::fs::create_dir_all(folder(name))?;
        }
        Ok(Self)
    }

    fn write(&self, name: &str, spec: &Value) -> Result<()> {
        let text = match name.ends_with(".yaml") {
            true => serde_yaml_ng::to_string(spec)?,
            false => spec.to_string(),
        };
        Ok(std::fs::write(folder(name), text)?)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        std::fs::remove_dir_all(folder("")).ok();
    }
}

fn spec(kind: &str, devices: &[(&str, Value)], edits: &Value) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|(name, edits)| json!({ "name": name, "containerEdits": edits }))
        .collect();
    json!({ "cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": edits })
}

fn by_field(c: &mut proto::ContainerConfig, names: &[&str]) {
    c.cdi_devices = names.iter().map(|&name| proto::CdiDevice { name: name.into() }).collect();
}

/// What a container with and one without the devices have; the kernel's log stands for a device
/// that is denied otherwise.
const PROBE: &str = "echo env=$GPU,$COMMON,$OVER; id -G; stat -c '%F %t:%T %u' /dev/gpu0 2>/dev/null; \
    cat /opt/driver/lib 2>/dev/null; (: >>/opt/driver/lib) 2>/dev/null || echo sealed; \
    mknod /tmp/probe c 1 11; (: >>/tmp/probe) 2>/dev/null && echo may write || echo must not write";

fn brings(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let driver = node.volume("cdi-driver")?;
    std::fs::write(driver.join("lib"), "a library\n")?;
    let device = json!({ "path": "/dev/gpu0", "hostPath": "/dev/kmsg", "permissions": "rw" });
    let zero = json!({ "env": ["GPU=zero"], "deviceNodes": [device] });
    let mount = json!({
        "hostPath": driver, "containerPath": "/opt/driver", "options": ["ro", "nosuid", "rbind"],
    });
    let common = json!({ "env": ["COMMON=yes"], "mounts": [mount], "additionalGids": [4321] });
    folders.write("etc/vendor.yaml", &spec("vendor.test/gpu", &[("0", zero)], &common))?;
    // The second folder goes before the first.
    for (file, value) in [("etc/over.json", "first"), ("run/over.json", "second")] {
        let edits = json!({ "env": [format!("OVER={value}")] });
        folders.write(file, &spec("vendor.test/over", &[("x", edits)], &json!({})))?;
    }
    let scene = Scene::new(node, "cdi")?;
    let names = ["vendor.test/gpu=0", "vendor.test/over=x"];
    let expected = "env=zero,yes,second\n0 4321\ncharacter special file 1:b 0\na library\nsealed\n\
        may write\n";
    let text = scene.output("field", PROBE, |c| by_field(c, &names))?.1;
    ensure!(text == expected, "{text:?}");
    let annotated = |c: &mut proto::ContainerConfig| {
        c.annotations.insert("cdi.k8s.io/plugin_gpu".into(), names.join(","));
        // Named twice, given once.
        by_field(c, &names[..1]);
    };
    let text = scene.output("annotation", PROBE, annotated)?.1;
    ensure!(text == expected, "{text:?}");
    // A process that is not root may use its device.
    let text = scene
        .output("user", "stat -c %u:%g /dev/gpu0; : >>/dev/gpu0 && echo may write", |c| {
            by_field(c, &names);
            let security = pod::security(c);
            security.run_as_user = Some(proto::Int64Value { value: 1000 });
            security.run_as_group = Some(proto::Int64Value { value: 1000 });
        })?
        .1;
    ensure!(text == "1000:1000\nmay write\n", "{text:?}");
    let text = scene.output("control", PROBE, as_is)?.1;
    ensure!(text == "env=,,\n0\nsealed\nmust not write\n", "{text:?}");
    Ok(())
}

fn refused(node: &mut Node) -> Result<()> {
    let folders = Folders::make()?;
    let good = |name: &'static str| (name, json!({ "env": ["A=b"] }));
    folders.write("etc/a.json", &spec("v.test/c", &[good("twice"), good("fine")], &json!({})))?;
    folders.write("etc/b.json", &spec("v.test/c", &[good("twice")], &json!({})))?;
    let nodes = json!({ "deviceNodes": [{ "path": "/dev/no-such-device" }] });
    let library = json!({ "mounts": [{ "hostPath": "/no/such/lib", "containerPath": "/lib/x" }] });
    let rdt = json!({ "intelRdt": { "closID": "x" } });
    let devices = [("node", nodes), ("library", library), ("rdt", rdt)];
    folders.write("etc/bad.json", &spec("v.test/bad", &devices, &json!({})))?;
    std::fs::write(folder("run/broken.yaml"), "kind: [")?;
    let scene = Scene::new(node, "cdi-refused")?;
    let rows: [(&str, Code, &[&str]); 7] = [
        ("v.test/c=none", Code::FailedPrecondition, &["v.test/c=none", "broken.yaml"]),
        ("v.test/c=twice", Code::FailedPrecondition, &["v.test/c=twice", "a.json", "b.json"]),
        ("v.test/bad=node", Code::FailedPrecondition, &["v.test/bad=node", "/dev/no-such-device"]),
        ("v.test/bad=library", Code::FailedPrecondition, &["v.test/bad=library", "/no/such/lib"]),
        ("v.test/bad=rdt", Code::Unimplemented, &["v.test/bad=rdt", "intelRdt"]),
        ("gpu0", Code::InvalidArgument, &["CDI_devices[0]", "gpu0"]),
        ("v.test/c=", Code::InvalidArgument, &["CDI_devices[0]", "v.test/c="]),
    ];
    for (name, code, words) in rows {
        let error = scene
            .create("main", pod::PATIENT, |c| by_field(c, &[name]))
            .err()
            .with_context(|| format!("{name}: created"))?;
        ensure!(error.code() == code, "{name}: {error:?}");
        ensure!(words.iter().all(|word| error.message().contains(word)), "{name}: {error}");
    }
    let error = scene
        .create("main", pod::PATIENT, |c| {
            c.annotations.insert("cdi.k8s.io/x".into(), "v.test/c=fine,nonsense".into());
        })
        .err()
        .context("nonsense is a device")?;
    ensure!(
        error.code() == Code::InvalidArgument && error.message().contains("nonsense"),
        "{error}"
    );
    let library = PathBuf::from("/no/such/lib");
    ensure!(!library.exists(), "a missing library was made up");
    scene.create("main", pod::PATIENT, |c| by_field(c, &["v.test/c=fine"])).context("control")?;
    Ok(())
}
