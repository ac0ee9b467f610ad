//! Starting a container: image, environment, files, create, start, postStart.

use super::body::Body;
use super::container_files::Files;
use super::failure::Failure;
use super::image::Present;
use super::sandbox::SandboxError;
use crate::cgroups::swap_bytes;
use crate::cri::client::CriError;
use crate::cri::proto;
use crate::error::chain;
use crate::kubelet::board::EventKind;
use crate::kubelet::env::{EnvInput, Environment, environment, expand_command};
use crate::kubelet::ephemeral::{named, target};
use crate::kubelet::observed::{Instance, InstanceState, Observed, Sandbox};
use crate::kubelet::plan::{Start, backoff_key};
use crate::kubelet::request::{ContainerInput, SecurityInput, container_config, user_of};
use crate::kubelet::spec::{Member, Role, name, namespace, uid};
use crate::kubelet::volumes::{VolumeInput, image_volumes};
use crate::lock::lock;
use k8s_openapi::api::core::v1::Pod;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tracing::warn;

/// The reason of a container whose specification asks for what is not there.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

impl Body {
    /// Starts a container; whether that succeeded.
    pub(super) async fn start(&mut self, start: &Start, observed: &Observed) -> bool {
        let pod = Arc::clone(&self.pod);
        let Some(named) = named(&pod, &start.name) else { return true };
        match self.try_start(&pod, named.member(), start, observed).await {
            Ok(()) => {
                self.failures.remove(&start.name);
                true
            }
            Err(failure) => {
                self.failures.insert(start.name.clone(), failure);
                false
            }
        }
    }

    async fn try_start(
        &mut self,
        pod: &Arc<Pod>,
        member: Member<'_>,
        start: &Start,
        observed: &Observed,
    ) -> Result<(), Failure> {
        let Some(sandbox) = observed.sandbox() else { return Ok(()) };
        if let Some(id) = &start.remove {
            let request = proto::RemoveContainerRequest { container_id: id.clone() };
            let removed = self.host.cri.remove_container(request).await;
            removed.map_err(|e| self.refused(member, "CreateContainerError", e.message()))?;
        }
        let image = self.image(member.container).await?;
        self.images_of_volumes(pod, member).await?;
        let target = self.target(pod, member, observed)?;
        let of = Of { start, sandbox, image: &image, target };
        let id = self.create(pod, member, &of).await?;
        // What was not even made has not crashed.
        if let Some(exit) = observed.latest(member.name()).and_then(Instance::exit) {
            let key = backoff_key(pod, member);
            self.crashes.step(&key, exit.finished, SystemTime::now());
        }
        let request = proto::StartContainerRequest { container_id: id.clone() };
        let host = Arc::clone(&self.host);
        let call = async move { host.cri.start_container(request).await };
        if let Err(message) = self.call("start a container", call).await {
            return Err(self.refused(member, "RunContainerError", &message));
        }
        let what = (EventKind::Normal, "Started", format!("Started container {}", member.name()));
        self.container_event(member.name(), what);
        self.link_log(pod, member, (&id, start.restarts)).await;
        self.post_start(member, &id, observed).await
    }

    /// Makes sure that the images are here that a container has mounted.
    async fn images_of_volumes(
        &mut self,
        pod: &Arc<Pod>,
        member: Member<'_>,
    ) -> Result<(), Failure> {
        let mounts = member.container.volume_mounts.iter().flatten();
        let names: Vec<&str> = mounts.map(|mount| mount.name.as_str()).collect();
        for volume in image_volumes(pod) {
            if names.contains(&volume.volume.as_str()) {
                let policy = volume.pull_policy.as_deref();
                self.image_named(member.name(), &volume.reference, policy).await?;
            }
        }
        Ok(())
    }

    /// Creates a container; its id.
    async fn create(
        &mut self,
        pod: &Arc<Pod>,
        member: Member<'_>,
        of: &Of<'_>,
    ) -> Result<String, Failure> {
        let Of { start, sandbox, image, target } = *of;
        let user = user_of(pod, member.container, &image.user);
        let user = user.map_err(|e| self.refused(member, CONFIG_ERROR, &e.to_string()))?;
        let ips = self.pod_ips(sandbox);
        let env = self.environment(pod, member, &ips)?;
        let files = self.files(pod, member, (ips, env.clone())).await?;
        let (sandbox_config, userns, swap_bytes) =
            self.of_sandbox(pod, member, sandbox.attempt).await?;
        let settings = &self.host.settings;
        let words = expand_command(member.container, &env.vars);
        let config = container_config(
            pod,
            member,
            &ContainerInput {
                restarts: start.restarts,
                image_ref: &image.reference,
                user: &user,
                command: &words.command,
                args: &words.args,
                env: &env.vars,
                mounts: &files.mounts,
                message_file: &files.message,
                target,
                node: &self.host.node,
                memory: settings.memory,
                swap_bytes,
                security: SecurityInput {
                    profiles: &settings.seccomp_profiles,
                    seccomp_default: settings.seccomp_default,
                    userns: userns.as_ref(),
                },
            },
        );
        let request = proto::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let host = Arc::clone(&self.host);
        let call = async move { host.cri.create_container(request).await };
        let created = self.call("create a container", call).await;
        let created = created.map_err(|e| self.refused(member, "CreateContainerError", &e))?;
        let what = (EventKind::Normal, "Created", format!("Created container {}", member.name()));
        self.container_event(member.name(), what);
        Ok(created.container_id)
    }

    /// A call by which something comes to be in the runtime; why it failed.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, CriError>> + Send + 'static,
    ) -> Result<T, String> {
        let answer = self.steps.finish(what, call).await.map_err(|error| error.to_string())?;
        answer.map_err(|error| error.message().to_owned())
    }

    /// The id of the container whose processes an ephemeral one is to see.
    fn target<'a>(
        &self,
        pod: &Pod,
        member: Member<'_>,
        observed: &'a Observed,
    ) -> Result<Option<&'a str>, Failure> {
        if member.role != Role::Ephemeral {
            return Ok(None);
        }
        let Some(target) = target(pod, member.name()) else { return Ok(None) };
        let running = observed.latest(target).filter(|instance| instance.running().is_some());
        let Some(instance) = running else {
            let message = format!("its target, the container {target:?}, does not run");
            return Err(self.refused(member, "CreateContainerError", &message));
        };
        Ok(Some(&instance.id))
    }

    /// The request that the pod's sandbox was made by, its user namespace, and the bytes of swap that the node has now.
    async fn of_sandbox(
        &self,
        pod: &Arc<Pod>,
        member: Member<'_>,
        attempt: u32,
    ) -> Result<(proto::PodSandboxConfig, Option<proto::UserNamespace>, u64), Failure> {
        let of = Arc::clone(pod);
        let made = self.steps.run(
            &self.host,
            "read what a container is made with",
            move |host, wanted| {
                let (config, _) = host.sandbox_request(&of, attempt, wanted)?;
                let userns = wanted.effect(|| host.userns.of(&of))??;
                Ok((config, userns, swap_bytes().map_err(SandboxError::Swap)?))
            },
        );
        let made = made.await.map_err(|e| e.to_string());
        let made = made.and_then(|made| made.map_err(|e: SandboxError| chain(&e)));
        made.map_err(|message| self.refused(member, "CreateContainerError", &message))
    }

    fn environment(
        &self,
        pod: &Pod,
        member: Member<'_>,
        pod_ips: &[IpAddr],
    ) -> Result<Environment, Failure> {
        let objects = Arc::clone(&self.host.objects.borrow());
        let input = EnvInput {
            pod,
            objects: &objects,
            node: &self.host.node,
            pod_ips,
            host_ips: &self.host.node.ips,
        };
        let made = environment(member.container, &input)
            .map_err(|e| self.refused(member, CONFIG_ERROR, &chain(&e)))?;
        for (source, names) in &made.invalid {
            let message =
                format!("{source}: no names of variables, left out: {}", names.join(", "));
            let what = (EventKind::Warning, "InvalidEnvironmentVariableNames", message);
            self.container_event(member.name(), what);
        }
        Ok(made)
    }

    /// Volumes and the pod's own files, as mounts of a container.
    async fn files(
        &self,
        pod: &Arc<Pod>,
        member: Member<'_>,
        with: (Vec<IpAddr>, Environment),
    ) -> Result<Files, Failure> {
        let (pod, container, (ips, env)) = (Arc::clone(pod), member.name().to_owned(), with);
        let made = self.steps.run(&self.host, "make a container's files", move |host, wanted| {
            host.container_files(&pod, &container, (&ips, &env), wanted)
        });
        match made.await {
            Ok(Ok(files)) => Ok(files),
            Ok(Err(error)) => Err(self.refused(member, CONFIG_ERROR, &chain(&error))),
            Err(error) => Err(self.refused(member, CONFIG_ERROR, &error.to_string())),
        }
    }

    async fn post_start(
        &mut self,
        member: Member<'_>,
        id: &str,
        observed: &Observed,
    ) -> Result<(), Failure> {
        let hook = member.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let instance = started(member, id);
        let Err(message) = self.hook(hook, &instance, observed, None).await else {
            return Ok(());
        };
        let failure =
            self.refused_as(member, ("FailedPostStartHook", "PostStartHookError"), &message);
        let kill = crate::kubelet::plan::Kill {
            id: id.to_owned(),
            name: member.name().to_owned(),
            why: "its postStart hook failed".to_owned(),
            grace: None,
            by_probe: true,
        };
        let there = Observed { instances: vec![instance], ..observed.clone() };
        // A preStop hook has nothing to undo: the container never was what it should be. A kill that fails is
        // found again, as a container that runs.
        lock(&self.hooked).insert(id.to_owned());
        self.health.killed.insert(id.to_owned());
        self.kill_planned(&kill, &there).await.ok();
        Err(failure)
    }

    /// Sets up the pod's volumes; whether that succeeded.
    pub(super) async fn set_up_volumes(&mut self, starts: &[Start]) -> bool {
        let pod = Arc::clone(&self.pod);
        let made = self.steps.run(&self.host, "set up the pod's volumes", move |host, wanted| {
            let objects = Arc::clone(&host.objects.borrow());
            let input = VolumeInput { pod: &pod, objects: &objects, node: &host.node, wanted };
            host.volumes.set_up(&input).map_err(|error| chain(&error))
        });
        let failed = match made.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        };
        let message = format!("MountVolume.SetUp failed: {failed}");
        self.event(EventKind::Warning, "FailedMount", message.clone());
        for start in starts {
            self.failed(&start.name, "ContainerCreating", &message);
        }
        false
    }

    fn pod_ips(&self, sandbox: &Sandbox) -> Vec<IpAddr> {
        if sandbox.host_network { self.host.node.ips.clone() } else { sandbox.ips.clone() }
    }

    fn refused(&self, member: Member<'_>, reason: &str, message: &str) -> Failure {
        self.refused_as(member, ("Failed", reason), message)
    }

    fn refused_as(&self, member: Member<'_>, reasons: (&str, &str), message: &str) -> Failure {
        let (of_event, of_status) = reasons;
        let what = (EventKind::Warning, of_event, format!("Error: {message}"));
        self.container_event(member.name(), what);
        Failure::new(of_status, message.to_owned(), SystemTime::now())
    }

    /// Links the log of an instance where tools look for it by container.
    async fn link_log(&self, pod: &Arc<Pod>, member: Member<'_>, instance: (&str, u32)) {
        let (id, restarts) = instance;
        let log = self
            .host
            .log_dir(namespace(pod), name(pod), uid(pod))
            .join(format!("{}/{restarts}.log", member.name()));
        let link = self.host.log_link(name(pod), namespace(pod), (member.name(), id));
        let linked = self.steps.run(&self.host, "link a log", move |host, wanted| {
            let link = || match std::os::unix::fs::symlink(&log, &link) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                result => result,
            };
            std::fs::create_dir_all(&host.settings.container_logs)?;
            wanted.effect(link).map_err(io::Error::other)?
        });
        if let Ok(Err(error)) = linked.await {
            warn!(pod_uid = uid(pod), container = member.name(), %error, "its log is not linked");
        }
    }
}

/// What a container is created from, beside its specification.
#[derive(Clone, Copy)]
struct Of<'a> {
    start: &'a Start,
    sandbox: &'a Sandbox,
    image: &'a Present,
    target: Option<&'a str>,
}

/// An instance that has just been started.
fn started(member: Member<'_>, id: &str) -> Instance {
    let now = SystemTime::now();
    Instance {
        id: id.to_owned(),
        name: member.name().to_owned(),
        sandbox: String::new(),
        restarts: 0,
        hash: String::new(),
        image: String::new(),
        image_ref: String::new(),
        created: now,
        log_path: String::new(),
        message_file: None,
        state: InstanceState::Running { started: now },
    }
}
