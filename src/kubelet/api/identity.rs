//! The identity of a static pod: who it is on this node, without an API server to say so.
//!
//! The UID is a digest of what the user wrote, so that it is the same after every start, whatever the text
//! looks like, and another one as soon as the pod is meant differently.

use crate::kubelet::objects::DEFAULT_NAMESPACE;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use sha2::{Digest as _, Sha256};

/// The annotation that names the source of a pod: `file`, `http`, `local`.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// The annotation with the UID that its text gave a pod.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Hexadecimal digits of a UID.
const DIGITS: usize = 32;

/// Makes a decoded pod, before its defaults, the one of this node: namespace, UID, the annotations of its source,
/// the toleration of every NoExecute taint, the node's name.
///
/// `source` is the kind of the source, `origin` the file or URL within it. Fields that only an API server
/// writes are cleared. A pod without a name stays without one, which validation tells.
pub fn static_identity(pod: &mut Pod, node_name: &str, source: &str, origin: &str) {
    clear(pod);
    let hash = digest(pod, [node_name, source, origin]);
    let metadata = &mut pod.metadata;
    if metadata.uid.as_deref().unwrap_or_default().is_empty() {
        metadata.uid = Some(hash);
    }
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        metadata.namespace = Some(DEFAULT_NAMESPACE.to_owned());
    }
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.to_owned(), source.to_owned());
    annotations.insert(CONFIG_HASH.to_owned(), metadata.uid.clone().unwrap_or_default());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    let tolerates = Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&tolerates) {
        tolerations.push(tolerates);
    }
}

/// Appends the node's name to a pod's own, so that the same manifest may lie on every node of a cluster.
pub fn name_after_node(pod: &mut Pod, node_name: &str) {
    if let Some(name) = pod.metadata.name.as_mut().filter(|name| !name.is_empty()) {
        name.push('-');
        name.push_str(node_name);
    }
}

/// What an API server wrote into a pod that somebody copied.
fn clear(pod: &mut Pod) {
    pod.status = None;
    let metadata = &mut pod.metadata;
    metadata.creation_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.deletion_timestamp = None;
    metadata.generation = None;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
}

fn digest(pod: &Pod, of: [&str; 3]) -> String {
    let mut hasher = Sha256::new();
    for part in of {
        hasher.update(part);
        // No name holds one, so that no two lists are the same bytes.
        hasher.update([0]);
    }
    // What is added to a pod that runs does not make it another.
    let mut lasting = pod.clone();
    lasting.spec.iter_mut().for_each(|spec| spec.ephemeral_containers = None);
    // Values of the API cannot fail to be written.
    hasher.update(serde_json::to_vec(&lasting).unwrap_or_default());
    let digits = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    digits.chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identified(text: &str, [node, source, origin]: [&str; 3]) -> Pod {
        let mut pod: Pod = serde_yaml_ng::from_str(text).unwrap();
        static_identity(&mut pod, node, source, origin);
        name_after_node(&mut pod, node);
        pod
    }

    const TEXT: &str = "{metadata: {name: web}, spec: {containers: [{name: c, image: i}]}}";
    const HERE: [&str; 3] = ["node1", "file", "/m/web.yaml"];

    fn uid(text: &str, of: [&str; 3]) -> String {
        identified(text, of).metadata.uid.unwrap()
    }

    #[test]
    fn a_static_pod_has_its_place_on_the_node() {
        let pod = identified(TEXT, HERE);
        let id = pod.metadata.uid.clone().unwrap();
        let expected = json!({
            "name": "web-node1", "namespace": "default", "uid": id,
            "annotations": {CONFIG_SOURCE: "file", CONFIG_HASH: id},
        });
        assert_eq!(serde_json::to_value(&pod.metadata).unwrap(), expected);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node1"));
        let tolerations = serde_json::to_value(spec.tolerations.unwrap()).unwrap();
        assert_eq!(tolerations, json!([{"effect": "NoExecute", "operator": "Exists"}]));
        assert_eq!(id.len(), DIGITS);
        assert!(id.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }

    #[test]
    fn the_same_pod_in_other_words_has_the_same_uid() {
        let same = [
            "metadata:\n  name: web\nspec:\n  containers:\n  # a comment\n  - image: i\n    name: c\n",
            "{metadata: {name: web, creationTimestamp: null, resourceVersion: '7'}, status: {phase: Running},
              spec: {containers: [{name: c, image: i}]}}",
            r#"{"spec":{"containers":[{"image":"i","name":"c"}]},"metadata":{"name":"web"}}"#,
            "{metadata: {name: web}, spec: {containers: [{name: c, image: i}], ephemeralContainers: [{name: e}]}}",
        ];
        for text in same {
            assert_eq!(uid(text, HERE), uid(TEXT, HERE), "{text}");
        }
    }

    #[test]
    fn another_pod_or_place_has_another_uid() {
        let others = [
            ("image", TEXT.replace("image: i", "image: j"), HERE),
            ("label", TEXT.replace("name: web", "name: web, labels: {a: b}"), HERE),
            ("node", TEXT.to_owned(), ["node2", "file", "/m/web.yaml"]),
            ("source", TEXT.to_owned(), ["node1", "http", "/m/web.yaml"]),
            ("origin", TEXT.to_owned(), ["node1", "file", "/m/web2.yaml"]),
            ("border", TEXT.to_owned(), ["node", "1file", "/m/web.yaml"]),
        ];
        for (what, text, of) in others {
            assert_ne!(uid(&text, of), uid(TEXT, HERE), "{what}");
        }
    }

    #[test]
    fn a_uid_that_is_written_stays_and_marks_the_pod() {
        let pod = identified("{metadata: {name: a, uid: mine, namespace: n}}", HERE);
        assert_eq!(pod.metadata.uid.as_deref(), Some("mine"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("n"));
        assert_eq!(pod.metadata.annotations.unwrap()[CONFIG_HASH], "mine");
    }

    #[test]
    fn a_pod_without_a_name_stays_without_one() {
        for text in ["{}", "{metadata: {name: ''}}"] {
            let name = identified(text, HERE).metadata.name;
            assert!(name.is_none_or(|name| name.is_empty()), "{text}");
        }
    }
}
