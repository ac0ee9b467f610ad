use super::*;

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    )
}

fn reader(texts: &[(&str, &str)]) -> Reader {
    let mut reader = Reader::new(Source::File, "n1");
    texts.iter().for_each(|(origin, text)| reader.read(origin, Text::Bytes(text.as_bytes())));
    reader
}

fn names(update: &Update) -> Vec<String> {
    update.pods.iter().map(|pod| full_name(&pod.pod.metadata)).collect()
}

#[test]
fn a_pod_comes_with_its_identity_and_its_defaults() {
    let update = reader(&[("/m/web.yaml", &pod("web", "web:1"))]).assemble();
    let [SourcePod { pod, origin }] = update.pods.as_slice() else { panic!("{update:?}") };
    assert_eq!(origin, "/m/web.yaml");
    assert_eq!(full_name(&pod.metadata), "default/web-n1");
    assert_eq!(pod.spec.as_ref().unwrap().restart_policy.as_deref(), Some("Always"));
    let expected = FileStatus { pods: vec!["default/web-n1".into()], ..FileStatus::default() };
    assert_eq!(update.files, BTreeMap::from([("/m/web.yaml".to_owned(), expected)]));
}

#[test]
fn a_bad_text_is_skipped_as_a_whole_and_touches_no_other() {
    let half_bad = format!("{}---\n{}", pod("b", "i"), pod("Bad_Name", "i"));
    let update = reader(&[("a", &pod("a", "i")), ("b", &half_bad), ("c", "x: [")]).assemble();
    assert_eq!(names(&update), ["default/a-n1"]);
    assert_eq!(update.files["a"].problems, [""; 0]);
    let told = update.files["b"].problems.join("\n");
    assert!(told.starts_with("pod default/Bad_Name: metadata.name: Invalid value"), "{told}");
    assert!(update.files["c"].problems[0].starts_with("not YAML: "), "{update:?}");
}

#[test]
fn a_text_that_becomes_bad_keeps_its_pods_until_it_goes() {
    let mut reader = reader(&[("a", &pod("a", "i")), ("b", &pod("b", "i"))]);
    let good = reader.assemble();
    reader.read("a", Text::Bytes(b"apiVersion: v1\nkind: Po"));
    reader.read("b", Text::Unreadable("permission denied"));
    let bad = reader.assemble();
    assert_eq!(bad.pods, good.pods);
    assert!(bad.files["a"].problems[0].contains("kind \"Po\""), "{bad:?}");
    assert_eq!(bad.files["b"].problems, ["permission denied"]);
    // The control: the same bytes as before are good again.
    reader.read("a", Text::Bytes(pod("a", "i").as_bytes()));
    reader.read("b", Text::Bytes(pod("b", "i").as_bytes()));
    assert_eq!(reader.assemble(), good);
    reader.read("a", Text::Bytes(b""));
    reader.keep(&BTreeSet::from(["b".to_owned()]));
    assert_eq!(names(&reader.assemble()), ["default/b-n1"]);
}

#[test]
fn another_layout_of_the_text_changes_no_pod() {
    let mut reader = reader(&[("a", &pod("a", "i"))]);
    let before = reader.assemble();
    reader.read("a", Text::Bytes(format!("# more\n\n{}", pod("a", "i")).as_bytes()));
    assert_eq!(reader.assemble(), before);
    reader.read("a", Text::Bytes(pod("a", "j").as_bytes()));
    assert_ne!(reader.assemble().pods[0].pod.metadata.uid, before.pods[0].pod.metadata.uid);
}

#[test]
fn of_two_of_a_name_the_first_origin_counts_and_the_other_is_told_both() {
    let map = |value| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {value}}}\n")
    };
    let with_uid = |name: &str| pod(name, "i").replace("metadata: {", "metadata: {uid: u, ");
    let update = reader(&[
        ("b", &pod("web", "two")),
        ("a", &pod("web", "one")),
        ("d", &map("second")),
        ("c", &map("first")),
        ("e", &with_uid("x")),
        ("f", &with_uid("y")),
    ])
    .assemble();
    assert_eq!(names(&update), ["default/web-n1", "default/x-n1"]);
    let image = update.pods[0].pod.spec.as_ref().unwrap().containers[0].image.as_deref();
    assert_eq!(image, Some("one"));
    let data = update.objects.config_map("default", "m").unwrap().data.as_ref().unwrap();
    assert_eq!(data["k"], "first");
    let rows = [
        ("b", "pod default/web-n1 in b is left out: a has one of that name"),
        ("d", "ConfigMap default/m in d is left out: c has one of that name"),
        ("f", "pod default/y-n1 in f is left out: its UID u is that of a pod in e"),
    ];
    for (origin, problem) in rows {
        assert_eq!(update.files[origin].problems, [problem], "{origin}");
    }
}

#[test]
fn a_pod_takes_over_a_name_that_becomes_free() {
    let mut reader = reader(&[("a", &pod("web", "one")), ("b", &pod("web", "two"))]);
    reader.keep(&BTreeSet::from(["b".to_owned()]));
    let update = reader.assemble();
    assert_eq!(names(&update), ["default/web-n1"]);
    assert_eq!(update.files["b"].problems, [""; 0]);
}

#[test]
fn many_problems_of_one_text_are_counted() {
    let containers = "{name: A}, ".repeat(100);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, labels: {{{}}}}}\nspec: {{containers: [{containers}]}}",
        (0..100).map(|n| format!("_{n}: a")).collect::<Vec<_>>().join(", ")
    );
    let update = reader(&[("a", &text)]).assemble();
    let problems = &update.files["a"].problems;
    assert_eq!(problems.len(), MOST_PROBLEMS + 1);
    assert!(problems[MOST_PROBLEMS].ends_with(" more"), "{problems:?}");
}
