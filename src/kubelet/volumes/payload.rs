//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use super::error::VolumeError;
use super::source::Payload as PayloadSource;
use super::verbs::VolumeInput;
use crate::kubelet::env::{Kind, Named, Need, field_value, resource_value};
use crate::kubelet::objects::Objects;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, VolumeProjection};
use std::collections::BTreeMap;

/// The mode of a file that nothing says otherwise of.
const DEFAULT_MODE: u32 = 0o644;
/// The longest path, bytes.
const PATH_MAX: usize = 4096;
/// The longest part of a path, bytes.
const NAME_MAX: usize = 255;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Permission bits, at most 0777.
    pub(super) mode: u32,
    /// Its owner.
    pub(super) user: u32,
}

/// The files by their paths: relative, clean, none of which is a folder of another.
pub(super) type Payload = BTreeMap<String, File>;

/// The files of a volume.
///
/// # Errors
/// An object or a key that is missing and must not be, a path that leads out, a source that needs an
/// apiserver.
pub(super) fn payload(
    volume: &str,
    source: PayloadSource<'_>,
    input: &VolumeInput<'_>,
) -> Result<Payload, VolumeError> {
    let (mode, user) = match source {
        PayloadSource::ConfigMap(s) => (s.default_mode, s.default_user),
        PayloadSource::Secret(s) => (s.default_mode, s.default_user),
        PayloadSource::DownwardApi(s) => (s.default_mode, s.default_user),
        PayloadSource::Projected(s) => (s.default_mode, s.default_user),
    };
    let mut files = Files { volume, mode: DEFAULT_MODE, user: 0, made: Payload::new() };
    files.mode = files.mode_of(mode)?;
    files.user = files.user_of(user)?;
    match source {
        PayloadSource::ConfigMap(s) => {
            let named = input.named(Kind::ConfigMap, &s.name);
            files.add_object(named, s.items.as_deref(), s.optional, input.objects)?;
        }
        PayloadSource::Secret(s) => {
            let name = s.secret_name.as_deref().unwrap_or_default();
            let named = input.named(Kind::Secret, name);
            files.add_object(named, s.items.as_deref(), s.optional, input.objects)?;
        }
        PayloadSource::DownwardApi(s) => {
            files.add_fields(s.items.as_deref().unwrap_or_default(), input)?;
        }
        PayloadSource::Projected(s) => {
            for projection in s.sources.iter().flatten() {
                files.add_projection(projection, input)?;
            }
        }
    }
    Ok(files.made)
}

struct Files<'a> {
    volume: &'a str,
    mode: u32,
    user: u32,
    made: Payload,
}

impl Files<'_> {
    fn add_projection(
        &mut self,
        projection: &VolumeProjection,
        input: &VolumeInput<'_>,
    ) -> Result<(), VolumeError> {
        if let Some(s) = &projection.config_map {
            let named = input.named(Kind::ConfigMap, &s.name);
            self.add_object(named, s.items.as_deref(), s.optional, input.objects)?;
        }
        if let Some(s) = &projection.secret {
            let named = input.named(Kind::Secret, &s.name);
            self.add_object(named, s.items.as_deref(), s.optional, input.objects)?;
        }
        if let Some(s) = &projection.downward_api {
            self.add_fields(s.items.as_deref().unwrap_or_default(), input)?;
        }
        let refused = [
            ("serviceAccountToken", projection.service_account_token.is_some()),
            ("clusterTrustBundle", projection.cluster_trust_bundle.is_some()),
            ("podCertificate", projection.pod_certificate.is_some()),
        ];
        match refused.into_iter().find(|(_, given)| *given) {
            Some((what, _)) => {
                Err(VolumeError::Unsupported { volume: self.volume.to_owned(), what })
            }
            None => Ok(()),
        }
    }

    /// All keys of an object, or those that are listed.
    fn add_object(
        &mut self,
        named: Named<'_>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        objects: &Objects,
    ) -> Result<(), VolumeError> {
        let need = Need::of(optional);
        let failed = |source| {
            let source = Box::new(source);
            VolumeError::Value { volume: self.volume.to_owned(), source }
        };
        let Some(values) = named.values(objects, need).map_err(failed)? else {
            return Ok(());
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in values {
                self.put(key, value.to_vec(), (None, None))?;
            }
            return Ok(());
        };
        for item in items {
            match (values.get(item.key.as_str()), need) {
                (Some(value), _) => {
                    self.put(&item.path, value.to_vec(), (item.mode, item.user))?;
                }
                (None, Need::Optional) => {}
                (None, Need::Required) => return Err(failed(named.missing_key(&item.key))),
            }
        }
        Ok(())
    }

    fn add_fields(
        &mut self,
        items: &[DownwardAPIVolumeFile],
        input: &VolumeInput<'_>,
    ) -> Result<(), VolumeError> {
        let input = input.env();
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => field_value(&field.field_path, &input),
                (None, Some(resource)) => resource_value(resource, None, &input),
                (None, None) => {
                    return Err(self.invalid(
                        "downwardAPI.items.path",
                        &item.path,
                        "has no source",
                    ));
                }
            };
            let text = text.map_err(|source| VolumeError::Downward {
                volume: self.volume.to_owned(),
                file: item.path.clone(),
                source,
            })?;
            self.put(&item.path, text.into_bytes(), (item.mode, item.user))?;
        }
        Ok(())
    }

    /// A later file of a path wins, as kubelets have it.
    fn put(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        (mode, user): (Option<i32>, Option<i64>),
    ) -> Result<(), VolumeError> {
        let clean = clean(path).map_err(|reason| self.invalid("path", path, reason))?;
        let both = self.made.keys().any(|other| is_below(other, &clean) || is_below(&clean, other));
        if both {
            return Err(self.invalid("path", path, "is a file and a folder"));
        }
        let mode = if mode.is_some() { self.mode_of(mode)? } else { self.mode };
        let user = if user.is_some() { self.user_of(user)? } else { self.user };
        self.made.insert(clean, File { bytes, mode, user });
        Ok(())
    }

    fn mode_of(&self, mode: Option<i32>) -> Result<u32, VolumeError> {
        let Some(mode) = mode else { return Ok(DEFAULT_MODE) };
        let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o777);
        bits.ok_or_else(|| self.invalid("mode", &mode.to_string(), "is not within 0 and 0777"))
    }

    fn user_of(&self, user: Option<i64>) -> Result<u32, VolumeError> {
        let user = user.unwrap_or(0);
        let id = u32::try_from(user).ok().filter(|id| *id <= i32::MAX.unsigned_abs());
        id.ok_or_else(|| self.invalid("user", &user.to_string(), "is not the id of a user"))
    }

    fn invalid(&self, field: &'static str, value: &str, reason: &'static str) -> VolumeError {
        let (volume, value) = (self.volume.to_owned(), value.to_owned());
        VolumeError::Invalid { volume, field, value, reason }
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The path without what means nothing.
fn clean(path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("is absolute");
    }
    // The names of the writer's own begin so.
    if path.starts_with("..") {
        return Err("begins with '..'");
    }
    if path.len() > PATH_MAX || path.contains('\0') {
        return Err("is no path");
    }
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let parts: Vec<&str> = parts.collect();
    let first = parts.first().ok_or("is empty")?;
    if parts.contains(&"..") || first.starts_with("..") {
        return Err("leads out of the volume");
    }
    if parts.iter().any(|part| part.len() > NAME_MAX) {
        return Err("has a part of more than 255 bytes");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
