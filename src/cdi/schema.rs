//! A specification as it is written, JSON or YAML. A field that is not known is refused: what is
//! left out of a device may be what keeps it apart from others.

use oci_spec::runtime::Hook as OciHook;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The versions that are read.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) cdi_version: String,
    /// `vendor/class`.
    pub(super) kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "allowed in a file, and without meaning here")]
    annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For every device of the file.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// A device of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    #[expect(dead_code, reason = "allowed in a file, and without meaning here")]
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// What of an OCI configuration changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    /// `NAME=value`.
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<serde_json::Value>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<serde_json::Value>,
    pub(super) additional_gids: Vec<u32>,
}

/// A device node. What is not said is that of the host's node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeviceNode {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// An OCI hook.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    /// `createRuntime` and so on.
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
}

impl Hook {
    /// In the words of the OCI configuration.
    pub(super) fn to_oci(&self) -> OciHook {
        let mut hook = OciHook::default();
        hook.set_path(self.path.clone())
            .set_args(self.args.clone())
            .set_env(self.env.clone())
            .set_timeout(self.timeout);
        hook
    }
}

impl Spec {
    /// Parses a file, by the end of its name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str, extension: &str) -> Result<Self, String> {
        let spec: Self = match extension {
            "json" => serde_json::from_str(text).map_err(|e| e.to_string())?,
            _ => serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?,
        };
        let version = spec.cdi_version.strip_prefix('v').unwrap_or(&spec.cdi_version);
        if !VERSIONS.contains(&version) {
            return Err(format!("cdiVersion {:?} is not known", spec.cdi_version));
        }
        super::name::check_kind(&spec.kind)
            .map_err(|why| format!("kind {:?}: {why}", spec.kind))?;
        for device in &spec.devices {
            super::name::check_device(&device.name)
                .map_err(|why| format!("device {:?}: {why}", device.name))?;
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.com/gpu
devices:
  - name: "0"
    containerEdits:
      deviceNodes: [{ path: /dev/x, hostPath: /dev/null, permissions: rw }]
containerEdits:
  env: ["A=b"]
  additionalGids: [7]
  hooks:
    - { hookName: createContainer, path: /bin/x, args: [x, y] }
"#;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = Spec::parse(YAML, "yaml").unwrap();
        let value: serde_json::Value = serde_yaml_ng::from_str(YAML).unwrap();
        let json = Spec::parse(&value.to_string(), "json").unwrap();
        assert_eq!(format!("{yaml:?}"), format!("{json:?}"));
        assert_eq!(yaml.devices[0].container_edits.device_nodes[0].path, PathBuf::from("/dev/x"));
        assert_eq!(yaml.container_edits.additional_gids, [7]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let rows = [
            ("cdiVersion: \"0.6.0\"", "cdiVersion: \"9.9.9\"", "9.9.9"),
            ("kind: vendor.com/gpu", "kind: gpu", "\"gpu\""),
            ("name: \"0\"", "name: \"-\"", "\"-\""),
            ("additionalGids", "additionalGroups", "additionalGroups"),
        ];
        for (from, to, words) in rows {
            let error = Spec::parse(&YAML.replace(from, to), "yaml").unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
