//! All about one container; pure.

use super::page::{BELOW, ITEM, OF_ITEM, Page};
use super::probe::probe;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, EnvFromSource, EnvVar, EnvVarSource, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// A moment in UTC, or nothing.
pub(super) fn time(time: Option<&Time>) -> String {
    time.map_or_else(String::new, |time| time.0.to_string())
}

/// Writes a container with its status.
pub(super) fn container(page: &mut Page, of: &Container, status: Option<&ContainerStatus>) {
    page.line(ITEM, &of.name, "");
    page.some(OF_ITEM, "Container ID", status.and_then(|s| s.container_id.as_deref()));
    page.some(OF_ITEM, "Image", of.image.as_deref());
    page.some(OF_ITEM, "Image ID", status.map(|s| s.image_id.as_str()));
    page.some(OF_ITEM, "Ports", Some(&ports(of)));
    page.block(OF_ITEM, "Command", of.command.as_deref().unwrap_or_default());
    page.block(OF_ITEM, "Args", of.args.as_deref().unwrap_or_default());
    if let Some(status) = status {
        state(page, "State", status.state.as_ref());
        state(page, "Last State", status.last_state.as_ref());
        page.line(OF_ITEM, "Ready", if status.ready { "True" } else { "False" });
        page.line(OF_ITEM, "Restart Count", &status.restart_count.to_string());
    }
    let resources = of.resources.as_ref();
    page.block(OF_ITEM, "Limits", &quantities(resources.and_then(|r| r.limits.as_ref())));
    page.block(OF_ITEM, "Requests", &quantities(resources.and_then(|r| r.requests.as_ref())));
    page.some(OF_ITEM, "Liveness", of.liveness_probe.as_ref().map(probe).as_deref());
    page.some(OF_ITEM, "Readiness", of.readiness_probe.as_ref().map(probe).as_deref());
    page.some(OF_ITEM, "Startup", of.startup_probe.as_ref().map(probe).as_deref());
    let from: Vec<String> = of.env_from.iter().flatten().map(env_from).collect();
    page.block(OF_ITEM, "Environment from", &from);
    let env: Vec<String> = of.env.iter().flatten().map(variable).collect();
    page.block(OF_ITEM, "Environment", &env);
    let mounts: Vec<String> = of.volume_mounts.iter().flatten().map(mount).collect();
    page.block(OF_ITEM, "Mounts", &mounts);
}

/// Writes a state; nothing for none.
fn state(page: &mut Page, name: &str, state: Option<&ContainerState>) {
    let Some(state) = state else { return };
    if let Some(running) = &state.running {
        page.line(OF_ITEM, name, "Running");
        page.some(BELOW, "Started", Some(&time(running.started_at.as_ref())));
    } else if let Some(waiting) = &state.waiting {
        page.line(OF_ITEM, name, "Waiting");
        page.some(BELOW, "Reason", waiting.reason.as_deref());
        page.some(BELOW, "Message", waiting.message.as_deref());
    } else if let Some(ended) = &state.terminated {
        page.line(OF_ITEM, name, "Terminated");
        page.some(BELOW, "Reason", ended.reason.as_deref());
        page.some(BELOW, "Message", ended.message.as_deref());
        page.line(BELOW, "Exit Code", &ended.exit_code.to_string());
        page.some(BELOW, "Signal", ended.signal.map(|signal| signal.to_string()).as_deref());
        page.some(BELOW, "Started", Some(&time(ended.started_at.as_ref())));
        page.some(BELOW, "Finished", Some(&time(ended.finished_at.as_ref())));
    }
}

/// `80/TCP web, 53/UDP on host port 10053`.
fn ports(of: &Container) -> String {
    let port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let mut text =
            format!("{}/{}", port.container_port, port.protocol.as_deref().unwrap_or("TCP"));
        if let Some(name) = &port.name {
            text += &format!(" {name}");
        }
        if let Some(host) = port.host_port.filter(|host| *host > 0) {
            text += &format!(" on host port {host}");
        }
        text
    };
    of.ports.iter().flatten().map(port).collect::<Vec<_>>().join(", ")
}

pub(super) fn quantities(of: Option<&BTreeMap<String, Quantity>>) -> Vec<String> {
    of.into_iter().flatten().map(|(name, quantity)| format!("{name}: {}", quantity.0)).collect()
}

fn env_from(of: &EnvFromSource) -> String {
    let (kind, name, optional) = match (&of.config_map_ref, &of.secret_ref) {
        (Some(map), _) => ("ConfigMap", map.name.as_str(), map.optional),
        (None, Some(secret)) => ("Secret", secret.name.as_str(), secret.optional),
        (None, None) => ("nothing", "", None),
    };
    let optional = if optional == Some(true) { " (optional)" } else { "" };
    let prefix = of.prefix.as_deref().filter(|prefix| !prefix.is_empty());
    let prefix = prefix.map_or_else(String::new, |prefix| format!(", prefix {prefix}"));
    format!("{kind} {name}{optional}{prefix}")
}

fn variable(of: &EnvVar) -> String {
    match &of.value_from {
        Some(source) => format!("{}: <{}>", of.name, source_of(source)),
        None => format!("{}: {}", of.name, of.value.as_deref().unwrap_or_default()),
    }
}

fn source_of(of: &EnvVarSource) -> String {
    if let Some(key) = &of.config_map_key_ref {
        format!("key {:?} of ConfigMap {}", key.key, key.name)
    } else if let Some(key) = &of.secret_key_ref {
        format!("key {:?} of Secret {}", key.key, key.name)
    } else if let Some(field) = &of.field_ref {
        format!("field {}", field.field_path)
    } else if let Some(resource) = &of.resource_field_ref {
        format!("resource {}", resource.resource)
    } else {
        "of another kind".to_owned()
    }
}

/// `/etc/app from settings (ro, path sub)`.
fn mount(of: &VolumeMount) -> String {
    let mut options = vec![if of.read_only == Some(true) { "ro" } else { "rw" }.to_owned()];
    let path = of.sub_path.as_deref().or(of.sub_path_expr.as_deref());
    options.extend(path.filter(|path| !path.is_empty()).map(|path| format!("path {path}")));
    options.extend(of.mount_propagation.clone().filter(|kind| kind != "None"));
    format!("{} from {} ({})", of.mount_path, of.name, options.join(", "))
}
