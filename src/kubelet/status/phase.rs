//! A pod's phase.

use crate::kubelet::spec::{RestartPolicy, Role, members, restart_policy};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// What the statuses of a pod's containers amount to. Sidecars count as little as a wait: how they end never
/// decides. `ended`: nothing of the pod runs or will again.
pub(super) fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
    ended: bool,
) -> &'static str {
    let roles: Vec<Role> =
        members(pod).iter().map(|m| m.role).filter(|r| *r != Role::App).collect();
    let mut pending_init = false;
    for (role, status) in roles.iter().zip(init) {
        let state = status.state.as_ref();
        match (role, state.and_then(|s| s.terminated.as_ref())) {
            (Role::Init, Some(end)) if end.exit_code != 0 => {
                let again = members(pod)
                    .into_iter()
                    .find(|m| m.name() == status.name)
                    .is_some_and(|m| m.restarts(pod, end.exit_code));
                if !again {
                    return "Failed";
                }
                pending_init = true;
            }
            (Role::Init, Some(_)) => {}
            (Role::Init, None) => pending_init = true,
            (Role::Sidecar | Role::App | Role::Ephemeral, _) => {
                pending_init |= !status.started.unwrap_or(false) && state.is_none_or(is_waiting);
            }
        }
    }
    let apps_began = apps.iter().any(has_run);
    if pending_init && !apps_began && !ended {
        return "Pending";
    }
    let count = |of: fn(&ContainerStatus) -> bool| apps.iter().filter(|s| of(s)).count();
    let waiting = count(|s| !has_run(s));
    let running = count(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    let stopped = apps.len() - waiting - running;
    let succeeded = count(|s| exit_code(s) == Some(0));
    match () {
        () if ended && stopped > 0 && stopped == succeeded && waiting == 0 => "Succeeded",
        () if ended => "Failed",
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if restart_policy(pod) == RestartPolicy::Always => "Running",
        () if stopped == succeeded => "Succeeded",
        () if restart_policy(pod) == RestartPolicy::Never => "Failed",
        () => "Running",
    }
}

fn is_waiting(state: &ContainerState) -> bool {
    state.running.is_none() && state.terminated.is_none()
}

/// Whether it runs, or ever did.
fn has_run(status: &ContainerStatus) -> bool {
    let now = status.state.as_ref().is_some_and(|state| !is_waiting(state));
    now || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// How it ended, if it does not run.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let of = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code)
    };
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    if running { None } else { of(&status.state).or_else(|| of(&status.last_state)) }
}
