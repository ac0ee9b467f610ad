//! Where a volume's content comes from, in a line; pure.

use k8s_openapi::api::core::v1::{Volume, VolumeProjection};

/// `ConfigMap settings (optional)`, `emptyDir, medium Memory, limit 64Mi`, …
pub(super) fn volume(volume: &Volume) -> String {
    if let Some(of) = &volume.empty_dir {
        let medium = of.medium.as_deref().filter(|m| !m.is_empty()).unwrap_or("disk");
        let limit = of.size_limit.as_ref().map(|limit| format!(", limit {}", limit.0));
        return format!("emptyDir, medium {medium}{}", limit.unwrap_or_default());
    }
    if let Some(of) = &volume.host_path {
        let kind = of.type_.as_deref().filter(|kind| !kind.is_empty());
        return format!(
            "hostPath {}{}",
            of.path,
            kind.map_or(String::new(), |k| format!(" ({k})"))
        );
    }
    if let Some(of) = &volume.config_map {
        return object("ConfigMap", &of.name, of.optional);
    }
    if let Some(of) = &volume.secret {
        return object("Secret", of.secret_name.as_deref().unwrap_or_default(), of.optional);
    }
    if let Some(of) = &volume.projected {
        let parts: Vec<String> = of.sources.iter().flatten().map(projection).collect();
        return format!("projected: {}", parts.join(", "));
    }
    if let Some(of) = &volume.image {
        return format!("image {}", of.reference.as_deref().unwrap_or_default());
    }
    if volume.downward_api.is_some() { "downward API" } else { "of another kind" }.to_owned()
}

fn projection(of: &VolumeProjection) -> String {
    match of {
        VolumeProjection { config_map: Some(of), .. } => object("ConfigMap", &of.name, of.optional),
        VolumeProjection { secret: Some(of), .. } => object("Secret", &of.name, of.optional),
        VolumeProjection { downward_api: Some(_), .. } => "downward API".to_owned(),
        VolumeProjection { service_account_token: Some(_), .. } => "token".to_owned(),
        _ => "of another kind".to_owned(),
    }
}

fn object(kind: &str, name: &str, optional: Option<bool>) -> String {
    let optional = if optional == Some(true) { " (optional)" } else { "" };
    format!("{kind} {name}{optional}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_is_a_line() {
        for (source, expected) in [
            (json!({"emptyDir": {}}), "emptyDir, medium disk"),
            (
                json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
                "emptyDir, medium Memory, limit 64Mi",
            ),
            (json!({"hostPath": {"path": "/srv"}}), "hostPath /srv"),
            (json!({"hostPath": {"path": "/srv", "type": "File"}}), "hostPath /srv (File)"),
            (json!({"configMap": {"name": "a"}}), "ConfigMap a"),
            (json!({"secret": {"secretName": "s", "optional": true}}), "Secret s (optional)"),
            (json!({"downwardAPI": {}}), "downward API"),
            (json!({"image": {"reference": "r"}}), "image r"),
            (
                json!({"projected": {"sources": [
                    {"configMap": {"name": "a"}}, {"secret": {"name": "s"}}, {"downwardAPI": {}},
                ]}}),
                "projected: ConfigMap a, Secret s, downward API",
            ),
        ] {
            let mut value = source;
            value["name"] = json!("v");
            let of: Volume = serde_json::from_value(value).unwrap();
            assert_eq!(volume(&of), expected);
        }
    }
}
