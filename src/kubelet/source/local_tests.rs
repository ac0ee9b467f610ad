use super::*;

fn pod(name: &str, image: &str) -> Decoded {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    );
    decode(text.as_bytes()).unwrap()
}

fn map(name: &str) -> Decoded {
    decode(
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: v}}\n")
            .as_bytes(),
    )
    .unwrap()
}

async fn open(dir: &Path) -> (LocalPods, mpsc::Receiver<Update>) {
    let (send, updates) = mpsc::channel(100);
    (LocalPods::open(&dir.join("local"), "n", send).await.unwrap(), updates)
}

fn names(update: &Update) -> Vec<&str> {
    update.pods.iter().map(|pod| pod.pod.metadata.name.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn what_is_applied_is_told_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut updates) = open(dir.path()).await;
    assert_eq!(names(&updates.recv().await.unwrap()), [""; 0], "the first comes always");
    let stored = local.apply(pod("web", "i"), Existing::Replaced).await.unwrap();
    assert_eq!(
        (stored[0].origin.as_str(), stored[0].status.pods.clone()),
        ("pod default/web", vec!["default/web".to_owned()])
    );
    local.apply(map("m"), Existing::Replaced).await.unwrap();
    updates.recv().await.unwrap();
    let update = updates.recv().await.unwrap();
    assert_eq!((names(&update), update.source), (vec!["web"], Source::Local));
    assert!(update.objects.config_map("default", "m").is_some());
    local.delete(Kind::Pod, ("default", "web"), None).await.unwrap();
    local.delete(Kind::ConfigMap, ("default", "m"), None).await.unwrap();
    updates.recv().await.unwrap();
    let update = updates.recv().await.unwrap();
    assert_eq!((names(&update), update.files.len()), (Vec::<&str>::new(), 0));
}

#[tokio::test]
async fn what_was_applied_outlives_the_daemon_with_its_uid() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut updates) = open(dir.path()).await;
    local.apply(pod("web", "i"), Existing::Replaced).await.unwrap();
    updates.recv().await.unwrap();
    let before = updates.recv().await.unwrap();
    let (again, mut updates) = open(dir.path()).await;
    assert_eq!(updates.recv().await.unwrap(), before);
    again.delete(Kind::Pod, ("default", "web"), None).await.unwrap();
    let (_, mut updates) = open(dir.path()).await;
    assert_eq!(names(&updates.recv().await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn of_what_is_applied_together_all_counts_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut updates) = open(dir.path()).await;
    updates.recv().await.unwrap();
    let mut both = pod("good", "i");
    both.objects.extend(pod("Bad", "i").objects);
    let error = local.apply(both, Existing::Replaced).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let told = chain(&error);
    assert!(
        told.starts_with("pod default/Bad is not as it must be: pod default/Bad: metadata.name"),
        "{told}"
    );
    assert!(updates.try_recv().is_err());
    let (_, mut updates) = open(dir.path()).await;
    assert_eq!(names(&updates.recv().await.unwrap()), [""; 0], "nothing is kept");
}

#[tokio::test]
async fn nothing_that_is_applied_takes_the_uid_of_another() {
    let with_uid = |name: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, uid: u}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        );
        decode(text.as_bytes()).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    local.apply(with_uid("b"), Existing::Replaced).await.unwrap();
    for name in ["a", "c"] {
        let told = chain(&local.apply(with_uid(name), Existing::Replaced).await.unwrap_err());
        assert!(told.contains("its UID u is that of a pod in"), "{told}");
    }
}

#[tokio::test]
async fn the_same_again_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let (local, mut updates) = open(dir.path()).await;
    local.apply(pod("web", "i"), Existing::Replaced).await.unwrap();
    local.apply(pod("web", "i"), Existing::Replaced).await.unwrap();
    local.apply(pod("web", "j"), Existing::Replaced).await.unwrap();
    let uids: Vec<Option<String>> = std::iter::from_fn(|| updates.try_recv().ok())
        .map(|update| update.pods.first().and_then(|pod| pod.pod.metadata.uid.clone()))
        .collect();
    assert_eq!(uids.len(), 3, "{uids:?}");
    assert_ne!(uids[1], uids[2]);
}

#[tokio::test]
async fn what_exists_stays_if_it_is_to() {
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    local.apply(map("m"), Existing::Stays).await.unwrap();
    let mut both = pod("web", "i");
    both.objects.extend(map("m").objects);
    let error = local.apply(both, Existing::Stays).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(chain(&error), "ConfigMap default/m exists already");
    let error = local.delete(Kind::Pod, ("default", "web"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "nothing of it counts");
}

#[tokio::test]
async fn only_the_pod_that_is_meant_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    let first = local.apply(pod("web", "i"), Existing::Stays).await.unwrap().remove(0).uid.unwrap();
    let second =
        local.apply(pod("web", "j"), Existing::Replaced).await.unwrap().remove(0).uid.unwrap();
    assert_ne!(first, second);
    let error = local.delete(Kind::Pod, ("default", "web"), Some(&first)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    local.delete(Kind::Pod, ("default", "web"), Some(&second)).await.unwrap();
}

#[tokio::test]
async fn what_was_not_applied_cannot_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    local.apply(map("web"), Existing::Replaced).await.unwrap();
    for (kind, namespace, name) in [
        (Kind::Pod, "default", "web"),
        (Kind::ConfigMap, "other", "web"),
        (Kind::ConfigMap, "default", "web-n"),
    ] {
        let error = local.delete(kind, (namespace, name), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{kind} {namespace}/{name}");
    }
}

#[tokio::test]
async fn a_broken_file_is_told_and_hurts_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    local.apply(pod("web", "i"), Existing::Replaced).await.unwrap();
    let broken = dir.path().join("local/x.json");
    std::fs::write(&broken, "{").unwrap();
    std::fs::write(dir.path().join("local/y.new"), "{").unwrap();
    let (_, mut updates) = open(dir.path()).await;
    let update = updates.recv().await.unwrap();
    assert_eq!(names(&update), ["web"]);
    let problems = &update.files[&broken.display().to_string()].problems;
    assert!(problems[0].starts_with("not JSON"), "{problems:?}");
    assert_eq!(update.files.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_kept_whole_is_not_kept_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (local, _updates) = open(dir.path()).await;
    let files = || -> Vec<PathBuf> {
        let all = std::fs::read_dir(dir.path().join("local")).unwrap();
        let all = all.map(|entry| entry.unwrap().path());
        // What a write that was cut off leaves has another name.
        all.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
    };
    local.apply(map("b"), Existing::Replaced).await.unwrap();
    let place = files().remove(0);
    local.delete(Kind::ConfigMap, ("default", "b"), None).await.unwrap();
    // No file can take its place.
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("in the way"), "").unwrap();
    let mut both = map("a");
    both.objects.extend(map("b").objects);
    let error = local.apply(both, Existing::Replaced).await.unwrap_err();
    assert!(
        matches!(&error, LocalError::Store { origin, .. } if origin == "ConfigMap default/b"),
        "{error}"
    );
    assert_eq!(files(), [place]);
    let error = local.delete(Kind::ConfigMap, ("default", "a"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
