//! Names, labels and annotations; the keys of ConfigMaps and Secrets.

use super::super::decode::Object;
use super::names::{config_key, dns_label, dns_subdomain, label_value, qualified_name, uid};
use super::problem::{At, FieldError, Problems};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Of all annotations together, keys and values.
const ANNOTATION_BYTES: usize = 256 << 10;
/// Of the data of a ConfigMap or Secret.
const DATA_BYTES: usize = 1 << 20;

/// Every violation of a ConfigMap, Secret or Service that nodes depend on: who it is, and that its keys can be names of
/// files. Empty for pods, which are [`super::validate_pod`]'s.
pub fn validate_object(object: &Object) -> Vec<FieldError> {
    let mut problems = Problems::default();
    match object {
        Object::Pod(_) => {}
        Object::ConfigMap(map) => {
            metadata(&mut problems, &map.metadata);
            config_map_data(&mut problems, map.data.as_ref(), map.binary_data.as_ref());
        }
        Object::Secret(secret) => {
            metadata(&mut problems, &secret.metadata);
            let sizes = secret.data.iter().flatten().map(|(key, value)| (key, value.0.len()));
            data(&mut problems, &At::top("data"), sizes);
        }
        Object::Service(service) => {
            metadata(&mut problems, &service.metadata);
            // Names of variables are made of it.
            if let Some(name) = service.metadata.name.as_deref().filter(|name| !name.is_empty()) {
                problems.check(&At::top("metadata.name"), name, dns_label(name));
            }
        }
    }
    problems.into_errors()
}

/// Of a ConfigMap: a key is in one of the two.
fn config_map_data(
    problems: &mut Problems,
    texts: Option<&BTreeMap<String, String>>,
    binary: Option<&BTreeMap<String, ByteString>>,
) {
    let sizes = texts.into_iter().flatten().map(|(key, text)| (key, text.len()));
    data(problems, &At::top("data"), sizes);
    let at = At::top("binaryData");
    data(problems, &at, binary.into_iter().flatten().map(|(key, value)| (key, value.0.len())));
    for key in binary.into_iter().flatten().map(|(key, _)| key) {
        if texts.is_some_and(|texts| texts.contains_key(key)) {
            problems.duplicate(&at.key(key), key);
        }
    }
}

fn data<'a>(problems: &mut Problems, at: &At, sizes: impl Iterator<Item = (&'a String, usize)>) {
    let mut all = 0_usize;
    for (key, size) in sizes {
        all = all.saturating_add(size);
        problems.check(&at.key(key), key, config_key(key));
    }
    if all > DATA_BYTES {
        problems.invalid(
            at,
            all,
            format_args!("must have no more than {DATA_BYTES} bytes together"),
        );
    }
}

/// What every object has.
pub(super) fn metadata(problems: &mut Problems, metadata: &ObjectMeta) {
    let at = At::top("metadata");
    match metadata.name.as_deref().unwrap_or_default() {
        "" => problems.required(&at.field("name"), "an object without an API server needs a name"),
        name => problems.check(&at.field("name"), name, dns_subdomain(name)),
    }
    if let Some(namespace) = metadata.namespace.as_deref().filter(|name| !name.is_empty()) {
        problems.check(&at.field("namespace"), namespace, dns_label(namespace));
    }
    if let Some(text) = &metadata.uid {
        problems.check(&at.field("uid"), text, uid(text));
    }
    let labels = at.field("labels");
    for (key, value) in metadata.labels.iter().flatten() {
        problems.check(&labels, key, qualified_name(key));
        problems.check(&labels.key(key), value, label_value(value));
    }
    let annotations = at.field("annotations");
    let mut bytes = 0_usize;
    for (key, value) in metadata.annotations.iter().flatten() {
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        // Upper case is only bad style in an annotation.
        problems.check(&annotations, key, qualified_name(&key.to_ascii_lowercase()));
    }
    if bytes > ANNOTATION_BYTES {
        let why = format_args!("must have no more than {ANNOTATION_BYTES} bytes together");
        problems.invalid(&annotations, bytes, why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::decode::decode;
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let objects = decode(text.as_bytes()).unwrap().objects;
        let errors = objects.iter().flat_map(validate_object);
        errors.map(|error| error.path).collect()
    }

    #[test]
    fn each_violation_of_an_object_is_told_with_its_path() {
        let long = "x".repeat(DATA_BYTES + 1);
        let rows = [
            ("kind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}", vec![]),
            ("kind: ConfigMap\nmetadata: {}", vec!["metadata.name"]),
            (
                "kind: ConfigMap\nmetadata: {name: A, namespace: a.b}",
                vec!["metadata.name", "metadata.namespace"],
            ),
            ("kind: ConfigMap\nmetadata: {name: a}\ndata: {../k: v}", vec!["data[../k]"]),
            (
                "kind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\nbinaryData: {k: eA==}",
                vec!["binaryData[k]"],
            ),
            ("kind: Secret\nmetadata: {name: a}\nstringData: {a/b: v}", vec!["data[a/b]"]),
            ("kind: Service\nmetadata: {name: a.b}", vec!["metadata.name"]),
            (
                "kind: Service\nmetadata: {name: a, labels: {-x: ok, y: '/'}}",
                vec!["metadata.labels", "metadata.labels[y]"],
            ),
            (&format!("kind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {long}}}"), vec!["data"]),
            (
                &format!("kind: ConfigMap\nmetadata: {{name: a, annotations: {{k: {long}}}}}"),
                vec!["metadata.annotations"],
            ),
            (
                "kind: Secret\nmetadata: {name: a, annotations: {'a b': x, X.test/Y: z}}",
                vec!["metadata.annotations"],
            ),
        ];
        for (text, expected) in rows {
            let short: String = text.chars().take(80).collect();
            assert_eq!(paths(&format!("apiVersion: v1\n{text}")), expected, "{short}");
        }
    }

    #[test]
    fn a_long_value_is_shown_in_part() {
        let text =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {}}}", "A".repeat(300));
        let objects = decode(text.as_bytes()).unwrap().objects;
        let problem = validate_object(&objects[0]).remove(0).to_string();
        assert!(problem.starts_with("metadata.name: Invalid value: \"AAA"), "{problem}");
        assert!(problem.len() < 250, "{problem}");
    }
}
