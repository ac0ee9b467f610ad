//! Fields that have no effect: each is sent with a value, and is an error that names it, or the
//! answer, and what is made, is what there is without it.

use super::fields;
use super::files::of_image;
use super::table::{self, Row, Verdict};
use super::traces;
use crate::harness::image::BUSYBOX;
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::scene::bind;
use crate::harness::sent::INTERFACE;
use crate::harness::{Node, Test, shared};
use crate::random::call::Caller;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use std::cell::Cell;
use tonic::{Code, Status};

const REFUSED: &str = "a_refused_field_is_an_error_that_names_it";
const IGNORED: &str = "an_ignored_field_changes_nothing";
const ENUMS: &str = "an_enumeration_out_of_range_is_refused_wherever_it_is";

pub(super) fn tests() -> Vec<Test> {
    vec![shared(REFUSED, &[], refused), shared(IGNORED, &[], ignored), shared(ENUMS, &[], enums)]
}

/// What requests are made of.
struct Base<'a> {
    node: &'a Node,
    config: proto::PodSandboxConfig,
    sandbox: String,
    container: String,
    number: Cell<u32>,
}

impl<'a> Base<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        let config = pod(node, "base");
        let sandbox = node.run_pod(&config)?;
        let container = node.launch_container(&sandbox, &config, &container("base", PATIENT))?;
        Ok(Self { node, config, sandbox, container, number: Cell::new(0) })
    }

    /// A name that none had before.
    fn name(&self) -> String {
        self.number.set(self.number.get() + 1);
        format!("field-{}", self.number.get())
    }

    /// A container with a mount: of a folder, or of an image.
    fn created(&self, volume: bool) -> Result<proto::ContainerConfig> {
        let mut config = container(&self.name(), PATIENT);
        config.mounts = vec![if volume {
            of_image("/fields")
        } else {
            bind(&self.node.volume("fields")?, "/fields")
        }];
        Ok(config)
    }

    /// A request that succeeds where the method does.
    fn request(&self, method: &MethodDescriptor, volume: bool) -> Result<DynamicMessage> {
        let image =
            |name: &str| Some(proto::ImageSpec { image: name.into(), ..Default::default() });
        let filter = || Some(proto::ImageFilter { image: image(BUSYBOX) });
        let (container_id, pod_sandbox_id) = (self.container.clone(), self.sandbox.clone());
        let bytes = match method.name() {
            "RunPodSandbox" => {
                let config = Some(pod(self.node, &self.name()));
                proto::RunPodSandboxRequest { config, ..Default::default() }.encode_to_vec()
            }
            "CreateContainer" => {
                let config = Some(self.created(volume)?);
                let sandbox_config = Some(self.config.clone());
                proto::CreateContainerRequest { pod_sandbox_id, config, sandbox_config }
                    .encode_to_vec()
            }
            "UpdateContainerResources" => {
                let linux = Some(proto::LinuxContainerResources::default());
                proto::UpdateContainerResourcesRequest { container_id, linux, ..Default::default() }
                    .encode_to_vec()
            }
            "ListImages" => proto::ListImagesRequest { filter: filter() }.encode_to_vec(),
            "StreamImages" => proto::StreamImagesRequest { filter: filter() }.encode_to_vec(),
            "ImageStatus" => {
                proto::ImageStatusRequest { image: image(BUSYBOX), verbose: false }.encode_to_vec()
            }
            "RemoveImage" => {
                proto::RemoveImageRequest { image: image("berth.test/none:v1") }.encode_to_vec()
            }
            // Refused by whatever is at that port, which is nothing.
            "PullImage" => {
                let image = image("127.0.0.1:1/none:v1");
                proto::PullImageRequest { image, ..Default::default() }.encode_to_vec()
            }
            "RestorePod" => proto::RestorePodRequest {
                checkpoint_path: self.node.volume("checkpoint")?.to_string_lossy().into_owned(),
                config: Some(pod(self.node, &self.name())),
                container_configs: vec![self.created(volume)?],
                ..Default::default()
            }
            .encode_to_vec(),
            "CheckpointPod" => proto::CheckpointPodRequest {
                pod_sandbox_id,
                output_path: self.node.volume("checkpoint")?.to_string_lossy().into_owned(),
                container_ids: vec![container_id],
                ..Default::default()
            }
            .encode_to_vec(),
            "CheckpointContainer" => {
                proto::CheckpointContainerRequest { container_id, ..Default::default() }
                    .encode_to_vec()
            }
            "UpdatePodSandboxResources" => {
                proto::UpdatePodSandboxResourcesRequest { pod_sandbox_id, ..Default::default() }
                    .encode_to_vec()
            }
            _ => Vec::new(),
        };
        Ok(DynamicMessage::decode(method.input(), &*bytes)?)
    }

    /// Sends it, and removes what it made. What came of it: the answer, or of what was made its traces.
    fn send(
        &self,
        method: &MethodDescriptor,
        request: DynamicMessage,
    ) -> Result<Result<String, Status>> {
        let mut caller = Caller::new(self.node.cri.channel());
        let called = method.clone();
        let work = self.node.cri.spawn(async move { caller.call(&called, &request).await });
        let answer = match self.node.cri.join(work)? {
            Ok(bytes) => bytes,
            Err(status) => return Ok(Err(status)),
        };
        let came = match method.name() {
            "RunPodSandbox" => {
                let id = proto::RunPodSandboxResponse::decode(answer)?.pod_sandbox_id;
                let traces = traces::of_pod(self.node, &id)?;
                self.node.remove_pod(&id)?;
                traces
            }
            "CreateContainer" => {
                let container_id = proto::CreateContainerResponse::decode(answer)?.container_id;
                let traces = traces::of_container(self.node, &self.sandbox, &container_id)?;
                self.node.cri.remove_container(proto::RemoveContainerRequest { container_id })?;
                traces
            }
            _ => format!("{answer:?}"),
        };
        Ok(Ok(came))
    }

    /// The answer without the field, and the answer with it.
    fn both(&self, field: &str, set: Set) -> Result<[Result<String, Status>; 2]> {
        let (method, path) = method_of(field)?;
        let volume = path.starts_with("config.mounts.image.");
        let without = self.send(&method, self.request(&method, volume)?)?;
        let mut request = self.request(&method, volume)?;
        set(&mut request, &path.split('.').collect::<Vec<_>>())?;
        Ok([without, self.send(&method, request)?])
    }
}

/// Gives a field a value.
type Set = fn(&mut DynamicMessage, &[&str]) -> Result<()>;

/// The method of a field, and its path below.
fn method_of(field: &str) -> Result<(MethodDescriptor, &str)> {
    let (name, path) = field.split_once('.').context("a field without a method")?;
    let method = INTERFACE
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .find(|method| method.name() == name)
        .context("no such method")?;
    Ok((method, path))
}

/// The fields of a verdict that the table leaves to the test of this name, each with its row.
fn rows(verdict: Verdict, test: &str) -> Result<Vec<(String, Row)>> {
    let test = format!("conformance::{test}");
    let here = |row: &Row| row.verdict == verdict && row.tests.contains(&test);
    let rows: Vec<Row> = table::read()?.into_iter().filter(here).collect();
    let of = |field: String| {
        let row = rows.iter().find(|row| row.covers(&field))?.clone();
        Some((field, row))
    };
    Ok(table::interface().into_iter().filter_map(of).collect())
}

fn refused(node: &Node) -> Result<()> {
    let base = Base::new(node)?;
    let mut failures = Vec::new();
    for (field, row) in rows(Verdict::Refused, REFUSED)? {
        let [without, with] = base.both(&field, fields::set).with_context(|| field.clone())?;
        // Of a method that is refused as a whole no field can be at fault.
        let (named, whole) = match row.path().split_once('.') {
            Some((_, path)) => (path, false),
            None => (row.path(), true),
        };
        let told = |status: &Status| {
            let words = without_indexes(status.message());
            let code = match status.code() {
                Code::InvalidArgument | Code::Unimplemented => true,
                Code::FailedPrecondition | Code::NotFound => whole,
                _ => false,
            };
            code && (whole || words.contains(named))
        };
        match with {
            Err(status) if told(&status) && (whole == without.is_err() || !whole) => {}
            other => failures.push(format!("{field}: {other:?}, without it {without:?}")),
        }
    }
    ensure!(failures.is_empty(), "{} fields:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// What is there with a field and not without it, and the other way round; nothing: no effect.
fn effect(base: &Base<'_>, field: &str) -> Result<Option<String>> {
    let told = |answer: Result<String, Status>| {
        answer.map_err(|status| (status.code(), status.message().to_owned()))
    };
    let [without, with] = base.both(field, fields::set).with_context(|| field.to_owned())?;
    let (without, with) = (told(without), told(with));
    if without == with {
        return Ok(None);
    }
    let (Ok(without), Ok(with)) = (&without, &with) else {
        return Ok(Some(format!("{with:?}, without it {without:?}")));
    };
    let only = |lines: &str, others: &str| -> Vec<String> {
        let other = |line: &&str| !others.lines().any(|other| other == *line);
        lines.lines().filter(other).map(str::to_owned).collect()
    };
    Ok(Some(format!("{:?}, without it {:?}", only(with, without), only(without, with))))
}

fn ignored(node: &Node) -> Result<()> {
    let base = Base::new(node)?;
    let mut failures = Vec::new();
    for (field, _) in rows(Verdict::Ignored, IGNORED)? {
        if let Some(effect) = effect(&base, &field)? {
            failures.push(format!("{field}: {effect}"));
        }
    }
    ensure!(failures.is_empty(), "{} fields:\n{}", failures.len(), failures.join("\n"));
    // The control: what is honoured is seen.
    for field in [
        "RunPodSandbox.config.linux.security_context.run_as_user.value",
        "CreateContainer.config.linux.security_context.readonly_rootfs",
    ] {
        let effect = effect(&base, field)?;
        ensure!(effect.is_some_and(|told| told.starts_with('[')), "{field} has no effect");
    }
    Ok(())
}

/// Where a field is ignored, as by containerd, its value is, too.
fn enums(node: &Node) -> Result<()> {
    let base = Base::new(node)?;
    let rows = table::read()?;
    let (mut asked, mut failures) = (0, Vec::new());
    for field in table::interface() {
        let (method, path) = method_of(&field)?;
        let parts: Vec<&str> = path.split('.').collect();
        let row = rows.iter().find(|row| row.covers(&field)).context("no row")?;
        let ignored = row.verdict == Verdict::Ignored;
        // Of Windows none is looked at.
        let other = ignored || parts.contains(&"windows");
        if other || !fields::is_enumeration(&method.input(), &parts) {
            continue;
        }
        let [without, with] = base.both(&field, fields::set_out_of_range)?;
        // A method that is refused as a whole.
        if without.is_err() {
            continue;
        }
        asked += 1;
        // The value of a filter is in a message of its own.
        let named = path.strip_suffix(".state.state").map(|above| format!("{above}.state"));
        let named = named.as_deref().unwrap_or(path);
        match with {
            Err(status)
                if status.code() == Code::InvalidArgument
                    && without_indexes(status.message()).contains(named) => {}
            other => failures.push(format!("{field}: {other:?}")),
        }
    }
    ensure!(failures.is_empty(), "{} fields:\n{}", failures.len(), failures.join("\n"));
    ensure!(asked >= 20, "only {asked} enumerations");
    Ok(())
}

/// `config.mounts[0].image` as `config.mounts.image`.
fn without_indexes(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => kept.push(letter),
            _ => {}
        }
    }
    kept
}
