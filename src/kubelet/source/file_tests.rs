//! On the real kernel: a directory, its events, and what is told.

use super::*;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A bound against hanging.
const SOON: Duration = Duration::from_secs(60);
/// Never within a test: what comes, came by an event.
const NEVER: Duration = Duration::from_secs(3600);

fn text(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    )
}

/// A source at work.
struct At {
    top: tempfile::TempDir,
    dir: PathBuf,
    updates: mpsc::Receiver<Update>,
    stop: CancellationToken,
}

impl At {
    fn start(prepare: impl FnOnce(&Path), relist: Duration) -> Self {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("m");
        prepare(&dir);
        let (send, updates) = mpsc::channel(100);
        let stop = CancellationToken::new();
        let source = FileSource::new(&dir, "n").relisting(relist);
        let tracker = tokio_util::task::TaskTracker::new();
        tracker.spawn(source.run(Watcher::default(), send, stop.clone()));
        Self { top, dir, updates, stop }
    }

    fn empty() -> Self {
        Self::start(|dir| fs::create_dir(dir).unwrap(), NEVER)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    async fn next(&mut self) -> Update {
        let update = tokio::time::timeout(SOON, self.updates.recv()).await;
        update.expect("an update comes").expect("the source lives")
    }

    /// The next update in which the pods have these images, in order.
    async fn images(&mut self, images: &[&str]) -> Update {
        loop {
            let update = self.next().await;
            if of(&update) == images {
                return update;
            }
        }
    }

    fn problems(&self, update: &Update, name: &str) -> String {
        let status = update.files.get(&self.dir.join(name).display().to_string());
        status.map(|status| status.problems.join("\n")).unwrap_or_default()
    }
}

impl Drop for At {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn of(update: &Update) -> Vec<&str> {
    let specs = update.pods.iter().map(|pod| pod.pod.spec.as_ref().unwrap());
    specs.map(|spec| spec.containers[0].image.as_deref().unwrap()).collect()
}

/// Replaces the content of `a.yaml` as ConfigMap volumes do: a new folder, and a link that is moved over the old one.
fn replace_tree(dir: &Path, folder: &str, image: &str) {
    fs::create_dir(dir.join(folder)).unwrap();
    fs::write(dir.join(folder).join("a.yaml"), text("a", image)).unwrap();
    symlink(folder, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[tokio::test]
async fn the_first_update_comes_also_from_an_empty_directory() {
    let mut at = At::empty();
    let update = at.next().await;
    assert_eq!((update.pods.len(), update.files.len()), (0, 0));
}

#[tokio::test]
async fn the_first_update_has_files_that_were_just_written() {
    let mut at = At::start(
        |dir| {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("a"), text("a", "i")).unwrap();
        },
        NEVER,
    );
    assert_eq!(of(&at.next().await), ["i"]);
}

#[tokio::test]
async fn files_that_come_change_and_go_are_told() {
    let mut at = At::empty();
    at.next().await;
    at.write("a", &text("a", "one"));
    at.images(&["one"]).await;
    at.write("b", &text("b", "two"));
    at.images(&["one", "two"]).await;
    at.write("a", &text("a", "three"));
    at.images(&["three", "two"]).await;
    fs::rename(at.dir.join("a"), at.dir.join("z")).unwrap();
    at.images(&["two", "three"]).await;
    fs::remove_file(at.dir.join("b")).unwrap();
    at.images(&["three"]).await;
}

#[tokio::test]
async fn a_file_written_in_pieces_is_read_when_it_is_closed() {
    let mut at = At::empty();
    at.next().await;
    at.write("a", &text("a", "old"));
    at.images(&["old"]).await;
    let whole = text("a", "new");
    let mut file = fs::File::create(at.dir.join("a")).unwrap();
    file.write_all(&whole.as_bytes()[..20]).unwrap();
    // Another file is read meanwhile: the half one stays as it was, and is no problem.
    at.write("b", &text("b", "other"));
    let update = at.images(&["old", "other"]).await;
    assert_eq!(at.problems(&update, "a"), "");
    file.write_all(&whole.as_bytes()[20..]).unwrap();
    drop(file);
    let next = at.next().await;
    assert_eq!(of(&next), ["new", "other"]);
}

#[tokio::test]
async fn a_file_that_becomes_bad_keeps_its_pod_and_is_told() {
    let mut at = At::empty();
    at.next().await;
    at.write("a", &text("a", "one"));
    let good = at.images(&["one"]).await;
    at.write("a", "apiVersion: v1\nkind: [");
    let bad = at.next().await;
    assert_eq!(bad.pods, good.pods);
    assert!(at.problems(&bad, "a").starts_with("not YAML"), "{bad:?}");
    at.write("a", &text("a", "one"));
    assert_eq!(at.next().await, good);
}

#[tokio::test]
async fn what_is_no_file_is_a_problem_and_hangs_nobody() {
    let mut at = At::empty();
    at.next().await;
    nix::unistd::mkfifo(&at.dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at.dir.join("dir")).unwrap();
    at.write(".hidden", &text("hidden", "i"));
    at.write("large", &"#".repeat(10 << 20 | 1));
    at.write("pod", &text("pod", "i"));
    let mut update = at.images(&["i"]).await;
    while update.files.len() < 4 {
        update = at.next().await;
    }
    let rows = [
        ("fifo", "a FIFO"),
        ("dir", "a directory"),
        ("large", "10485761 bytes long"),
        (".hidden", ""),
        ("pod", ""),
    ];
    for (name, problem) in rows {
        assert!(at.problems(&update, name).starts_with(problem), "{name}: {update:?}");
    }
    assert_eq!(update.files.len(), 4);
}

#[tokio::test]
async fn a_directory_may_come_and_go() {
    let mut at = At::start(|_| (), NEVER);
    let missing = at.next().await;
    assert!(at.problems(&missing, "").is_empty() && missing.pods.is_empty());
    let told = &missing.files[&at.dir.display().to_string()].problems;
    assert!(told[0].starts_with("the manifests cannot be listed: No such file"), "{told:?}");
    fs::create_dir(&at.dir).unwrap();
    at.write("a", &text("a", "i"));
    let update = at.images(&["i"]).await;
    assert!(!update.files.contains_key(&at.dir.display().to_string()));
    // Gone, it is a fault and not an order to end all pods.
    let aside = at.top.path().join("aside");
    fs::rename(&at.dir, &aside).unwrap();
    let gone = loop {
        let update = at.next().await;
        if update.files.contains_key(&at.dir.display().to_string()) {
            break update;
        }
    };
    assert_eq!(of(&gone), ["i"]);
    let told = &gone.files[&at.dir.display().to_string()].problems;
    assert!(told[0].starts_with("the folder of the manifests is gone"), "{told:?}");
    fs::rename(&aside, &at.dir).unwrap();
    fs::remove_file(at.dir.join("a")).unwrap();
    // Empty, it says that there are none.
    at.images(&[]).await;
}

/// The pods that a text gives at a path, as a run before this one left them.
fn left(path: &std::path::Path, bytes: &str) -> Vec<SourcePod> {
    let mut reader = Reader::new(Source::File, "node");
    reader.read(&path.to_string_lossy(), Text::Bytes(bytes.as_bytes()));
    reader.assemble().pods
}

#[tokio::test]
async fn what_cannot_be_read_at_the_start_has_the_pods_of_the_last_run() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("manifests");
    let last: Vec<SourcePod> =
        ["a", "b", "c"].iter().flat_map(|n| left(&dir.join(n), &text(n, n))).collect();
    let (told, mut updates) = tokio::sync::mpsc::channel(4);
    let source = FileSource::new(&dir, "node")
        .relisting(Duration::from_millis(20))
        .settling(Duration::from_millis(5))
        .with_last(last);
    let stop = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    let task = tasks.spawn(source.run(Watcher::default(), told, stop.clone()));
    let gone = updates.recv().await.unwrap();
    assert_eq!(of(&gone), ["a", "b", "c"]);
    let problems = &gone.files[&dir.display().to_string()].problems;
    assert!(problems[0].starts_with("the folder of the manifests is gone"), "{problems:?}");
    // It is back, with one that is bad, one that is another, and without the third.
    let ready = top.path().join("ready");
    fs::create_dir(&ready).unwrap();
    fs::write(ready.join("a"), "{").unwrap();
    fs::write(ready.join("b"), text("b", "new")).unwrap();
    fs::rename(&ready, &dir).unwrap();
    let back = updates.recv().await.unwrap();
    assert_eq!(of(&back), ["a", "new"]);
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn an_empty_folder_below_a_mount_that_went_away_is_no_order() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), text("a", "i")).unwrap();
    let mut scanner = Scanner::new(FileSource::new(dir.path(), "node"));
    let later = SystemTime::now() + Duration::from_secs(60);
    let seen = scanner.scan(&Pending::default(), later);
    assert_eq!(of(&seen.update), ["i"]);
    fs::remove_file(dir.path().join("a")).unwrap();
    // As if it had been on another file system.
    scanner.device = scanner.device.map(|device| device + 1);
    let seen = scanner.scan(&Pending::default(), later);
    assert!(seen.listed.is_err());
    assert_eq!(of(&seen.update), ["i"]);
    scanner.device = scanner.device.map(|device| device - 1);
    assert!(of(&scanner.scan(&Pending::default(), later).update).is_empty());
}

#[tokio::test]
async fn links_that_are_replaced_together_are_followed() {
    let mut at = At::empty();
    replace_tree(&at.dir, "..1", "one");
    symlink("..data/a.yaml", at.dir.join("a.yaml")).unwrap();
    at.images(&["one"]).await;
    replace_tree(&at.dir, "..2", "two");
    at.images(&["two"]).await;
}

#[tokio::test]
async fn what_a_link_leads_to_is_found_by_listing() {
    let mut at = At::start(|dir| fs::create_dir(dir).unwrap(), Duration::from_millis(20));
    let outside = at.top.path().join("outside");
    fs::write(&outside, text("a", "one")).unwrap();
    symlink(&outside, at.dir.join("a")).unwrap();
    at.images(&["one"]).await;
    fs::write(&outside, text("a", "two")).unwrap();
    at.images(&["two"]).await;
}

#[tokio::test]
async fn five_hundred_manifests_at_once_are_one_set() {
    let mut at = At::empty();
    at.next().await;
    for n in 0..500 {
        at.write(&format!("{n}.yaml"), &text(&format!("p{n}"), "i"));
    }
    loop {
        let update = at.next().await;
        if update.pods.len() == 500 {
            assert!(update.files.values().all(|status| status.problems.is_empty()));
            return;
        }
    }
}

#[tokio::test]
async fn nothing_new_is_not_told() {
    let mut at = At::empty();
    at.next().await;
    at.write("a", &text("a", "one"));
    at.images(&["one"]).await;
    at.write("a", &format!("# the same\n{}", text("a", "one")));
    at.write("b", &text("b", "two"));
    assert_eq!(of(&at.next().await), ["one", "two"], "the comment alone was told");
}
