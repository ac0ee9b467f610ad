//! The edits of devices, made to an OCI configuration. An edit replaces what has its name: a
//! variable, a node's path, a mount's destination.

use super::error::CdiError;
use super::name::DeviceName;
use super::read::Devices;
use super::schema::{DeviceNode, Edits, Hook, Mount};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    Hook as OciHook, Hooks, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType,
    Mount as OciMount, Process, Spec,
};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Gives a container the devices of these names, as the specifications in `folders` have them.
///
/// Reads the folders and looks at the host's devices.
///
/// # Errors
/// The device that cannot be given, by its name.
pub fn inject(spec: &mut Spec, names: &[DeviceName], folders: &[PathBuf]) -> Result<(), CdiError> {
    if names.is_empty() {
        return Ok(());
    }
    let devices = Devices::read(folders);
    for (name, edits) in devices.edits(names)? {
        Edit { name }.apply(spec, edits)?;
    }
    if let Some(mounts) = spec.mounts_mut() {
        // Parents first; equals keep their order.
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
    Ok(())
}

/// Edits for one device.
struct Edit<'a> {
    name: &'a DeviceName,
}

impl Edit<'_> {
    fn invalid(&self, what: &'static str, value: impl Into<String>, why: &'static str) -> CdiError {
        CdiError::Invalid { name: self.name.to_string(), what, value: value.into(), reason: why }
    }

    fn host(&self, path: &Path) -> impl FnOnce(std::io::Error) -> CdiError {
        let (name, path) = (self.name.to_string(), path.to_owned());
        move |source| CdiError::Host { name, path, source }
    }

    fn apply(&self, spec: &mut Spec, edits: &Edits) -> Result<(), CdiError> {
        let refuse = |what| Err(CdiError::Unsupported { name: self.name.to_string(), what });
        if edits.intel_rdt.is_some() {
            return refuse("intelRdt");
        }
        if !edits.net_devices.is_empty() {
            return refuse("netDevices");
        }
        let mut process = spec.process().clone().unwrap_or_default();
        self.add_env(&mut process, &edits.env)?;
        add_groups(&mut process, &edits.additional_gids);
        let mut linux = spec.linux().clone().unwrap_or_default();
        for node in &edits.device_nodes {
            self.add_node(&mut linux, node, &process)?;
        }
        spec.set_process(Some(process)).set_linux(Some(linux));
        for mount in &edits.mounts {
            let made = self.mount(mount)?;
            let mut mounts = spec.mounts().clone().unwrap_or_default();
            mounts.retain(|known| known.destination() != made.destination());
            mounts.push(made);
            spec.set_mounts(Some(mounts));
        }
        for hook in &edits.hooks {
            self.add_hook(spec, hook)?;
        }
        Ok(())
    }

    fn add_env(&self, process: &mut Process, added: &[String]) -> Result<(), CdiError> {
        let mut env = process.env().clone().unwrap_or_default();
        for variable in added {
            let name = variable.split_once('=').map_or("", |(name, _)| name);
            if name.is_empty() {
                return Err(self.invalid("env", variable, "is not NAME=value"));
            }
            env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
            env.push(variable.clone());
        }
        process.set_env(Some(env));
        Ok(())
    }

    fn add_node(
        &self,
        linux: &mut Linux,
        node: &DeviceNode,
        process: &Process,
    ) -> Result<(), CdiError> {
        if !node.path.is_absolute() {
            let path = node.path.display().to_string();
            return Err(self.invalid("deviceNodes.path", path, "is not absolute"));
        }
        let access = node.permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm");
        if !access.chars().all(|c| "rwm".contains(c)) {
            return Err(self.invalid("deviceNodes.permissions", access, "is not of r, w and m"));
        }
        let made = self.device(node, process)?;
        let mut nodes = linux.devices().clone().unwrap_or_default();
        nodes.retain(|known| known.path() != made.path());
        if matches!(made.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true)
                .set_typ(Some(made.typ()))
                .set_major(Some(made.major()))
                .set_minor(Some(made.minor()))
                .set_access(Some(access.to_owned()));
            let mut resources = linux.resources().clone().unwrap_or_default();
            let mut rules = resources.devices().clone().unwrap_or_default();
            rules.push(rule);
            resources.set_devices(Some(rules));
            linux.set_resources(Some(resources));
        }
        nodes.push(made);
        linux.set_devices(Some(nodes));
        Ok(())
    }

    /// The node; what the specification leaves open is the host's.
    fn device(&self, node: &DeviceNode, process: &Process) -> Result<LinuxDevice, CdiError> {
        let kind = match node.kind.as_deref().unwrap_or_default() {
            "" => None,
            "b" => Some(LinuxDeviceType::B),
            "c" => Some(LinuxDeviceType::C),
            "u" => Some(LinuxDeviceType::U),
            "p" => Some(LinuxDeviceType::P),
            other => return Err(self.invalid("deviceNodes.type", other, "is not b, c, u or p")),
        };
        let mut made = LinuxDevice::default();
        made.set_path(node.path.clone());
        let complete =
            kind == Some(LinuxDeviceType::P) || (node.major.is_some() && node.minor.is_some());
        match kind.filter(|_| complete) {
            Some(kind) => {
                made.set_typ(kind)
                    .set_major(node.major.unwrap_or(0))
                    .set_minor(node.minor.unwrap_or(0));
                made.set_file_mode(node.file_mode);
            }
            None => self.take_from_host(&mut made, node, kind)?,
        }
        // A device is its container's: one that runs as somebody may use it.
        let own = |id: u32| Some(id).filter(|id| *id != 0);
        made.set_uid(node.uid.or_else(|| own(process.user().uid())));
        made.set_gid(node.gid.or_else(|| own(process.user().gid())));
        Ok(made)
    }

    fn take_from_host(
        &self,
        made: &mut LinuxDevice,
        node: &DeviceNode,
        wanted: Option<LinuxDeviceType>,
    ) -> Result<(), CdiError> {
        let host = node.host_path.as_ref().unwrap_or(&node.path);
        let about = fs::metadata(host).map_err(self.host(host))?;
        let kind = match about.file_type() {
            kind if kind.is_char_device() => LinuxDeviceType::C,
            kind if kind.is_block_device() => LinuxDeviceType::B,
            kind if kind.is_fifo() => LinuxDeviceType::P,
            _ => {
                let path = host.display().to_string();
                return Err(self.invalid("deviceNodes.hostPath", path, "is no device"));
            }
        };
        let same =
            |wanted| wanted == kind || wanted == LinuxDeviceType::U && kind == LinuxDeviceType::C;
        if wanted.is_some_and(|wanted| !same(wanted)) {
            let path = host.display().to_string();
            return Err(self.invalid("deviceNodes.hostPath", path, "is of another type"));
        }
        let number = |n: u64| i64::try_from(n).unwrap_or_default();
        made.set_typ(kind)
            .set_major(node.major.unwrap_or(number(major(about.rdev()))))
            .set_minor(node.minor.unwrap_or(number(minor(about.rdev()))))
            .set_file_mode(Some(node.file_mode.unwrap_or(about.mode() & 0o777)));
        Ok(())
    }

    fn mount(&self, mount: &Mount) -> Result<OciMount, CdiError> {
        let absolute = |what, path: &Path| match path.is_absolute() {
            true => Ok(()),
            false => Err(self.invalid(what, path.display().to_string(), "is not absolute")),
        };
        absolute("mounts.containerPath", &mount.container_path)?;
        let is_bind = |options: &[String]| options.iter().any(|o| o == "bind" || o == "rbind");
        let mut options = mount.options.clone();
        let kind = match mount.kind.as_deref() {
            None | Some("" | "bind") => "bind",
            Some(other) => other,
        };
        if kind == "bind" || is_bind(&options) {
            absolute("mounts.hostPath", &mount.host_path)?;
            // A missing source is an error: nobody else's library is made up as a folder.
            fs::metadata(&mount.host_path).map_err(self.host(&mount.host_path))?;
            if !is_bind(&options) {
                options.push("bind".to_owned());
            }
        }
        let mut made = OciMount::default();
        made.set_destination(mount.container_path.clone())
            .set_source(Some(mount.host_path.clone()))
            .set_typ(Some(kind.to_owned()))
            .set_options(Some(options));
        Ok(made)
    }

    fn add_hook(&self, spec: &mut Spec, hook: &Hook) -> Result<(), CdiError> {
        if !hook.path.is_absolute() {
            let path = hook.path.display().to_string();
            return Err(self.invalid("hooks.path", path, "is not absolute"));
        }
        let mut hooks = spec.hooks().clone().unwrap_or_default();
        let add = |list: &Option<Vec<OciHook>>| {
            let mut list = list.clone().unwrap_or_default();
            list.push(hook.to_oci());
            Some(list)
        };
        match hook.hook_name.as_str() {
            // Its place in the order of things is that of createRuntime.
            "prestart" | "createRuntime" => {
                let list = add(hooks.create_runtime());
                hooks.set_create_runtime(list)
            }
            "createContainer" => {
                let list = add(hooks.create_container());
                hooks.set_create_container(list)
            }
            "startContainer" => {
                let list = add(hooks.start_container());
                hooks.set_start_container(list)
            }
            "poststart" => {
                let list = add(hooks.poststart());
                hooks.set_poststart(list)
            }
            "poststop" => {
                let list = add(hooks.poststop());
                hooks.set_poststop(list)
            }
            other => return Err(self.invalid("hooks.hookName", other, "is no hook")),
        };
        spec.set_hooks(Some::<Hooks>(hooks));
        Ok(())
    }
}

/// 0 is nothing to add.
fn add_groups(process: &mut Process, added: &[u32]) {
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in added.iter().filter(|gid| **gid != 0) {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn injected(edits: &Value) -> Result<Spec, CdiError> {
        let dir = tempfile::tempdir().unwrap();
        let file = json!({
            "cdiVersion": "0.7.0",
            "kind": "v.com/c",
            "devices": [{ "name": "d", "containerEdits": edits }],
        });
        fs::write(dir.path().join("v.json"), file.to_string()).unwrap();
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {
                "args": ["true"], "cwd": "/", "env": ["A=1", "B=2"],
                "user": { "uid": 5, "gid": 6, "additionalGids": [7] },
            },
            "mounts": [
                { "destination": "/a", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/b/c/d", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "devices": [{ "path": "/dev/x", "type": "c", "major": 9, "minor": 9 }] },
        }))
        .unwrap();
        let name = DeviceName::parse("v.com/c=d").unwrap();
        inject(&mut spec, &[name], &[dir.path().to_owned()]).map(|()| spec)
    }

    #[test]
    fn variables_and_groups_are_added_and_replaced() {
        let spec =
            injected(&json!({ "env": ["A=x=y", "C=3"], "additionalGids": [0, 7, 8] })).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.env().as_ref().unwrap(), &["B=2", "A=x=y", "C=3"]);
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[7, 8]);
    }

    #[test]
    fn a_node_is_the_hosts_with_a_rule_and_belongs_to_the_user() {
        let nodes = json!({ "deviceNodes": [{ "path": "/dev/x", "hostPath": "/dev/full", "permissions": "r" }] });
        let spec = injected(&nodes).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let devices = linux.devices().as_ref().unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!((devices[0].major(), devices[0].minor()), (1, 7));
        assert_eq!((devices[0].uid(), devices[0].gid()), (Some(5), Some(6)));
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        let rule = rules.last().unwrap();
        assert_eq!((rule.minor(), rule.access().as_deref()), (Some(7), Some("r")));
    }

    #[test]
    fn mounts_replace_and_are_sorted_and_need_their_source() {
        let mounts = json!({ "mounts": [
            { "hostPath": "/", "containerPath": "/b", "options": ["ro"] },
            { "hostPath": "/", "containerPath": "/a", "options": ["rbind"] },
        ] });
        let spec = injected(&mounts).unwrap();
        let all = spec.mounts().as_ref().unwrap();
        let seen: Vec<_> = all.iter().map(|m| m.destination().to_str().unwrap()).collect();
        assert_eq!(seen, ["/b", "/a", "/b/c/d"]);
        assert_eq!(all[0].options().as_ref().unwrap(), &["ro", "bind"]);
        let missing = json!({ "mounts": [{ "hostPath": "/no/such", "containerPath": "/b" }] });
        let error = injected(&missing).unwrap_err();
        assert!(error.to_string().contains("v.com/c=d") && error.to_string().contains("/no/such"));
    }

    #[test]
    fn hooks_go_to_their_moment() {
        let hook =
            |name: &str| json!({ "hooks": [{ "hookName": name, "path": "/bin/x", "timeout": 3 }] });
        let spec = injected(&hook("createContainer")).unwrap();
        let hooks = spec.hooks().as_ref().unwrap();
        assert_eq!(hooks.create_container().as_ref().unwrap()[0].timeout(), Some(3));
        assert!(injected(&hook("whenever")).unwrap_err().to_string().contains("whenever"));
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (what, edits) in [
            ("intelRdt", json!({ "intelRdt": { "closID": "x" } })),
            ("netDevices", json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "b" }] })),
        ] {
            let error = injected(&edits).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.kind(), crate::error::ErrorKind::Unimplemented);
        }
    }
}
