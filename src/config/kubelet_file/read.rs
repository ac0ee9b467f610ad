//! From a file to keys.

use super::form::{Form, boolean, convert, number, seconds, text};
use super::table::{Fate, field, is_structure};
use crate::config::{CgroupDriver, ConfigError, Eviction, MinimumReclaim, Threshold};
use crate::error::chain;
use crate::kubelet::api::documents;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value as Toml;

/// The only version that is read.
const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// Where and on which port kubelets serve if they are not told.
const ADDRESS: &str = "0.0.0.0";
const PORT: i64 = 10_250;
/// The cgroup of all pods, below `cgroupRoot`.
const PODS: &str = "kubepods";

/// What a file says, as keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::config) struct KubeletFile {
    /// The values of keys of `[kubelet]`, each with its field.
    pub(in crate::config) keys: BTreeMap<&'static str, (Toml, String)>,
    /// The driver that pods' cgroups have to have.
    pub(in crate::config) driver: Option<CgroupDriver>,
    /// What changes nothing, a sentence each.
    pub(in crate::config) ignored: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read; it is no KubeletConfiguration; a field is unknown, there twice, of another type, or asks for
/// what is not done.
pub(in crate::config) fn read(path: &Path) -> Result<KubeletFile, ConfigError> {
    let bytes = std::fs::read(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &bytes)
}

/// The same of a text.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<KubeletFile, ConfigError> {
    let failed = |message: String| ConfigError::KubeletFile { path: path.to_owned(), message };
    let mut documents = documents(bytes).map_err(|error| failed(chain(&error)))?;
    let (Some((document, repeated)), true) = (documents.pop(), documents.is_empty()) else {
        return Err(failed("it is not one document".to_owned()));
    };
    if let Some(field) = repeated.first() {
        return Err(failed(format!("field {field} is there twice")));
    }
    let Value::Object(fields) = document else {
        return Err(failed("it is no object".to_owned()));
    };
    let of = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    if (of("apiVersion"), of("kind")) != (API_VERSION, "KubeletConfiguration") {
        let message = format!(
            "apiVersion {:?}, kind {:?} is not {API_VERSION} KubeletConfiguration",
            of("apiVersion"),
            of("kind")
        );
        return Err(failed(message));
    }
    let mut reader = Reader { path: path.to_owned(), ..Reader::default() };
    reader.object("", &fields)?;
    reader.together()?;
    Ok(reader.file)
}

#[derive(Default)]
struct Reader {
    path: PathBuf,
    file: KubeletFile,
    /// Fields that make a key with others.
    parts: BTreeMap<&'static str, Value>,
    /// Whether the gate of swap is closed.
    without_swap: bool,
}

impl Reader {
    fn wrong(&self, field: &str, message: &str) -> ConfigError {
        let message = format!("{field}: {message}");
        ConfigError::KubeletFile { path: self.path.clone(), message }
    }

    fn object(&mut self, above: &str, fields: &Map<String, Value>) -> Result<(), ConfigError> {
        // What is null is not there.
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            match (field(&path), value) {
                (Some((known, fate)), value) => self.field((known, *fate), &path, value)?,
                (None, Value::Object(inner)) if is_structure(&path) => self.object(&path, inner)?,
                (None, _) if is_structure(&path) => {
                    return Err(self.wrong(&path, "it is no object"));
                }
                (None, _) => return Err(self.wrong(&path, "there is no such field")),
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        (known, fate): (&'static str, Fate),
        path: &str,
        value: &Value,
    ) -> Result<(), ConfigError> {
        match fate {
            Fate::Sets(key, form) => self.sets((known, key, form), value),
            Fate::Refused(fine, why) => {
                let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if fine.contains(&plain.as_str()) {
                    return Ok(());
                }
                Err(self.wrong(path, &format!("{value} is refused: {why}")))
            }
            Fate::Ignored(why) => {
                if !matches!(known, "kind" | "apiVersion") {
                    self.file.ignored.push(format!("{path} is ignored: {why}"));
                }
                Ok(())
            }
        }
    }

    fn sets(
        &mut self,
        (known, key, form): (&'static str, &'static str, Form),
        value: &Value,
    ) -> Result<(), ConfigError> {
        match form {
            Form::Together => {
                self.parts.insert(known, value.clone());
            }
            Form::Driver => {
                let driver = text(value).map_err(|wrong| self.wrong(known, &wrong))?;
                self.file.driver = match driver {
                    "" => None,
                    "cgroupfs" => Some(CgroupDriver::Cgroupfs),
                    "systemd" => Some(CgroupDriver::Systemd),
                    _ => return Err(self.wrong(known, "neither cgroupfs nor systemd")),
                };
            }
            Form::Gates => self.gates(known, value)?,
            form => {
                let converted = convert(form, value).map_err(|wrong| self.wrong(known, &wrong))?;
                if let Some(converted) = converted {
                    self.set(key, known, converted);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &'static str, field: &str, value: Toml) {
        self.file.keys.insert(key, (value, field.to_owned()));
    }

    /// Two gates are known. Of other features it is not for a gate to say whether berth has them.
    fn gates(&mut self, known: &'static str, value: &Value) -> Result<(), ConfigError> {
        let gates = value.as_object().ok_or_else(|| self.wrong(known, "it is no map"))?;
        for (name, on) in gates {
            let on = boolean(on);
            let on = on.map_err(|wrong| self.wrong(&format!("{known}.{name}"), &wrong))?;
            match (name.as_str(), on) {
                ("MemoryQoS", on) => {
                    self.set("memory_qos", "featureGates.MemoryQoS", Toml::Boolean(on));
                    continue;
                }
                ("NodeSwap", true) => continue,
                ("NodeSwap", false) => {
                    self.without_swap = true;
                    continue;
                }
                _ => {}
            }
            let sentence = format!("{known}.{name} is ignored: there is no such gate");
            self.file.ignored.push(sentence);
        }
        Ok(())
    }

    /// The keys that several fields make.
    fn together(&mut self) -> Result<(), ConfigError> {
        if self.without_swap {
            self.set("swap_behavior", "featureGates.NodeSwap", Toml::String("NoSwap".to_owned()));
        }
        self.http_address()?;
        self.cgroup_root()?;
        self.eviction()?;
        self.parallel_pulls()
    }

    fn part<T>(
        &self,
        field: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.parts.get(field).map(read).transpose();
        value.map_err(|wrong| self.wrong(field, &wrong))
    }

    /// Either of address and port is enough; with neither the API stays on its socket.
    fn http_address(&mut self) -> Result<(), ConfigError> {
        let address = self.part("address", |value| text(value).map(str::to_owned))?;
        let address = address.filter(|address| !address.is_empty());
        let port = self.part("port", number)?.filter(|port| *port != 0);
        let served = self.part("enableServer", boolean)?.unwrap_or(true);
        if !served || (address.is_none() && port.is_none()) {
            return Ok(());
        }
        let ip = address.as_deref().unwrap_or(ADDRESS);
        let ip: std::net::IpAddr =
            ip.parse().map_err(|_| self.wrong("address", "it is no IP address"))?;
        let port = u16::try_from(port.unwrap_or(PORT))
            .map_err(|_| self.wrong("port", "it is not 1 to 65535"))?;
        let at = std::net::SocketAddr::from((ip, port));
        self.set("http_address", "address, port", Toml::String(at.to_string()));
        Ok(())
    }

    /// Pods are in `kubepods` below the root; without cgroups by QoS they are where the runtime puts them.
    fn cgroup_root(&mut self) -> Result<(), ConfigError> {
        let root = self.part("cgroupRoot", |value| text(value).map(str::to_owned))?;
        let by_class = self.part("cgroupsPerQOS", boolean)?;
        let place = match (root, by_class) {
            (_, Some(false)) => String::new(),
            (Some(root), _) if !root.trim_matches('/').is_empty() => {
                format!("{}/{PODS}", root.trim_matches('/'))
            }
            (Some(_), _) | (None, Some(true)) => PODS.to_owned(),
            (None, None) => return Ok(()),
        };
        self.set("cgroup_root", "cgroupRoot, cgroupsPerQOS", Toml::String(place));
        Ok(())
    }

    /// The entries of a map of texts, by name.
    fn texts(&self, field: &'static str) -> Result<Option<BTreeMap<String, String>>, ConfigError> {
        self.part(field, |value| {
            let entries = value.as_object().ok_or_else(|| format!("{value} is not a map"))?;
            let entry =
                |(name, value): (&String, &Value)| Ok((name.clone(), text(value)?.to_owned()));
            entries.iter().map(entry).collect()
        })
    }

    /// Thresholds, each a text of its signal and its amount.
    fn eviction(&mut self) -> Result<(), ConfigError> {
        if let Some(hard) = self.texts("evictionHard")? {
            let merged = self.part("mergeDefaultEvictionSettings", boolean)? == Some(true);
            let mut all: Vec<Threshold> = Vec::new();
            for (signal, amount) in &hard {
                all.push(self.threshold("evictionHard", format!("{signal}<{amount}"))?);
            }
            let defaults = Eviction::default().hard.into_iter().filter(|_| merged);
            for of in defaults {
                if !all.iter().any(|given| given.signal == of.signal) {
                    all.push(of);
                }
            }
            self.set_texts("eviction.hard", "evictionHard", all.into_iter().map(String::from));
        }
        let soft = self.texts("evictionSoft")?;
        let graces = self.texts("evictionSoftGracePeriod")?.unwrap_or_default();
        if let Some(soft) = soft {
            let mut all = Vec::new();
            for (signal, amount) in &soft {
                let Some(grace) = graces.get(signal) else {
                    let message = format!("{signal} has no evictionSoftGracePeriod");
                    return Err(self.wrong("evictionSoft", &message));
                };
                let seconds = seconds(&Value::String(grace.clone()))
                    .map_err(|wrong| self.wrong("evictionSoftGracePeriod", &wrong))?;
                let threshold = self.threshold("evictionSoft", format!("{signal}<{amount}"))?;
                all.push(format!("{} for {seconds}s", String::from(threshold)));
            }
            let fields = "evictionSoft, evictionSoftGracePeriod";
            self.set_texts("eviction.soft", fields, all.into_iter());
        }
        if let Some(reclaim) = self.texts("evictionMinimumReclaim")? {
            let mut all = Vec::new();
            for (signal, amount) in &reclaim {
                let read = MinimumReclaim::try_from(format!("{signal}={amount}"));
                let read =
                    read.map_err(|wrong| self.wrong("evictionMinimumReclaim", &wrong.to_string()))?;
                all.push(String::from(read));
            }
            let field = "evictionMinimumReclaim";
            self.set_texts("eviction.minimum_reclaim", field, all.into_iter());
        }
        Ok(())
    }

    fn threshold(&self, field: &str, text: String) -> Result<Threshold, ConfigError> {
        Threshold::try_from(text).map_err(|wrong| self.wrong(field, &wrong.to_string()))
    }

    fn set_texts(&mut self, key: &'static str, fields: &str, texts: impl Iterator<Item = String>) {
        self.set(key, fields, Toml::Array(texts.map(Toml::String).collect()));
    }

    fn parallel_pulls(&mut self) -> Result<(), ConfigError> {
        let one = self.part("serializeImagePulls", boolean)?;
        let most = self.part("maxParallelImagePulls", number)?;
        let most = match (one, most) {
            (Some(true), Some(most)) if most != 1 => {
                let message = "it cannot be set while serializeImagePulls is true";
                return Err(self.wrong("maxParallelImagePulls", message));
            }
            (_, Some(0)) => return Err(self.wrong("maxParallelImagePulls", "it is 0")),
            (Some(true), _) => 1,
            (_, Some(most)) => most,
            (_, None) => return Ok(()),
        };
        let fields = "serializeImagePulls, maxParallelImagePulls";
        self.set("parallel_pulls", fields, Toml::Integer(most));
        Ok(())
    }
}
