use super::super::samples;
use super::*;
use crate::error::chain;
use proptest::prelude::*;

fn pod(text: &str) -> Pod {
    match decode(text.as_bytes()).unwrap().objects.as_slice() {
        [Object::Pod(pod)] => (**pod).clone(),
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    chain(&decode(text.as_bytes()).unwrap_err())
}

#[test]
fn a_pod_is_the_same_in_yaml_and_json() {
    let yaml = pod(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: c, image: i}\n",
    );
    let json = pod(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
    );
    assert_eq!(yaml, json);
    assert_eq!(yaml.spec.unwrap().containers[0].image.as_deref(), Some("i"));
}

#[test]
fn documents_and_lists_give_their_objects_in_order() {
    let text = "\
---
# nothing here
---
{apiVersion: v1, kind: Service, metadata: {name: s}}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: p}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {k: v}}
---
apiVersion: v1
kind: SecretList
metadata: {resourceVersion: '1'}
items:
- {metadata: {name: x}}
";
    let names: Vec<&str> = decode(text.as_bytes())
        .unwrap()
        .objects
        .iter()
        .map(|object| match object {
            Object::Pod(_) => "pod",
            Object::ConfigMap(_) => "map",
            Object::Secret(_) => "secret",
            Object::Service(_) => "service",
        })
        .collect();
    assert_eq!(names, ["service", "pod", "map", "secret"]);
}

#[test]
fn several_texts_of_json_are_several_documents() {
    let one = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
    assert_eq!(decode(format!("{one}\n{one}").as_bytes()).unwrap().objects.len(), 2);
}

#[test]
fn unknown_and_repeated_fields_are_warnings_with_their_paths() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {imgae: fine}}
spec:
  containers:
  - name: c
    imgae: x
    image: y
    image: z
    livenessProbe: {httpGet: {port: 1, pth: /}}
  hostNetwrok: true
";
    let decoded = decode(text.as_bytes()).unwrap();
    let expected = [
        "field \"spec.containers[0].image\" is there twice; the last one counts",
        "unknown field \"spec.containers[0].imgae\"",
        "unknown field \"spec.containers[0].livenessProbe.httpGet.pth\"",
        "unknown field \"spec.hostNetwrok\"",
    ];
    assert_eq!(decoded.warnings, expected);
    let list = "apiVersion: v1\nkind: PodList\nitems: [{spec: {x: 1}}]\n---\n{apiVersion: v1, kind: Pod}\n";
    let warnings = decode(list.as_bytes()).unwrap().warnings;
    assert_eq!(warnings, ["document 1: unknown field \"items[0].spec.x\""]);
}

#[test]
fn many_warnings_are_counted() {
    let fields: String = (0..150).map(|n| format!("  x{n}: 1\n")).collect();
    let decoded = decode(format!("apiVersion: v1\nkind: Pod\nspec:\n{fields}").as_bytes()).unwrap();
    assert_eq!(decoded.warnings.len(), MOST_WARNINGS + 1);
    assert_eq!(decoded.warnings.last().map(String::as_str), Some("and 50 more"));
}

#[test]
fn wrong_types_are_errors_that_name_the_field() {
    let rows = [
        ("{spec: {containers: [{name: 5}]}}", "spec.containers[0].name: invalid type: integer `5`"),
        ("{spec: {containers: {name: c}}}", "spec.containers: invalid type: map"),
        ("{spec: {hostNetwork: 'yes'}}", "spec.hostNetwork: invalid type: string \"yes\""),
        ("{metadata: {labels: {a: 1}}}", "metadata.labels.a: invalid type: integer `1`"),
        (
            "{spec: {containers: [{ports: [{containerPort: 80x}]}]}}",
            "spec.containers[0].ports[0].containerPort: ",
        ),
        ("{spec: 5}", "spec: invalid type"),
    ];
    for (fields, problem) in rows {
        let text = format!("apiVersion: v1\nkind: Pod\n{}", &fields[1..fields.len() - 1]);
        let told = refused(&text);
        assert!(told.starts_with(problem), "{fields}: {told}");
    }
    let told = refused("apiVersion: v1\nkind: PodList\nitems: [{}, {spec: 5}]");
    assert!(told.starts_with("items[1].spec: "), "{told}");
    let told = refused("apiVersion: v1\nkind: Secret\ndata: {k: '%'}");
    assert!(told.starts_with("data.k: "), "{told}");
}

#[test]
fn what_is_no_object_that_is_read_here_is_refused() {
    let rows = [
        (
            "apiVersion: apps/v1\nkind: Deployment",
            "apiVersion \"apps/v1\", kind \"Deployment\" is not read here",
        ),
        ("apiVersion: v1\nkind: Node", "kind \"Node\""),
        ("apiVersion: v1\nkind: NodeList", "kind \"NodeList\""),
        (
            "apiVersion: v1\nkind: List\nitems: [{kind: Pod}]",
            "items[0]: apiVersion \"\", kind \"Pod\"",
        ),
        ("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List}]", "kind \"List\""),
        (
            "apiVersion: v1\nkind: PodList\nitems: [{apiVersion: v1, kind: Secret}]",
            "kind \"Secret\"",
        ),
        ("apiVersion: v1\nkind: List\nitems: {}", "items: must be a list"),
        ("a string", "kind \"\""),
        ("- 1", "kind \"\""),
        ("a: [", "not YAML"),
        ("{\"a\":", "not JSON"),
        ("a: \u{0}", "not YAML"),
    ];
    for (text, problem) in rows {
        let told = refused(text);
        assert!(told.contains(problem), "{text}: {told}");
    }
}

#[test]
fn a_text_without_an_object_is_refused_but_an_empty_list_is_not() {
    for text in ["", "\n", "# only words\n", "---\n---\n"] {
        assert!(matches!(decode(text.as_bytes()), Err(DecodeError::Empty)), "{text:?}");
    }
    let list = decode(b"apiVersion: v1\nkind: PodList\nitems: []\n").unwrap();
    assert_eq!(list, Decoded::default());
}

#[test]
fn strings_of_a_secret_are_data() {
    let text =
        "apiVersion: v1\nkind: Secret\ndata: {a: b2xk, b: b2xk}\nstringData: {b: new, c: more}\n";
    let objects = decode(text.as_bytes()).unwrap().objects;
    let [Object::Secret(secret)] = objects.as_slice() else { panic!("{objects:?}") };
    let data = secret.data.as_ref().unwrap();
    let texts: Vec<(&str, &[u8])> =
        data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    assert_eq!(texts, [("a", &b"old"[..]), ("b", b"new"), ("c", b"more")]);
    assert_eq!(secret.string_data, None);
}

#[test]
fn octal_modes_and_plain_numbers_of_resources_are_understood() {
    let pod = pod("\
apiVersion: v1
kind: Pod
metadata: {name: a, creationTimestamp: null, labels: {mode: '0644'}}
spec:
  volumes:
  - {name: v, configMap: {name: m, defaultMode: 0400, items: [{key: k, path: p, mode: 0o644}]}}
  containers:
  - {name: c, resources: {limits: {cpu: 1, memory: 1e3}, requests: {cpu: 0.5}}}
");
    let spec = pod.spec.unwrap();
    let map = spec.volumes.unwrap().remove(0).config_map.unwrap();
    assert_eq!((map.default_mode, map.items.unwrap()[0].mode), (Some(0o400), Some(0o644)));
    let resources = spec.containers[0].resources.clone().unwrap();
    assert_eq!(resources.limits.unwrap()["cpu"].0, "1");
    assert_eq!(resources.requests.unwrap()["cpu"].0, "0.5");
    assert_eq!(pod.metadata.labels.unwrap()["mode"], "0644");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode(&bytes).ok();
    }

    #[test]
    fn what_is_written_out_comes_back_without_warnings(pod in samples::pods()) {
        let object = Object::Pod(Box::new(pod.clone()));
        for text in [serde_json::to_string(&pod).unwrap(), serde_yaml_ng::to_string(&pod).unwrap()] {
            let decoded = decode(text.as_bytes()).unwrap();
            prop_assert_eq!(decoded.warnings, Vec::<String>::new());
            prop_assert_eq!(&decoded.objects, std::slice::from_ref(&object));
        }
    }
}
