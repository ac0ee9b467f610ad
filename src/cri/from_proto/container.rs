//! CreateContainer's configuration.

use super::RequestError;
use super::fits::Asked;
use super::image::image_name;
use super::mounts::{devices, mounts};
use super::resources::resources;
use super::security::security;
use super::signal::signal_name;
use super::text::{absolute, below, name, string, strings};
use crate::cdi::DeviceName;
use crate::container::config::ContainerConfig;
use crate::cri::proto;
use std::collections::BTreeMap;

/// Annotations with this prefix ask for devices in the way that came before the field.
const CDI_ANNOTATION: &str = "cdi.k8s.io/";

/// A validated container, and what it asks of its sandbox.
pub(crate) fn container_config(
    field: &str,
    config: Option<proto::ContainerConfig>,
) -> Result<(ContainerConfig, Asked), RequestError> {
    let config = config.ok_or_else(|| RequestError::missing(field))?;
    let at = |name: &str| format!("{field}.{name}");
    refuse_unimplemented(field, &config)?;
    let metadata = config.metadata.ok_or_else(|| RequestError::missing(at("metadata")))?;
    let image = config.image.ok_or_else(|| RequestError::missing(at("image")))?;
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let (security, asked) = security(&at("linux.security_context"), context)?;
    let config = ContainerConfig {
        name: name(&at("metadata.name"), &metadata.name)?,
        attempt: metadata.attempt,
        image: image_name(&at("image"), &image)?,
        user_specified_image: image.user_specified_image,
        command: strings(&at("command"), config.command)?,
        args: strings(&at("args"), config.args)?,
        working_dir: match config.working_dir.as_str() {
            "" => String::new(),
            path => absolute(&at("working_dir"), path).map(|_| path.to_owned())?,
        },
        envs: envs(&at("envs"), config.envs)?,
        mounts: mounts(&at("mounts"), config.mounts)?,
        devices: devices(&at("devices"), &config.devices)?,
        cdi_devices: cdi_devices(field, &config.cdi_devices, &config.annotations)?,
        labels: config.labels,
        annotations: config.annotations,
        log_path: below(&at("log_path"), &config.log_path)?,
        log_directory: None,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: resources(&at("linux.resources"), &linux.resources.unwrap_or_default())?,
        security,
        stop_signal: signal_name(&at("stop_signal"), config.stop_signal)?,
    };
    Ok((config, asked))
}

fn refuse_unimplemented(field: &str, config: &proto::ContainerConfig) -> Result<(), RequestError> {
    if config.windows.is_some() {
        let field = format!("{field}.windows");
        return Err(RequestError::unimplemented(field, "Windows containers are"));
    }
    Ok(())
}

/// CDI devices of the field and of the annotations that came before it, each once.
fn cdi_devices(
    field: &str,
    devices: &[proto::CdiDevice],
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<String>, RequestError> {
    let mut names = Vec::new();
    let mut add = |field: String, name: &str| {
        let parsed = DeviceName::parse(name)
            .map_err(|error| RequestError::invalid(field, error.to_string()))?;
        let name = parsed.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
        Ok(())
    };
    for (index, device) in devices.iter().enumerate() {
        add(format!("{field}.CDI_devices[{index}].name"), &device.name)?;
    }
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(CDI_ANNOTATION)) {
        for name in value.split(',') {
            add(format!("{field}.annotations[{key:?}]"), name.trim())?;
        }
    }
    Ok(names)
}

/// Names cannot hold `=`. Values are bytes on the wire, but an OCI configuration is text.
fn envs(field: &str, envs: Vec<proto::KeyValue>) -> Result<Vec<(String, String)>, RequestError> {
    let mut made = Vec::new();
    for (index, env) in envs.into_iter().enumerate() {
        let at = |name: &str| format!("{field}[{index}].{name}");
        if env.key.is_empty() {
            return Err(RequestError::missing(at("key")));
        }
        if env.key.contains('=') {
            return Err(RequestError::invalid(at("key"), format!("{:?} contains '='", env.key)));
        }
        let key = string(&at("key"), &env.key)?;
        let value = String::from_utf8(env.value)
            .map_err(|_| RequestError::invalid(at("value"), "not UTF-8"))?;
        made.push((key, string(&at("value"), &value)?));
    }
    Ok(made)
}
