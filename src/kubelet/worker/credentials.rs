//! A pod's own credentials for its images: `imagePullSecrets`.

use super::body::Body;
use crate::cri::proto;
use crate::image::{Auth, Reference, credentials_for};
use crate::kubelet::board::EventKind;
use crate::kubelet::objects::Objects;
use crate::kubelet::spec::{namespace, spec};
use k8s_openapi::api::core::v1::{Pod, Secret};
use std::sync::Arc;

impl Body {
    /// What to show for an image, one after the other until one will do: what fits it of the pod's secrets, else
    /// nothing, with which the runtime has its own.
    pub(super) fn credentials(&self, image: &str) -> Vec<Option<proto::AuthConfig>> {
        let objects = Arc::clone(&self.host.objects.borrow());
        let (found, missing) = credentials(&self.pod, &objects, image);
        for name in missing {
            let message = format!(
                "Unable to retrieve some image pull secrets ({name}): attempting to pull the image may not succeed"
            );
            self.event(EventKind::Warning, "FailedToRetrieveImagePullSecret", message);
        }
        if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() }
    }
}

/// The credentials of a pod that fit an image, and the secrets that there are not.
fn credentials(pod: &Pod, objects: &Objects, image: &str) -> (Vec<proto::AuthConfig>, Vec<String>) {
    let Ok(reference) = Reference::parse(image) else { return Default::default() };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for secret in spec(pod).image_pull_secrets.iter().flatten() {
        match objects.secret(namespace(pod), &secret.name) {
            Some(secret) => {
                let auth = config_of(secret).and_then(|text| credentials_for(&text, &reference));
                found.extend(auth.map(to_cri));
            }
            None => missing.push(secret.name.clone()),
        }
    }
    (found, missing)
}

/// A secret as docker's configuration: all of it, or the older form, which is its `auths` alone.
fn config_of(secret: &Secret) -> Option<Vec<u8>> {
    let data = secret.data.as_ref()?;
    if let Some(text) = data.get(".dockerconfigjson") {
        return Some(text.0.clone());
    }
    let auths: serde_json::Value = serde_json::from_slice(&data.get(".dockercfg")?.0).ok()?;
    serde_json::to_vec(&serde_json::json!({ "auths": auths })).ok()
}

fn to_cri(auth: Auth) -> proto::AuthConfig {
    proto::AuthConfig {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(name: &str, key: &str, text: serde_json::Value) -> Objects {
        let data = k8s_openapi::ByteString(serde_json::to_vec(&text).unwrap());
        let mut objects = Objects::default();
        objects.put_secret(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n"}, "data": {key: data},
            }))
            .unwrap(),
        );
        objects
    }

    fn pod(secrets: &[&str]) -> Pod {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({ "name": name })).collect();
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"},
            "spec": {"imagePullSecrets": secrets}}))
        .unwrap()
    }

    #[test]
    fn a_secret_is_shown_for_the_images_of_its_registry() {
        let auths = json!({"reg.example": {"username": "u", "password": "p"}});
        for (key, text) in
            [(".dockerconfigjson", json!({"auths": auths.clone()})), (".dockercfg", auths)]
        {
            let objects = objects("s", key, text);
            let (found, missing) = credentials(&pod(&["s"]), &objects, "reg.example/a:1");
            assert_eq!(
                found.iter().map(|a| a.username.as_str()).collect::<Vec<_>>(),
                ["u"],
                "{key}"
            );
            assert!(missing.is_empty());
            assert!(credentials(&pod(&["s"]), &objects, "other.example/a:1").0.is_empty(), "{key}");
        }
    }

    #[test]
    fn a_missing_secret_is_named_and_a_helper_is_never_run() {
        let helper = json!({"credHelpers": {"reg.example": "evil"}, "auths": {}});
        let objects = objects("s", ".dockerconfigjson", helper);
        let (found, missing) = credentials(&pod(&["gone", "s"]), &objects, "reg.example/a:1");
        assert!(found.is_empty());
        assert_eq!(missing, ["gone"]);
    }
}
