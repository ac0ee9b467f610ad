//! The status of one container.

use super::make::{Input, api_time};
use super::read::has_ended;
use crate::kubelet::observed::{Exit, Instance, InstanceState};
use crate::kubelet::spec::{Member, Role};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

/// Why a container waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `ImagePullBackOff`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
    pub reason: String,
    /// More of it.
    pub message: String,
}

/// What the statuses of a pod's containers have in common.
pub(super) struct Context<'a> {
    input: &'a Input<'a>,
    /// Whether app containers may run: the init containers are done.
    initialized: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        let members = crate::kubelet::spec::members(input.pod);
        let exited = |member: &Member<'_>| {
            let exit = input.observed.latest(member.name()).and_then(Instance::exit);
            exit.is_some_and(|exit| exit.code == 0)
        };
        let any_app = members
            .iter()
            .any(|m| m.role == Role::App && input.observed.latest(m.name()).is_some());
        let initialized = any_app
            || members.iter().all(|m| match m.role {
                Role::Init => exited(m),
                Role::Sidecar => input.started.contains(m.name()),
                Role::App | Role::Ephemeral => true,
            });
        Self { input, initialized }
    }
}

pub(super) fn container_status(context: &Context<'_>, member: Member<'_>) -> ContainerStatus {
    let Input { observed, runtime, started, ready, waiting, previous, .. } = *context.input;
    let name = member.name();
    let instance = observed.latest(name);
    let mut status = ContainerStatus {
        name: name.to_owned(),
        image: member.container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    let waits = waiting.get(name);
    let Some(instance) = instance else {
        // What was known of it before the runtime lost it.
        let before = before(previous, member.role, name);
        // Of a pod that was never let in there is nothing that could be lost.
        let began = before.is_some_and(|before| before.container_id.is_some())
            || !observed.sandboxes.is_empty();
        // Of a pod that has ended the container may have been removed to make room.
        let over = context.input.ended || has_ended(previous);
        let is_added = member.role == Role::Ephemeral;
        // What was added began once and does not begin again, so that its end is as final as a pod's.
        if let Some(before) = before.filter(|_| has_ended(previous) || is_added) {
            status.container_id = before.container_id.clone();
            status.image_id = before.image_id.clone();
        }
        status.restart_count = before.map_or(0, |before| before.restart_count);
        status.last_state = before.and_then(|before| before.last_state.clone());
        status.state = Some(match before.and_then(|before| before.state.clone()) {
            Some(state) if (over || is_added) && state.terminated.is_some() => state,
            _ if context.input.ended && began => lost(),
            _ if is_added && status.container_id.is_some() => lost(),
            _ => waiting_state(context, waits, member.role),
        });
        status.started = Some(false);
        return status;
    };
    status.container_id = Some(format!("{runtime}://{}", instance.id));
    status.image_id = instance.image_ref.clone();
    status.restart_count = i32::try_from(instance.restarts).unwrap_or(i32::MAX);
    let ended = |i: &Instance| {
        i.exit().map(|exit| ContainerState {
            terminated: Some(terminated(context.input, i, exit)),
            ..ContainerState::default()
        })
    };
    status.last_state = observed.before_latest(name).and_then(ended);
    let running = instance.running();
    status.started = Some(running.is_some() && started.contains(name));
    status.ready = match member.role {
        Role::Init => instance.exit().is_some_and(|exit| exit.code == 0),
        Role::Sidecar | Role::App => running.is_some() && ready.contains(name),
        // Nobody waits for them.
        Role::Ephemeral => false,
    };
    status.state = Some(match &instance.state {
        InstanceState::Running { started } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(api_time(*started)) }),
            ..ContainerState::default()
        },
        InstanceState::Exited(_) if waits.is_some() => {
            // The next start waits: what has ended is the last one.
            status.last_state = ended(instance);
            waiting_state(context, waits, member.role)
        }
        InstanceState::Exited(_) => ended(instance).unwrap_or_default(),
        InstanceState::Created | InstanceState::Unknown => {
            waiting_state(context, waits, member.role)
        }
    });
    status
}

/// The status of a container as it was before.
fn before<'a>(
    previous: &'a k8s_openapi::api::core::v1::PodStatus,
    role: Role,
    name: &str,
) -> Option<&'a ContainerStatus> {
    let all = match role {
        Role::App => &previous.container_statuses,
        Role::Init | Role::Sidecar => &previous.init_container_statuses,
        Role::Ephemeral => &previous.ephemeral_container_statuses,
    };
    all.iter().flatten().find(|status| status.name == name)
}

fn waiting_state(context: &Context<'_>, waits: Option<&Waiting>, role: Role) -> ContainerState {
    let (reason, message) = match waits {
        Some(waits) => (waits.reason.clone(), Some(waits.message.clone())),
        None if role == Role::App && !context.initialized => ("PodInitializing".to_owned(), None),
        None => ("ContainerCreating".to_owned(), None),
    };
    let message = message.filter(|message| !message.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason), message }),
        ..ContainerState::default()
    }
}

fn terminated(input: &Input<'_>, instance: &Instance, exit: &Exit) -> ContainerStateTerminated {
    let message = input.messages.get(&instance.id).filter(|m| !m.is_empty()).cloned();
    ContainerStateTerminated {
        exit_code: exit.code,
        reason: Some(exit.reason.clone()).filter(|reason| !reason.is_empty()),
        message: message.or_else(|| Some(exit.message.clone()).filter(|m| !m.is_empty())),
        started_at: exit.started.map(api_time),
        finished_at: Some(api_time(exit.finished)),
        container_id: Some(format!("{}://{}", input.runtime, instance.id)),
        signal: None,
    }
}

/// A container of a pod that has ended, of which nothing is left to tell how.
fn lost() -> ContainerState {
    let message = "The container could not be found when the pod was ended";
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(message.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}
